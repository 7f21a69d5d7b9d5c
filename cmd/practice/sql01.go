package practice

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"

	"holdfast/sqlguest/lab"
	vlab "holdfast/vmware/lab"
)

// SQL is the laboratory's SQL Server.
type SQL struct {
	*lab.Lab
	User, Password string
	dir            string
	more           []*lab.Lab // further instances
}

// StartSQL runs a SQL Server with the databases sales (FULL), stock (SIMPLE) and
// "it's, ünï" (FULL) on a port of its own, and the login sa with the password, "" for
// one by lot. Close ends it and removes its files.
func StartSQL(password string) (*SQL, error) {
	dir, err := os.MkdirTemp("", "holdfast-sql-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the SQL Server: %w", err)
	}
	if password == "" {
		password = rand.Text()
	}
	s := &SQL{User: "sa", Password: password, dir: dir}
	if s.Lab, err = s.start("SQL01"); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *SQL) start(name string) (*lab.Lab, error) {
	l, err := lab.Start(lab.Options{
		Name: name, Sample: true, BackupDirectory: s.dir, Path: func(path string) string { return path },
		Logins: []lab.Login{{Name: s.User, Password: s.Password, Sysadmin: true}}, Seed: uint64(len(s.more)),
	})
	if err != nil {
		return nil, fmt.Errorf("start SQL Server %s: %w", name, err)
	}
	return l, nil
}

// AddInstance runs one more SQL Server of that name on the same machine, with databases
// and a login like the first's. It is among the addresses of AddSQL01 if it comes before.
func (s *SQL) AddInstance(name string) (*lab.Lab, error) {
	s.more = append(s.more, nil)
	l, err := s.start(`SQL01\` + name)
	s.more[len(s.more)-1] = l
	return l, err
}

// AddSQL01 makes the VM in whose guest the SQL Server runs, and returns the variables
// by which it is entered.
func (s *SQL) AddSQL01(l *vlab.Lab) (map[string]string, error) {
	password := rand.Text()
	_, err := l.AddVM(vlab.VMSpec{Name: "sql01", PoweredOn: true, Guest: "ubuntu64Guest", HardwareVersion: "vmx-19",
		GuestUser: "root", GuestPassword: password, Disks: []vlab.DiskSpec{{Bytes: 64 << 20}}})
	if err != nil {
		return nil, fmt.Errorf("add sql01: %w", err)
	}
	// The guest is this machine, where several laboratories may run at once.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for the agent: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err = errors.Join(err, listener.Close()); err != nil {
		return nil, fmt.Errorf("find a port for the agent: %w", err)
	}
	addresses := s.Address()
	for _, more := range s.more {
		addresses += " " + more.Address()
	}
	return map[string]string{
		"HOLDFAST_GUEST_USER": "root", "HOLDFAST_GUEST_PASSWORD": password, "HOLDFAST_GUEST_ADDRESS": "127.0.0.1", "HOLDFAST_GUEST_PORT": port,
		"HOLDFAST_SQL_ADDRESS": addresses, "HOLDFAST_SQL_USER": s.User, "HOLDFAST_SQL_PASSWORD": s.Password,
	}, nil
}

// Close ends the server and removes what it wrote.
func (s *SQL) Close() error {
	err := s.Lab.Close()
	for _, l := range s.more {
		if l == nil {
			continue // it did not start
		}
		err = errors.Join(err, l.Close())
	}
	if rerr := os.RemoveAll(s.dir); err == nil {
		err = rerr
	}
	return err
}
