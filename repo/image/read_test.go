package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

// dense makes a disk of real chunks with zeros between and returns its bytes.
func dense(t rapid.TB, s *memStore, size, chunkBytes int64, zeros func(chunk int64) bool) (Map, []byte) {
	t.Helper()
	ctx := context.Background()
	b, err := NewBuilder(s, nil, nil, size, chunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, b.chunks*chunkBytes)
	for chunk := range b.chunks {
		if zeros(chunk) {
			continue
		}
		plain := raw[chunk*chunkBytes:][:chunkBytes]
		for i := range min(chunkBytes, size-chunk*chunkBytes) {
			plain[i] = byte(chunk*7 + i*i/300 + 1)
		}
		id, err := s.Put(ctx, blob.DiskChunk, plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Set(ctx, chunk, id); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m, raw[:size]
}

func gaps(chunk int64) bool { return chunk%5 == 1 || chunk > 150 && chunk < 290 }

func TestReaderReadsWhatWasWritten(t *testing.T) {
	s := newMemStore()
	for _, size := range []int64{0, 1, 511, 512, 513, 300*512 + 100} {
		m, raw := dense(t, s, size, 512, gaps)
		r, err := NewReader(t.Context(), s, m)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size() != size {
			t.Errorf("size %d, not %d", r.Size(), size)
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, size), raw); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestReaderMatchesModelAnywhere(t *testing.T) {
	s := newMemStore()
	m, raw := dense(t, s, 400*512+77, 512, gaps)
	r, err := NewReader(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.NewReader(raw)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, m.Bytes+10).Draw(t, "off")
		p := bytes.Repeat([]byte{0xee}, rapid.OneOf(rapid.IntRange(0, 2000), rapid.IntRange(0, len(raw)+9)).Draw(t, "length"))
		q := make([]byte, len(p))
		n, err := r.ReadAt(p, off)
		wantN, wantErr := want.ReadAt(q, off)
		if n != wantN || !errors.Is(err, wantErr) || !bytes.Equal(p[:n], q[:n]) {
			t.Fatalf("read %d at %d: %d, %v; not %d, %v", len(p), off, n, err, wantN, wantErr)
		}
	})
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read before the start: %v", err)
	}
}

