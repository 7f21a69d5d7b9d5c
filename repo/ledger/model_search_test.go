package ledger

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// config bounds a model.
type config struct {
	name             string
	writers, pruners int
	rounds           uint8
	dups, forgets    uint8
	revokes          uint8
	lost             bool // answers of slots are lost
	fine             bool // segments and packs are listed one after the other
	repack, merge    bool
	reader           bool
	newestLedger     bool // W5 asks the newest entry instead of the one the session began with
	aged             bool // the old point lies below the horizon, in a run
	lies             bool // listings hide what they like, or show what is gone
	sober            bool // lonely prunes are not tried: what counts is loss
	start            func(m *model, s *state)
}

type model struct {
	*rules
	cfg config

	seen    *hashSet
	parents []uint32
	steps   []uint16
	seed    maphash.Seed
	closed  int // states that two lonely prunes were tried on
}

// hashSet holds 64-bit hashes of states; 0 is taken for empty.
type hashSet struct {
	slots []uint64
	n     int
}

func (h *hashSet) add(x uint64) bool {
	if h.n*10 >= len(h.slots)*7 {
		old := h.slots
		h.slots, h.n = make([]uint64, max(1<<12, 2*len(old))), 0
		for _, v := range old {
			if v != 0 {
				h.add(v)
			}
		}
	}
	x |= 1
	for i := x >> 1; ; i++ {
		switch p := &h.slots[i&uint64(len(h.slots)-1)]; *p {
		case 0:
			*p = x
			h.n++
			return true
		case x:
			return false
		}
	}
}

func newModel(cfg config, mut mutation) *model {
	return &model{rules: newRules(mut), cfg: cfg, seen: &hashSet{}, seed: maphash.MakeSeed()}
}

// first is the repository with one old point, below the horizon or not.
func (m *model) first() state {
	s := state{dups: m.cfg.dups, forgets: m.cfg.forgets, revokes: m.cfg.revokes}
	s.n, s.slotP, s.pack, s.seg, s.sess = 1, 1, 1, 1, 1
	s.sentP, s.sentPack, s.sentSeg, s.sentSess = 1, 1, 1, 1
	s.led[0] = m.intern(&Entry{Version: Version}, 0)
	if m.cfg.aged {
		old := m.names[0][0]
		s.led[1] = m.intern(&Entry{Version: Version, Horizon: 1, Roll: 1, Points: PileOf(old.sid), Runs: []string{old.seg}}, 1)
		s.n, s.sess = 2, 0
	}
	for q := range m.cfg.pruners {
		s.q[q].rounds = m.cfg.rounds
	}
	if m.cfg.start != nil {
		m.cfg.start(m, &s)
	}
	return s
}

// condemnedOld is entry number: the old point was forgotten, its pack condemned.
func (m *model) condemnedOld(s *state, number uint8) {
	old := m.names[0][0]
	for g := uint8(1); g < number; g++ {
		s.led[g] = m.intern(&Entry{Version: Version}, g)
	}
	s.led[number] = m.intern(&Entry{Version: Version, Condemned: []Condemned{{Since: uint32(number), Packs: []string{old.pack}, Covered: []string{old.text}}}}, number)
	s.n, s.tomb, s.sentTomb = number+1, 1, 1
}

// begun puts writer i into the middle of a session of that generation.
func (s *state) begun(i int, gen, pc uint8) {
	s.gen[i+1], s.w[i].pc = gen, pc
	s.enroll(i+1, uint8(i+1))
}

// zombie: writer 1 began before entry 1 condemned the old pack, was revoked,
// and is about to write its pack all the same.
func zombie(m *model, s *state) {
	m.condemnedOld(s, 1)
	s.begun(0, 0, wPack)
	s.slotR, s.sentR = s.slotR|2, s.sentR|2
}

// reused: writer 1 has reused the old pack, which entry 1 condemned since.
func reused(m *model, s *state) {
	m.condemnedOld(s, 1)
	s.begun(0, 0, wSlot)
}

// reusedAgain: writer 2 has taken over from the map of writer 1's point, which
// was forgotten after that.
func reusedAgain(m *model, s *state) {
	reused(m, s)
	s.w[0].pc = wSuccess
	s.begun(1, 1, wSlot)
	s.slotP, s.sentP = s.slotP|2, s.sentP|2
	s.tomb, s.sentTomb = s.tomb|2, s.sentTomb|2
}

