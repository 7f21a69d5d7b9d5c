package index

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/repo/blob"
	"holdfast/repo/index/segment"
)

// Marks is a set of chunks out of those that the index knows: prune marks what
// is needed. It is made of the index as it is at that moment, and stays so:
// Refresh, AddSegment, merges and even Local.Close go on beside it and do not
// change it. Packs of the running session that no segment lists yet are not
// in it. Memory: a bit an entry, and 64 bytes a pack. Mark, Has and Len may be
// called concurrently.
//
// Close it: until then its files stay open, and, where a file in use cannot be
// removed, on the disk.
type Marks struct {
	local *Local
	parts []part
	union *segment.Union
	bits  [][]atomic.Uint64 // by part, by place in it
	count atomic.Int64
	under *Marks // what it has does not count here
	once  sync.Once
}

// Place is one place of a chunk.
type Place struct {
	Pack   uint32 // ordinal in Marks.Packs
	Offset uint32 // bytes from the start of the pack object
	Stored uint32 // sealed length in bytes
}

// NewMarks makes an empty set over all packs that count now. Errors: ErrClosed,
// and ErrConservation if two parts of the index contradict each other.
func (l *Local) NewMarks() (*Marks, error) {
	parts, err := l.hold()
	if err == nil {
		live := livePacks(parts)
		segs := make([]*Segment, len(parts))
		for i, p := range parts {
			segs[i] = p.seg
		}
		var union *segment.Union
		union, err = segment.Unite(segs, func(p Pack) bool { return segment.Ordinal(live, p) >= 0 })
		if err == nil {
			return newMarks(l, parts, union), nil
		}
		err = errors.Join(err, release(parts))
	}
	return nil, fmt.Errorf("mark in local index: %w", err)
}

func newMarks(l *Local, parts []part, union *segment.Union) *Marks {
	m := &Marks{local: l, parts: parts, union: union, bits: make([][]atomic.Uint64, len(parts))}
	for i, p := range parts {
		m.bits[i] = make([]atomic.Uint64, (p.seg.Span()+63)/64)
	}
	return m
}

// Beyond makes a second, empty set over the same state of the index, for what m
// does not have: an id that m has is known there, but never first, and Each,
// Gather and Has leave it out. Mark all of m before the first here, or ids may be
// first in both, and Len counts them twice. Close both, in any order.
func (m *Marks) Beyond() *Marks {
	for _, p := range m.parts {
		p.hold()
	}
	beyond := newMarks(m.local, m.parts, m.union)
	beyond.under = m
	return beyond
}

// Close lets the files go. Call it after all other calls have returned; a
// second call does nothing.
func (m *Marks) Close() error {
	var err error
	m.once.Do(func() { err = release(m.parts) })
	return err
}

// Packs are the packs that count, sorted by session, kind and id. The slice is
// the set's own: do not change it.
func (m *Marks) Packs() []Pack { return m.union.Packs() }

// Len is the number of chunks marked.
func (m *Marks) Len() int { return int(m.count.Load()) }

// Mark puts id into the set. known is false, and nothing marked, if the index
// has no place for it. Of all calls with one id exactly one is told that it was
// the first. Costs are those of Local.Has. A damaged local file is ErrCorrupt:
// Close the set, let Refresh bring anew what the file held, and start over.
func (m *Marks) Mark(id blob.ID) (first, known bool, err error) {
	seg, at, known, err := m.find(id)
	if err != nil || !known {
		return false, known, err
	}
	return m.set(seg, at), true, nil
}

// set marks a place and reports whether it was the first to.
func (m *Marks) set(seg, at int) (first bool) {
	if m.under != nil && m.under.at(seg, at) {
		return false
	}
	bit := uint64(1) << (at % 64)
	if first = m.bits[seg][at/64].Or(bit)&bit == 0; first {
		m.count.Add(1)
	}
	return first
}

// Has reports whether id is in the set. Costs and errors are those of Mark.
func (m *Marks) Has(id blob.ID) (bool, error) {
	seg, at, known, err := m.find(id)
	return known && m.has(seg, at), err
}

// find returns the one place that stands for id, whoever asks: the first in
// the first part that has any, the largest part being asked first.
func (m *Marks) find(id blob.ID) (seg, at int, known bool, err error) {
	for seg = range m.parts {
		at, known, err = m.union.Find(seg, KeyOf(id))
		if err != nil {
			m.parts[seg].condemn()
			return 0, 0, false, fmt.Errorf("mark %s in local index: %w", id, err)
		}
		if known {
			return seg, at, true, nil
		}
	}
	return 0, 0, false, nil
}

// at reports whether the bit of a place is set.
func (m *Marks) at(seg, at int) bool { return m.bits[seg][at/64].Load()>>(at%64)&1 != 0 }

// has is at, without what does not count.
func (m *Marks) has(seg, at int) bool {
	return m.at(seg, at) && (m.under == nil || !m.under.at(seg, at))
}

// Each calls fn once for every chunk of the set, by ascending key, with all its
// places: sorted by pack, then offset, of equal or different length, since a
// pack may have been compressed otherwise than another. fn must not keep places.
// All files are read once, in sequence, with at most 1 MiB of buffers. fn's error
// ends it and is returned as it is. A damaged local file is as in Mark.
func (m *Marks) Each(fn func(key Key, places []Place) error) error {
	var stop error // fn's
	var key Key
	var places []Place
	marked := false
	tell := func() error {
		if marked {
			stop = fn(key, places)
		}
		places, marked = places[:0], false
		return stop
	}
	err := m.union.Walk(func(r segment.Row, seg, at int) error {
		if r.Key != key {
			if err := tell(); err != nil {
				return err
			}
		}
		key, marked = r.Key, marked || m.has(seg, at)
		places = append(places, Place{r.Pack, r.Offset, r.Stored})
		return nil
	})
	if err == nil {
		err = tell()
	}
	if stop != nil || err == nil {
		return stop
	}
	m.local.blame(m.parts, err)
	return fmt.Errorf("read marks of local index: %w", err)
}

// Kept is a place that Gather took, and whose.
type Kept struct {
	Key Key
	Place
}

// Gather takes for every chunk of the set that one of its places which pick
// says by its index in places; none if that is negative. The result is sorted
// by pack, then offset, as packs are best read: a repack copies a chunk of
// several packs once. Memory: 28 bytes a place taken. Errors are those of Each.
func (m *Marks) Gather(pick func(key Key, places []Place) int) ([]Kept, error) {
	var kept []Kept
	err := m.Each(func(key Key, places []Place) error {
		if i := pick(key, places); i >= 0 {
			kept = append(kept, Kept{key, places[i]})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(kept, func(a, b Kept) int {
		return cmp.Or(cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	return kept, nil
}
