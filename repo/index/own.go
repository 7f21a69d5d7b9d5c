package index

import "slices"

// ownPacks are the packs of the running session, in memory.
type ownPacks struct {
	packs []Pack
	known map[[16]byte]bool // by pack id
	rows  []ownRow
	first map[Key]int32 // index in rows of the newest row of a key
}

// ownRow is an entry, linked to the row that had the same key before it.
type ownRow struct {
	key            Key
	pack           int32
	offset, stored uint32
	next           int32 // -1: none
}

func (o *ownPacks) add(pack Pack, entries []Entry) {
	if o.known[pack.ID] {
		return
	}
	if o.known == nil {
		o.known, o.first = map[[16]byte]bool{}, map[Key]int32{}
	}
	o.known[pack.ID] = true
	o.packs = append(o.packs, pack)
	for _, e := range entries {
		o.link(ownRow{key: KeyOf(e.ID), pack: int32(len(o.packs) - 1), offset: e.Offset, stored: e.Stored})
	}
}

func (o *ownPacks) link(r ownRow) {
	next, ok := o.first[r.key]
	if !ok {
		next = -1
	}
	r.next = next
	o.first[r.key] = int32(len(o.rows))
	o.rows = append(o.rows, r)
}

// find calls fn for each place of key and reports whether fn wants more.
func (o *ownPacks) find(key Key, fn func(Location) bool) bool {
	i, ok := o.first[key]
	if !ok {
		return true
	}
	for ; i >= 0; i = o.rows[i].next {
		r := o.rows[i]
		if !fn(Location{Pack: o.packs[r.pack], Offset: r.offset, Stored: r.stored}) {
			return false
		}
	}
	return true
}

// drop forgets the packs for which listed is true.
func (o *ownPacks) drop(listed func(Pack) bool) {
	if !slices.ContainsFunc(o.packs, listed) {
		return
	}
	old := *o
	*o = ownPacks{known: map[[16]byte]bool{}, first: map[Key]int32{}}
	to := make([]int32, len(old.packs))
	for i, p := range old.packs {
		to[i] = -1
		if !listed(p) {
			to[i] = int32(len(o.packs))
			o.packs = append(o.packs, p)
			o.known[p.ID] = true
		}
	}
	for _, r := range old.rows {
		if to[r.pack] >= 0 {
			r.pack = to[r.pack]
			o.link(r)
		}
	}
}
