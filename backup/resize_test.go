package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// sparseDisk is zeros with data laid over it; it counts what is read.
type sparseDisk struct {
	bytes   int64
	patches map[int64][]byte
	read    atomic.Int64
}

func (d *sparseDisk) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), d.bytes-off))
	clear(p[:n])
	for at, data := range d.patches {
		from, to := max(at, off), min(at+int64(len(data)), off+int64(n))
		if from < to {
			copy(p[from-off:to-off], data[from-at:])
		}
	}
	d.read.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *sparseDisk) Close() error { return nil }

// source is the disk as an image whose holes are known.
func (d *sparseDisk) source(c *clock, label string) *backup.ImageSource {
	s := &backup.ImageSource{Label: label, Time: c.Now(), Bytes: d.bytes, Allocated: []image.Extent{}}
	s.Open = func(context.Context) (backup.RandomAccess, error) { return d, nil }
	for at, data := range d.patches {
		s.Allocated = append(s.Allocated, image.Extent{Start: at, Length: int64(len(data))})
	}
	return s
}

// edged is a disk of that size with data at its start and around every edge
// that the sizes of the matrix have.
func edged(size int64, edges []int64) *sparseDisk {
	d := &sparseDisk{bytes: size, patches: map[int64][]byte{0: content(77, 3000)}}
	for i, edge := range edges {
		at := max(0, edge-5000)
		d.patches[at] = bytes.Repeat([]byte{byte(i + 1)}, 10_000)
	}
	return d
}

// TestResizeAcrossEveryEdge: a disk grows and shrinks from and to a sector
// around the edges of chunk, leaf and level, and tracking says nothing of it.
// The map is the one of a full read, and what is read follows the change.
func TestResizeAcrossEveryEdge(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	edges := []int64{crashChunk, 128 * crashChunk, 128 * 128 * crashChunk}
	sizes := []int64{0, 1, 511}
	for _, edge := range edges {
		sizes = append(sizes, edge-crashChunk, edge-512, edge, edge+512, edge+crashChunk)
	}
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	roots := map[int64]image.Map{}
	for _, size := range sizes {
		p := mustRun(t, r, edged(size, edges).source(c, fmt.Sprint("full-", size)), backup.Options{Now: c.Now}).Point
		roots[size] = *p.Items[0].Disk
	}
	for _, from := range sizes {
		for _, to := range sizes {
			if to-from > 1<<28 {
				continue // all growth is read: too long for one more level
			}
			label := fmt.Sprintf("%d-to-%d", from, to)
			first := mustRun(t, r, edged(from, edges).source(c, label), backup.Options{Now: c.Now}).Point
			d := edged(to, edges)
			src := d.source(c, label)
			src.UseChanged = true
			p := mustRun(t, r, src, backup.Options{Now: c.Now}).Point
			if got := *p.Items[0].Disk; got != roots[to] {
				t.Errorf("%s: map %+v, not %+v", label, got, roots[to])
			}
			if whole := p.ReadMode == recovery.ReadFull; whole == (p.Parent == first.ID) || to != from && !strings.HasPrefix(p.Items[0].Reason, "the disk had") {
				t.Errorf("%s: mode %s, parent %q, reason %q", label, p.ReadMode, p.Parent, p.Items[0].Reason)
			}
			if got, limit := d.read.Load(), max(0, to-from)+2*crashChunk; got > limit || from == to && got != 0 {
				t.Errorf("%s: %d bytes were read", label, got)
			}
		}
	}
	checkClean(t, r, be)
}

// TestAnyExtentListGivesTheMapOfAFullRead: whatever the list looks like, as
// long as it covers what changed.
func TestAnyExtentListGivesTheMapOfAFullRead(t *testing.T) {
	secret := keyFile(t)
	rapid.Check(t, func(t *rapid.T) {
		c, be := newClock(), mem.New()
		r, err := repo.Init(context.Background(), be, repo.InitParams{DiskChunkBytes: crashChunk, Keys: []repo.NewKey{{Secret: secret}}}, options(c))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		size := rapid.IntRange(1, 12*crashChunk).Draw(t, "size")
		before := content(uint64(rapid.IntRange(0, 9).Draw(t, "seed")), size)
		after := bytes.Clone(before)
		var list []image.Extent
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			start := rapid.IntRange(0, size-1).Draw(t, "start")
			length := rapid.IntRange(0, size-start).Draw(t, "length")
			fill := byte(rapid.IntRange(0, 2).Draw(t, "fill"))
			for i := start; i < start+length; i++ {
				after[i] = fill
			}
			list = append(list, image.Extent{Start: int64(start), Length: int64(length)})
		}
		for range rapid.IntRange(0, 4).Draw(t, "more") { // true, but no news: overlapping, beyond the end, empty
			list = append(list, image.Extent{Start: int64(rapid.IntRange(0, 2*size).Draw(t, "start")), Length: rapid.Int64Range(0, 1<<62).Draw(t, "length")})
		}
		list = rapid.Permutation(list).Draw(t, "order")
		run := func(src *backup.ImageSource) *recovery.Point {
			res, err := backup.Run(context.Background(), r, src, backup.Options{Now: c.Now})
			if err != nil {
				t.Fatal(err)
			}
			return res.Point
		}
		run(source(c, "a", before))
		src := source(c, "a", after)
		src.UseChanged, src.Changed = true, list
		partly, full := run(src), run(source(c, "b", after))
		if *partly.Items[0].Disk != *full.Items[0].Disk {
			t.Fatalf("map %+v with the list, %+v without", *partly.Items[0].Disk, *full.Items[0].Disk)
		}
		if partly.ReadMode != recovery.ReadExtents || partly.BytesRead > int64(size) {
			t.Fatalf("mode %s, %d bytes read of %d", partly.ReadMode, partly.BytesRead, size)
		}
	})
}

