package ledger

import (
	"encoding/json"
	"fmt"
	"math/bits"
)

// The model: one source, one chunk that every point needs, and for every
// session the objects it may write. Each step is one operation on a strongly
// consistent store; whoever is in the middle of something may stay there for
// ever, so every state is also the state after a crash. The decisions are
// those of this package (Look, Marker, Decide, View), the order of operations
// is that of FORMAT.md §9.

const (
	modelWriters = 3
	modelPruners = 2
	modelSIDs    = 1 + modelWriters + modelPruners // 0 made the old point
	modelLedgers = 9
)

// mask is a set of sessions.
type mask = uint8

func has(m mask, i int) bool { return m>>i&1 != 0 }

// store is everything that lies in the repository, and what was ever sent to it.
type store struct {
	led      [modelLedgers]uint16 // entries, interned
	n        uint8                // how many
	gen      [modelSIDs]uint8
	num      [modelSIDs]uint8 // in the roll
	sess     mask             // records in the roll
	slotP    mask             // points
	slotR    mask             // revocations
	tomb     mask
	pack     mask
	seg      mask               // segment of a session's own pack
	run      mask               // a pruner's run
	runPacks [modelPruners]mask // what it lists
	// Requests that were sent, and may arrive again.
	sentP, sentR, sentTomb, sentPack, sentSeg, sentSess mask
}

type writer struct {
	pc, parent, n uint8 // n: the number that it is about to take
}

type pruner struct {
	pc, rounds, g                              uint8
	sess, slotP, slotR, tomb, seg, run, pack   mask // listings
	dead                                       mask // taken for dead without a revocation (a mutation)
	used, wroteRun, from, phantomPack, phantom uint8
	end                                        uint8 // of the roll
	plan                                       uint32
}

type reader struct {
	pc, point, g uint8
	seg, run     mask
}

type state struct {
	store
	w       [modelWriters]writer
	q       [modelPruners]pruner
	r       reader
	dups    uint8 // late deliveries left
	forgets uint8
	revokes uint8
}

func (s *state) newest() uint8 { return s.n - 1 }

// listed are the packs that the segments of these masks list.
func (s *state) listed(seg, run mask) mask {
	for q := range modelPruners {
		if has(run, 1+modelWriters+q) {
			seg |= s.runPacks[q]
		}
	}
	return seg
}

// entryInfo is an interned ledger entry with answers remembered.
type entryInfo struct {
	view *View
	bits [modelSIDs][modelLedgers]uint16
}

const (
	bitKnown = 1 << iota
	bitVoid
	bitGoing
	bitReuse
	bitReuseRun
	bitSegRun
	bitRunRun
	bitSegLeaves
	bitRunLeaves
	bitSlotLeaves
	bitTombLeaves
)

// names of the model's objects.
type names struct {
	sid                                SID
	text, pack, seg, run, slot, forget string
}

// plan is an interned decision.
type plan struct {
	bare    uint16 // the entry as it stands if no run is written
	withRun uint16 // the entry if the pruner wrote its run
	run     mask   // what the run must list
	live    mask
	changed bool
}

type planKey struct {
	g, own, end                                    uint8
	entry                                          uint16
	gen, num                                       [modelSIDs]uint8
	sess, slotP, slotR, tomb, seg, run, pack, dead mask
	runPacks                                       [modelPruners]mask
	merge                                          bool
}

// rules remembers what the real functions answered.
type rules struct {
	mut     mutation
	names   [modelSIDs][modelLedgers]names
	entries []*entryInfo
	byText  map[string]uint16
	plans   []plan
	byKey   map[planKey]uint32
	packSID map[string]int
}

func newRules(mut mutation) *rules {
	r := &rules{mut: mut, byText: map[string]uint16{}, byKey: map[planKey]uint32{}, packSID: map[string]int{}}
	for i := range modelSIDs {
		for g := range modelLedgers {
			sid := SID{Gen: uint32(g), Src: "00000000000000aa", Rand: fmt.Sprintf("%016x", i)}
			n := names{
				sid: sid, text: sid.String(), pack: PackName(Data, sid, [16]byte{byte(i)}), seg: IndexName(sid, 0), run: IndexName(sid, 1),
				slot: CommitName(sid), forget: ForgetName(sid),
			}
			r.names[i][g] = n
			r.packSID[n.pack] = i
		}
	}
	return r
}