func TestReaderLoadsLittle(t *testing.T) {
	s := newMemStore()
	m, raw := dense(t, s, 400*512, 512, gaps)
	r, err := NewReader(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	s.reset()
	got := make([]byte, len(raw))
	for off := 0; off < len(raw); off += 100 {
		end := min(len(raw), off+100)
		if _, err := r.ReadAt(got[off:end], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, raw) {
		t.Error("bytes differ")
	}
	for id, n := range s.seen {
		if n > 1 {
			t.Errorf("%s loaded %d times by reads in a row", id, n)
		}
	}
	s.reset()
	if _, err := r.ReadAt(got[:100*512], 160*512); err != nil || s.calls != 0 {
		t.Errorf("reading zeros: %d loads, %v", s.calls, err)
	}
}

func TestReaderServesGoroutines(t *testing.T) {
	s := newMemStore()
	m, raw := dense(t, s, 400*512, 512, gaps)
	r, err := NewReader(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			p := make([]byte, 700)
			for off := g * 50; off+len(p) < len(raw); off += 211 {
				if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, raw[off:off+len(p)]) {
					t.Errorf("read at %d differs: %v", off, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestExtentsAreTheRunsOfData(t *testing.T) {
	s := newMemStore()
	d := model{bytes: 1000*512 - 100, chunkBytes: 512, at: map[int64]int64{0: 1, 1: 1, 2: 2, 127: 3, 128: 4, 700: 5, 998: 6, 999: 7}}
	m := full(t, s, d)
	r, err := NewReader(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Extents(t.Context())
	want := []Extent{{0, 3 * 512}, {127 * 512, 1024}, {700 * 512, 512}, {998 * 512, 924}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; not %v", got, err, want)
	}
}

func TestWalkOfARangeLoadsOnlyThatRange(t *testing.T) {
	s := newMemStore()
	d, m := bigDisk(t, s, 16*gib)
	s.reset()
	var got []int64
	from, to := int64(70_001), int64(70_001+3*Fanout)
	err := Walk(t.Context(), s, m, from, to, func(chunk int64, id blob.ID) error {
		got = append(got, chunk)
		return nil
	})
	var want []int64
	for chunk := from; chunk < to; chunk++ {
		if d.at[chunk] != 0 {
			want = append(want, chunk)
		}
	}
	if err != nil || !slices.Equal(got, want) || s.loads > 3+4 {
		t.Errorf("chunks %v, not %v: %d loads, %v", got, want, s.loads, err)
	}
	stop := errors.New("stop")
	if err := Walk(t.Context(), s, m, -5, math.MaxInt64, func(int64, blob.ID) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped walk: %v", err)
	}
}

func TestNodesSkipsWhatWasSeen(t *testing.T) {
	s := newMemStore()
	d, parent := bigDisk(t, s, 16*gib)
	d.at[3] = 99_999_999
	child := build(t, s, &parent, d, []int64{3})
	seen := blob.Set{}
	kinds := map[blob.Kind]int{}
	note := func(kind blob.Kind, id blob.ID) error {
		kinds[kind]++
		seen.Add(id)
		return nil
	}
	if err := Nodes(t.Context(), s, parent, note, seen.Has); err != nil {
		t.Fatal(err)
	}
	want := map[blob.Kind]int{blob.MapNode + 2: 1, blob.MapNode + 1: 8, blob.MapNode: 1024, blob.DiskChunk: 1024}
	if !maps.Equal(kinds, want) {
		t.Errorf("parent: %v, not %v", kinds, want)
	}
	clear(kinds)
	s.reset()
	if err := Nodes(t.Context(), s, child, note, seen.Has); err != nil {
		t.Fatal(err)
	}
	want = map[blob.Kind]int{blob.MapNode + 2: 1, blob.MapNode + 1: 1, blob.MapNode: 1, blob.DiskChunk: 1}
	if !maps.Equal(kinds, want) || s.loads != 3 {
		t.Errorf("child: %v in %d loads", kinds, s.loads)
	}
}

func TestDiffMatchesModel(t *testing.T) {
	sizes := rapid.OneOf(rapid.Int64Range(0, 400), rapid.Int64Range(Fanout*Fanout-2, Fanout*Fanout+300))
	rapid.Check(t, func(t *rapid.T) {
		s := newMemStore()
		a, b := drawModel(t, sizes.Draw(t, "a")), drawModel(t, sizes.Draw(t, "b"))
		for chunk, n := range a.at {
			if chunk%7 != 0 && chunk < b.chunks() {
				b.at[chunk] = n
			}
		}
		want := map[int64]bool{}
		for _, at := range []map[int64]int64{a.at, b.at} {
			for chunk := range at {
				if a.at[chunk] != b.at[chunk] {
					want[chunk] = true
				}
			}
		}
		last := int64(-1)
		err := Diff(context.Background(), s, full(t, s, a), full(t, s, b), func(chunk int64, x, y blob.ID) error {
			if chunk <= last || !want[chunk] || x != chunkID(a.at[chunk]) || y != chunkID(b.at[chunk]) {
				t.Fatalf("chunk %d after %d: %s, %s", chunk, last, x, y)
			}
			last = chunk
			delete(want, chunk)
			return nil
		})
		if err != nil || len(want) > 0 {
			t.Fatalf("%d differences missed: %v", len(want), err)
		}
	})
}

func TestDiffOfEqualOrIncomparableMapsLoadsNothing(t *testing.T) {
	s := newMemStore()
	_, m := bigDisk(t, s, 16*gib)
	s.reset()
	none := func(chunk int64, _, _ blob.ID) error { return errors.New("a difference") }
	if err := Diff(t.Context(), s, m, m, none); err != nil || s.calls != 0 {
		t.Errorf("equal: %d loads, %v", s.calls, err)
	}
	if err := Diff(t.Context(), s, m, Map{Bytes: m.Bytes, ChunkBytes: 512}, none); !errors.Is(err, ErrIncomparable) || s.calls != 0 {
		t.Errorf("other chunks: %d loads, %v", s.calls, err)
	}
}

func TestCopyRestoresInParallel(t *testing.T) {
	s := newMemStore()
	m, raw := dense(t, s, 400*512+77, 512, gaps)
	for _, opts := range []CopyOptions{{}, {Window: 1}, {Window: 7, Parallel: 3}} {
		got := make([]byte, len(raw))
		var mu sync.Mutex
		bytesSeen := 0
		err := Copy(t.Context(), s, m, opts, func(off int64, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			bytesSeen += copy(got[off:], data)
			return nil
		})
		if err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%+v: restored disk differs: %v", opts, err)
		}
		if limit := len(raw) - 138*512; bytesSeen > limit {
			t.Errorf("%+v: %d bytes copied, zeros among them", opts, bytesSeen)
		}
	}
}

func TestCopyStopsAtTheFirstError(t *testing.T) {
	s := newMemStore()
	m, _ := dense(t, s, 400*512, 512, gaps)
	full := errors.New("target is full")
	for _, parallel := range []int{1, 3} {
		opts := CopyOptions{Window: 4, Parallel: parallel}
		if err := Copy(t.Context(), s, m, opts, func(off int64, _ []byte) error {
			if off >= 20*512 {
				return full
			}
			return nil
		}); !errors.Is(err, full) {
			t.Errorf("parallel %d: %v", parallel, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Copy(ctx, s, m, CopyOptions{}, func(int64, []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
