package ledger

import "math/bits"

// Program counters. Those of a writer are the steps of FORMAT.md §9.
const (
	wStart uint8 = iota
	wSession
	wCheck
	wIndex
	wParents
	wTombs
	wLedger
	wPack
	wSegment
	wSlot
	wAlive
	wGiveUp
	wFailed
	wSuccess
)

const (
	qStart uint8 = iota
	qSessions
	qRevoke
	qSlots
	qTombs
	qIndex
	qPacks
	qDecided
	qRunSession
	qRunCheck
	qRunWrite
	qRunSettle
	qCopySession
	qCopyCheck
	qCopyWrite
	qCopySegment
	qCopySettle
	qLedger
	qDropPacks
	qDropIndex
	qDropSlots
	qDropTombs
	qDropSessions
)

const (
	rPick uint8 = iota
	rLedger
	rIndex
	rGet
	rDone
	rFailed
)

// emit takes a successor; who moved goes into traces.
type emit func(next *state, who string)

func (m *model) next(s *state, out emit) {
	for i := range m.cfg.writers {
		m.stepWriter(s, i, out)
	}
	for q := range m.cfg.pruners {
		m.stepPruner(s, q, out)
	}
	m.stepUser(s, out)
	if s.dups > 0 {
		m.stepLate(s, out)
	}
	if m.cfg.reader {
		m.stepReader(s, out)
	}
}

var writerNames = [modelWriters]string{"writer 1", "writer 2", "writer 3"}

// stepWriter is one operation of writer i.
func (m *model) stepWriter(s *state, i int, out emit) {
	sid := i + 1
	t := *s
	w := &t.w[i]
	to := func(pc uint8) {
		w.pc = pc
		out(&t, writerNames[i])
	}
	switch w.pc {
	case wStart: // W1
		t.gen[sid] = t.newest()
		w.n = m.rollEnd(&t, t.led[t.gen[sid]]) // and stops here for as long as it likes
		if m.mut == listsBeforeSession {
			to(wIndex)
			return
		}
		to(wSession)
	case wSession: // W2
		if m.mut != noSession {
			if t.enrolled(w.n) >= 0 {
				w.n++ // another was faster
				to(wSession)
				return
			}
			t.enroll(sid, w.n)
		}
		w.n = 0
		switch m.mut {
		case listsBeforeSession:
			to(m.afterLists(w))
		case sessionKept:
			to(wIndex)
		default:
			to(wCheck)
		}
	case wCheck: // W3
		if t.newest() != t.gen[sid] {
			to(wGiveUp)
			return
		}
		to(wIndex)
	case wIndex, wParents, wTombs, wLedger:
		m.stepLists(s, i, out)
	default:
		m.stepStore(s, i, out)
	}
}

// stepStore is what comes after the lists: pack, segment, slot, the last look.
func (m *model) stepStore(s *state, i int, out emit) {
	sid := i + 1
	bit := mask(1) << sid
	t := *s
	w := &t.w[i]
	to := func(pc uint8) {
		w.pc = pc
		out(&t, writerNames[i])
	}
	switch w.pc {
	case wPack: // W5
		if m.mut == segmentBeforePack {
			t.seg, t.sentSeg = t.seg|bit, t.sentSeg|bit
		} else {
			t.pack, t.sentPack = t.pack|bit, t.sentPack|bit
		}
		to(wSegment)
	case wSegment: // W6
		if m.mut == segmentBeforePack {
			t.pack, t.sentPack = t.pack|bit, t.sentPack|bit
		} else {
			t.seg, t.sentSeg = t.seg|bit, t.sentSeg|bit
		}
		to(wSlot)
	case wSlot: // W7
		t.sentP |= bit
		if m.mut == slotNotExclusive {
			t.slotR &^= bit
		}
		if t.slotR&bit != 0 {
			to(wFailed)
			return
		}
		t.slotP |= bit
		if m.cfg.lost && t != *s {
			out(&t, writerNames[i]) // the answer is lost: it will try again
		}
		to(wAlive)
	case wAlive: // W8
		if m.mut != noW8 && m.ask(t.led[t.newest()], sid, t.gen[sid], bitVoid) {
			to(wFailed)
			return
		}
		to(wSuccess)
	case wGiveUp:
		if t.slotP&bit == 0 {
			t.slotR, t.sentR = t.slotR|bit, t.sentR|bit
		}
		to(wFailed)
	}
}

