package segment

import "fmt"

// Union reads several segments as one. A pack that several list is read from
// the first of them; entries elsewhere are passed over. It holds its packs and 4
// bytes for each pack of each segment. All methods may be called concurrently.
type Union struct {
	segs  []*Segment
	packs []Pack
	to    [][]int32 // by segment: ordinal there → ordinal here, -1 to pass over
}

// Unite makes a union of those packs of segs for which keep is true; nil keeps
// all. It returns ErrConservation if segments contradict each other.
func Unite(segs []*Segment, keep func(Pack) bool) (*Union, error) {
	packs, err := together(segs, keep)
	if err != nil {
		return nil, fmt.Errorf("unite %d index segments: %w", len(segs), err)
	}
	return assign(segs, packs), nil
}

// together is the sorted list of the packs to read.
func together(segs []*Segment, keep func(Pack) bool) ([]Pack, error) {
	var packs []Pack
	for _, s := range segs {
		for _, p := range s.packs {
			if keep == nil || keep(p) {
				packs = append(packs, p)
			}
		}
	}
	return Distinct(packs)
}

// assign says which segment each pack is read from.
func assign(segs []*Segment, packs []Pack) *Union {
	u := &Union{segs: segs, packs: packs, to: make([][]int32, len(segs))}
	taken := make([]bool, len(packs))
	for i, s := range segs {
		u.to[i] = make([]int32, len(s.packs))
		for j, p := range s.packs {
			u.to[i][j] = -1
			if n := Ordinal(packs, p); n >= 0 && !taken[n] {
				u.to[i][j], taken[n] = int32(n), true
			}
		}
	}
	return u
}

// Packs are the packs of the union, sorted by session, kind and id. The slice
// is the union's own: do not change it.
func (u *Union) Packs() []Pack { return u.packs }

// Find tells the place of the first row of key that segment number seg has for
// the union; ok is false if it has none. Costs and errors are those of
// Segment.Find.
func (u *Union) Find(seg int, key Key) (at int, ok bool, err error) {
	err = u.segs[seg].Find(key, func(r Row, place int) bool {
		at, ok = place, u.to[seg][r.Pack] >= 0
		return !ok
	})
	return at, ok, err
}

// FindSorted is Find for n ascending keys at once: fn is told of each key(i) that
// segment number seg has a row of for the union. Costs and errors are those of
// Segment.FindSorted.
func (u *Union) FindSorted(seg, n int, key func(i int) Key, fn func(i, at int)) error {
	return u.segs[seg].FindSorted(n, key, func(i int, r Row, place int) bool {
		if u.to[seg][r.Pack] < 0 {
			return true
		}
		fn(i, place)
		return false
	})
}

// Walk calls fn for each row of the union in order, with the number of the
// segment it is in and its place there (see Segment.Find). The row's ordinal is
// one of Packs. Pages are read in sequence and checked, with at most 1 MiB of
// buffers, or one page a segment. fn's error ends it and is returned as it is;
// other errors are ErrCorrupt or the reader's own.
func (u *Union) Walk(fn func(r Row, seg, at int) error) error {
	pages := min(max(1<<20/pageBytes/max(len(u.segs), 1), 1), cursorPages)
	h := make(mergeHeap, 0, len(u.segs))
	for i, s := range u.segs {
		h = append(h, &mergeCursor{cursor: newCursor(s, pages), seg: i, to: u.to[i]})
	}
	if err := h.start(); err != nil {
		return err
	}
	for len(h) > 0 {
		c := h[0]
		if err := fn(c.row, c.seg, c.place()); err != nil {
			return err
		}
		if err := h.step(0); err != nil {
			return err
		}
	}
	return nil
}

// mergeCursor is a cursor that speaks in the union's ordinals. All segments
// sort packs alike, so renumbering keeps the order of rows.
type mergeCursor struct {
	*cursor
	seg int
	to  []int32
	row Row // the current row
}

func (c *mergeCursor) step() (bool, error) {
	for {
		r, ok, err := c.next()
		if !ok || err != nil {
			return false, err
		}
		if n := c.to[r.Pack]; n >= 0 {
			c.row = r
			c.row.Pack = uint32(n)
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
