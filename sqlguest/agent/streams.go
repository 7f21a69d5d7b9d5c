package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/server"
)

// remote is a BACKUP beside the server.
type remote struct {
	client  *Client
	path    string
	streams []io.ReadCloser
	ctx     context.Context // the backup's life
	cancel  context.CancelFunc
	stop    func() bool // of what aborts when the life ends
	giveUp  func() error

	mu  sync.Mutex
	end ending
}

// ending is the one way in which a BACKUP ends.
type ending int

const (
	open ending = iota
	committed
	aborted
)

// Backup begins a BACKUP, which lives in ctx and in the session. With server.ErrUntold it
// may have begun although nobody answered: one into files goes on.
func (c *Client) Backup(ctx context.Context, s server.Statement) (server.Backup, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	b, err := c.backup(ctx, newTask(s, 0))
	return b, untold(err)
}

// untold says of an error in whose course the connection was cut that nobody can tell what
// became of the backup.
func untold(err error) error {
	if errors.Is(err, ErrCut) {
		return fmt.Errorf("%w: %w", server.ErrUntold, err)
	}
	return err
}

// Staged lists the devices whose files earlier runs have left beside the server.
func (c *Client) Staged(ctx context.Context, staging, local string) ([]string, error) {
	var devices []string
	if err := c.call(ctx, "POST", "/staged", folder{staging, local}, &devices); err != nil {
		return nil, err
	}
	return devices, nil
}

// Adopt gives out such files as a backup; see direct.Server.Adopt.
func (c *Client) Adopt(ctx context.Context, s server.Statement) (server.Backup, error) {
	t := newTask(s, 0)
	t.Adopt = true
	return c.backup(ctx, t)
}

func (c *Client) backup(ctx context.Context, t task) (server.Backup, error) {
	b := &remote{client: c, path: "/backup/" + rand.Text()}
	var devices int
	if err := c.call(ctx, "POST", b.path, t, &devices); err != nil {
		if ctx.Err() != nil { // it may have begun all the same
			err = errors.Join(err, c.giveUp(b.path))
		}
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	for i := range devices {
		b.streams = append(b.streams, &incoming{of: b, path: b.path + "/" + strconv.Itoa(i)})
	}
	b.giveUp = sync.OnceValue(func() error { return c.giveUp(b.path) })
	b.stop = context.AfterFunc(ctx, func() {
		if b.finish(aborted) {
			if err := b.giveUp(); err != nil {
				c.log.Debug("backup not aborted in order", "error", err)
			}
		}
	})
	return b, nil
}

func (b *remote) Streams() []io.ReadCloser { return b.streams }

// finish is true for who ends the BACKUP that way, or finds it aborted and aborts it.
func (b *remote) finish(as ending) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == open {
		b.end = as
		return true
	}
	return as == aborted && b.end == aborted
}

// Commit passes on the word. Where the answer is lost, nobody knows.
func (b *remote) Commit(ctx context.Context) (*server.Outcome, error) {
	defer b.cancel()
	for _, s := range b.streams {
		if !s.(*incoming).isWhole() {
			err := b.Abort(ctx)
			return nil, errors.Join(fmt.Errorf("commit backup: %w", sentinels["unread"]), err)
		}
	}
	if !b.finish(committed) {
		return nil, fmt.Errorf("commit backup: %w", server.ErrAborted)
	}
	b.stop()
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })()
	var outcome *server.Outcome
	err := b.client.call(both, "POST", b.path+"/commit", nil, &outcome)
	if err != nil && both.Err() != nil && b.client.ctx.Err() == nil {
		err = errors.Join(err, b.client.tidy(b.path)) // the word may not have gone out, and the BACKUP would wait for it
	}
	if err != nil {
		return nil, err
	}
	return outcome, nil
}

// Abort makes the statement fail, whatever has become of the caller's context. Where the
// connection is cut, the agent does it, if it lives.
func (b *remote) Abort(context.Context) error {
	if !b.finish(aborted) {
		return nil
	}
	b.stop()
	b.cancel()
	return untold(b.giveUp())
}

