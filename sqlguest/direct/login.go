package direct

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"sync"
	"time"
)

// loginTimeout is how long a login may take from the dialling to its end, with the
// handshake between the two. A server that is hung, or something else that has its port,
// takes a connection and says nothing, and the driver waits for that without a limit and
// without looking at its context.
const loginTimeout = 30 * time.Second

// door makes the connections: the driver's connector with a limit to each login.
type door struct {
	driver.Connector
	limit time.Duration
}

// Connect logs in. When ctx ends, or the limit is over, its socket is closed, which is the
// one thing that ends a login that waits. Afterwards nobody closes it but the driver.
func (d *door) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.limit, ErrSilent)
	defer cancel()
	l := &line{}
	defer context.AfterFunc(ctx, l.cut)()
	conn, err := d.Connector.Connect(context.WithValue(ctx, lineKey{}, l))
	if err != nil && ctx.Err() != nil {
		// Whatever the driver makes of a closed socket is no reason to try it once more.
		return nil, fmt.Errorf("%w (%v)", context.Cause(ctx), err) //nolint:errorlint // see above
	}
	return conn, err
}

// lineKey is where a dialler finds the line of its login.
type lineKey struct{}

// line is what one login has dialled.
type line struct {
	mu    sync.Mutex
	conns []net.Conn
	over  bool
}

// cut closes everything that was dialled, and what will be.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, c := range l.conns {
		_ = c.Close() // the driver's call says what became of it
	}
}

// dialler dials for the driver, as the driver's own does.
type dialler struct{ net.Dialer }

// DialContext dials and notes the connection.
func (d *dialler) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	l, ok := ctx.Value(lineKey{}).(*line)
	if err != nil || !ok {
		return c, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = c.Close() // it is used by nobody
		return nil, net.ErrClosed
	}
	l.conns = append(l.conns, c)
	return c, nil
}
