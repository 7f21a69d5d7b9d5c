package database

import (
	"errors"
	"os"
	"testing"

	"holdfast/sqlguest/lab"
)

// TestServersOfOtherMachinesProveTheirNames: by a certificate, unless that is waived;
// one on this machine has none that anybody vouches for.
func TestServersOfOtherMachinesProveTheirNames(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for instance, verify := range map[string]bool{
		".": false, "SQL1": false, `.\SQL1`: false, "localhost": false, "MSSQLSERVER": false, "127.0.0.1:1433": false, "[::1]:1433": false, host + ":1433": false,
		"db01.example.com": true, `DB01\SQL`: true, "10.0.0.5:1433": true, "localhost.example.com": true,
	} {
		if got := (Login{Instance: instance}).options().Verify; got != verify {
			t.Errorf("%s: verified %t", instance, got)
		}
		if (Login{Instance: instance, Trust: true}).options().Verify {
			t.Errorf("%s: verified although trusted", instance)
		}
	}
}

// TestUnknownCertificateGetsNoPassword: the laboratory's is signed by itself.
func TestUnknownCertificateGetsNoPassword(t *testing.T) {
	l, err := lab.Start(lab.Options{Logins: []lab.Login{{Name: "sa", Password: "canary-secret", Sysadmin: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := Login{Instance: l.Address(), User: "sa", Password: "canary-secret"}.options()
	s, err := connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	o.Verify = true
	if _, err := connect(t.Context(), o); !errors.Is(err, ErrCertificate) {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}
