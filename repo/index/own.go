package index

import (
	"slices"
	"sort"
)

// ownPack is a pack of the running session that no segment lists yet. There
// are few at a time, since a segment is published per 64 of them.
type ownPack struct {
	Pack
	rows []row // sorted by key
}

// newOwnPack checks pack and entries against each other and copies them.
func newOwnPack(pack Pack, entries []Entry) (ownPack, error) {
	if err := pack.check(); err != nil {
		return ownPack{}, err
	}
	own, law := ownPack{Pack: pack}, make(tally, 1)
	for _, e := range entries {
		if !pack.holds(e.Offset, e.Stored) {
			return ownPack{}, outside(KeyOf(e.ID))
		}
		own.rows = append(own.rows, row{key: KeyOf(e.ID), offset: e.Offset, stored: e.Stored})
		law.add(own.rows[len(own.rows)-1])
	}
	slices.SortFunc(own.rows, compareRows)
	return own, law.check([]Pack{pack})
}

// find calls fn for each place of key and reports whether fn wants more.
func (o ownPack) find(key Key, fn func(Location) bool) bool {
	i := sort.Search(len(o.rows), func(i int) bool { return compareKeys(o.rows[i].key, key) >= 0 })
	for ; i < len(o.rows) && o.rows[i].key == key; i++ {
		if !fn(Location{Pack: o.Pack, Offset: o.rows[i].offset, Stored: o.rows[i].stored}) {
			return false
		}
	}
	return true
}
