package settings

import (
	"crypto/x509"
	"fmt"
	"os"
)

// RootCAs are the system's certificate authorities and those of --tls-ca; nil
// means the system's alone.
func (s *Settings) RootCAs() (*x509.CertPool, error) { return Roots(s.Text("tls-ca")) }

// Roots are the system's certificate authorities and those in a PEM file of --tls-ca;
// nil, for the system's alone, without a file.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --tls-ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any, such as a bare container
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, Usagef("it must hold certificates in PEM form", "read --tls-ca: no certificate in %s", file)
	}
	return pool, nil
}