// threeParties: reused, two entries later; writer 2 is open, between the two.
func threeParties(m *model, s *state) {
	m.condemnedOld(s, 2)
	s.begun(0, 0, wSlot)
	s.begun(1, 1, wPack)
}

// run visits every reachable state, breadth first, until limit, and returns how
// many there are and how the first promise is broken, if any is.
func (m *model) run(limit int) (states int, broken string, trace []string) {
	first := m.first()
	level := []state{first}
	m.seen.add(maphash.Comparable(m.seed, first))
	m.parents, m.steps = []uint32{0}, []uint16{0}
	from := 0
	for len(level) > 0 && len(m.parents) < limit {
		var deeper []state
		for i := range level {
			step := uint16(0)
			m.next(&level[i], func(t *state, _ string) {
				step++
				if broken != "" || !m.seen.add(maphash.Comparable(m.seed, *t)) {
					return
				}
				m.parents, m.steps = append(m.parents, uint32(from+i)), append(m.steps, step)
				deeper = append(deeper, *t)
				if broken = m.violation(t); broken == "" && !m.cfg.sober && len(m.parents)%1024 == 0 {
					broken = m.lonely(*t)
				}
			})
			if broken != "" {
				return len(m.parents), broken, m.trace(len(m.parents) - 1)
			}
		}
		from += len(level)
		level = deeper
	}
	return len(m.parents), "", nil
}

// trace replays the way to state number n.
func (m *model) trace(n int) []string {
	var path []uint16
	for ; n > 0; n = int(m.parents[n]) {
		path = append(path, m.steps[n])
	}
	s := m.first()
	var lines []string
	for i := len(path) - 1; i >= 0; i-- {
		step, left := path[i], uint16(0)
		var then state
		m.next(&s, func(t *state, who string) {
			if left++; left == step {
				then = *t
				lines = append(lines, fmt.Sprintf("%-16s %s", who, m.describe(t)))
			}
		})
		s = then
	}
	return lines
}

// describe is a state in a line; sessions are numbered, masks are read from the right.
func (m *model) describe(s *state) string {
	var pcs []string
	for _, w := range s.w[:m.cfg.writers] {
		pcs = append(pcs, fmt.Sprintf("w%d", w.pc))
	}
	for _, q := range s.q[:m.cfg.pruners] {
		pcs = append(pcs, fmt.Sprintf("p%d@%d", q.pc, q.g))
	}
	e := m.entries[s.led[s.newest()]].view.Entry
	var batches []string
	for _, b := range e.Condemned {
		var packs []string
		for _, pack := range b.Packs {
			packs = append(packs, fmt.Sprint(m.packSID[pack]))
		}
		batches = append(batches, fmt.Sprintf("{since %d %s going %v}", b.Since, strings.Join(packs, ","), b.Going))
	}
	return fmt.Sprintf("%s gens %v ledger %d horizon %d points %d runs %d condemned %v | sess %b point %b revoked %b tomb %b pack %b seg %b run %b lists %b",
		strings.Join(pcs, " "), s.gen, s.newest(), e.Horizon, len(e.Points), len(e.Runs), batches, s.sess, s.slotP, s.slotR, s.tomb, s.pack, s.seg, s.run, s.runPacks)
}

// lonely stops everybody, revokes who is open, and lets one pruner work alone:
// a few rounds later nothing unneeded is left (I6), and nothing is broken.
func (m *model) lonely(s state) string {
	if s.n+4 >= modelLedgers {
		return ""
	}
	m.closed++
	defer func(lies bool) { m.cfg.lies = lies }(m.cfg.lies)
	m.cfg.lies = false
	s.slotR |= s.sess &^ s.slotP
	s.w, s.r, s.dups, s.forgets, s.revokes = [modelWriters]writer{}, reader{}, 0, 0, 0
	s.q = [modelPruners]pruner{{rounds: 4, used: 1}}
	was := m.livePoints(&s)
	for s.q[0].rounds > 0 {
		m.stepPruner(&s, 0, func(t *state, _ string) { s = *t })
		if v := m.violation(&s); v != "" {
			return "after lonely prunes: " + v
		}
	}
	live := m.livePoints(&s)
	junk := s.slotR | s.slotP&^live | s.tomb | m.passed(&s, s.led[s.newest()])
	packs := 0
	each(s.pack, func(int) { packs++ })
	switch {
	case live != was:
		return "after lonely prunes: a point is lost"
	case junk != 0 || packs > 1 || packs == 1 && live == 0:
		return "garbage stays for ever (I6)"
	}
	return ""
}
