package segment

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Builder collects the tables of a few packs and makes one segment of them.
// The zero value is ready. Not for concurrent use.
type Builder struct {
	packs   []Pack
	entries [][]Entry
}

// Add takes a pack and all its entries, in any order. The entries are kept, not
// copied. A pack added twice counts once, if both agree.
func (b *Builder) Add(pack Pack, entries []Entry) {
	b.packs = append(b.packs, pack)
	b.entries = append(b.entries, entries)
}

// Len is the number of packs added.
func (b *Builder) Len() int { return len(b.packs) }

// Bytes is the segment of all that was added. It returns ErrPack for a pack
// that cannot exist and ErrConservation if the entries of a pack are not what
// its count and sum say. The same packs give the same bytes in any order.
func (b *Builder) Bytes() ([]byte, error) {
	data, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("build index segment: %w", err)
	}
	return data, nil
}

func (b *Builder) build() ([]byte, error) {
	packs, err := Distinct(slices.Clone(b.packs))
	if err != nil {
		return nil, err
	}
	var rows []Row
	taken := make([]bool, len(packs))
	for n, p := range b.packs {
		i := Ordinal(packs, p)
		if taken[i] {
			continue
		}
		taken[i] = true
		for _, e := range b.entries[n] {
			rows = append(rows, Row{KeyOf(e.ID), uint32(i), e.Offset, e.Stored})
		}
	}
	slices.SortFunc(rows, compareRows)
	var out bytes.Buffer
	out.Grow((len(rows)/pageEntries+1)*(pageBytes+fenceBytes) + len(packs)*packBytes + trailerBytes)
	w := newSegmentWriter(&out, packs)
	for _, r := range rows {
		if err := w.add(r); err != nil {
			return nil, err
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// segmentWriter writes a segment from rows in order. It holds one page and the
// fences. Until finish has found the law kept, the output has no trailer and is
// no segment.
type segmentWriter struct {
	w       io.Writer
	packs   []Pack // sorted, distinct
	law     tally
	fences  []Key
	entries uint64
	page    [pageBytes]byte
	n       int // rows in page
	last    Row
}

func newSegmentWriter(w io.Writer, packs []Pack) *segmentWriter {
	return &segmentWriter{w: w, packs: packs, law: make(tally, len(packs))}
}

func (w *segmentWriter) add(r Row) error {
	if int(r.Pack) >= len(w.packs) || !w.packs[r.Pack].holds(r.Offset, r.Stored) {
		return outside(r.Key)
	}
	if w.entries > 0 && !before(&w.last, &r) {
		return fmt.Errorf("entry %x twice or out of order: %w", r.Key, ErrConservation)
	}
	if w.n == 0 {
		w.fences = append(w.fences, r.Key)
	}
	putRow(w.page[w.n*entryBytes:], r)
	w.law.add(r)
	w.last = r
	w.n++
	w.entries++
	if w.n == pageEntries {
		return w.flush()
	}
	return nil
}

func (w *segmentWriter) flush() error {
	if w.n == 0 {
		return nil
	}
	sealPage(w.page[:], w.n)
	w.n = 0
	_, err := w.w.Write(w.page[:])
	return err
}

// finish checks the law, then writes packs, fences and trailer.
func (w *segmentWriter) finish() error {
	if err := w.law.check(w.packs); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	lists := make([]byte, len(w.packs)*packBytes, len(w.packs)*packBytes+len(w.fences)*fenceBytes+trailerBytes)
	for i, p := range w.packs {
		putPack(lists[i*packBytes:], p)
	}
	for _, f := range w.fences {
		lists = append(lists, f[:]...)
	}
	t := trailer{
		pages: uint32(len(w.fences)), packs: uint32(len(w.packs)), entries: w.entries,
		check: xxhash.Sum64(lists),
	}
	lists = append(lists, make([]byte, trailerBytes)...)
	t.put(lists[len(lists)-trailerBytes:])
	_, err := w.w.Write(lists)
	return err
}

// size is the length in bytes of the finished segment.
func (w *segmentWriter) size() int64 { return segmentSize(len(w.fences), len(w.packs)) }
