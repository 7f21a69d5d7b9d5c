package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/server"
)

// sqlServer is a SQL Server by its rules of when a log is truncated.
type sqlServer struct {
	mu        sync.Mutex
	running   int // statements
	locks     map[string]bool
	truncated bool
	sizes     []int
	broken    int // the stream that fails, -1 for none
	// committing is called while the verdict is being made.
	committing func()
	restored   [][]byte
}

var errDevice = &server.Error{All: []server.Message{{Number: 3202, Severity: 16, Text: "Write on \"ü\" failed"}, {Number: 3013, Severity: 16, Text: "BACKUP LOG is terminating abnormally."}}}

func (s *sqlServer) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	switch text {
	case "fail":
		return nil, fmt.Errorf("run query: %w", errDevice)
	case "wait":
		s.count(1)
		defer s.count(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	row := []any{nil, "ü\n", int64(1) << 62, 1.5, true, []byte{0, 255}}
	for _, a := range args {
		row = append(row, a.Value)
	}
	return &server.Rows{Columns: []string{"a"}, Values: [][]any{row}}, nil
}

func (s *sqlServer) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
}

func (s *sqlServer) Hold(ctx context.Context, name string) (func() error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[name] {
		return nil, fmt.Errorf("hold %s: %w", name, server.ErrHeld)
	}
	s.locks[name] = true
	release := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locks, name)
	}
	stop := context.AfterFunc(ctx, release)
	return func() error { stop(); release(); return nil }, nil
}

func (s *sqlServer) Held(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.locks[name] {
		return fmt.Errorf("lock %s: %w", name, server.ErrLockLost)
	}
	return nil
}

func (s *sqlServer) Host(context.Context) (*server.Host, error) {
	return &server.Host{System: "windows", Name: "GUEST", HasVDI: true}, nil
}

func (s *sqlServer) Close() error { return nil }

func content(i, size int) []byte {
	return bytes.Repeat([]byte{byte('a' + i), 0, 255, 7}, size/4+1)[:size]
}

// backup is a BACKUP LOG: it truncates if the word comes while nothing has failed.
type backup struct {
	of      *sqlServer
	streams []io.ReadCloser
	once    sync.Once

	mu     sync.Mutex
	failed error
	ended  int // streams that were read to their end
}

func (s *sqlServer) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	if st.Text == "refused" {
		return nil, errDevice
	}
	s.count(1)
	b := &backup{of: s}
	for i, size := range s.sizes {
		b.streams = append(b.streams, &device{of: b, rest: content(i, size), breaks: i == s.broken})
	}
	context.AfterFunc(ctx, func() { b.fail(ctx.Err()) })
	return b, nil
}

func (b *backup) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
}

func (b *backup) Streams() []io.ReadCloser { return b.streams }

func (b *backup) Commit(context.Context) (*server.Outcome, error) {
	defer b.once.Do(func() { b.of.count(-1) })
	if b.of.committing != nil {
		b.of.committing()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil && b.ended < len(b.streams) {
		b.failed = errors.New("unread")
	}
	if b.failed != nil {
		return nil, b.failed
	}
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.of.truncated = true
	return &server.Outcome{Messages: []server.Message{{Number: 3014, Text: "done"}}}, nil
}

func (b *backup) Abort(context.Context) error {
	b.fail(server.ErrAborted)
	b.once.Do(func() { b.of.count(-1) })
	return nil
}

type device struct {
	of     *backup
	rest   []byte
	breaks bool
}

func (d *device) Read(p []byte) (int, error) {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	switch {
	case d.of.failed != nil:
		return 0, d.of.failed
	case len(d.rest) == 0 && d.breaks:
		return 0, errDevice
	case len(d.rest) == 0:
		d.of.ended++
		return 0, io.EOF
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *device) Close() error {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if len(d.rest) > 0 && d.of.failed == nil {
		d.of.failed = errors.New("closed")
	}
	return nil
}

func (s *sqlServer) Restore(_ context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	s.count(1)
	defer s.count(-1)
	s.restored = make([][]byte, len(streams))
	errs := make([]error, len(streams))
	var all sync.WaitGroup
	for i, r := range streams {
		all.Go(func() { s.restored[i], errs[i] = io.ReadAll(r) })
		if st.Text == "refused" {
			return nil, errDevice
		}
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &server.Outcome{}, nil
}

// place is an agent on loopback and what it takes to reach it.
type place struct {
	sql    *sqlServer
	client *trust.Keys
	addr   string
	served chan error
	stop   context.CancelFunc

	mu    sync.Mutex
	conns []net.Conn
}

func start(t testing.TB, o agent.ServiceOptions) *place {
	t.Helper()
	service, client, err := trust.New(time.Now())
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &place{sql: &sqlServer{locks: map[string]bool{}, broken: -1}, client: client, addr: l.Addr().String(), served: make(chan error, 1)}
	o.Server, o.Keys = p.sql, service
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	ended := make(chan struct{})
	go func() { defer close(ended); p.served <- agent.Serve(ctx, l, o) }()
	t.Cleanup(func() { stop(); <-ended })
	return p
}

func (p *place) dial(ctx context.Context) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
	if err == nil {
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
	}
	return c, err
}

// cut ends all connections as a cable does.
func (p *place) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// connect begins a session as soon as the one before has ended.
func (p *place) connect(t fataler) *agent.Client {
	t.Helper()
	for {
		c, err := agent.Connect(context.Background(), agent.ClientOptions{Dial: p.dial, Keys: p.client})
		if errors.Is(err, agent.ErrBusy) {
			continue
		}
		must(t, err)
		return c
	}
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve is a second agent of the same SQL Server, with other keys.
func (p *place) serve(t testing.TB, keys *trust.Keys) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p.addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.served <- agent.Serve(ctx, l, agent.ServiceOptions{Server: p.sql, Keys: keys})
	}()
	t.Cleanup(func() { stop(); <-ended })
}

// fataler is a test of either kind.
type fataler interface {
	Helper()
	Fatal(...any)
}
