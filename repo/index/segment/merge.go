package segment

import (
	"fmt"
	"io"
	"slices"
)

// Merge writes one segment with the packs of all segs for which keep is true,
// and returns its size in bytes; nil keeps all. A pack listed by several counts
// once. keep must be pure: it is asked again to check the result.
//
// Entries stream through: memory is 16 bytes a page of output, the packs, and
// at most 1 MiB of read buffers, or one page a segment. Before the trailer is
// written the conservation law is checked on what was written, so a Merge that
// fails leaves no segment in w. Errors: ErrConservation, ErrCorrupt for an
// input, or those of reader and writer.
func Merge(w io.Writer, segs []*Segment, keep func(Pack) bool) (int64, error) {
	if keep == nil {
		keep = func(Pack) bool { return true }
	}
	m := merger{segs: segs, keep: keep}
	return m.run(w)
}

// merger is one run of Merge. The two hooks stand for mistakes in it, which
// tests plant to see the law catch them; they are nil in use.
type merger struct {
	segs []*Segment
	keep func(Pack) bool

	spoilPacks func([]Pack) []Pack
	spoilRows  func(Row, func(Row) error) error
}

// run merges into w and returns the size of the segment written.
func (m *merger) run(w io.Writer) (int64, error) {
	packs, err := together(m.segs, m.keep)
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
		emit = func(r Row) error { return m.spoilRows(r, out.add) }
	}
	err := assign(m.segs, out.packs).Walk(func(r Row, _, _ int) error { return emit(r) })
	if err != nil {
		return err
	}
	if err := m.checkPacks(out.packs); err != nil {
		return err
	}
	return out.finish()
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
			i := Ordinal(packs, p)
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
