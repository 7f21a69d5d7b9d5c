package image

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

const (
	testSector = 512
	testChunk  = 4 * testSector
	testLeaf   = Fanout * testChunk
	testLevel  = Fanout * testLeaf
)

// disk is a sparse disk: sectors that are filled with one byte value.
type disk struct {
	bytes   int64
	sectors map[int64]byte
}

// chunk is the content of a chunk, padded with zeros beyond the end.
func (d disk) chunk(n int64) []byte {
	buf := make([]byte, testChunk)
	for i := range int64(testChunk / testSector) {
		start := n*testChunk + i*testSector
		length := min(testSector, d.bytes-start)
		v := d.sectors[n*testChunk/testSector+i]
		for j := range max(0, length) {
			buf[i*testSector+j] = v
		}
	}
	return buf
}

// holds reports whether a chunk has any byte that is not zero.
func (d disk) holds(n int64) bool {
	for sector := n * testChunk / testSector; sector < (n+1)*testChunk/testSector; sector++ {
		if d.sectors[sector] != 0 && sector*testSector < d.bytes {
			return true
		}
	}
	return false
}

// backUp does what an incremental backup does with what its source reports.
func backUp(t rapid.TB, s *memStore, parent *Map, d disk, changed []Extent) (Map, string) {
	t.Helper()
	ctx := context.Background()
	read, reason := ReadPlan(parent, d.bytes, testChunk, changed)
	b, err := NewBuilder(s, s, parent, d.bytes, testChunk)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range read {
		if e.Start%testChunk != 0 || e.Start+e.Length > d.bytes {
			t.Fatalf("planned to read %v of %d bytes", e, d.bytes)
		}
		for chunk := e.Start / testChunk; chunk*testChunk < e.Start+e.Length; chunk++ {
			var id blob.ID
			if d.holds(chunk) {
				if id, err = s.Put(ctx, blob.DiskChunk, d.chunk(chunk)); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Set(ctx, chunk, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, err := b.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m, reason
}

// truth is the extents in which two disks differ, up to the end they share.
func truth(a, b disk) []Extent {
	common := min(a.bytes, b.bytes)
	var out []Extent
	note := func(sector int64) {
		if start := sector * testSector; a.sectors[sector] != b.sectors[sector] && start < common {
			out = append(out, Extent{start, min(testSector, common-start)})
		}
	}
	for sector := range a.sectors {
		note(sector)
	}
	for sector := range b.sectors {
		note(sector)
	}
	return out
}

// The end of a disk moves by a sector, or a byte, around the edges of a chunk, a
// leaf and a level, with data up to the very end on both sides, and the source
// says nothing of the growth.
func TestResizeGivesTheRootOfAFullRead(t *testing.T) {
	for _, edge := range []int64{testChunk, testLeaf, testLevel} {
		var sizes []int64
		for _, by := range []int64{-testChunk - testSector, -testSector, -1, 0, 1, testSector, testChunk + testSector} {
			sizes = append(sizes, max(0, edge+by))
		}
		for _, before := range sizes {
			for _, after := range sizes {
				t.Run(fmt.Sprintf("%d-%d", before, after), func(t *testing.T) { checkResize(t, before, after) })
			}
		}
	}
	checkResize(t, testLevel+testSector, 0)
	checkResize(t, 0, testLevel+testSector)
	checkResize(t, testLevel+testSector, testChunk-1)
	checkResize(t, testChunk-1, testLevel+testSector)
}

func checkResize(t *testing.T, before, after int64) {
	t.Helper()
	s := newMemStore()
	a := disk{before, map[int64]byte{0: 1}}
	for sector := max(0, before/testSector-9); sector*testSector < before; sector++ {
		a.sectors[sector] = 2
	}
	b := disk{after, map[int64]byte{}}
	for sector, v := range a.sectors {
		if sector*testSector < min(before, after) {
			b.sectors[sector] = v
		}
	}
	for sector := before / testSector; after > before && sector*testSector < after; sector++ {
		b.sectors[sector] = 3
	}
	parent, _ := backUp(t, s, nil, a, nil)
	got, reason := backUp(t, s, &parent, b, nil)
	want, _ := backUp(t, s, nil, b, nil)
	if got != want {
		t.Errorf("%d → %d bytes: root %s, full read %s", before, after, got.Root, want.Root)
	}
	if (reason == "") != (before == after) {
		t.Errorf("%d → %d bytes: reason %q", before, after, reason)
	}
}

// Whatever a source reports besides the truth, the map is the one of a full read.
func TestAnySupersetOfTheTruthGivesTheRootOfAFullRead(t *testing.T) {
	sizes := rapid.OneOf(
		rapid.Int64Range(0, 3*testChunk),
		rapid.Int64Range(testLeaf-2*testChunk, testLeaf+2*testChunk),
		rapid.Int64Range(testLevel-2*testChunk, testLevel+2*testChunk),
	)
	rapid.Check(t, func(t *rapid.T) {
		s := newMemStore()
		a := drawDisk(t, sizes.Draw(t, "before"), nil)
		size := a.bytes
		if rapid.Bool().Draw(t, "resize") {
			size = sizes.Draw(t, "after")
		}
		b := drawDisk(t, size, &a)
		changed := truth(a, b)
		any64 := rapid.OneOf(rapid.Int64Range(-testChunk, size+testChunk), rapid.Int64())
		for range rapid.IntRange(0, 4).Draw(t, "noise") {
			changed = append(changed, Extent{any64.Draw(t, "start"), any64.Draw(t, "length")})
		}
		changed = rapid.Permutation(changed).Draw(t, "order")

		parent, _ := backUp(t, s, nil, a, nil)
		got, reason := backUp(t, s, &parent, b, changed)
		want, _ := backUp(t, s, nil, b, nil)
		if got != want {
			t.Fatalf("root %s, full read %s (%s)", got.Root, want.Root, reason)
		}
		checkContent(t, s, got, b)
	})
}

// drawDisk makes a disk with data near its start, its end and anywhere; from is
// a disk to begin with.
func drawDisk(t *rapid.T, size int64, from *disk) disk {
	d := disk{size, map[int64]byte{}}
	last := max(0, (size-1)/testSector)
	if from != nil {
		for sector, v := range from.sectors {
			if sector <= last {
				d.sectors[sector] = v
			}
		}
	}
	where := rapid.OneOf(rapid.Int64Range(0, min(last, 9)), rapid.Int64Range(max(0, last-9), last), rapid.Int64Range(0, last))
	for range rapid.IntRange(0, 12).Draw(t, "writes") {
		d.sectors[where.Draw(t, "sector")] = byte(rapid.IntRange(0, 3).Draw(t, "value"))
	}
	return d
}

// checkContent compares what Copy restores with the disk.
func checkContent(t rapid.TB, s *memStore, m Map, d disk) {
	t.Helper()
	want := map[int64]bool{}
	for sector, v := range d.sectors {
		if v != 0 && sector*testSector < d.bytes {
			want[sector*testSector/testChunk] = true
		}
	}
	err := Copy(context.Background(), s, m, CopyOptions{Window: 3}, func(off int64, data []byte) error {
		chunk := off / testChunk
		if off%testChunk != 0 || !want[chunk] {
			t.Errorf("data at %d, which is zeros or was there before", off)
		}
		delete(want, chunk)
		if !bytes.Equal(data, d.chunk(chunk)[:min(testChunk, d.bytes-off)]) {
			t.Errorf("chunk %d differs", chunk)
		}
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Fatalf("copy: %v, chunks missing: %v", err, want)
	}
}
