package ledger

// Tally tells a Marker of chunks by the numbers of packs instead of their names:
// of ten million chunks each is then a look into two slices. While it is in use
// the Marker itself must not be told of anything; Close hands the sums over.
type Tally struct {
	marker *Marker
	packs  []string
	ranks  []rank
	live   []Use
}

// Tally numbers packs, by their place in the slice, which must not change.
func (m *Marker) Tally(packs []string) *Tally {
	t := &Tally{marker: m, packs: packs, ranks: make([]rank, len(packs)), live: make([]Use, len(packs))}
	for i, pack := range packs {
		t.ranks[i] = m.ranks[pack]
	}
	return t
}

// Live is Marker.Live.
func (t *Tally) Live(stored int64, holders []uint32) {
	keep, ok := t.keep(holders)
	if !ok {
		t.marker.missing++
		return
	}
	t.live[keep].Bytes += stored
	t.live[keep].Chunks++
}

// Again is Marker.Again.
func (t *Tally) Again(holders []uint32) {
	if _, ok := t.keep(holders); !ok {
		t.marker.Lost(false)
	}
}

// keep is Marker.keep.
func (t *Tally) keep(holders []uint32) (keep uint32, ok bool) {
	best := absent
	for _, pack := range holders {
		r := t.ranks[pack]
		if r > best || r == best && r > absent && younger(t.packs[pack], t.packs[keep]) {
			keep, best = pack, r
		}
	}
	if best == waiting {
		t.marker.rescue(t.packs[keep])
		t.ranks[keep] = untrusted
	}
	return keep, best > absent
}

// Close adds what was told to what the Marker knows. It may be called once.
func (t *Tally) Close() {
	for i, use := range t.live {
		if use.Chunks > 0 {
			old := t.marker.live[t.packs[i]]
			t.marker.live[t.packs[i]] = Use{Bytes: old.Bytes + use.Bytes, Chunks: old.Chunks + use.Chunks}
		}
	}
}
