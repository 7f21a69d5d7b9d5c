package image

import (
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	const size, chunk = 10_000, 1024
	for _, c := range []struct {
		name     string
		in, want []Extent
	}{
		{"none", nil, nil},
		{"empty and negative lengths are dropped", []Extent{{5, 0}, {5, -3}, {math.MaxInt64, math.MinInt64}}, nil},
		{"before and beyond the disk is dropped", []Extent{{-10, 10}, {size, 1}, {math.MaxInt64, math.MaxInt64}, {math.MinInt64, math.MaxInt64}}, nil},
		{"cut at both ends", []Extent{{-10, 11}, {size - 1, math.MaxInt64}}, []Extent{{0, 1024}, {9216, 784}}},
		{"widened to chunks", []Extent{{1023, 2}}, []Extent{{0, 2048}}},
		{"sorted, overlapping and touching are one", []Extent{{4096, 10}, {3000, 100}, {0, 1}, {3050, 1046}}, []Extent{{0, 1024}, {2048, 3072}}},
		{"within another", []Extent{{0, 5000}, {1, 1}}, []Extent{{0, 5120}}},
		{"everything", []Extent{{0, math.MaxInt64}}, []Extent{{0, size}}},
	} {
		if got := Normalize(c.in, size, chunk); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v of %v, not %v", c.name, got, c.in, c.want)
		}
	}
	huge := Normalize([]Extent{{math.MaxInt64 - 1, 1}}, math.MaxInt64, 4<<20)
	if len(huge) != 1 || huge[0].Start%(4<<20) != 0 || huge[0].Start+huge[0].Length != math.MaxInt64 {
		t.Errorf("last byte of the largest disk: %v", huge)
	}
}

func TestReadPlan(t *testing.T) {
	const mib = int64(1 << 20)
	parent := &Map{Bytes: 10 * mib, ChunkBytes: mib}
	some := []Extent{{3*mib + 5, 10}}
	for _, c := range []struct {
		name       string
		parent     *Map
		bytes      int64
		chunkBytes int64
		changed    []Extent
		want       []Extent
		reason     string
	}{
		{"unchanged", parent, 10 * mib, mib, nil, nil, ""},
		{"changed", parent, 10 * mib, mib, some, []Extent{{3 * mib, mib}}, ""},
		{"changed beyond the end", parent, 10 * mib, mib, []Extent{{10 * mib, mib}}, nil, ""},
		{"first", nil, 10*mib + 1, mib, some, []Extent{{0, 10*mib + 1}}, "no parent"},
		{"other chunks", parent, 10 * mib, 2 * mib, some, []Extent{{0, 10 * mib}}, "chunks of 1048576 bytes"},
		{"broken parent", &Map{Bytes: -1, ChunkBytes: mib}, mib, mib, nil, []Extent{{0, mib}}, "cannot be used"},
		{"negative start", parent, 10 * mib, mib, []Extent{{-1, 5}}, []Extent{{0, 10 * mib}}, "makes no sense"},
		{"negative length", parent, 10 * mib, mib, []Extent{{5, -5}}, []Extent{{0, 10 * mib}}, "makes no sense"},
		{"end beyond numbers", parent, 10 * mib, mib, []Extent{{5, math.MaxInt64}}, []Extent{{0, 10 * mib}}, "makes no sense"},
		{"grown", parent, 12*mib + 7, mib, some, []Extent{{3 * mib, mib}, {9 * mib, 3*mib + 7}}, "had 10485760 bytes and has"},
		{"shrunk", parent, 5*mib + 7, mib, some, []Extent{{3 * mib, mib}, {5 * mib, 7}}, "had 10485760 bytes and has"},
		{"shrunk at a chunk's edge", parent, 5 * mib, mib, nil, []Extent{{4 * mib, mib}}, "had 10485760"},
		{"shrunk to nothing", parent, 0, mib, some, nil, "had 10485760"},
		{"grown from nothing", &Map{ChunkBytes: mib}, mib, mib, nil, []Extent{{0, mib}}, "had 0 bytes"},
	} {
		got, reason := ReadPlan(c.parent, c.bytes, c.chunkBytes, c.changed)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: reads %v, not %v", c.name, got, c.want)
		}
		if (c.reason == "") != (reason == "") || !strings.Contains(reason, c.reason) {
			t.Errorf("%s: reason %q", c.name, reason)
		}
	}
}

// Against exact arithmetic: a chunk is in the answer if and only if an extent
// touches it, and the answer is ordered, apart and within the disk.
func FuzzNormalize(f *testing.F) {
	f.Add(int64(0), int64(1), int64(5000), int64(700), int64(10_000), uint8(3))
	f.Add(int64(-5), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(1), uint8(0))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), int64(4095), int64(2), int64(math.MaxInt64), uint8(13))
	f.Fuzz(func(t *testing.T, s1, l1, s2, l2, size int64, shift uint8) {
		chunk := int64(MinChunkBytes) << (shift % 14)
		size = max(0, size)
		in := []Extent{{s1, l1}, {s2, l2}}
		out := Normalize(in, size, chunk)
		last := int64(-1)
		for _, e := range out {
			end := e.Start + e.Length
			if e.Start <= last || e.Length <= 0 || e.Start%chunk != 0 || end > size || end%chunk != 0 && end != size {
				t.Fatalf("%v of %v, size %d, chunk %d", out, in, size, chunk)
			}
			last = end
		}
		for _, probe := range []int64{0, size - 1, s1, s1 - 1, s2, s2 - 1, s1 - chunk, s1 + chunk, s1 + l1, s1 + l1 - 1, s2 + l2, s2 + l2 - 1, s2 + l2 + chunk} {
			if probe < 0 || probe >= size {
				continue
			}
			start := probe - probe%chunk
			want := touches(in[0], start, chunk, size) || touches(in[1], start, chunk, size)
			got := slices.ContainsFunc(out, func(e Extent) bool { return e.Start <= probe && probe-e.Start < e.Length })
			if got != want {
				t.Fatalf("chunk at %d: %v, in %v of %v, size %d", start, got, out, in, size)
			}
		}
	})
}

// touches reports whether an extent has a byte in the chunk that begins at start.
func touches(e Extent, start, chunk, size int64) bool {
	if e.Length <= 0 {
		return false
	}
	from, length := big.NewInt(e.Start), big.NewInt(e.Length)
	to := new(big.Int).Add(from, length)
	chunkEnd := new(big.Int).Add(big.NewInt(start), big.NewInt(chunk))
	if limit := big.NewInt(size); chunkEnd.Cmp(limit) > 0 {
		chunkEnd = limit
	}
	return from.Cmp(chunkEnd) < 0 && to.Cmp(big.NewInt(start)) > 0
}
