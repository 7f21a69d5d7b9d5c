package index

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/index/segment"
)

// ErrUnknownPack: no segment of the last Refresh lists the pack.
var ErrUnknownPack = errors.New("pack not in index")

// Listed is a segment of the repository and all packs that it lists.
type Listed struct {
	Name  string // object name
	Packs []Pack // sorted by session, kind and id
}

// Segments tells what each segment lists that the last Refresh named, or
// AddSegment brought, and that is known: all but Missing. Sorted by name.
func (l *Local) Segments() []Listed {
	l.changing.Lock()
	defer l.changing.Unlock()
	var all []Listed
	for n, p := range l.known() {
		packs := make([]Pack, len(n.Packs))
		for i, at := range n.Packs {
			packs[i] = p.seg.Packs()[at]
		}
		all = append(all, Listed{n.Name, packs})
	}
	slices.SortFunc(all, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Missing are the segments that the last Refresh named and did not bring, or
// whose local file has proved damaged since, sorted. While there are any, no
// one may conclude from the index that something is not needed.
func (l *Local) Missing() []string {
	l.changing.Lock()
	defer l.changing.Unlock()
	covered := map[string]bool{}
	for n := range l.known() {
		covered[n.Name] = true
	}
	var names []string
	for name := range l.wanted {
		if !covered[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Lacks are those of the named segments that the last Refresh did not find or could
// not bring, sorted.
func (l *Local) Lacks(names map[string]bool) []string {
	l.changing.Lock()
	defer l.changing.Unlock()
	lacking := maps.Clone(names)
	for n := range l.known() {
		delete(lacking, n.Name)
	}
	return slices.Sorted(maps.Keys(lacking))
}

// IsEmpty reports whether nothing is listed at all.
func (l *Local) IsEmpty() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.parts {
		if slices.Contains(p.live, true) {
			return false
		}
	}
	return len(l.own) == 0
}

// known goes through the wanted names that sound parts cover, each once. The
// list of a name is whole in every part that has it: a merge keeps each pack
// that a wanted name lists and drops the names that are not wanted, and a name
// that comes back is fetched again. changing is held.
func (l *Local) known() func(yield func(named, part) bool) {
	l.mu.RLock()
	parts := l.parts // never changed
	l.mu.RUnlock()
	return func(yield func(named, part) bool) {
		done := map[string]bool{}
		for _, p := range parts {
			if p.condemned() {
				continue
			}
			for _, n := range p.names {
				if !l.wanted[n.Name] || done[n.Name] {
					continue
				}
				done[n.Name] = true
				if !yield(n, p) {
					return
				}
			}
		}
	}
}

// packKey is what makes a pack that pack.
type packKey struct {
	sid  string
	kind uint8
	id   [16]byte
}

func keyOf(p Pack) packKey { return packKey{p.SID, p.Kind, p.ID} }

// InSegments prepares the question whether a pack is listed by any of the named
// segments. The answer is fixed at the call, as segments never change, and is
// a matter of nanoseconds; it may be asked concurrently. A name that is not
// known lists nothing: call again after a Refresh that brought more. Memory:
// about 80 bytes a pack listed.
func (l *Local) InSegments(names map[string]bool) func(Pack) bool {
	l.changing.Lock()
	defer l.changing.Unlock()
	listed := map[packKey]struct{}{}
	for n, p := range l.known() {
		if !names[n.Name] {
			continue
		}
		for _, at := range n.Packs {
			listed[keyOf(p.seg.Packs()[at])] = struct{}{}
		}
	}
	return func(p Pack) bool {
		_, ok := listed[keyOf(p)]
		return ok
	}
}

// hold keeps the present parts open, whatever merges and Close do, until release.
func (l *Local) hold() ([]part, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	for _, p := range l.parts {
		p.hold()
	}
	return l.parts, nil
}

func release(parts []part) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Extract makes a segment that lists exactly these packs, with all their
// entries, in any order given; one told twice counts once. All of them must
// count in segments that Refresh or AddSegment brought, else ErrUnknownPack. The
// conservation law is checked before the bytes are returned. They are 28 bytes
// an entry and wholly in memory, so the caller limits their number; all
// entries of the files that hold any of the packs are read. Other errors:
// ErrConservation if pack is known otherwise; ErrCorrupt for a damaged local
// file, which the next Refresh brings anew; those of the directory.
func (l *Local) Extract(packs []Pack) ([]byte, error) {
	parts, err := l.hold()
	if err == nil {
		var data []byte
		data, err = l.extract(parts, slices.Clone(packs))
		if err = errors.Join(err, release(parts)); err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("extract %d packs from local index: %w", len(packs), err)
}

func (l *Local) extract(parts []part, packs []Pack) ([]byte, error) {
	packs, err := segment.Distinct(packs)
	if err != nil {
		return nil, err
	}
	var segs []*Segment
	found := make([]bool, len(packs))
	entries := 0
	for _, p := range parts {
		uses := false
		for i, known := range p.seg.Packs() {
			n := segment.Ordinal(packs, known)
			if n < 0 || found[n] || !p.live[i] {
				continue
			}
			if packs[n] != known {
				return nil, fmt.Errorf("pack %s told otherwise: %w", known.Name(), ErrConservation)
			}
			found[n], uses = true, true
			entries += int(known.Count)
		}
		if uses {
			segs = append(segs, p.seg)
		}
	}
	if n := slices.Index(found, false); n >= 0 {
		return nil, fmt.Errorf("pack %s: %w", packs[n].Name(), ErrUnknownPack)
	}
	var out bytes.Buffer
	out.Grow(entries * 29)
	_, err = segment.Merge(&out, segs, func(p Pack) bool { return segment.Ordinal(packs, p) >= 0 })
	if err != nil {
		l.blame(parts, err)
		return nil, err
	}
	return out.Bytes(), nil
}

// blame finds the damaged file behind an error, so that the next Refresh
// brings anew what it held.
func (l *Local) blame(parts []part, err error) {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrConservation) {
		l.condemnDamaged(parts)
	}
}
