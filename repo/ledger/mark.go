package ledger

// rank says how well a pack serves to keep a chunk.
type rank uint8

const (
	absent    rank = iota // not in the store, or going
	waiting               // condemned: only a rescue makes it a holder again
	untrusted             // writers do not reuse it (MayReuse); better than nothing
	trusted
)

// rankPacks judges every pack of the listing once.
func (s *Survey) rankPacks() map[string]rank {
	view, inRun := s.listing.Ledger, map[string]bool{}
	for _, segment := range s.listing.Segments {
		if view.IsRun(segment.Name) {
			for _, pack := range segment.Packs {
				inRun[pack] = true
			}
		}
	}
	ranks := make(map[string]rank, len(s.listing.Packs))
	for _, pack := range s.listing.Packs {
		owner, _, err := ParsePack(pack)
		switch {
		case err != nil || view.IsGoing(pack):
		case view.IsCondemned(pack):
			ranks[pack] = waiting
		case view.MayReuse(pack, owner, inRun[pack]):
			ranks[pack] = trusted
		default:
			ranks[pack] = untrusted
		}
	}
	return ranks
}

// Use is what live points need of one pack.
type Use struct {
	Bytes  int64
	Chunks int
}

// Marker gathers which packs are needed. The caller follows the maps of all
// points that the survey names and tells of every distinct chunk once.
type Marker struct {
	survey    *Survey
	ranks     map[string]rank
	live      map[string]Use  // by pack
	rescued   map[string]bool // out of a waiting batch
	rescueAll bool
	missing   int
	hurt      []string // live points whose maps cannot be followed
}

// Marker starts the second half of a round.
func (s *Survey) Marker() *Marker {
	return &Marker{survey: s, ranks: s.rankPacks(), live: map[string]Use{}, rescued: map[string]bool{}}
}

// Live tells a chunk that a live point needs, the bytes it takes, and the packs
// that hold it according to any segment, in any order. One of them is kept
// for it; if all are condemned, one is rescued.
func (m *Marker) Live(stored int64, holders []string) {
	keep, ok := m.keep(holders)
	if !ok {
		m.missing++
		return
	}
	use := m.live[keep]
	m.live[keep] = Use{Bytes: use.Bytes + stored, Chunks: use.Chunks + 1}
}

// Keeper is the pack that Live keeps a chunk in, without keeping it.
func (m *Marker) Keeper(holders []string) (string, bool) {
	keep, best := m.best(holders)
	return keep, best > absent
}

// Again tells a chunk that only a forgotten point of Survey.Remark needs. It
// makes nothing live; it rescues from the waiting batches what no other pack
// holds. (A pack outside them that this very round condemns waits for those
// who may need it.) If none holds it, that is as in Lost.
func (m *Marker) Again(holders []string) {
	if _, ok := m.keep(holders); !ok {
		m.Lost(false)
	}
}

// Lost tells that the map of a point cannot be followed to its end. Of a live
// point: the round decides nothing. Of a forgotten one, nobody can say what
// the open sessions took from it: every waiting batch is rescued whole, and
// the next round condemns anew what is still unneeded.
func (m *Marker) Lost(live bool) {
	if live {
		m.missing++
		return
	}
	m.rescueAll = true
}

// Hurt is Lost of a live point that is named.
func (m *Marker) Hurt(point string) { m.hurt = append(m.hurt, point) }

// Nowhere tells how many chunks live points need that no segment lists.
func (m *Marker) Nowhere(chunks int) { m.missing += chunks }

// keep picks the pack that keeps a chunk: of the best rank the one of the
// youngest session, so that the copy that a repack made wins over what it was
// copied from and every pruner picks alike. A condemned pack is no holder, or
// two packs would each go because of the other; if there is no other, one is
// rescued.
func (m *Marker) keep(holders []string) (string, bool) {
	keep, best := m.best(holders)
	if best == waiting {
		m.rescue(keep)
	}
	return keep, best > absent
}

// rescue makes a condemned pack a holder again.
func (m *Marker) rescue(pack string) { m.rescued[pack], m.ranks[pack] = true, untrusted }

func (m *Marker) best(holders []string) (keep string, best rank) {
	for _, pack := range holders {
		r := m.ranks[pack]
		if r > best || r == best && r > absent && younger(pack, keep) {
			keep, best = pack, r
		}
	}
	return keep, best
}

// younger orders packs by session, then by name; data and meta alike.
func younger(a, b string) bool { return a[len(Data):] > b[len(Data):] }

// MayRepack: the live content of a pack may be copied into a session of
// generation gen only if the copy will win: its session is younger.
func MayRepack(owner SID, gen uint32) bool { return owner.Gen < gen }
