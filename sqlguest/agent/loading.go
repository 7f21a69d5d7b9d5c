package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// loading is one RESTORE.
type loading struct {
	cancel context.CancelFunc
	pipes  []*io.PipeWriter
	ended  chan struct{} // outcome and err stand

	outcome *server.Outcome
	err     error

	mu  sync.Mutex
	fed map[int]bool
}

// restore begins a RESTORE, which then waits for its streams.
func (n *session) restore(w http.ResponseWriter, r *http.Request) {
	var t task
	if err := readJSON(r.Body, maxRequestBytes, &t); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	if t.Streams < 0 || t.Streams > vdi.MaxDevices {
		reply(w, nil, fmt.Errorf("%d streams, must be 0 to %d", t.Streams, vdi.MaxDevices))
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	l := &loading{cancel: cancel, ended: make(chan struct{}), fed: map[int]bool{}}
	var streams []io.Reader
	var readers []*io.PipeReader
	for range t.Streams {
		from, to := io.Pipe()
		streams, readers, l.pipes = append(streams, from), append(readers, from), append(l.pipes, to)
	}
	n.mu.Lock()
	_, twice := n.restores[r.PathValue("id")]
	if !twice {
		n.restores[r.PathValue("id")] = l
	}
	n.mu.Unlock()
	if twice || !n.begin() {
		cancel()
		reply(w, nil, errUnknown)
		return
	}
	// A stream that waits for bytes stops waiting when the restore's life ends.
	stop := context.AfterFunc(ctx, func() {
		for _, p := range l.pipes {
			_ = p.CloseWithError(ErrCut)
		}
	})
	go func() {
		defer n.running.Done()
		defer cancel()
		defer stop()
		l.outcome, l.err = n.service.opt.Server.Restore(ctx, t.statement(), streams)
		for _, from := range readers {
			_ = from.CloseWithError(io.ErrClosedPipe) // who still feeds is let go
		}
		close(l.ended)
	}()
	reply(w, nil, nil)
}

func (n *session) load(r *http.Request) (*loading, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.restores[r.PathValue("id")]; l != nil {
		return l, nil
	}
	return nil, errUnknown
}

// feed takes one device's bytes. Without the trailer they are cut, and the RESTORE
// fails on them.
func (n *session) feed(w http.ResponseWriter, r *http.Request) {
	l, err := n.load(r)
	if err != nil {
		reply(w, nil, err)
		return
	}
	to, err := l.take(r.PathValue("n"))
	if err != nil {
		reply(w, nil, err)
		return
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, r.Body, make([]byte, 256<<10))
	end := r.Trailer.Get(trailerEnd)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrCut, err)
	case end == "":
		err = ErrCut
	case end != endOfStream:
		err = readTrailer(end)
	}
	_ = to.CloseWithError(err) // nil is io.EOF
	reply(w, nil, err)
}

func (l *loading) take(number string) (*io.PipeWriter, error) {
	i, err := strconv.Atoi(number)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || i < 0 || i >= len(l.pipes) || l.fed[i] {
		return nil, errUnknown
	}
	l.fed[i] = true
	return l.pipes[i], nil
}

// result waits for SQL Server's verdict. A client that stops waiting ends the RESTORE.
func (n *session) result(w http.ResponseWriter, r *http.Request) {
	l, err := n.load(r)
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer context.AfterFunc(r.Context(), l.cancel)()
	<-l.ended
	reply(w, wireOutcome(l.outcome), l.err)
}