// TestPaddingOfTheLastChunkIsZeros: a buffer that was used before must not leave
// its bytes behind the end of the disk, or equal disks get different maps.
func TestPaddingOfTheLastChunkIsZeros(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	data := bytes.Repeat([]byte{0xff}, 9<<20+100)
	padded := append(bytes.Clone(data[9<<20:]), make([]byte, crashChunk-100)...)
	pipe := &backup.ImageSource{Label: "pipe", Time: c.Now(), Bytes: -1, OpenStream: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
	for _, src := range []backup.Source{source(c, "disk", data), pipe} {
		p := mustRun(t, r, src, backup.Options{Now: c.Now, Reads: 1}).Point
		var last blob.ID
		err := image.Walk(t.Context(), r, *p.Items[0].Disk, 0, 1<<40, func(_ int64, id blob.ID) error {
			last = id
			return nil
		})
		if err != nil || last != r.IDOf(blob.DiskChunk, padded) {
			t.Errorf("%s: the last chunk is %v, %v", p.Source, last, err)
		}
	}
}

// TestExtentsThatCannotBeUnderstoodAreAFullRead, with the reason in the point.
func TestExtentsThatCannotBeUnderstoodAreAFullRead(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	data := content(1, 700_000)
	mustRun(t, r, source(c, "d", data), backup.Options{Now: c.Now})
	for _, e := range []image.Extent{{Start: -1, Length: 5}, {Start: 5, Length: -1}, {Start: 1 << 62, Length: 1 << 62}} {
		changed := bytes.Clone(data)
		changed[300_000] ^= 1
		src := source(c, "d", changed)
		src.UseChanged, src.Changed = true, []image.Extent{e}
		p := mustRun(t, r, src, backup.Options{Now: c.Now}).Point
		if p.ReadMode != recovery.ReadFull || p.Rule != "MAP" || !strings.Contains(p.Reason, "makes no sense") || !bytes.Equal(readBack(t, r, p), changed) {
			t.Errorf("%+v: mode %s, rule %s, reason %q", e, p.ReadMode, p.Rule, p.Reason)
		}
	}
}

// TestParentWithOtherChunksIsAFullRead, and so are a parent without the disk
// and no parent at all; each says so.
func TestParentWithOtherChunksIsAFullRead(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	for _, data := range [][]byte{content(1, 700_000), {}, {7}} {
		label := fmt.Sprint("d", len(data))
		first := mustRun(t, r, source(c, label, data), backup.Options{Now: c.Now}).Point
		for what, change := range map[string]func(m *image.Map){
			"chunks of 131072": func(m *image.Map) { m.ChunkBytes = 128 << 10 },
			"cannot be used":   func(m *image.Map) { m.Bytes = -1 },
		} {
			parent := *first
			m := *first.Items[0].Disk
			change(&m)
			parent.Items = []recovery.Item{{Name: backup.ImageItem, Disk: &m}}
			src := source(c, label, data)
			src.UseChanged = true
			p := mustRun(t, r, src, backup.Options{Now: c.Now, Parent: &parent}).Point
			if p.ReadMode != recovery.ReadFull || !strings.Contains(p.Reason, what) || !bytes.Equal(readBack(t, r, p), data) {
				t.Errorf("%s of %d bytes: mode %s, reason %q", what, len(data), p.ReadMode, p.Reason)
			}
		}
		src := source(c, label, data)
		src.UseChanged = true
		bare := *first
		bare.Items = nil
		p := mustRun(t, r, src, backup.Options{Now: c.Now, Parent: &bare}).Point
		if p.ReadMode != recovery.ReadFull || p.Rule != "IMG-PARENT" {
			t.Errorf("a parent without the disk: %s %s", p.ReadMode, p.Rule)
		}
		p = mustRun(t, r, source(c, label, data), backup.Options{Now: c.Now, Full: true}).Point
		if p.Parent != "" || p.ReadMode != recovery.ReadFull {
			t.Errorf("--full: parent %q, mode %s", p.Parent, p.ReadMode)
		}
	}
}
