package image

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

const (
	kib = int64(1) << 10
	gib = int64(1) << 30
	tib = int64(1) << 40
)

// bigDisk has one chunk of data in each leaf.
func bigDisk(t *testing.T, s *memStore, size int64) (model, Map) {
	t.Helper()
	d := model{bytes: size, chunkBytes: 128 * kib, at: map[int64]int64{}}
	for leaf := range d.chunks() / Fanout {
		d.at[leaf*Fanout+leaf%Fanout] = leaf + 1
	}
	return d, full(t, s, d)
}

// A clustered gigabyte of a terabyte costs its leaves and the path above them,
// in few loads; leaves overwritten in full are not even loaded.
func TestClusteredChangeTouchesOnlyItsLeaves(t *testing.T) {
	s := newMemStore()
	_, parent := bigDisk(t, s, tib)
	if parent.Depth() != 4 || parent.Chunks() != 1<<23 {
		t.Fatalf("depth %d, %d chunks", parent.Depth(), parent.Chunks())
	}
	for _, c := range []struct {
		name        string
		step        int64
		loads, puts int
	}{
		{"every second chunk", 2, 65 + 4, 65 + 4},
		{"every chunk", 1, 2 + 4, 65 + 4},
	} {
		d := model{bytes: tib, chunkBytes: 128 * kib, at: map[int64]int64{}}
		for chunk := int64(4_000_050); chunk < 4_000_050+8192; chunk += c.step {
			d.at[chunk] = 1_000_000*c.step + chunk
		}
		before := len(s.content)
		s.reset()
		m := build(t, s, &parent, d, slices.Sorted(maps.Keys(d.at)))
		if s.loads > c.loads || s.calls > 4 || s.puts > c.puts || len(s.content)-before != s.puts {
			t.Errorf("%s: %d loads in %d calls, %d puts", c.name, s.loads, s.calls, s.puts)
		}
		s.reset()
		changed := 0
		err := Diff(t.Context(), s, parent, m, func(chunk int64, a, b blob.ID) error {
			changed++
			if b != chunkID(d.at[chunk]) || a == b {
				t.Errorf("chunk %d: %s → %s", chunk, a, b)
			}
			return nil
		})
		if err != nil || changed != len(d.at) || s.loads > 2*(65+4) {
			t.Errorf("%s: %d chunks differ, %d loads, %v", c.name, changed, s.loads, err)
		}
	}
}

// Changes all over the disk load each of the parent's nodes once, in batches.
func TestScatteredChangeLoadsEachNodeOnce(t *testing.T) {
	s := newMemStore()
	d, parent := bigDisk(t, s, 128*gib)
	next := model{d.bytes, d.chunkBytes, map[int64]int64{}}
	for chunk := int64(5); chunk < d.chunks(); chunk += 300 {
		next.at[chunk] = 10_000_000 + chunk
	}
	s.reset()
	m, held := buildWatched(t, s, parent, next)
	if held > 3*windowNodes {
		t.Errorf("%d of the parent's nodes held at once", held)
	}
	leaves := len(next.at) // one each
	if s.widest > windowNodes+1 || s.calls > 2*(leaves/windowNodes+8) {
		t.Errorf("%d loads in %d calls, the largest of %d", s.loads, s.calls, s.widest)
	}
	for id, n := range s.seen {
		if n > 1 {
			t.Fatalf("node %s loaded %d times", id, n)
		}
	}
	for chunk, n := range next.at {
		d.at[chunk] = n
	}
	if want := full(t, newMemStore(), d); m != want {
		t.Errorf("root %s, full build %s", m.Root, want.Root)
	}
}

