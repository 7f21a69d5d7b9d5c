package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"holdfast/sqlguest/server"
)

// session is all that one client has begun.
type session struct {
	service *service
	id      string
	ctx     context.Context // the session's life
	cancel  context.CancelFunc
	ended   chan struct{}

	mu       sync.Mutex
	over     bool
	running  sync.WaitGroup // requests, statements
	backups  map[string]*saving
	restores map[string]*loading
	locks    map[string]func() error
}

// errUnknown: a request names what is not there.
var errUnknown = errors.New("no such operation in this session")

func newSession(ctx context.Context, s *service, id string) *session {
	n := &session{service: s, id: id, ended: make(chan struct{}), backups: map[string]*saving{}, restores: map[string]*loading{}, locks: map[string]func() error{}}
	n.ctx, n.cancel = context.WithCancel(ctx)
	return n
}

// begin counts something that runs, unless the session is over.
func (n *session) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return false
	}
	n.running.Add(1)
	return true
}

// end ends everything that the session has begun and waits for it.
func (n *session) end() {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	n.cancel()
	limit, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), cleanupLimit)
	defer cancel()
	for _, b := range n.backups { // begin refuses those that come now
		if err := b.abort(limit); err != nil {
			n.service.log.Warn("backup not aborted in order", "error", err)
		}
	}
	n.running.Wait()
	for name, release := range n.locks {
		if err := release(); err != nil {
			n.service.log.Debug("lock not released in order", "lock", name, "error", err)
		}
	}
}

func (n *session) query(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := readJSON(r.Body, maxRequestBytes, &q); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	got, err := n.service.opt.Server.Query(r.Context(), q.Text, serverArgs(q.Args)...)
	if err != nil {
		reply(w, nil, err)
		return
	}
	reply(w, wireRows(got), nil)
}

func (n *session) host(w http.ResponseWriter, r *http.Request) {
	h, err := n.service.opt.Server.Host(r.Context())
	reply(w, h, err)
}

func (n *session) checks(w http.ResponseWriter, r *http.Request) {
	var list []Check
	if n.service.opt.Checks != nil {
		list = n.service.opt.Checks(r.Context())
	}
	reply(w, list, nil)
}

func (n *session) goodbye(w http.ResponseWriter, _ *http.Request) {
	reply(w, nil, nil)
	n.service.stop(errGoodbye)
}

// hold takes a lock, which lives in the session and not in this request.
func (n *session) hold(w http.ResponseWriter, r *http.Request) {
	var name string
	if err := readJSON(r.Body, maxRequestBytes, &name); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	release, err := n.service.opt.Server.Hold(n.ctx, name)
	if err == nil {
		n.mu.Lock()
		n.locks[r.PathValue("id")] = release
		n.mu.Unlock()
	}
	reply(w, nil, err)
}

// held tells whether a lock is.
func (n *session) held(w http.ResponseWriter, r *http.Request) {
	var name string
	if err := readJSON(r.Body, maxRequestBytes, &name); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	reply(w, nil, n.service.opt.Server.Held(r.Context(), name))
}

func (n *session) release(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	release := n.locks[r.PathValue("id")]
	delete(n.locks, r.PathValue("id"))
	n.mu.Unlock()
	if release == nil {
		reply(w, nil, errUnknown)
		return
	}
	reply(w, nil, release())
}

// saving is one BACKUP. Exactly one of commit and abort reaches SQL Server.
type saving struct {
	cancel  context.CancelFunc // while it begins
	begun   chan struct{}      // backup and err stand
	backup  server.Backup
	err     error
	streams []io.ReadCloser

	mu    sync.Mutex
	taken map[int]bool // streams that were asked for
	ended bool         // by commit or abort
}

