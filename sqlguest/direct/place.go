package direct

import (
	"fmt"
	"net"
)

// Beside tells whether the SQL Server is on this machine.
func (s *Server) Beside() bool { return s.opt.IsHere() }

// beside fails for addresses of which one is on another machine. Whoever is put beside a
// SQL Server logs in nowhere else: what is there would be taken for this machine's, and
// would get the password without having proved who it is.
func beside(addresses []string) error {
	for _, address := range addresses {
		if !(Options{Address: address}).IsHere() {
			return fmt.Errorf("%w: %s", ErrElsewhere, address)
		}
	}
	return nil
}

// isOwn tells whether an address is one of this machine's.
func isOwn(ip net.IP) bool {
	all, err := net.InterfaceAddrs()
	for _, a := range all {
		if own, is := a.(*net.IPNet); err == nil && is && own.IP.Equal(ip) {
			return true
		}
	}
	return false
}
