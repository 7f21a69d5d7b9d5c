package vdi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/sqlguest/server"
)

// ErrNotAsked: SQL Server ended the backup without having waited for our word. If
// it was a log backup, the log may be truncated.
var ErrNotAsked = errors.New("SQL Server ended the backup without waiting until it was safe")

// ErrMoreData: SQL Server wrote on after the bytes so far were committed, which a
// server without VDC_Complete may do (KB3188454). The statement was made to fail;
// such a database is backed up through files.
var ErrMoreData = errors.New("SQL Server wrote more after the end of the backup")

// ErrUnread: Commit was called before the streams were read to their end.
var ErrUnread = errors.New("backup committed before its streams were read to their end")

// Saving is a backup under way: a server.Backup.
type Saving struct {
	op      *operation
	streams []*stream
	granted bool // VDC_Complete will come

	mu        sync.Mutex
	committed bool
	word      chan struct{} // closed by Commit
	flushed   []bool        // the device's last command was Flush
	complete  bool          // some device was asked to complete
}

var _ server.Backup = (*Saving)(nil)

// Save starts run, which is a BACKUP into the set's devices (as many as names,
// whose first is the set's), and returns when SQL Server has connected. It owns the
// set and closes it in any case. The backup lives in ctx, up to SQL Server's verdict
// on Commit: when ctx ends, it is aborted.
//
// All streams must be read at once: SQL Server fills the devices together. On a
// server without VDC_Complete a stream ends at its device's first Flush, and should
// SQL Server wait for that one before it goes on with another device, the other's
// stream does not end before ctx does: such a server gets one device.
//
// Errors: what SQL Server said if the statement failed; a Result of the interface's.
func Save(ctx context.Context, set Set, names []string, run Statement, o Options) (*Saving, error) {
	op, err := begin(ctx, set, names, run, o)
	if err != nil {
		return nil, fmt.Errorf("begin backup: %w", err)
	}
	s := &Saving{
		op: op, granted: op.config.Features&CompleteEnabled != 0,
		word: make(chan struct{}), flushed: make([]bool, len(names)),
	}
	for range names {
		s.streams = append(s.streams, newStream(o.bufferBytes(), op.fail))
	}
	op.failed = s.failStreams
	op.serve(ctx, s.answer, s.closed, s.finish)
	return s, nil
}

func (s *Saving) failStreams(cause error) {
	for _, t := range s.streams {
		t.fail(cause)
	}
}

// finish comes when nothing runs any more: who still reads is told.
func (s *Saving) finish() {
	if err := s.op.explain(); err != nil {
		s.failStreams(err)
	} else {
		s.failStreams(ErrNotAsked)
	}
}

// answer does what SQL Server wants of a device. Every answer that is not given
// at once waits for the reader or for the word, and for nothing else.
func (s *Saving) answer(device int, c *Command) (Completion, uint32) {
	s.note(device, c.Code)
	switch c.Code {
	case Write:
		return s.write(device, c.Buffer)
	case Flush:
		return s.flush(device), 0
	case Complete:
		return s.hold(device), 0
	case ClearError:
		return Done, 0
	}
	return NotSupported, 0
}

func (s *Saving) note(device int, code Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if code != ClearError {
		s.flushed[device] = false
	}
	if code == Complete {
		s.complete = true
	}
}

func (s *Saving) write(device int, p []byte) (Completion, uint32) {
	t := s.streams[device]
	if len(p) > 0 && t.hasEnded() {
		s.op.fail(ErrMoreData)
		return Aborted, 0
	}
	if err := t.put(p); err != nil {
		return WriteFault, 0
	}
	return Done, uint32(len(p))
}

func (s *Saving) flush(device int) Completion {
	if !s.granted {
		return s.hold(device)
	}
	// VDC_Complete will ask for the word, so that this need not wait for anything.
	s.mu.Lock()
	s.flushed[device] = true
	s.mu.Unlock()
	s.endOthers()
	return Done
}

// hold ends the device's stream and waits for the word. A statement that fails
// meanwhile makes the operation give up.
func (s *Saving) hold(device int) Completion {
	s.streams[device].end()
	s.endOthers()
	select {
	case <-s.word:
	case <-s.op.gaveUp:
	}
	if s.wordGiven() {
		return Done
	}
	return Aborted
}

// overtaken is why a statement that has ended by itself is a failure.
func (s *Saving) overtaken() error {
	if s.op.verdict != nil {
		return s.op.verdict
	}
	return ErrNotAsked
}

// endOthers ends the streams of devices that were flushed and got nothing since,
// once any device was asked to complete: VDC_Complete says that SQL Server has sent
// everything, and nothing is said about whether each device hears it, or one after
// the other, when a device that waits to be asked would wait for ever.
func (s *Saving) endOthers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range s.streams {
		if s.complete && s.flushed[i] {
			t.end()
		}
	}
}

// closed is told that SQL Server has closed the device. Before the stream's end
// that is a failure; the statement's own error says more about it, if it is near.
func (s *Saving) closed(device int) error {
	if s.streams[device].hasEnded() {
		return nil
	}
	select {
	case <-s.op.ended:
		return s.overtaken()
	case <-s.op.gaveUp:
		return nil
	case <-time.After(poll):
		return ErrNotAsked
	}
}

// Streams are the devices' bytes, in the order of their names.
func (s *Saving) Streams() []io.ReadCloser {
	out := make([]io.ReadCloser, len(s.streams))
	for i, t := range s.streams {
		out[i] = t
	}
	return out
}

// Commit gives the word and waits for SQL Server's verdict. Every stream must have
// come to io.EOF, else the backup is aborted (ErrUnread). If ctx ends first, the
// statement is cancelled, and the error says what is known.
func (s *Saving) Commit(ctx context.Context) (*server.Outcome, error) {
	for _, t := range s.streams {
		if !t.wasRead() {
			s.op.fail(ErrUnread)
			break
		}
	}
	s.giveWord()
	select {
	case <-s.op.settle:
	case <-ctx.Done():
		s.op.fail(fmt.Errorf("wait for SQL Server's verdict: %w", context.Cause(ctx)))
		s.op.cancel()
		<-s.op.settle
	}
	if s.op.verdict == nil && !errors.Is(s.op.why(), ErrMoreData) && s.wordGiven() {
		return s.op.outcome, nil
	}
	return nil, fmt.Errorf("commit backup: %w", s.reason())
}

func (s *Saving) reason() error {
	if err := s.op.explain(); err != nil {
		return err
	}
	return ErrNotAsked
}

// giveWord lets SQL Server go on, unless something has failed before.
func (s *Saving) giveWord() {
	s.op.mu.Lock()
	defer s.op.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.op.cause == nil && !s.committed {
		s.committed = true
		close(s.word)
	}
}

func (s *Saving) wordGiven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

// Abort makes the statement fail and waits until it has; when ctx ends, the
// statement is cancelled as well. After Commit it does nothing. An error means
// that SQL Server had finished the backup although the word was not given.
func (s *Saving) Abort(ctx context.Context) error {
	if s.wordGiven() {
		return nil
	}
	s.op.fail(server.ErrAborted)
	select {
	case <-s.op.settle:
	case <-ctx.Done():
		s.op.cancel()
		<-s.op.settle
	}
	if s.op.verdict == nil {
		return fmt.Errorf("abort backup: %w", ErrNotAsked)
	}
	return nil
}
