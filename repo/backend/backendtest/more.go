package backendtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/repo/backend"
)

// listMany is more than one page of an object store's listing (1,000 keys).
func listMany(t *testing.T, b backend.Backend) {
	var wanted []string
	for i := range 1100 {
		name := fmt.Sprintf("many/%02x/%04d", i%7, i)
		put(t, b, name, nil)
		wanted = append(wanted, name)
	}
	slices.Sort(wanted)
	if got := list(t, b, "many/"); !slices.Equal(got, wanted) {
		t.Errorf("list: %d names, want %d", len(got), len(wanted))
	}
}

func listStops(t *testing.T, b backend.Backend) {
	for _, name := range orderNames {
		put(t, b, name, nil)
	}
	enough := errors.New("enough")
	var seen []string
	err := b.List(t.Context(), "", func(info backend.Info) error {
		if seen = append(seen, info.Name); len(seen) == 3 {
			return enough
		}
		return nil
	})
	wantErr(t, "list", err, enough)
	if !slices.Equal(seen, orderNames[:3]) {
		t.Errorf("seen %q", seen)
	}
}

func listReentrant(t *testing.T, b backend.Backend) {
	for _, name := range orderNames {
		put(t, b, name, []byte(name))
	}
	err := b.List(t.Context(), "", func(info backend.Info) error {
		if got, err := b.Get(t.Context(), info.Name, 0, -1); err != nil || string(got) != info.Name {
			return fmt.Errorf("get %s: %q, %w", info.Name, got, err)
		}
		return b.Delete(t.Context(), info.Name)
	})
	if err != nil {
		t.Errorf("list: %v", err)
	}
	if left := list(t, b, ""); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func deleteGone(t *testing.T, b backend.Backend) {
	put(t, b, "a/x", []byte("x"))
	put(t, b, "a/y", []byte("y"))
	for range 2 { // the second time it is missing, which is no error
		if err := b.Delete(t.Context(), "a/x"); err != nil {
			t.Fatalf("delete: %v", err)
		}
		_, err := b.Get(t.Context(), "a/x", 0, -1)
		wantErr(t, "get deleted", err, backend.ErrNotFound)
	}
	if got := list(t, b, ""); !slices.Equal(got, []string{"a/y"}) {
		t.Errorf("list: %q", got)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
}

func putAfterDelete(t *testing.T, b backend.Backend) {
	for i := range 3 {
		data := Bytes(uint64(i), 100)
		put(t, b, "f/g/x", data)
		want(t, b, "f/g/x", data)
		if err := b.Delete(t.Context(), "f/g/x"); err != nil {
			t.Fatal(err)
		}
		if err := b.PutIfAbsent(t.Context(), "f/g/x", data[:50]); err != nil {
			t.Fatalf("put new after delete: %v", err)
		}
		want(t, b, "f/g/x", data[:50])
		if err := b.Delete(t.Context(), "f/g/x"); err != nil {
			t.Fatal(err)
		}
		if err := b.Sync(t.Context()); err != nil {
			t.Fatalf("sync: %v", err)
		}
	}
}

func absentSame(t *testing.T, b backend.Backend) {
	data := Bytes(7, 4321)
	for range 3 {
		if err := b.PutIfAbsent(t.Context(), "commit/s/1", data); err != nil {
			t.Fatalf("put new: %v", err)
		}
	}
	put(t, b, "commit/s/2", data)
	if err := b.PutIfAbsent(t.Context(), "commit/s/2", data); err != nil {
		t.Fatalf("put new over equal put: %v", err)
	}
	want(t, b, "commit/s/1", data)
}

func absentOther(t *testing.T, b backend.Backend) {
	data := Bytes(8, 1000)
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", data); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(data)
	flipped[999] ^= 1
	for _, other := range [][]byte{nil, data[:999], append(bytes.Clone(data), 0), flipped} {
		wantErr(t, "put new other bytes", b.PutIfAbsent(t.Context(), "commit/s/1", other), backend.ErrExists)
		want(t, b, "commit/s/1", data)
	}
	if got := list(t, b, ""); !slices.Equal(got, []string{"commit/s/1"}) {
		t.Errorf("list: %q", got)
	}
}

// absentRace: of 64 writers with different bytes exactly one is told that the
// name is his, and it is his bytes that stand there; a loser who asks again
// still loses, the winner still wins.
func absentRace(t *testing.T, b backend.Backend) {
	const writers = 64
	for round := range 4 {
		name := fmt.Sprintf("commit/race/%d", round)
		var winners atomic.Int64
		var winner atomic.Uint64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for w := range uint64(writers) {
			wg.Go(func() {
				<-start
				for range 2 {
					err := b.PutIfAbsent(t.Context(), name, Bytes(w, 2000))
					if err == nil {
						winner.Store(w)
						winners.Add(1)
					} else if !errors.Is(err, backend.ErrExists) {
						t.Errorf("put new: %v", err)
					}
				}
			})
		}
		close(start)
		wg.Wait()
		if n := winners.Load(); n != 2 { // one writer, both times
			t.Errorf("%d successes, want the 2 of one winner", n)
		}
		want(t, b, name, Bytes(winner.Load(), 2000))
	}
}

// uniform makes an object whose halves tell whether they belong together and
// whose length follows from its version.
func uniform(version uint64) []byte {
	data := make([]byte, 64<<10+8*(version%512))
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], version)
	}
	return data
}

