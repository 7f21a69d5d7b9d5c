package index

import (
	"encoding/binary"
	"fmt"
	"io"
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

func BenchmarkMerge(b *testing.B) {
	var segs []*Segment
	var total int64
	for n := range 8 {
		data := largeSegment(b, n)
		total += int64(len(data))
		segs = append(segs, openBytes(b, data))
	}
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		if err := Merge(io.Discard, segs, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	var t []table
	for p := range 64 {
		t = append(t, testPack(p, chunksPerPack, func(i int) blob.ID { return largeID(p*chunksPerPack + i) }))
	}
	b.SetBytes(int64(64 * chunksPerPack * entryBytes))
	for b.Loop() {
		segmentBytes(b, t...)
	}
}