// afterLists is where a writer goes that has what it needs, or not.
func (m *model) afterLists(w *writer) uint8 {
	if w.parent == needsPack {
		w.parent = 0
		return wPack
	}
	w.parent = 0
	return wSlot
}

const (
	needsPack = 0x40
	reuses    = 0x41
)

// stepLists is W4: content is found by the index, or by a parent's map, or is
// stored anew.
func (m *model) stepLists(s *state, i int, out emit) {
	sid := i + 1
	t := *s
	w := &t.w[i]
	done := func(how uint8) {
		w.parent = how
		if m.mut == listsBeforeSession {
			w.pc = wSession
		} else {
			w.pc = m.afterLists(w)
		}
		out(&t, writerNames[i])
	}
	entry := s.led[s.gen[sid]]
	switch w.pc {
	case wIndex:
		if m.cfg.newestLedger {
			entry = s.led[s.newest()]
		}
		if m.reusable(s, entry, s.seg, s.run) != 0 {
			done(reuses)
			t = *s
		}
		w.pc = wParents
		out(&t, writerNames[i])
	case wParents:
		if m.mut == ledgerBeforeTombs {
			entry = s.led[s.newest()]
		}
		void := m.those(s, entry, s.slotP, bitVoid)
		for p := range modelSIDs {
			if has(s.slotP&^void, p) && p != sid {
				w.parent, w.pc = uint8(p), wTombs
				out(&t, writerNames[i])
			}
		}
		done(needsPack)
	case wTombs:
		switch {
		case has(s.tomb, int(w.parent)) && !(m.mut == tombsAreListed && m.cfg.lies):
			done(needsPack)
		default:
			w.pc = wLedger
			out(&t, writerNames[i])
		}
	case wLedger:
		p := int(w.parent)
		old := m.mut == parentsOfAnOldLedger || m.mut == ledgerBeforeTombs
		if old && !has(s.slotP, p) || !old && m.ask(s.led[s.newest()], p, s.gen[p], bitVoid) {
			done(needsPack)
			return
		}
		done(reuses)
	}
}

// stepUser forgets a point.
func (m *model) stepUser(s *state, out emit) {
	if s.forgets == 0 {
		return
	}
	for live := m.livePoints(s); live != 0; live &= live - 1 {
		t := *s
		i := bits.TrailingZeros8(live)
		t.tomb, t.sentTomb = t.tomb|1<<i, t.sentTomb|1<<i
		t.forgets--
		out(&t, "operator forgets")
	}
}

// stepLate delivers once more what was sent long ago. What is there stays.
func (m *model) stepLate(s *state, out emit) {
	late := func(put func(t *state, bit mask), sent, there mask) {
		for rest := sent &^ there; rest != 0; rest &= rest - 1 {
			t := *s
			t.dups--
			put(&t, rest&-rest)
			out(&t, "late duplicate")
		}
	}
	late(func(t *state, b mask) { t.slotP |= b }, s.sentP, s.slotP|s.slotR)
	late(func(t *state, b mask) { t.slotR |= b }, s.sentR, s.slotP|s.slotR)
	late(func(t *state, b mask) { // a number that was taken since is refused
		if i := bits.TrailingZeros8(b); t.enrolled(t.num[i]) < 0 {
			t.sess |= b
		}
	}, s.sentSess, s.sess)
	late(func(t *state, b mask) { t.tomb |= b }, s.sentTomb, s.tomb)
	late(func(t *state, b mask) { t.pack |= b }, s.sentPack, s.pack)
	late(func(t *state, b mask) { t.seg |= b }, s.sentSeg, s.seg)
}

// stepReader reads the chunk of a live point.
func (m *model) stepReader(s *state, out emit) {
	t := *s
	r := &t.r
	to := func(pc uint8) {
		if r.pc = pc; pc == rDone || pc == rFailed {
			*r = reader{pc: pc}
		}
		out(&t, "reader")
	}
	switch r.pc {
	case rPick:
		for live := m.livePoints(s); live != 0; live &= live - 1 {
			r.point = uint8(bits.TrailingZeros8(live))
			to(rLedger)
		}
	case rLedger:
		r.g = t.newest()
		to(rIndex)
	case rIndex:
		r.seg, r.run = t.seg, t.run
		to(rGet)
	case rGet:
		switch {
		case t.listed(r.seg, r.run)&t.pack != 0 || !has(m.livePoints(s), int(r.point)):
			to(rDone)
		case t.newest() != r.g && m.mut != readerGivesUp:
			to(rLedger)
		default:
			to(rFailed)
		}
	}
}