// replaceRace: readers of an object that is replaced all the time see one
// version, whole, and its size, and the versions never go back.
func replaceRace(t *testing.T, b backend.Backend) {
	put(t, b, "label/x", uniform(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := uint64(0)
			for ended := false; !ended; {
				select {
				case <-done:
					ended = true // once more, after the last version
				default:
				}
				got, err := b.Get(t.Context(), "label/x", 0, -1)
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				version := binary.LittleEndian.Uint64(got)
				if !bytes.Equal(got, uniform(version)) || version < last {
					t.Errorf("mixed or stale object: version %d after %d, %d bytes", version, last, len(got))
					return
				}
				last = version
			}
		})
	}
	for v := range uint64(200) {
		put(t, b, "label/x", uniform(v))
	}
	close(done)
	wg.Wait()
}

func manyWriters(t *testing.T, b backend.Backend) {
	var wg sync.WaitGroup
	for w := range uint64(16) {
		wg.Go(func() {
			for i := range uint64(20) {
				name := fmt.Sprintf("data/%d/%d", i, w)
				if err := b.Put(t.Context(), name, Bytes(w<<8|i, 3000)); err != nil {
					t.Errorf("put: %v", err)
				}
				if i%5 == 4 {
					if err := b.Delete(t.Context(), name); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := list(t, b, "data/"); len(got) != 16*16 {
		t.Errorf("%d objects, want 256", len(got))
	}
	for w := range uint64(16) {
		want(t, b, fmt.Sprintf("data/7/%d", w), Bytes(w<<8|7, 3000))
	}
}

func syncWhilePutting(t *testing.T, b backend.Backend) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 15 {
				if err := b.Put(t.Context(), fmt.Sprintf("data/s%d/%d", w, i%10), Bytes(uint64(i), 1000)); err != nil {
					t.Errorf("put: %v", err)
				}
				if i%3 == 0 {
					if err := b.Sync(t.Context()); err != nil {
						t.Errorf("sync: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := b.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
	for w := range 4 {
		want(t, b, fmt.Sprintf("data/s%d/4", w), Bytes(14, 1000))
	}
}

func cancelled(t *testing.T, b backend.Backend) {
	put(t, b, "a", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "put", b.Put(ctx, "b", nil), context.Canceled)
	wantErr(t, "put new", b.PutIfAbsent(ctx, "b", nil), context.Canceled)
	_, err := b.Get(ctx, "a", 0, -1)
	wantErr(t, "get", err, context.Canceled)
	_, err = b.Stat(ctx, "a")
	wantErr(t, "stat", err, context.Canceled)
	wantErr(t, "list", b.List(ctx, "", func(backend.Info) error { return nil }), context.Canceled)
	wantErr(t, "delete", b.Delete(ctx, "a"), context.Canceled)
	wantErr(t, "sync", b.Sync(ctx), context.Canceled)
	if got := list(t, b, ""); !slices.Equal(got, []string{"a"}) {
		t.Errorf("list: %q", got)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	put(t, b, "b", nil)
	err = b.List(ctx, "", func(backend.Info) error {
		cancel()
		return nil
	})
	wantErr(t, "list cancelled inside", err, context.Canceled)
}

func location(t *testing.T, b backend.Backend) {
	if b.Location() == "" {
		t.Error("no location")
	}
}
