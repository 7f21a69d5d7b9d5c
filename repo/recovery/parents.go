package recovery

import (
	"cmp"
	"slices"
	"time"
)

// parents is the Chain that parents alone tell, where no driver says more. A
// differential names its full. A log names the log before it, or, of the first, the
// data backup that it opens on; but every full or differential that was taken between
// those two leads to it just as well, since backups of one database are taken one
// after the other and a log holds all since the log before.
type parents struct {
	members
	parent []int32 // what Parent names, none if it names nothing that is there
	base   []int32 // what each is restored by, if all is there
}

const none = -1

func newParents(m members) *parents {
	p := &parents{members: m, parent: make([]int32, m.len())}
	ids := make([]int32, m.len())
	for k := range ids {
		ids[k] = int32(k)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return compareIDs(m.at(int(a)), m.at(int(b))) })
	all := make([]bool, m.len())
	for k := range p.parent {
		p.parent[k], all[k] = p.find(ids, m.at(k)), true
	}
	p.base = slices.Clone(p.parent)
	p.reach(all, p.base)
	return p
}

// find is the place of what a brief stands on; of two by one id, which nobody makes,
// the newest.
func (p *parents) find(ids []int32, b *Brief) int32 {
	if b.Base() == "" {
		return none
	}
	at, found := slices.BinarySearchFunc(ids, b, func(k int32, b *Brief) int {
		c := p.at(int(k))
		return cmp.Or(slices.Compare(c.id[:], b.parent[:]), cmp.Compare(c.with.farID, b.with.farParent))
	})
	if !found {
		return none
	}
	for at+1 < len(ids) && compareIDs(p.at(int(ids[at+1])), p.at(int(ids[at]))) == 0 {
		at++
	}
	return ids[at]
}

// Reach is Chain's.
func (p *parents) Reach(there []bool) []bool { return p.reach(there, nil) }

// Serves is Chain's.
func (p *parents) Serves(int) time.Time { return time.Time{} }

// Open is Chain's.
func (p *parents) Open(int) bool { return false }

// Newest is Chain's.
func (p *parents) Newest([]bool) int { return none }

// Hold is Chain's: all the way down. What begins earlier than the data backup on which
// it opens continues a log that is as young.
func (p *parents) Hold(keep []bool, by []int32, _ time.Time) {
	for k := range slices.Backward(keep) {
		if !keep[k] || by[k] != none {
			continue // what is needed by another has been followed from there
		}
		for above := int32(k); ; {
			base := p.base[above]
			if base == none || by[base] != none {
				break
			}
			keep[base], by[base] = true, above
			above = base
		}
	}
}

// isWhole reports whether a point, no log, can be restored: it is complete in itself,
// or a differential whose full is there.
func (p *parents) isWhole(k int, there []bool) bool {
	full := p.parent[k]
	return there[k] && (p.at(k).with.kind != SQLDiff || full != none && there[full] && p.at(int(full)).with.kind == SQLFull)
}

// opening is the newest data backup so far that can be restored, and what has come
// after it.
type opening struct {
	data  int32 // none if there is none
	log   int32 // the first log behind it, none if there is none
	mixed bool  // the logs behind it do not all continue the same, lost, one
}

// reach tells what is restorable. base, unless nil, becomes the place of what each log
// is restored upon, the newest data backup if it has the choice.
func (p *parents) reach(there []bool, base []int32) []bool {
	reached := make([]bool, p.len())
	o := opening{data: none, log: none}
	for k := range reached {
		if !p.isLog(k) {
			if reached[k] = p.isWhole(k, there); reached[k] {
				o = opening{data: int32(k), log: none}
			}
			continue
		}
		if there[k] && p.opens(&o, k) {
			reached[k] = true
			if base != nil {
				base[k] = o.data
			}
		}
		p.pass(&o, k)
	}
	p.follow(reached, there)
	return reached
}

// opens reports whether the data backup leads to a log without any other log. What
// was before a log whose parent is gone nobody can look up: it was older than the data
// backup if no log behind that continued anything else.
func (p *parents) opens(o *opening, k int) bool {
	switch {
	case o.data == none:
		return false
	case p.parent[k] != none:
		return o.data >= p.parent[k]
	}
	return o.log == none || !o.mixed && p.sameParent(int(o.log), k)
}

// pass notes a log behind the data backup.
func (p *parents) pass(o *opening, k int) {
	if o.log == none {
		o.log = int32(k)
	}
	o.mixed = o.mixed || !p.sameParent(int(o.log), k)
}

func (p *parents) sameParent(j, k int) bool {
	a, b := p.at(j), p.at(k)
	return a.parent == b.parent && a.with.farParent == b.with.farParent
}

// follow passes what is reached on from each log to those that continue it.
func (p *parents) follow(reached, there []bool) {
	seen := make([]bool, len(reached)) // a manifest that lies cannot make it run for ever
	var path []int32
	for k := range reached {
		path = path[:0]
		at := int32(k)
		for at != none && !reached[at] && !seen[at] && p.isLog(int(at)) && there[at] {
			seen[at] = true
			path = append(path, at)
			at = p.parent[at]
		}
		for _, n := range path {
			reached[n] = at != none && reached[at]
		}
	}
}
