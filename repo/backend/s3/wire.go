package s3

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// Limits of the HTTP client. Nothing bounds a whole call: how long 35 MB take
// is the line's affair. What is bounded is silence.
const (
	dialTimeout   = 15 * time.Second
	headerTimeout = time.Minute // from the last byte sent to the answer
	idleTimeout   = time.Minute
	stallTimeout  = 2 * time.Minute // default; more than headerTimeout, which says it better
	idleConns     = 32              // kept for re-use; how many run is the caller's affair
)

// skewWorthAWord is the difference of clocks from which on the log is told.
// Servers refuse requests from 15 minutes on.
const skewWorthAWord = 5 * time.Minute

// wire carries requests and notes how far the server's clock is ahead.
type wire struct {
	next  http.RoundTripper
	now   func() time.Time
	log   *slog.Logger
	ahead atomic.Int64 // nanoseconds
	known atomic.Bool  // ahead is known
	told  atomic.Bool
}

func newWire(opts Options) (*wire, error) {
	w := &wire{next: opts.Transport, now: opts.Now, log: opts.Log}
	if w.next != nil {
		return w, nil
	}
	proxy := (&httpproxy.Config{
		HTTPProxy:  cmp.Or(opts.Env("HTTP_PROXY"), opts.Env("http_proxy")),
		HTTPSProxy: cmp.Or(opts.Env("HTTPS_PROXY"), opts.Env("https_proxy")),
		NoProxy:    cmp.Or(opts.Env("NO_PROXY"), opts.Env("no_proxy")),
	}).ProxyFunc()
	dial := opts.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	stall := cmp.Or(opts.StallTimeout, stallTimeout)
	var protocols http.Protocols
	protocols.SetHTTP1(true) // one connection a request: HTTP/2 would share one window among all packs
	w.next = &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &watched{Conn: conn, stall: stall}, nil
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          idleConns,
		MaxIdleConnsPerHost:   idleConns,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
		DisableCompression:    true, // an object's bytes as they are
		Protocols:             &protocols,
	}
	return w, nil
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		ahead := date.Sub(w.now())
		w.ahead.Store(int64(ahead))
		w.known.Store(true)
		if ahead.Abs() > skewWorthAWord && !w.told.Swap(true) {
			w.log.Warn("clock differs from the storage server's", "server_ahead", ahead.Round(time.Second))
		}
	}
	return resp, nil
}

// serverTime is the server's clock now, or an error if no answer has told it.
func (w *wire) serverTime() (time.Time, error) {
	if !w.known.Load() {
		return time.Time{}, fmt.Errorf("read the server's clock: no answer carried a date")
	}
	return w.now().Add(time.Duration(w.ahead.Load())), nil
}

func (w *wire) closeIdle() {
	if c, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// watched is a connection that fails when no byte moved, either way, for
// stall. A server that stops in the middle of a body would else hold a call for
// ever. Writing prolongs a waiting Read too: while a long upload runs, nothing
// comes back.
type watched struct {
	net.Conn
	stall time.Duration
}

// Read implements net.Conn.
func (c *watched) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *watched) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
