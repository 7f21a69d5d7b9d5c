package vdi

import (
	"errors"
	"io"
	"sync"
)

// errClosed: the reader closed its stream before the end.
var errClosed = errors.New("stream closed before its end")

// stream is a bounded queue of bytes between a device and its reader. Its bound is
// what holds SQL Server back when the repository is slower.
type stream struct {
	limit int
	// gaveUp is told when the reader closes the stream early.
	gaveUp func(error)

	mu        sync.Mutex
	changed   *sync.Cond
	queue     []piece
	spare     []byte // memory of a piece that was taken, for the next one
	bytes     int    // in queue
	ended     bool   // no more bytes will come
	delivered bool   // the reader has been told io.EOF
	err       error  // instead of bytes and of the end
}

// piece is one write: all of it, and what is left to be read.
type piece struct {
	all, rest []byte
}

func newStream(limit int, gaveUp func(error)) *stream {
	s := &stream{limit: limit, gaveUp: gaveUp}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// put copies p into the queue, waiting for room. A piece that is larger than the
// whole queue waits until it is alone.
func (s *stream) put(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && s.bytes > 0 && s.bytes+len(p) > s.limit {
		s.changed.Wait()
	}
	if s.err != nil || len(p) == 0 {
		return s.err
	}
	all := append(s.spare[:0], p...)
	s.spare = nil
	s.queue = append(s.queue, piece{all: all, rest: all})
	s.bytes += len(p)
	s.changed.Broadcast()
	return nil
}

// end lets the reader come to io.EOF.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.changed.Broadcast()
}

func (s *stream) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// wasRead tells whether the reader has seen the end.
func (s *stream) wasRead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivered
}

// fail gives the reader an error instead of everything that it has not taken.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.queue, s.bytes = nil, 0
	}
	s.changed.Broadcast()
}

// Read gives what is there, waiting for at least one byte.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.delivered:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		case s.bytes > 0:
			return s.take(p), nil
		case s.ended:
			s.delivered = true
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) take(p []byte) int {
	first := &s.queue[0]
	n := copy(p, first.rest)
	if first.rest = first.rest[n:]; len(first.rest) == 0 {
		s.spare = first.all
		*first = piece{}
		s.queue = s.queue[1:]
	}
	s.bytes -= n
	s.changed.Broadcast()
	return n
}

// Close before the end gives the whole backup up.
func (s *stream) Close() error {
	if !s.wasRead() {
		s.gaveUp(errClosed)
	}
	return nil
}