// backup begins a BACKUP. It lives in the session; its beginning ends with the request.
func (n *session) backup(w http.ResponseWriter, r *http.Request) {
	var t task
	if err := readJSON(r.Body, maxRequestBytes, &t); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	b := &saving{cancel: cancel, begun: make(chan struct{}), taken: map[int]bool{}}
	n.mu.Lock()
	_, twice := n.backups[r.PathValue("id")]
	if !twice && !n.over {
		n.backups[r.PathValue("id")] = b
	}
	over := n.over
	n.mu.Unlock()
	if twice || over {
		cancel()
		reply(w, nil, errUnknown)
		return
	}
	stop := context.AfterFunc(r.Context(), cancel)
	b.backup, b.err = n.start(ctx, t)
	if b.err == nil {
		b.streams = b.backup.Streams()
	}
	close(b.begun)
	if !stop() && b.err == nil { // the client has given up meanwhile
		b.err = b.abort(context.WithoutCancel(ctx))
		reply(w, nil, errors.Join(server.ErrAborted, b.err))
		return
	}
	reply(w, len(b.streams), b.err)
}

// start begins a BACKUP, or takes one that is over from its files.
func (n *session) start(ctx context.Context, t task) (server.Backup, error) {
	if !t.Adopt {
		return n.service.opt.Server.Backup(ctx, t.statement())
	}
	s, ok := n.service.opt.Server.(Stager)
	if !ok {
		return nil, ErrNoStager
	}
	return s.Adopt(ctx, t.statement())
}

// staged lists what earlier runs have left.
func (n *session) staged(w http.ResponseWriter, r *http.Request) {
	var f folder
	if err := readJSON(r.Body, maxRequestBytes, &f); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	s, ok := n.service.opt.Server.(Stager)
	if !ok {
		reply(w, nil, ErrNoStager)
		return
	}
	devices, err := s.Staged(r.Context(), f.Staging, f.Local)
	reply(w, devices, err)
}

// found is a backup that has begun.
func (n *session) found(r *http.Request) (*saving, error) {
	n.mu.Lock()
	b := n.backups[r.PathValue("id")]
	n.mu.Unlock()
	if b == nil {
		return nil, errUnknown
	}
	<-b.begun
	if b.backup == nil {
		return nil, b.err
	}
	return b, nil
}

// stream sends one device's bytes. Its end is told by the trailer alone. A stream
// that nobody reads to its end makes the BACKUP fail.
func (n *session) stream(w http.ResponseWriter, r *http.Request) {
	b, err := n.found(r)
	if err != nil {
		reply(w, nil, err)
		return
	}
	from, err := b.take(r.PathValue("n"))
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer func() { _ = from.Close() }()
	w.Header().Set("Trailer", trailerEnd)
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	stop := context.AfterFunc(r.Context(), func() { _ = from.Close() })
	defer stop()
	to := &sink{w: w}
	_, err = io.CopyBuffer(to, struct{ io.Reader }{from}, make([]byte, 256<<10))
	switch {
	case to.failed:
	case err != nil:
		w.Header().Set(trailerEnd, wireFailure(err).trailer())
	default:
		w.Header().Set(trailerEnd, endOfStream)
	}
}

// sink tells a client that is gone from a stream that failed.
type sink struct {
	w      io.Writer
	failed bool
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.failed = s.failed || err != nil
	return n, err
}

// take gives out a stream, once.
func (b *saving) take(number string) (io.ReadCloser, error) {
	i, err := strconv.Atoi(number)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || i < 0 || i >= len(b.streams) || b.taken[i] {
		return nil, errUnknown
	}
	b.taken[i] = true
	return b.streams[i], nil
}

// finish is true for the first who calls it.
func (b *saving) finish() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.ended
	b.ended = true
	return first
}

func (b *saving) abort(ctx context.Context) error {
	b.cancel()
	<-b.begun
	if b.backup == nil || !b.finish() {
		return nil
	}
	return b.backup.Abort(ctx)
}

// commit passes on the word. It comes from a client that has seen the end of every
// stream, in a request that arrived whole.
func (n *session) commit(w http.ResponseWriter, r *http.Request) {
	b, err := n.found(r)
	if err != nil {
		reply(w, nil, err)
		return
	}
	if n.ctx.Err() != nil || !b.finish() {
		reply(w, nil, server.ErrAborted)
		return
	}
	outcome, err := b.backup.Commit(r.Context())
	b.cancel()
	reply(w, outcome, err)
}

func (n *session) abort(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	b := n.backups[r.PathValue("id")]
	n.mu.Unlock()
	if b == nil {
		reply(w, nil, nil)
		return
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), cleanupLimit)
	defer cancel()
	reply(w, nil, b.abort(limit))
}
