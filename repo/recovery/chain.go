package recovery

import (
	"slices"
	"time"
)

// Chain says how the backups of one source lead to each other; points are named by
// their places in the list that it was made for. This is what a driver knows that a
// brief does not tell: LSNs and forks of a database, and what its server said.
type Chain interface {
	// Reach tells which of the points that are there can be restored, to their very
	// ends, by those that are there.
	Reach(there []bool) []bool
	// Hold adds to keep what all in it are restored by, as things are before anything
	// goes, and what must be there lest another point be taken for a part of their
	// chain. Of each that it adds it notes in by a point in keep that needs it. Since is
	// from when on every moment in a log that is kept must stay reachable, not its end
	// alone; the zero time asks for none.
	Hold(keep []bool, by []int32, since time.Time)
	// Serves is from when on the point serves to restore later moments, or to tell what
	// the source was then; the zero time means its own, or that it does not.
	Serves(i int) time.Time
	// Open tells that nobody knows yet whether the point is a good one. It stays until
	// somebody does.
	Open(i int) bool
	// Newest is the one of these that was made last, -1 if that is not known otherwise than
	// by its time. The clock of what is backed up may have been set back.
	Newest(among []bool) int
}

// Chains makes the Chain of a source from its identity and the ids of its points,
// which are in the order of their times. The ids are the caller's.
type Chains func(identity string, ids []string) (Chain, error)

// sources are the points by what they are backups of.
type sources struct {
	briefs []Brief
	order  []int32 // numbers of points, source by source, in their order
	starts []int32 // where each source begins in order, and the end
}

func bySource(briefs []Brief) *sources {
	s := &sources{briefs: briefs, order: make([]int32, len(briefs)), starts: []int32{0}}
	numbers := map[sourceKey]int32{}
	number := make([]int32, len(briefs))
	var count []int32
	for i := range briefs {
		key := keyOf(&briefs[i])
		n, known := numbers[key]
		if !known {
			n = int32(len(count))
			numbers[key] = n
			count = append(count, 0)
		}
		number[i] = n
		count[n]++
	}
	next := make([]int32, len(count))
	for n, c := range count {
		next[n] = s.starts[n]
		s.starts = append(s.starts, s.starts[n]+c)
	}
	for i, n := range number {
		s.order[next[n]] = int32(i)
		next[n]++
	}
	return s
}

func (s *sources) count() int { return len(s.starts) - 1 }

// members are the points of one source.
type members struct {
	briefs []Brief
	order  []int32
}

func (s *sources) members(n int) members {
	return members{s.briefs, s.order[s.starts[n]:s.starts[n+1]]}
}

func (m members) len() int        { return len(m.order) }
func (m members) at(k int) *Brief { return &m.briefs[m.order[k]] }

func (m members) any(is func(*Brief) bool) bool {
	return slices.ContainsFunc(m.order, func(i int32) bool { return is(&m.briefs[i]) })
}

func (m members) isLog(k int) bool { return m.at(k).with.kind == SQLLog }

// chain is the members' chain: by chains, if it is given and every point is one of
// which its driver has noted something, else by what their parents tell. Only databases
// have one.
func (m members) chain(chains Chains) (Chain, error) {
	switch {
	case !m.any((*Brief).isDatabase):
		return Alone{}, nil
	case chains == nil || m.any(func(b *Brief) bool { return b.with.bare }):
		return newParents(m), nil
	}
	ids := make([]string, m.len())
	for k := range ids {
		ids[k] = m.at(k).ID()
	}
	return chains(m.at(0).Identity(), ids)
}

// Alone is the Chain of points of which each is complete in itself.
type Alone struct{}

// Reach is Chain's: what is there.
func (Alone) Reach(there []bool) []bool { return slices.Clone(there) }

// Hold is Chain's: none needs another.
func (Alone) Hold([]bool, []int32, time.Time) {}

// Serves is Chain's: its own time.
func (Alone) Serves(int) time.Time { return time.Time{} }

// Open is Chain's: none.
func (Alone) Open(int) bool { return false }

// Newest is Chain's.
func (Alone) Newest([]bool) int { return none }
