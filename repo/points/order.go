package points

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// apart is by how much the clocks of machines that write into one repository may differ
// before a source's turns are in doubt, see isOneLife.
const apart = time.Hour

// InOrder sorts points, of one source or of many, as each source's were made, and gives
// those a number that have none (recovery.Point.Made), in memory alone.
//
// Points that one repository has made stand by their turns, which no clock, no forgotten
// and no unreadable point can confuse. Where several repositories have made points of one
// source they are merged by their numbers: right where one knew the other's points, and as
// right as the machines' clocks where it did not. Points without turn stand as the chain of
// their manifests says, and equal numbers, too.
func InOrder(entries []Entry) {
	inChain(entries)
	number(entries)
	keys := map[string]int64{} // by the hash of the manifest
	for _, made := range byMaker(entries) {
		slices.SortStableFunc(made, func(a, b Entry) int { return cmp.Compare(a.Turn, b.Turn) })
		newest, oneLife := int64(0), isOneLife(made)
		for _, e := range made {
			newest = max(e.Made, newest+1)
			keys[e.Hash()] = e.Made
			if oneLife {
				keys[e.Hash()] = newest
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(keys[a.Hash()], keys[b.Hash()]) })
}

// byMaker are the points by source and by the repository that has made them; those without
// turn are apart from each other.
func byMaker(entries []Entry) map[string][]Entry {
	made := map[string][]Entry{}
	for _, e := range entries {
		maker, _, _ := strings.Cut(e.Origin, "/") // "": this one
		if maker += "/" + e.Identity; e.Turn == 0 {
			maker = e.Hash()
		}
		made[maker] = append(made[maker], e)
	}
	return made
}

// isOneLife tells whether turns count, of points in their order. A repository that was
// brought back from a mirror gives out turns a second time, and where copies of both lives
// meet the numbers run against the turns. By less than apart that comes of clocks, where
// the one point was not known when the other was made.
func isOneLife(made []Entry) bool {
	newest := int64(0)
	for i, e := range made {
		if i > 0 && e.Turn == made[i-1].Turn || newest-e.Made > apart.Milliseconds() {
			return false
		}
		newest = max(newest, e.Made)
	}
	return true
}

// number gives a number to points of before there were any; they stand in the order of
// inChain. One that was made here comes behind the one that it names and behind those
// without a number before it. Copies were made in the order of copying: theirs is the time
// when the original was finished.
func number(entries []Entry) {
	made := make(map[string]int64, len(entries)) // by the hash of the manifest
	newest := map[string]int64{}
	for _, e := range entries {
		switch {
		case e.Made != 0:
		case e.Origin != "":
			e.Made = max(e.Finished.UnixMilli(), 1)
		default:
			e.Made = max(e.Finished.UnixMilli(), made[e.Previous]+1, newest[e.Identity]+1)
			newest[e.Identity] = e.Made
		}
		made[e.Hash()] = e.Made
	}
}

// inChain sorts points by the chain of their manifests: each names the one before it. Where
// a point was forgotten, the stretches before and behind it are told apart by the ledger's
// generation and by when the machine that made them had finished them.
func inChain(entries []Entry) {
	next := map[string][]Entry{} // by the hash of the one before
	known := map[string]bool{}
	for _, e := range entries {
		next[e.Previous] = append(next[e.Previous], e)
		known[e.Hash()] = true
	}
	finished := func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.sid.Gen, b.sid.Gen), a.Finished.Compare(b.Finished))
	}
	var firsts []Entry
	for _, e := range entries {
		if !known[e.Previous] {
			firsts = append(firsts, e)
		}
	}
	slices.SortStableFunc(firsts, finished)
	made := entries[:0:0]
	for _, first := range firsts {
		for stretch := []Entry{first}; len(stretch) > 0; {
			e := stretch[0]
			made = append(made, e)
			// Two machines at once may have gone on from the same point.
			stretch = append(stretch[1:], next[e.Hash()]...)
			slices.SortStableFunc(stretch, finished)
		}
	}
	copy(entries, made)
}

// NextMade is the number of a source's next point: higher than that of every known one,
// and than peak, the highest of those that were forgotten (Known). now, in milliseconds
// since 1970, only leaves room for points that are not known because another repository
// has made them; where it is no higher the numbers go on by ones.
func NextMade(known []Entry, peak int64, now time.Time) int64 {
	numbered := slices.Clone(known)
	for i := range numbered { // their points stay as they were read
		p := *numbered[i].Point
		numbered[i].Point = &p
	}
	inChain(numbered)
	number(numbered)
	next := max(now.UnixMilli(), peak+1)
	for _, e := range numbered {
		next = max(next, e.Made+1)
	}
	return next
}
