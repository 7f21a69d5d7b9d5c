// Package trust makes the keys of one run: an authority that nobody keeps, a
// certificate for each side, and TLS 1.3 between exactly these two.
package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrStranger: the other side has another certificate than the one made for it.
var ErrStranger = errors.New("the other side's certificate is not the one made for this run")

// Keys are one side's: its certificate and key, and the other side's certificate.
// DER throughout.
type Keys struct {
	Authority   []byte `json:"authority"`
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"` // PKCS #8, secret
	Peer        []byte `json:"peer"`
}

// ServerName stands in the agent's certificate, so that the client's is of no use to
// play the agent.
const ServerName = "holdfast-agent"

// validity is written into certificates because there must be something. No clock
// is asked: a guest's may be years off, and the moment of making is as good a
// moment to check them at as any. What ends a certificate is that its keys are
// forgotten, with the only session that they are for.
const validity = 10 * 24 * time.Hour

// New makes an authority, a certificate for each side, and forgets the
// authority's key. now is when they are made.
func New(now time.Time) (service, client *Keys, err error) {
	authority, signer, err := newAuthority(now)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificates: %w", err)
	}
	service, err = newSide(authority, signer, 2, x509.ExtKeyUsageServerAuth, []string{ServerName})
	if err != nil {
		return nil, nil, fmt.Errorf("make certificates: %w", err)
	}
	client, err = newSide(authority, signer, 3, x509.ExtKeyUsageClientAuth, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificates: %w", err)
	}
	service.Peer, client.Peer = client.Certificate, service.Certificate
	return service, client, nil
}

func template(serial int64, name string, from time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: from.Add(validity), BasicConstraintsValid: true,
	}
}

func newAuthority(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := template(1, "holdfast run", now.Add(-validity/2))
	t.IsCA, t.MaxPathLenZero, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	authority, err := x509.ParseCertificate(der)
	return authority, key, err
}

func newSide(authority *x509.Certificate, signer *ecdsa.PrivateKey, serial int64, usage x509.ExtKeyUsage, names []string) (*Keys, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(serial, "holdfast side", authority.NotBefore)
	t.KeyUsage, t.ExtKeyUsage, t.DNSNames = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}, names
	der, err := x509.CreateCertificate(rand.Reader, t, authority, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Keys{Authority: authority.Raw, Certificate: der, Key: secret}, nil
}

// TLS is what both sides have in common: TLS 1.3, our certificate, and the
// other's, which must be the one that was made for it.
func (k *Keys) TLS() (*tls.Config, error) {
	authority, err := x509.ParseCertificate(k.Authority)
	if err != nil {
		return nil, fmt.Errorf("read the run's authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(k.Key)
	if err != nil {
		return nil, fmt.Errorf("read the run's key: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{k.Certificate}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: ServerName,
		Time: func() time.Time { return authority.NotBefore.Add(validity / 2) },
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, k.Peer) {
				return ErrStranger
			}
			return nil
		},
	}, nil
}
