package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"

	"holdfast/repo/blob"
)

// chunksPerPack is what a 32 MiB pack of 128 KiB disk chunks holds when nothing
// compresses: the worst case for memory a chunk.
const chunksPerPack = 256

// largeID is the id of chunk n of the large index.
func largeID(n int) blob.ID {
	var id blob.ID
	r := rand.NewPCG(uint64(n), 99)
	binary.LittleEndian.PutUint64(id[:], r.Uint64())
	binary.LittleEndian.PutUint64(id[8:], r.Uint64())
	return id
}

// largeSegment is a segment of 64 packs, as a running session publishes it.
func largeSegment(tb testing.TB, n int) []byte {
	var tables []table
	for p := range 64 {
		pack := n*64 + p
		t := testPack(pack, chunksPerPack, func(i int) blob.ID { return largeID(pack*chunksPerPack + i) })
		t.pack.SID = testSID(n / 16)
		tables = append(tables, lawful(t))
	}
	return segmentBytes(tb, tables...)
}

// largeLocal fills a local index in dir with at least chunks chunks.
func largeLocal(tb testing.TB, dir string, chunks int) (*Local, int) {
	l := openLocal(tb, dir)
	n := 0
	for ; n*64*chunksPerPack < chunks; n++ {
		if err := l.AddSegment(fmt.Sprintf("index/%s/%08d", testSID(n/16), n%16), largeSegment(tb, n)); err != nil {
			tb.Fatal(err)
		}
	}
	return l, n * 64 * chunksPerPack
}

// indexChunks is 1 M, or what HOLDFAST_INDEX_CHUNKS says (10000000 by night).
func indexChunks(tb testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("HOLDFAST_INDEX_CHUNKS"))
	if err != nil {
		return 1_000_000
	}
	tb.Logf("%d chunks asked for by HOLDFAST_INDEX_CHUNKS", n)
	return n
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the second empties what the first moved out of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHeapBelowTwoBytesAChunk: an open local index holds its fences and packs
// in memory, and nothing a chunk.
func TestHeapBelowTwoBytesAChunk(t *testing.T) {
	dir := t.TempDir()
	before := liveHeap()
	l, chunks := largeLocal(t, dir, indexChunks(t))
	grown := liveHeap() - before
	t.Logf("after %d chunks were added: %.3f bytes a chunk in %d files", chunks, float64(grown)/float64(chunks), len(l.parts))
	if grown > 2*int64(chunks) {
		t.Errorf("heap grew by %d bytes for %d chunks", grown, chunks)
	}
	wanted := make([]string, 0, len(l.wanted))
	for name := range l.wanted {
		wanted = append(wanted, name)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before = liveHeap()
	l = openLocal(t, dir)
	if err := l.Refresh(t.Context(), wanted, nil); err != nil { // nothing to fetch
		t.Fatal(err)
	}
	for n := 0; n < chunks; n += 997 {
		if ok, err := l.Has(largeID(n)); !ok || err != nil {
			t.Fatalf("chunk %d: %v, %v", n, ok, err)
		}
	}
	grown = liveHeap() - before
	t.Logf("opened again: %.3f bytes a chunk", float64(grown)/float64(chunks))
	if grown > 2*int64(chunks) {
		t.Errorf("heap grew by %d bytes for %d chunks", grown, chunks)
	}
	runtime.KeepAlive(l)
}

func BenchmarkLookup(b *testing.B) {
	l, chunks := largeLocal(b, b.TempDir(), indexChunks(b))
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok, err := l.Lookup(largeID(i * 7919 % chunks)); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("has", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if ok, err := l.Has(largeID(i * 7919 % chunks)); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if ok, err := l.Has(largeID(-1 - i)); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Logf("%d files", len(l.parts))
}

// TestMarksBelowOneByteAnEntry: two sets over one state of the index, all
// marked, take less than a byte an entry, packs included; Each takes a
// megabyte besides, however large the index is.
func TestMarksBelowOneByteAnEntry(t *testing.T) {
	l, chunks := largeLocal(t, t.TempDir(), 150_000)
	before := liveHeap()
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	beyond := m.Beyond()
	for n := range chunks {
		set := m
		if n%3 == 0 {
			set = beyond
		}
		if first, known, err := set.Mark(largeID(n)); !first || !known || err != nil {
			t.Fatalf("chunk %d: %v, %v, %v", n, first, known, err)
		}
	}
	resting := liveHeap() - before
	seen, reading := 0, int64(0)
	for _, set := range []*Marks{m, beyond} {
		err := set.Each(func(Key, []Place) error {
			if seen++; seen == chunks/2 || seen == chunks {
				reading = max(reading, liveHeap()-before)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d entries: %.3f bytes an entry for two sets, %d bytes in all in the middle of Each", chunks, float64(resting)/float64(chunks), reading)
	if seen != chunks || resting > int64(chunks) || reading > int64(chunks)+(1<<20)+(64<<10) {
		t.Errorf("%d of %d chunks; heap grew by %d bytes, in Each by %d", seen, chunks, resting, reading)
	}
	if err := errors.Join(m.Close(), beyond.Close()); err != nil {
		t.Fatal(err)
	}
}

// benchLocal is an index of 1 M chunks, or of 10 M with HOLDFAST_LONG=1, or of
// what HOLDFAST_INDEX_CHUNKS says; of a few with -short.
func benchLocal(b *testing.B) (*Local, int) {
	chunks := indexChunks(b)
	switch {
	case testing.Short():
		chunks = 50_000
	case os.Getenv("HOLDFAST_LONG") == "1":
		chunks = max(chunks, 10_000_000)
	}
	return largeLocal(b, b.TempDir(), chunks)
}

// BenchmarkMarks is prune's way with an index: all chunks marked in random
// order, all read back, and a run of a 32nd of the packs extracted.
func BenchmarkMarks(b *testing.B) {
	l, chunks := benchLocal(b)
	before := liveHeap()
	m, err := l.NewMarks()
	if err != nil {
		b.Fatal(err)
	}
	per := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(chunks), "ns/entry")
		b.ReportMetric(float64(liveHeap()-before)/1e6, "heap-MB")
	}
	b.Run("mark", func(b *testing.B) {
		for b.Loop() {
			for n := range chunks {
				if _, known, err := m.Mark(largeID(n)); !known || err != nil {
					b.Fatal(known, err)
				}
			}
		}
		per(b)
	})
	b.Run("each", func(b *testing.B) {
		live := make([]int64, len(m.Packs()))
		for b.Loop() {
			if err := m.Each(func(_ Key, places []Place) error {
				live[places[0].Pack] += int64(places[0].Stored)
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
		per(b)
	})
	b.Run("extract", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Extract(m.Packs()[:len(m.Packs())/32]); err != nil {
				b.Fatal(err)
			}
		}
		per(b)
	})
	b.Run("in segments", func(b *testing.B) {
		names := map[string]bool{}
		for _, s := range l.Segments()[:max(len(l.Segments())/2, 1)] {
			names[s.Name] = true
		}
		in, packs := l.InSegments(names), m.Packs()
		for i := 0; b.Loop(); i++ {
			in(packs[i%len(packs)])
		}
	})
	b.Logf("%d chunks in %d files and %d packs", chunks, len(l.parts), len(m.Packs()))
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
}
