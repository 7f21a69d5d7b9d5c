package direct

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// silent takes connections and says nothing, as a server that is stopped does; taken
// hears of each.
func silent(t *testing.T) (address string, taken <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard, ended := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(ended)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
			heard <- struct{}{}
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String(), heard
}

// TestSilentServerDoesNotOutlastTheContext: SIGINT ends a login that nobody answers.
func TestSilentServerDoesNotOutlastTheContext(t *testing.T) {
	address, taken := silent(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-taken; cancel() }()
	if _, err := Open(ctx, Options{Address: address, User: "sa", Password: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

// TestSilentServerIsGivenUp: without anybody's word, too.
func TestSilentServerIsGivenUp(t *testing.T) {
	address, _ := silent(t)
	config, err := Options{Address: address, User: "sa", Password: "x"}.config()
	if err != nil {
		t.Fatal(err)
	}
	c := mssql.NewConnectorConfig(config)
	c.Dialer = &dialler{}
	_, err = (&door{Connector: c, limit: 50 * time.Millisecond}).Connect(t.Context())
	if !errors.Is(err, ErrSilent) || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("connect: %v", err)
	}
}
