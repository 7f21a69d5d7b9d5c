package tds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"holdfast/sqlguest/lab/value"
)

// Handler lets clients in.
type Handler interface {
	// Login opens a session; a *value.Error (18456 as a rule) is sent and the
	// connection closed.
	Login(ctx context.Context, l *Login, address net.Addr) (Session, error)
}

// Session is one client's. Its methods are called one at a time, on one goroutine.
// ctx ends when the client asks to stop (attention) or is gone.
type Session interface {
	// ID is the session's number (@@SPID).
	ID() uint16
	// Database is the session's current database.
	Database() string
	// Batch runs T-SQL. It writes errors itself; what it returns is sent as one more.
	Batch(ctx context.Context, text string, w *Writer) error
	// Call runs a procedure and returns its status; it may change output parameters.
	Call(ctx context.Context, c *Call, w *Writer) (status int32, err error)
	// Transaction does what a client's transaction manager asks for.
	Transaction(ctx context.Context, r TransactionRequest, w *Writer) error
	// Reset makes the session as it was after login: a pool gives it to somebody else.
	Reset(ctx context.Context, w *Writer)
	// Close ends the session: open transactions roll back, locks go.
	Close()
}

// TransactionRequest is what a transaction manager request says.
type TransactionRequest struct {
	// Kind is 5 begin, 7 commit, 8 roll back, 9 save.
	Kind uint16
	Name string
}

// Kinds of TransactionRequest.
const (
	TransactionBegin    = 5
	TransactionCommit   = 7
	TransactionRollback = 8
)

// Options of a server. Handler is needed.
type Options struct {
	Handler Handler
	// Encryption is the answer in PRELOGIN; without a Certificate it is EncryptNone.
	Encryption  Encryption
	Certificate *tls.Certificate
	// Version is the product's: major, minor, build high, build low.
	Version [4]byte
	Log     *slog.Logger
}

// Server serves TDS on a listener.
type Server struct {
	opt Options

	mu    sync.Mutex
	conns map[net.Conn]context.CancelFunc
	wait  sync.WaitGroup
}

// NewServer makes a server; Serve starts it.
func NewServer(opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{opt: opt, conns: map[net.Conn]context.CancelFunc{}}
}

// Serve accepts connections until the listener is closed or ctx ends, and waits for
// all connections to be over. It returns nil when it was told to stop.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		cancel()
		s.CloseConnections()
		s.wait.Wait()
	}()
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept TDS connection: %w", err)
		}
		connCtx, end := context.WithCancel(ctx)
		s.mu.Lock()
		s.conns[raw] = end
		s.mu.Unlock()
		s.wait.Go(func() {
			c := &conn{server: s, raw: raw, rw: raw, size: defaultBytes}
			if err := c.serve(connCtx); err != nil {
				s.opt.Log.Debug("TDS connection ended", "client", raw.RemoteAddr(), "error", err)
			}
			_ = raw.Close()
			end()
			s.mu.Lock()
			delete(s.conns, raw)
			s.mu.Unlock()
		})
	}
}

// CloseConnections cuts every connection, as a service that stops does.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for raw, end := range s.conns {
		end()
		_ = raw.Close()
	}
}

// errFatal: the client was told an error that ends the connection.
var errFatal = errors.New("connection ended by an error of severity 20 or more")

// conn is one connection.
type conn struct {
	server  *Server
	raw     net.Conn // the TCP connection
	rw      net.Conn // raw, or TLS over it
	size    int      // of packets
	session Session
}

func (c *conn) writer() *Writer {
	var spid uint16
	if c.session != nil {
		spid = c.session.ID()
	}
	return &Writer{p: newPacketWriter(c.rw, c.size, spid), ending: tokenDone}
}

// serve runs the connection: greeting, login, requests.
func (c *conn) serve(ctx context.Context) error {
	if err := c.login(ctx); err != nil {
		return err
	}
	if c.session == nil {
		return nil
	}
	defer c.session.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan *message)
	reading := make(chan error, 1)
	go func() {
		reading <- c.read(ctx, requests)
		cancel() // nobody is there any more: what runs for them ends
	}()
	for {
		select {
		case m := <-requests:
			if err := c.request(ctx, m, requests); err != nil {
				_ = c.raw.Close()
				cancel()
				<-reading
				return err
			}
		case err := <-reading:
			return err
		}
	}
}

