package monitor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pingTimeout bounds how long a monitor that does not answer can hold up a run.
const pingTimeout = 10 * time.Second

// Ping posts how the run ended: to the URL itself after success, to URL/fail
// otherwise, as healthchecks.io and its kin expect. The server's certificate
// must be of roots; nil means the system's authorities. No error shows the URL,
// whose path is a secret.
func Ping(ctx context.Context, to string, end Ending, roots *x509.CertPool) error {
	u, err := url.Parse(to)
	if err != nil {
		return errors.New("not a URL")
	}
	body := fmt.Sprintf("exit %d", end.Code)
	if end.Code != 0 {
		u = u.JoinPath("fail")
		body += ": " + end.Message
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	client := &http.Client{Timeout: pingTimeout, Transport: transport}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return errors.New("not a URL")
	}
	response, err := client.Do(request)
	if err != nil {
		// The client's error quotes the URL, whose path is a secret.
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}
