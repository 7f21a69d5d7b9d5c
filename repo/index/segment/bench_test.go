package segment

import (
	"io"
	"math/rand/v2"
	"testing"

	"holdfast/repo/blob"
)

// benchTables are 64 packs, as a running session publishes them in a segment.
func benchTables(r *rand.Rand, from int) []table {
	var t []table
	for n := range 64 {
		t = append(t, testPack(from+n, 256, func(int) blob.ID { return randomID(r) }))
	}
	return t
}

func BenchmarkMerge(b *testing.B) {
	r := rand.New(rand.NewPCG(16, 16))
	var segs []*Segment
	var total int64
	for n := range 8 {
		data := segmentBytes(b, benchTables(r, 64*n)...)
		total += int64(len(data))
		segs = append(segs, openBytes(b, data))
	}
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Merge(io.Discard, segs, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	t := benchTables(rand.New(rand.NewPCG(17, 17)), 0)
	b.SetBytes(int64(64 * 256 * entryBytes))
	for b.Loop() {
		segmentBytes(b, t...)
	}
}