// read hands requests over until the connection ends. It reads on while a statement
// runs: an attention, or the connection's end, must reach it.
func (c *conn) read(ctx context.Context, requests chan<- *message) error {
	for {
		m, err := readMessage(c.rw, messageLimit)
		if err != nil {
			return err
		}
		select {
		case requests <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// login speaks PRELOGIN, TLS and LOGIN7. A refused client leaves c.session nil.
func (c *conn) login(ctx context.Context) error {
	m, err := readMessage(c.raw, loginLimit)
	if err != nil {
		return err
	}
	agreed := EncryptNone
	if m.kind == packetPrelogin {
		if agreed, err = c.prelogin(m); err != nil {
			return err
		}
		if agreed != EncryptNone {
			t, err := c.handshake()
			if err != nil {
				return fmt.Errorf("TLS handshake: %w", err)
			}
			c.rw = t
		}
		if m, err = readMessage(c.rw, loginLimit); err != nil {
			return err
		}
	}
	if agreed == EncryptLogin {
		c.rw = c.raw // the login was all that is encrypted
	}
	if m.kind != packetLogin {
		return fmt.Errorf("packet of type %#x instead of a login: %w", m.kind, errMalformed)
	}
	l, err := parseLogin(m.body)
	if err != nil {
		return err
	}
	session, err := c.server.opt.Handler.Login(ctx, l, c.raw.RemoteAddr())
	if err != nil {
		w := c.writer()
		w.Failed(err)
		return w.finish()
	}
	c.session = session
	if l.PacketBytes >= minimumBytes && l.PacketBytes <= maximumBytes {
		c.size = l.PacketBytes
	}
	if err := c.acknowledge(l, session.Database()); err != nil {
		session.Close()
		c.session = nil
		return err
	}
	return nil
}

// request answers one message. While it runs, an attention cancels it.
func (c *conn) request(ctx context.Context, m *message, requests <-chan *message) error {
	w := c.writer()
	if m.kind == packetAttention { // it came too late: what it meant is over
		w.done(tokenDone, doneAttention, 0)
		return w.finish()
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	finished := make(chan error, 1)
	go func() { finished <- c.run(running, m, w) }()
	stopped := false
	for {
		select {
		case err := <-finished:
			if err != nil {
				return err
			}
			if stopped {
				w.held = nil
				w.done(tokenDone, doneAttention, 0)
			}
			if err := w.finish(); err != nil || !w.fatal {
				return err
			}
			return errFatal
		case other := <-requests:
			if other.kind != packetAttention {
				cancel()
				<-finished
				return fmt.Errorf("packet of type %#x while a statement runs: %w", other.kind, errMalformed)
			}
			stopped = true
			cancel()
		}
	}
}

// run answers a request into w. It returns an error only where the connection
// cannot go on.
func (c *conn) run(ctx context.Context, m *message, w *Writer) error {
	if m.reset {
		c.session.Reset(ctx, w)
		w.env(18, nil, nil)
	}
	var err error
	switch m.kind {
	case packetBatch:
		var body []byte
		if body, err = skipHeaders(m.body); err != nil {
			return err
		}
		err = c.session.Batch(ctx, value.FromUTF16(body), w)
	case packetRPC:
		return c.call(ctx, m.body, w)
	case packetTransaction:
		var r TransactionRequest
		if r, err = parseTransaction(m.body); err != nil {
			return err
		}
		err = c.session.Transaction(ctx, r, w)
	default:
		return fmt.Errorf("packet of type %#x: %w", m.kind, errMalformed)
	}
	switch {
	case ctx.Err() != nil: // whoever stopped it wants no errors
	case err != nil:
		w.Failed(err)
	case w.held == nil:
		w.Done()
	}
	return w.Err()
}

func (c *conn) call(ctx context.Context, body []byte, w *Writer) error {
	call, err := parseCall(body)
	if err != nil {
		return err
	}
	w.ending = tokenDoneInProc
	status, err := c.session.Call(ctx, call, w)
	w.ending = tokenDoneProc
	if err != nil {
		if ctx.Err() == nil {
			w.Failed(err)
		}
		return w.Err()
	}
	w.returnStatus(status)
	for i, p := range call.Params {
		if p.Output {
			w.returnValue(i, p)
		}
	}
	w.Done()
	return w.Err()
}

// parseTransaction reads a transaction manager request: kind, isolation level, name.
func parseTransaction(body []byte) (TransactionRequest, error) {
	body, err := skipHeaders(body)
	if err != nil {
		return TransactionRequest{}, err
	}
	c := &cursor{b: body}
	r := TransactionRequest{Kind: c.u16()}
	if r.Kind == TransactionBegin {
		c.u8()
	}
	if len(c.b) > 0 {
		r.Name = value.FromUTF16(c.take(int(c.u8())))
	}
	if c.bad {
		return r, fmt.Errorf("transaction request: %w", errMalformed)
	}
	return r, nil
}

// WireVersion is a product version ("16.0.1000.6") as TDS has it: major, minor, build.
func WireVersion(version string) [4]byte {
	var major, minor, build int
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &build)
	return [4]byte{byte(major), byte(minor), byte(build >> 8), byte(build)}
}
