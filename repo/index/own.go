package index

import (
	"bytes"
	"sort"

	"holdfast/repo/index/segment"
)

// ownPack is a pack of the running session that no segment lists yet. There
// are few at a time, since a segment is published per 64 of them.
type ownPack struct {
	Pack
	rows []segment.Row // sorted by key
}

// newOwnPack checks pack and entries against each other and copies them.
func newOwnPack(pack Pack, entries []Entry) (ownPack, error) {
	rows, err := pack.Rows(entries)
	return ownPack{pack, rows}, err
}

// find calls fn for each place of key and reports whether fn wants more.
func (o ownPack) find(key Key, fn func(Location) bool) bool {
	i := sort.Search(len(o.rows), func(i int) bool { return bytes.Compare(o.rows[i].Key[:], key[:]) >= 0 })
	for ; i < len(o.rows) && o.rows[i].Key == key; i++ {
		if !fn(Location{Pack: o.Pack, Offset: o.rows[i].Offset, Stored: o.rows[i].Stored}) {
			return false
		}
	}
	return true
}
