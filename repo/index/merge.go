package index

import (
	"container/heap"
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
	if err := m.run(w); err != nil {
		return fmt.Errorf("merge %d index segments: %w", len(segs), err)
	}
	return nil
}

// merger is one run of Merge. The two hooks stand for mistakes in it, which
// tests plant to see the law catch them; they are nil in use.
type merger struct {
	segs []*Segment
	keep func(Pack) bool

	spoilPacks func([]Pack) []Pack
	spoilRows  func(row, func(row) error) error
}

func (m *merger) run(w io.Writer) error {
	packs, err := m.union()
	if err != nil {
		return err
	}
	if m.spoilPacks != nil {
		packs = m.spoilPacks(packs)
	}
	h := m.cursors(packs)
	if err := h.start(); err != nil {
		return err
	}
	out := newSegmentWriter(w, packs)
	emit := out.add
	if m.spoilRows != nil {
		emit = func(r row) error { return m.spoilRows(r, out.add) }
	}
	for len(h) > 0 {
		if err := emit(h[0].row); err != nil {
			return err
		}
		if err := h.advance(); err != nil {
			return err
		}
	}
	if err := m.checkPacks(packs); err != nil {
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
	slices.SortFunc(packs, comparePacks)
	for i := 1; i < len(packs); i++ {
		if a, b := packs[i-1], packs[i]; samePack(a, b) && a != b {
			return nil, fmt.Errorf("pack %s stated in two ways: %w", b.Name(), ErrConservation)
		}
	}
	return slices.Clip(slices.CompactFunc(packs, samePack)), nil
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

// mergeHeap has the cursor with the smallest row first.
type mergeHeap []*mergeCursor

func (h mergeHeap) Len() int           { return len(h) }
func (h mergeHeap) Less(i, j int) bool { return before(&h[i].row, &h[j].row) }
func (h mergeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push adds a cursor; container/heap asks for it.
func (h *mergeHeap) Push(x any) { *h = append(*h, x.(*mergeCursor)) }

// Pop takes the last cursor; container/heap asks for it.
func (h *mergeHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// start moves each cursor to its first row and drops those without any.
func (h *mergeHeap) start() error {
	live := (*h)[:0]
	for _, c := range *h {
		ok, err := c.step()
		if err != nil {
			return err
		}
		if ok {
			live = append(live, c)
		}
	}
	*h = live
	heap.Init(h)
	return nil
}

// advance moves the first cursor on.
func (h *mergeHeap) advance() error {
	ok, err := (*h)[0].step()
	if err != nil {
		return err
	}
	if ok {
		heap.Fix(h, 0)
	} else {
		heap.Pop(h)
	}
	return nil
}
