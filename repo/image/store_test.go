package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	puts    int             // Puts of content that was not there
	loads   int             // ids loaded
	calls   int             // Loads
	widest  int             // ids of the largest Load
	seen    map[blob.ID]int // Loads of each id
	short   blob.Kind       // leave the last of each Load of this kind out
	end     error           // what Load says
}

func newMemStore() *memStore {
	return &memStore{content: map[blob.ID][]byte{}, kinds: map[blob.ID]blob.Kind{}, seen: map[blob.ID]int{}}
}

func (s *memStore) reset() {
	s.puts, s.loads, s.calls, s.widest, s.seen = 0, 0, 0, 0, map[blob.ID]int{}
}

func idOf(kind blob.Kind, plain []byte) blob.ID {
	return sha256.Sum256(append([]byte{byte(kind)}, plain...))
}

func (s *memStore) Put(_ context.Context, kind blob.Kind, plain []byte) (blob.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := idOf(kind, plain)
	if _, ok := s.content[id]; !ok {
		s.puts++
		s.content[id], s.kinds[id] = bytes.Clone(plain), kind
	}
	return id, nil
}

func (s *memStore) Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	s.mu.Lock()
	s.calls++
	s.loads += len(ids)
	s.widest = max(s.widest, len(ids))
	var found [][]byte
	for _, id := range ids {
		s.seen[id]++
		plain, ok := s.content[id]
		if !ok || s.kinds[id] != kind {
			s.mu.Unlock()
			return fmt.Errorf("load %s: kind %#x: %w", id, kind, errAbsent)
		}
		found = append(found, plain)
	}
	s.mu.Unlock()
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
		buf := bytes.Clone(found[i])
		if err := fn(i, buf); err != nil {
			return err
		}
		clear(buf)
	}
	return nil
}

// chunkID makes up the id of a chunk that nobody needs to load.
func chunkID(n int64) blob.ID {
	if n == 0 {
		return blob.ID{}
	}
	return sha256.Sum256(fmt.Appendf(nil, "chunk %d", n))
}

// model is a disk as a plain table: content numbers of the chunks that are not
// zero.
type model struct {
	bytes, chunkBytes int64
	at                map[int64]int64
}

func (d model) chunks() int64 { return (d.bytes + d.chunkBytes - 1) / d.chunkBytes }

// build sets the chunks of touched, ascending, to what the model holds.
func build(t rapid.TB, s *memStore, parent *Map, d model, touched []int64) Map {
	t.Helper()
	b, err := NewBuilder(s, s, parent, d.bytes, d.chunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range touched {
		if err := b.Set(context.Background(), chunk, chunkID(d.at[chunk])); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// full builds a model without a parent.
func full(t rapid.TB, s *memStore, d model) Map {
	t.Helper()
	return build(t, s, nil, d, slices.Sorted(maps.Keys(d.at)))
}
