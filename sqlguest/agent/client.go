package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/server"
)

// ClientOptions say how an agent is reached. Dial and Keys are required.
type ClientOptions struct {
	// Dial makes a connection to the agent's port.
	Dial func(ctx context.Context) (net.Conn, error)
	Keys *trust.Keys
	// Logger is told of details; nil for nobody.
	Logger *slog.Logger
}

// Client is a session with an agent: a server.Server. When the session ends, for
// whatever reason, everything that was begun in it is aborted over there.
type Client struct {
	http   *http.Client
	id     string
	log    *slog.Logger
	ctx    context.Context // the session's life
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

var _ server.Server = (*Client)(nil)

// Connect begins a session. ctx is for the connecting alone; Close ends the session.
//
// Errors: ErrBusy, ErrVersion, trust.ErrStranger, what Dial says.
func Connect(ctx context.Context, o ClientOptions) (*Client, error) {
	config, err := o.Keys.TLS()
	if err != nil {
		return nil, err
	}
	var only http.Protocols
	only.SetHTTP2(true)
	// The session is one connection: on a second one, a word could arrive while the
	// other side does not know yet that the first was cut.
	var first atomic.Bool
	first.Store(true)
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if !first.CompareAndSwap(true, false) {
				return nil, ErrCut
			}
			return shake(ctx, o.Dial, config)
		},
		Protocols: &only, DisableCompression: true, MaxResponseHeaderBytes: 256 << 10,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, MaxReceiveBufferPerStream: 2 << 20, StrictMaxConcurrentRequests: true},
	}
	c := &Client{http: &http.Client{Transport: transport}, id: rand.Text(), log: o.Logger, ended: make(chan struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := c.open(ctx); err != nil {
		c.cancel(err)
		transport.CloseIdleConnections()
		return nil, fmt.Errorf("open session with the agent: %w", err)
	}
	return c, nil
}

func shake(ctx context.Context, dial func(context.Context) (net.Conn, error), config *tls.Config) (net.Conn, error) {
	raw, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("prove identities: %w", err)
	}
	return conn, nil
}

// open sends the session's request and leaves its answer open.
func (c *Client) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	r, err := c.send(c.ctx, "POST", "/session", hello{Version: Version, ID: c.id}) //nolint:bodyclose // open is what it must stay
	if err != nil {
		stop()
		return err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(r.Body, first); err != nil || !stop() {
		_ = r.Body.Close()
		return fmt.Errorf("%w: %w", ErrCut, errors.Join(err, ctx.Err()))
	}
	go func() {
		defer close(c.ended)
		_, err := io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if err == nil {
			err = io.EOF
		}
		c.cancel(fmt.Errorf("%w: %w", ErrCut, err))
	}()
	return nil
}

// errClosed ends a session that its own side closes.
var errClosed = errors.New("session closed")

// Close ends the session and waits until the connection is given up. The agent stays
// until its idle timeout; see Goodbye.
func (c *Client) Close() error {
	c.cancel(errClosed)
	<-c.ended
	c.http.CloseIdleConnections()
	return nil
}

// Done is closed when the session has ended; Err says why.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// Err is nil while the session lives, then an ErrCut or that it was closed.
func (c *Client) Err() error { return context.Cause(c.ctx) }

// Goodbye tells the agent to end, and ends the session.
func (c *Client) Goodbye(ctx context.Context) error {
	err := c.call(ctx, "POST", "/goodbye", nil, nil)
	return errors.Join(err, c.Close())
}

// Checks are what the agent can tell about its machine.
func (c *Client) Checks(ctx context.Context) ([]Check, error) {
	var list []Check
	if err := c.call(ctx, "GET", "/checks", nil, &list); err != nil {
		return nil, fmt.Errorf("ask the agent for its checks: %w", err)
	}
	return list, nil
}

// Query runs one statement beside the server.
func (c *Client) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	var got rows
	if err := c.call(ctx, "POST", "/query", question{Text: text, Args: wireArgs(args)}, &got); err != nil {
		return nil, err
	}
	return got.server(), nil
}

// Host says what the agent's machine is.
func (c *Client) Host(ctx context.Context) (*server.Host, error) {
	var h server.Host
	if err := c.call(ctx, "GET", "/host", nil, &h); err != nil {
		return nil, err
	}
	return &h, nil
}

// Hold takes a lock until release, ctx's end or the session's.
func (c *Client) Hold(ctx context.Context, name string) (func() error, error) {
	id := rand.Text()
	if err := c.call(ctx, "POST", "/hold/"+id, name, nil); err != nil {
		if ctx.Err() != nil { // it may have been taken all the same
			_ = c.tidy("/hold/" + id)
		}
		return nil, err
	}
	released := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { released <- c.tidy("/hold/" + id) })
	return func() error {
		if stop() {
			released <- c.tidy("/hold/" + id)
		}
		err := <-released
		released <- err // for who asks again
		return err
	}, nil
}

// Held asks whether a lock is still held.
func (c *Client) Held(ctx context.Context, name string) error {
	return c.call(ctx, "POST", "/held", name, nil)
}

// giveUp gives something up over there, whatever has become of the caller's context.
func (c *Client) giveUp(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit+10*time.Second)
	defer cancel()
	return c.call(ctx, "DELETE", path, nil, nil)
}

// tidy is giveUp of what nobody asks about afterwards: a session that has ended has given
// up everything, and whoever used it has been told.
func (c *Client) tidy(path string) error {
	if err := c.giveUp(path); !errors.Is(err, ErrCut) {
		return err
	}
	return nil
}

// call sends a request and reads its answer into into, if that is not nil.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	r, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if into == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r.Body, maxResponseBytes))
	} else {
		err = readJSON(r.Body, maxResponseBytes, into)
	}
	if err != nil {
		return c.explain(ctx, err)
	}
	return nil
}

// send sends a request with a JSON body.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var data io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		data = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+trust.ServerName+path, data)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.GetBody = nil // nothing is ever sent twice
	return c.do(r)
}

// do sends a request, and turns an answer that is a failure into its error.
func (c *Client) do(r *http.Request) (*http.Response, error) {
	if c.ctx.Err() != nil && r.URL.Path != "/session" {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, c.Err()
	}
	r.Header.Set(headerSession, c.id)
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(r.Context(), err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }()
	var f failure
	if err := readJSON(answer.Body, maxRequestBytes, &f); err != nil {
		return nil, c.explain(r.Context(), fmt.Errorf("read answer of status %d: %w", answer.StatusCode, err))
	}
	return nil, f.err()
}

// explain says what a request's failure comes from: its own context, an identity that
// was refused, or the connection.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && c.ctx.Err() == nil {
		return context.Cause(ctx)
	}
	var sent *url.Error
	if errors.As(err, &sent) {
		err = sent.Err // the rest is an address that nobody knows
	}
	return fmt.Errorf("%w: %w", ErrCut, err)
}
