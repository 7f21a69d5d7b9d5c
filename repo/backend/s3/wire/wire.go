// Package wire is the HTTP transport of an S3 client: connections that are given
// up when nothing moves on them, a pool of them, the proxy that the environment
// names, and the server's clock as its answers tell it.
//
// What is bounded tightly is silence: how long 35 MB take is the line's affair,
// so the bound of a whole request (bound.go) is wide and grows with its bytes.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// ErrNoClock: no answer of the server has carried a date yet.
var ErrNoClock = errors.New("server's clock is not known")

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

// Options of New; the zero value goes by TCP to servers that the system trusts.
type Options struct {
	// Env looks up the proxy's variables, HTTPS_PROXY and its like. nil: there is no proxy.
	Env func(name string) string
	// RootCAs are the certificate authorities to believe; nil means the system's.
	RootCAs *x509.CertPool
	// DialContext opens connections; nil means TCP.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// StallTimeout ends a connection on which no byte moved for so long. 0 means 2 min.
	StallTimeout time.Duration
	// Grace is how long a request of no bytes may take; each 2 KiB add a second.
	// 0 means 10 min.
	Grace time.Duration
	// Transport replaces all of the above but Grace.
	Transport http.RoundTripper
	// Now measures the time since the server's last date. nil means time.Now.
	Now func() time.Time
	// Log hears, once, that the clocks differ. nil discards.
	Log *slog.Logger
}

// Wire carries requests and notes how far the server's clock is ahead. It is an
// http.RoundTripper for many goroutines.
type Wire struct {
	next  http.RoundTripper
	grace time.Duration
	now   func() time.Time
	log   *slog.Logger
	ahead atomic.Int64 // nanoseconds
	known atomic.Bool  // ahead is known
	told  atomic.Bool
}

// New makes a Wire.
func New(opts Options) *Wire {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	next := opts.Transport
	if next == nil {
		next = transport(opts)
	}
	return &Wire{next: next, grace: cmp.Or(opts.Grace, grace), now: opts.Now, log: opts.Log}
}

func transport(opts Options) *http.Transport {
	env := opts.Env
	if env == nil {
		env = func(string) string { return "" }
	}
	proxy := (&httpproxy.Config{
		HTTPProxy:  cmp.Or(env("HTTP_PROXY"), env("http_proxy")),
		HTTPSProxy: cmp.Or(env("HTTPS_PROXY"), env("https_proxy")),
		NoProxy:    cmp.Or(env("NO_PROXY"), env("no_proxy")),
	}).ProxyFunc()
	dial := opts.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	stall := cmp.Or(opts.StallTimeout, stallTimeout)
	var protocols http.Protocols
	protocols.SetHTTP1(true) // one connection a request: HTTP/2 would share one window among all packs
	return &http.Transport{
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
}

// RoundTrip implements http.RoundTripper.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.carry(r)
	if err != nil {
		return nil, err
	}
	if err := refusePage(r, resp); err != nil {
		return nil, err // before its date is believed
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

// Ahead is how far the server's clock was ahead at its last answer, or ErrNoClock.
func (w *Wire) Ahead() (time.Duration, error) {
	if !w.known.Load() {
		return 0, ErrNoClock
	}
	return time.Duration(w.ahead.Load()), nil
}

// ServerTime is the server's clock now, or ErrNoClock.
func (w *Wire) ServerTime() (time.Time, error) {
	ahead, err := w.Ahead()
	return w.now().Add(ahead), err
}

// CloseIdleConnections lets go of what no request uses.
func (w *Wire) CloseIdleConnections() {
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