// incoming is one stream. It is asked for at the first Read.
type incoming struct {
	of   *remote
	path string

	mu     sync.Mutex
	answer *http.Response
	err    error // what every further Read says
	whole  bool
	closed bool
}

// Read ends with io.EOF only if the trailer says that this was all.
func (s *incoming) Read(p []byte) (int, error) {
	body, err := s.open()
	if err != nil {
		return 0, err
	}
	n, err := body.Read(p)
	if err == nil {
		return n, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = s.end(err)
	s.whole = s.err == io.EOF
	return n, s.err
}

func (s *incoming) open() (io.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.closed {
		s.err = errClosed
	}
	if s.err == nil && s.answer == nil {
		s.answer, s.err = s.of.client.send(s.of.ctx, "GET", s.path, nil) //nolint:bodyclose // Close does
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.answer.Body, nil
}

// end is what the end of the body means.
func (s *incoming) end(err error) error {
	if err != io.EOF {
		return s.of.client.explain(s.of.ctx, err)
	}
	switch said := s.answer.Trailer.Get(trailerEnd); said {
	case endOfStream:
		return io.EOF
	case "":
		return ErrCut
	default:
		return readTrailer(said)
	}
}

func (s *incoming) isWhole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole
}

// Close before the end makes the BACKUP fail.
func (s *incoming) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.answer == nil {
		return nil
	}
	return s.answer.Body.Close()
}

// Restore runs a RESTORE that reads the streams.
func (c *Client) Restore(ctx context.Context, s server.Statement, streams []io.Reader) (*server.Outcome, error) {
	path := "/restore/" + rand.Text()
	if err := c.call(ctx, "POST", path, newTask(s, len(streams)), nil); err != nil {
		return nil, err
	}
	var feeding errgroup.Group
	feedCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	own := make([]error, len(streams)) // failures of the streams themselves
	for i, from := range streams {
		feeding.Go(func() error { return c.feed(feedCtx, path+"/"+strconv.Itoa(i), from, &own[i]) })
	}
	var said *outcome
	err := c.call(ctx, "GET", path, nil, &said)
	cancel()
	for _, from := range streams { // who waits for bytes that nobody needs any more
		if closer, ok := from.(io.Closer); ok && err != nil {
			_ = closer.Close()
		}
	}
	_ = feeding.Wait()
	if err == nil {
		return said.server(), nil
	}
	for _, cause := range own {
		if cause != nil {
			return nil, fmt.Errorf("read backup: %w; then: %w", cause, err)
		}
	}
	return nil, err
}

// feed sends one stream; its trailer says that it was all, or why it was not.
func (c *Client) feed(ctx context.Context, path string, from io.Reader, own *error) error {
	body := &outgoing{from: from, trailer: http.Header{trailerEnd: nil}, own: own, closed: make(chan struct{})}
	r, err := http.NewRequestWithContext(ctx, "PUT", "https://"+trust.ServerName+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	defer func() { <-body.closed }() // the transport may read on after its answer
	r.Trailer, r.ContentLength = body.trailer, -1
	answer, err := c.do(r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// outgoing is a stream as a request's body. A failure of the stream's is an end with
// a trailer that says so: SQL Server must hear of it, and nothing else be lost.
type outgoing struct {
	trailer http.Header
	own     *error

	mu     sync.Mutex
	from   io.Reader // nil when closed
	closed chan struct{}
}

func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.from == nil {
		return 0, io.ErrClosedPipe
	}
	n, err := o.from.Read(p)
	switch {
	case err == io.EOF:
		o.trailer.Set(trailerEnd, endOfStream)
	case err != nil:
		*o.own = err
		o.trailer.Set(trailerEnd, wireFailure(err).trailer())
		err = io.EOF
	}
	return n, err
}

// Close is called by the transport, while the stream stays the caller's. Nobody reads
// it afterwards.
func (o *outgoing) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.from != nil {
		o.from = nil
		close(o.closed)
	}
	return nil
}
