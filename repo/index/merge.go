package index

import (
	"fmt"
	"io"
	"slices"
)

// Merge writes one segment with the packs of all segs for which keep is true;
// nil keeps all. A pack listed by several counts once. keep must be pure: it is
// asked again to check the result.
//
// Entries stream through: memory is 16 bytes a page of output, the packs, and
// at most 4 MiB of read buffers, or one page a segment. Before the trailer is
// written the conservation law is checked on what was written, so a Merge that
// fails leaves no segment in w. Errors: ErrConservation, ErrCorrupt for an
// input, or those of reader and writer.
func Merge(w io.Writer, segs []*Segment, keep func(Pack) bool) error {
	if keep == nil {
		keep = func(Pack) bool { return true }
	}
	m := merger{segs: segs, keep: keep}
	_, err := m.run(w)
	return err
}

// merger is one run of Merge. The two hooks stand for mistakes in it, which
// tests plant to see the law catch them; they are nil in use.
type merger struct {
	segs []*Segment
	keep func(Pack) bool

	spoilPacks func([]Pack) []Pack
	spoilRows  func(row, func(row) error) error
}

// run merges into w and returns the size of the segment written.
func (m *merger) run(w io.Writer) (int64, error) {
	packs, err := m.union()
	if err == nil {
		if m.spoilPacks != nil {
			packs = m.spoilPacks(packs)
		}
		out := newSegmentWriter(w, packs)
		if err = m.stream(out); err == nil {
			return out.size(), nil
		}
	}
	return 0, fmt.Errorf("merge %d index segments: %w", len(m.segs), err)
}

// stream writes all rows in order, checks the law and finishes.
func (m *merger) stream(out *segmentWriter) error {
	emit := out.add
	if m.spoilRows != nil {
		emit = func(r row) error { return m.spoilRows(r, out.add) }
	}
	h := m.cursors(out.packs)
	if err := h.start(); err != nil {
		return err
	}
	for len(h) > 0 {
		if err := emit(h[0].row); err != nil {
			return err
		}
		if err := h.step(0); err != nil {
			return err
		}
	}
	if err := m.checkPacks(out.packs); err != nil {
		return err
	}
	return out.finish()
}

// union is the sorted list of packs to write.
func (m *merger) union() ([]Pack, error) {
	var packs []Pack
	for _, s := range m.segs {
		for _, p := range s.packs {
			if m.keep(p) {
				packs = append(packs, p)
			}
		}
	}
	return distinct(packs)
}

// checkPacks is the law's second half: the packs written are those of the
// inputs less those that keep refuses, found by looking from the inputs' side.
func (m *merger) checkPacks(packs []Pack) error {
	seen := make([]bool, len(packs))
	for _, s := range m.segs {
		for _, p := range s.packs {
			if !m.keep(p) {
				continue
			}
			i := ordinal(packs, p)
			if i < 0 {
				return fmt.Errorf("pack %s lost: %w", p.Name(), ErrConservation)
			}
			seen[i] = true
		}
	}
	if i := slices.Index(seen, false); i >= 0 {
		return fmt.Errorf("pack %s came from nowhere: %w", packs[i].Name(), ErrConservation)
	}
	return nil
}

// cursors prepares one cursor a segment. Each pack is read from the first
// segment that lists it; entries elsewhere are passed over.
func (m *merger) cursors(packs []Pack) mergeHeap {
	taken := make([]bool, len(packs))
	pages := max(4<<20/pageBytes/max(len(m.segs), 1), 1)
	h := make(mergeHeap, 0, len(m.segs))
	for _, s := range m.segs {
		c := &mergeCursor{cursor: newCursor(s, min(pages, cursorPages)), to: make([]int32, len(s.packs))}
		for i, p := range s.packs {
			c.to[i] = -1
			if n := ordinal(packs, p); n >= 0 && !taken[n] {
				c.to[i], taken[n] = int32(n), true
			}
		}
		h = append(h, c)
	}
	return h
}

// mergeCursor is a cursor that speaks in the output's ordinals. All segments
// sort packs alike, so renumbering keeps the order of rows.
type mergeCursor struct {
	*cursor
	to  []int32 // ordinal here → ordinal in the output, -1 to pass over
	row row     // the current row
}

func (c *mergeCursor) step() (bool, error) {
	for {
		r, ok, err := c.next()
		if !ok || err != nil {
			return false, err
		}
		if n := c.to[r.pack]; n >= 0 {
			c.row = r
			c.row.pack = uint32(n)
			return true, nil
		}
	}
}

// mergeHeap is a binary heap of the cursors that have a row, smallest row first.
type mergeHeap []*mergeCursor

// start moves each cursor to its first row.
func (h *mergeHeap) start() error {
	for i := len(*h) - 1; i >= 0; i-- {
		if err := h.step(i); err != nil {
			return err
		}
	}
	return nil
}

// step moves cursor i, below which the heap is in order, to its next row, and
// puts it in its place or, at its end, takes it out.
func (h *mergeHeap) step(i int) error {
	ok, err := (*h)[i].step()
	if err != nil {
		return err
	}
	if !ok {
		last := len(*h) - 1
		(*h)[i] = (*h)[last]
		*h = (*h)[:last]
	}
	h.sink(i)
	return nil
}

func (h *mergeHeap) sink(i int) {
	c := *h
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(c); child++ {
			if before(&c[child].row, &c[least].row) {
				least = child
			}
		}
		if least == i {
			return
		}
		c[i], c[least] = c[least], c[i]
		i = least
	}
}
