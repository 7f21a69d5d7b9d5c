package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

var errAbsent = errors.New("content is absent")

// memStore keeps content by id and counts what is asked of it. It delivers in
// reverse order, as a Loader may, and spoils its buffer after each call.
type memStore struct {
	mu      sync.Mutex
	content map[blob.ID][]byte
	kinds   map[blob.ID]blob.Kind
	loads   int
	widest  int
	short   blob.Kind // leave the last of each Load of this kind out
	end     error     // what Load says
	fail    error     // what Put says once content holds failAt entries
	failAt  int
}

func newMemStore() *memStore {
	return &memStore{content: map[blob.ID][]byte{}, kinds: map[blob.ID]blob.Kind{}}
}

func (s *memStore) Put(_ context.Context, kind blob.Kind, plain []byte) (blob.ID, error) {
	id := blob.ID(sha256.Sum256(append([]byte{byte(kind)}, plain...)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil && len(s.content) >= s.failAt {
		return blob.ID{}, s.fail
	}
	if _, ok := s.content[id]; !ok {
		s.content[id], s.kinds[id] = bytes.Clone(plain), kind
	}
	return id, nil
}

func (s *memStore) Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	s.loads += len(ids)
	s.widest = max(s.widest, len(ids))
	if s.end != nil {
		return s.end
	}
	if s.short == kind {
		ids = ids[:len(ids)-1]
	}
	for i := len(ids) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		plain, ok := s.content[ids[i]]
		if !ok || s.kinds[ids[i]] != kind {
			return fmt.Errorf("load %s: kind %#x: %w", ids[i], kind, errAbsent)
		}
		buf := bytes.Clone(plain)
		if err := fn(i, buf); err != nil {
			return err
		}
		clear(buf)
	}
	return nil
}

// lengths cuts data into chunks of the given lengths, over and over, and spoils
// each chunk at the next call.
type lengths struct {
	data []byte
	each []int
	turn int
	last []byte
	end  error // instead of io.EOF
}

func (l *lengths) Next() ([]byte, error) {
	clear(l.last)
	if len(l.data) == 0 {
		if l.end != nil {
			return nil, l.end
		}
		return nil, io.EOF
	}
	n := min(len(l.data), l.each[l.turn%len(l.each)])
	l.turn++
	l.last = bytes.Clone(l.data[:n])
	l.data = l.data[n:]
	return l.last, nil
}

// noise is bytes that do not repeat soon.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

func write(t rapid.TB, s *memStore, data []byte, opts Options, each ...int) Stream {
	t.Helper()
	got, err := Write(context.Background(), s, &lengths{data: data, each: each}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