// buildWatched is build that also tells how many of the parent's nodes were held.
func buildWatched(t *testing.T, s *memStore, parent Map, d model) (m Map, most int) {
	t.Helper()
	b, err := NewBuilder(s, s, &parent, d.bytes, d.chunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range slices.Sorted(maps.Keys(d.at)) {
		if err := b.Set(t.Context(), chunk, chunkID(d.at[chunk])); err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, nodes := range b.old {
			held += len(nodes)
		}
		most = max(most, held)
	}
	if m, err = b.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m, most
}

func TestUnchangedDiskStoresNothing(t *testing.T) {
	s := newMemStore()
	d, parent := bigDisk(t, s, 16*gib)
	s.reset()
	if m := build(t, s, &parent, d, nil); m != parent || s.loads != 0 || s.puts != 0 {
		t.Errorf("nothing set: root %s of %s, %d loads, %d puts", m.Root, parent.Root, s.loads, s.puts)
	}
	again := slices.Sorted(maps.Keys(d.at))[:1000]
	if m := build(t, s, &parent, d, again); m != parent || s.puts != 0 {
		t.Errorf("set to what it was: root %s of %s, %d puts", m.Root, parent.Root, s.puts)
	}
}

func TestEmptyTerabyteStoresNothing(t *testing.T) {
	s := newMemStore()
	m := full(t, s, model{bytes: tib, chunkBytes: 128 * kib})
	if !m.Root.IsZero() || s.puts != 0 {
		t.Errorf("root %s, %d puts", m.Root, s.puts)
	}
	zeroed := build(t, s, &m, model{bytes: 2 * tib, chunkBytes: 128 * kib}, []int64{0, 77})
	if !zeroed.Root.IsZero() || s.puts != 0 || s.calls != 0 {
		t.Errorf("zeros over zeros: root %s, %d puts", zeroed.Root, s.puts)
	}
}

// Any parent, any new size, any chunks set: the tree is that of a full build.
func TestIncrementalEqualsFullBuild(t *testing.T) {
	sizes := rapid.OneOf(
		rapid.Int64Range(0, 300),
		rapid.Int64Range(Fanout*Fanout-2, Fanout*Fanout+2),
		rapid.Int64Range(Fanout*Fanout*Fanout-2, Fanout*Fanout*Fanout+200),
	)
	rapid.Check(t, func(t *rapid.T) {
		s := newMemStore()
		a := drawModel(t, sizes.Draw(t, "before"))
		b := drawModel(t, sizes.Draw(t, "after"))
		touched := slices.Sorted(maps.Keys(b.at))
		for chunk := range a.at { // a third is zeroed, the rest stays
			if _, ok := b.at[chunk]; !ok && chunk < b.chunks() {
				if chunk%3 == 0 {
					touched = append(touched, chunk)
				} else {
					b.at[chunk] = a.at[chunk]
				}
			}
		}
		slices.Sort(touched)
		parent := full(t, s, a)
		got := build(t, s, &parent, b, touched)
		if want := full(t, newMemStore(), b); got != want {
			t.Fatalf("root %s, full build %s", got.Root, want.Root)
		}
		checkWalk(t, s, got, b)
	})
}

// Nothing or one chunk is set, and the disk ends elsewhere than the parent.
func TestResizeKeepsWhatIsNotSet(t *testing.T) {
	const leaf, level = Fanout, Fanout * Fanout
	sizes := []int64{1, leaf - 1, leaf, leaf + 1, level - 1, level, level + 1, level*Fanout - 1, level * Fanout, level*Fanout + 1}
	for _, before := range sizes {
		for _, after := range sizes {
			for _, touched := range [][]int64{nil, {0}, {after - 1}, {after / 2}} {
				s := newMemStore()
				a := model{before * 512, 512, map[int64]int64{0: 1, before / 3: 2, before - 1: 3}}
				b := model{after * 512, 512, map[int64]int64{}}
				for chunk, n := range a.at {
					if chunk < after {
						b.at[chunk] = n
					}
				}
				for i, chunk := range touched {
					b.at[chunk] = int64(10 + i)
				}
				parent := full(t, s, a)
				if got, want := build(t, s, &parent, b, touched), full(t, newMemStore(), b); got != want {
					t.Errorf("%d → %d chunks, %v set: root %s, full build %s", before, after, touched, got.Root, want.Root)
				}
			}
		}
	}
}

func drawModel(t *rapid.T, chunks int64) model {
	m := model{chunks * 512, 512, map[int64]int64{}}
	if chunks == 0 {
		return m
	}
	last := chunks - 1
	where := rapid.OneOf(rapid.Int64Range(0, last), rapid.Int64Range(max(0, last-3), last))
	for range rapid.IntRange(0, 8).Draw(t, "runs") {
		start := where.Draw(t, "start")
		value := rapid.Int64Range(0, 3).Draw(t, "value")
		end := min(last, start+rapid.Int64Range(0, 300).Draw(t, "length"))
		for chunk := start; chunk <= end; chunk++ {
			m.at[chunk] = value
		}
	}
	return m
}

// checkWalk compares all of a map with the model.
func checkWalk(t rapid.TB, s *memStore, m Map, d model) {
	t.Helper()
	last, count := int64(-1), 0
	err := Walk(context.Background(), s, m, 0, m.Chunks(), func(chunk int64, id blob.ID) error {
		if chunk <= last || id != chunkID(d.at[chunk]) || id.IsZero() {
			t.Fatalf("chunk %d after %d: %s", chunk, last, id)
		}
		last = chunk
		count++
		return nil
	})
	for _, n := range d.at {
		if n == 0 {
			count++
		}
	}
	if err != nil || count != len(d.at) {
		t.Fatalf("walked %d of %d chunks: %v", count, len(d.at), err)
	}
}

func TestBuilderRefusesWhatIsOutOfOrder(t *testing.T) {
	ctx, s := t.Context(), newMemStore()
	for _, order := range [][]int64{{-1}, {3, 3}, {3, 2}, {10}} {
		b, err := NewBuilder(s, nil, nil, 10*512, 512)
		if err != nil {
			t.Fatal(err)
		}
		for i, chunk := range order {
			if err = b.Set(ctx, chunk, chunkID(1)); i < len(order)-1 && err != nil {
				t.Fatal(err)
			}
		}
		if !errors.Is(err, ErrOrder) {
			t.Errorf("set %v: %v", order, err)
		}
		if _, err := b.Finish(ctx); !errors.Is(err, ErrOrder) {
			t.Errorf("finish after it: %v", err)
		}
	}
	b, err := NewBuilder(s, nil, nil, 10*512, 512)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(ctx); !errors.Is(err, ErrOrder) {
		t.Errorf("second finish: %v", err)
	}
	if err := b.Set(ctx, 1, chunkID(1)); !errors.Is(err, ErrOrder) {
		t.Errorf("set after finish: %v", err)
	}
}

func TestBuilderRefusesImpossibleParents(t *testing.T) {
	s := newMemStore()
	if _, err := NewBuilder(s, s, &Map{Bytes: 1, ChunkBytes: 1024}, 1, 512); !errors.Is(err, ErrIncomparable) {
		t.Errorf("other chunk size: %v", err)
	}
	if _, err := NewBuilder(s, s, &Map{Bytes: -1, ChunkBytes: 512}, 1, 512); !errors.Is(err, ErrMap) {
		t.Errorf("negative parent: %v", err)
	}
	if _, err := NewBuilder(s, s, nil, 1, 513); !errors.Is(err, ErrMap) {
		t.Errorf("odd chunk: %v", err)
	}
	lost := Map{Bytes: 512 * 1000, ChunkBytes: 512, Root: chunkID(1)}
	b, err := NewBuilder(s, s, &lost, lost.Bytes, 512)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Set(t.Context(), 5, chunkID(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context()); !errors.Is(err, errAbsent) {
		t.Errorf("lost root: %v", err)
	}
}