func (r *rules) intern(e *Entry, number uint8) uint16 {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	key := fmt.Sprint(number, string(text))
	if id, ok := r.byText[key]; ok {
		return id
	}
	view, err := NewView(uint32(number), e)
	if err != nil {
		panic(err)
	}
	r.entries = append(r.entries, &entryInfo{view: view})
	if len(r.entries) > 1<<16 {
		panic("more ledger entries than the model can number")
	}
	id := uint16(len(r.entries) - 1)
	r.byText[key] = id
	return id
}

// ask answers a question of an entry about session i of generation gen.
func (r *rules) ask(entry uint16, i int, gen uint8, bit uint16) bool {
	info := r.entries[entry]
	known := &info.bits[i][gen]
	if *known == 0 {
		n, v := &r.names[i][gen], info.view
		*known = bitKnown
		for b, yes := range map[uint16]bool{
			bitVoid: v.IsVoid(n.sid), bitGoing: v.MayRemove(n.pack), bitReuse: v.MayReuse(n.pack, n.sid, false), bitReuseRun: v.MayReuse(n.pack, n.sid, true),
			bitSegRun: v.IsRun(n.seg), bitRunRun: v.IsRun(n.run), bitSegLeaves: v.MayRemove(n.seg), bitRunLeaves: v.MayRemove(n.run),
			bitSlotLeaves: v.MayRemove(n.slot), bitTombLeaves: v.MayRemove(n.forget),
		} {
			if yes {
				*known |= b
			}
		}
	}
	return *known&bit != 0
}

// those are the sessions of m of which the entry says yes.
func (r *rules) those(s *state, entry uint16, m mask, bit uint16) mask {
	var yes mask
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros8(rest)
		if r.ask(entry, i, s.gen[i], bit) {
			yes |= 1 << i
		}
	}
	return yes
}

// inRuns are the packs that runs named by the entry list.
func (r *rules) inRuns(s *state, entry uint16, seg, run mask) mask {
	return s.listed(r.those(s, entry, seg, bitSegRun), r.those(s, entry, run, bitRunRun))
}

// reusable are the packs of a listing whose content a writer may reuse (W5).
func (r *rules) reusable(s *state, entry uint16, seg, run mask) mask {
	all := s.listed(seg, run)
	if r.mut == reuseWhateverIsListed {
		var m mask
		for i := range modelSIDs {
			if has(all, i) && !r.entries[entry].view.IsCondemned(r.names[i][s.gen[i]].pack) {
				m |= 1 << i
			}
		}
		return m
	}
	return r.those(s, entry, all, bitReuse) | r.those(s, entry, r.inRuns(s, entry, seg, run), bitReuseRun)
}

// livePoints are the points that are neither forgotten, ever, nor void now.
func (r *rules) livePoints(s *state) mask {
	m := s.slotP &^ s.sentTomb
	return m &^ r.those(s, s.led[s.newest()], m, bitVoid)
}

// violation names the promise that a state breaks, or is empty.
func (r *rules) violation(s *state) string {
	live := r.livePoints(s)
	if live != 0 && s.pack&s.listed(s.seg, s.run) == 0 {
		return "a committed point does not resolve its chunk (I2)"
	}
	void := r.those(s, s.led[s.newest()], s.slotP, bitVoid)
	if has(void, 0) && !has(s.sentTomb, 0) {
		return "the old point is void, and nobody has forgotten it"
	}
	for i, w := range s.w {
		if w.pc == wSuccess && !has(s.sentTomb, i+1) && (!has(s.slotP, i+1) || has(void, i+1)) {
			return "success was reported for a point that is none (W8)"
		}
	}
	if s.slotP&s.sentTomb&^s.tomb&^void != 0 {
		return "a forgotten point is back"
	}
	if s.r.pc == rFailed {
		return "a reader failed on a live point"
	}
	return ""
}
