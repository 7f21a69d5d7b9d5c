package ledger

import "math/bits"

var prunerNames = [modelPruners]string{"pruner 1", "pruner 2"}

// stepPruner is one operation of pruner q.
func (m *model) stepPruner(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	to := func(pc uint8) {
		p.pc = pc
		out(&t, prunerNames[q])
	}
	switch p.pc {
	case qStart:
		if p.rounds == 0 {
			return
		}
		p.g = t.newest()
		to(qSessions)
	case qSessions:
		p.sess, p.end = m.readRoll(&t, t.led[p.g])
		if t.revokes == 0 {
			to(qSlots)
			return
		}
		to(qRevoke)
	case qRevoke:
		m.stepRevoke(s, q, out)
	case qSlots, qTombs, qIndex, qPacks:
		if m.cfg.lies {
			m.stepLies(s, q, out)
			return
		}
		m.stepListed(s, q, out)
	case qDecided:
		m.stepDecided(s, q, out)
	case qLedger:
		m.stepLedger(s, q, out)
	case qDropPacks, qDropIndex, qDropSlots, qDropTombs, qDropSessions:
		m.stepRemove(s, q, out)
	default:
		m.stepOwnSession(s, q, out)
	}
}

// stepListed is one LIST of pruner q, which tells the truth.
func (m *model) stepListed(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	to := func(pc uint8) {
		p.pc = pc
		out(&t, prunerNames[q])
	}
	switch p.pc {
	case qSlots:
		p.slotP, p.slotR = t.slotP, t.slotR
		to(qTombs)
	case qTombs:
		p.tomb = t.tomb
		if m.mut == packsBeforeIndex {
			p.pack = t.pack
		}
		to(qIndex)
	case qIndex:
		p.seg, p.run = t.seg, t.run
		if m.cfg.fine || m.mut == packsBeforeIndex {
			to(qPacks)
			return
		}
		p.pack = t.pack
		m.decided(&t, q, out)
	case qPacks:
		if m.mut != packsBeforeIndex {
			p.pack = t.pack
		}
		m.decided(&t, q, out)
	}
}

// stepRevoke ends one session that seems dead, or goes on.
func (m *model) stepRevoke(s *state, q int, out emit) {
	for rest := s.q[q].sess &^ (s.slotP | s.slotR | s.q[q].dead); rest != 0; rest &= rest - 1 {
		t := *s
		b := rest & -rest
		if m.mut == deadWithoutRevocation {
			t.q[q].dead |= b
		} else {
			t.slotR, t.sentR = t.slotR|b, t.sentR|b
		}
		t.revokes--
		t.q[q].pc = qSlots
		out(&t, prunerNames[q])
	}
	t := *s
	t.q[q].pc = qSlots
	out(&t, prunerNames[q])
}

// decided makes the decision, which is no operation, and forgets the listings.
func (m *model) decided(t *state, q int, out emit) {
	p := &t.q[q]
	if m.mut == listsBeforeLedger {
		p.g = t.newest()
	}
	own := 1 + modelWriters + q
	key := planKey{
		g: p.g, own: uint8(own), end: p.end, entry: t.led[p.g], gen: t.gen, num: t.num, sess: p.sess, slotP: p.slotP, slotR: p.slotR, tomb: p.tomb,
		seg: p.seg | p.phantom, run: p.run, pack: p.pack | p.phantomPack, dead: p.dead, runPacks: t.runPacks, merge: m.cfg.merge && p.used == 0,
	}
	for i := range modelSIDs {
		if !has(key.sess, i) {
			key.num[i] = 0
		}
	}
	p.plan = m.decide(key)
	p.end, p.sess, p.slotP, p.slotR, p.tomb, p.seg, p.run, p.pack = 0, 0, 0, 0, 0, 0, 0, 0
	p.pc = qDecided
	out(t, prunerNames[q])
}

// stepDecided chooses what comes first: copying a pack, a run, the ledger.
func (m *model) stepDecided(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	plan := m.plans[p.plan]
	if m.cfg.repack && p.used == 0 && plan.live != 0 {
		from := bits.TrailingZeros8(plan.live)
		if MayRepack(SID{Gen: uint32(t.gen[from])}, uint32(p.g)) {
			p.from, p.pc = uint8(from), qCopySession
			out(&t, prunerNames[q])
			t = *s
		}
	}
	switch {
	case plan.run != 0 && p.used == 0:
		p.pc = qRunSession
	case plan.changed && m.mut == deleteBeforeLedger:
		p.pc = qDropPacks
	case plan.changed:
		p.pc = qLedger
	default:
		p.pc = qDropPacks
	}
	out(&t, prunerNames[q])
}

// stepOwnSession is the pruner as a writer that makes no point: it copies a
// pack, or writes a run.
func (m *model) stepOwnSession(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	sid := 1 + modelWriters + q
	bit := mask(1) << sid
	to := func(pc uint8) {
		p.pc = pc
		out(&t, prunerNames[q])
	}
	switch p.pc {
	case qRunSession, qCopySession:
		p.used, t.gen[sid] = 1, p.g
		t.enroll(sid, m.rollEnd(&t, t.led[p.g]))
		to(p.pc + 1)
	case qRunCheck, qCopyCheck:
		if t.newest() == p.g {
			to(p.pc + 1)
			return
		}
		t.settle(bit)
		m.endRound(&t, q, out)
	case qRunWrite:
		list := m.plans[p.plan].run
		switch m.mut {
		case runWithoutPacks:
			list = 0
		case runNotDurable:
			p.wroteRun = 1
			to(qRunSettle)
			return
		}
		t.run |= bit
		t.runPacks[q] = list
		p.wroteRun = 1
		to(qRunSettle)
	case qRunSettle:
		t.settle(bit)
		to(qLedger)
	default:
		m.stepCopy(s, q, out)
	}
}

// settle takes the slot of a session that makes no point.
func (s *state) settle(bit mask) {
	if s.slotP&bit == 0 {
		s.slotR, s.sentR = s.slotR|bit, s.sentR|bit
	}
}

// stepCopy is the repack of one pack.
func (m *model) stepCopy(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	bit := mask(1) << (1 + modelWriters + q)
	to := func(pc uint8) {
		p.pc = pc
		out(&t, prunerNames[q])
	}
	switch p.pc {
	case qCopyWrite:
		switch {
		case !has(t.pack, int(p.from)):
			to(qCopySettle)
			return
		case m.mut == copyNotDurable:
			p.phantomPack, p.phantom = bit, bit
		default:
			t.pack, t.sentPack = t.pack|bit, t.sentPack|bit
		}
		to(qCopySegment)
	case qCopySegment:
		switch m.mut {
		case copyNotDurable:
		case copyNotListed:
			p.phantom = bit
		default:
			t.seg, t.sentSeg = t.seg|bit, t.sentSeg|bit
		}
		to(qCopySettle)
	case qCopySettle:
		t.settle(bit)
		p.from, p.plan, p.pc = 0, 0, qStart // look again: the copy wins
		out(&t, prunerNames[q])
	}
}

// stepLedger places the next entry, or learns that another did.
func (m *model) stepLedger(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	if t.newest() != p.g && m.mut != ledgerNotExclusive {
		m.endRound(&t, q, out)
		return
	}
	if int(p.g)+1 == modelLedgers {
		return // the end of the model's world
	}
	plan := m.plans[p.plan]
	t.led[p.g+1] = plan.bare
	if p.wroteRun != 0 {
		t.led[p.g+1] = plan.withRun
	}
	t.n = max(t.n, p.g+2)
	p.g++
	p.pc, p.wroteRun, p.plan = qDropPacks, 0, 0
	if m.mut == deleteBeforeLedger {
		m.endRound(&t, q, out)
		return
	}
	out(&t, prunerNames[q])
}

func (m *model) endRound(t *state, q int, out emit) {
	p := &t.q[q]
	*p = pruner{rounds: p.rounds - 1, used: p.used, phantom: p.phantom, phantomPack: p.phantomPack}
	if p.rounds == 0 {
		*p = pruner{}
	}
	out(t, prunerNames[q])
}

// stepRemove deletes all objects of one prefix that the pruner's entry lets go.
func (m *model) stepRemove(s *state, q int, out emit) {
	t := *s
	p := &t.q[q]
	entry := t.led[p.g]
	if m.mut == deleteBeforeLedger && m.plans[p.plan].changed {
		entry = m.plans[p.plan].bare
	}
	if m.cfg.lies { // or nothing of the prefix is listed
		p.pc++
		if p.pc > qDropSessions {
			m.endRound(&t, q, out)
		} else {
			out(&t, prunerNames[q])
		}
		t = *s
	}
	for p.pc <= qDropSessions && t.store == s.store {
		m.removeClass(&t, p.pc, entry)
		p.pc++
	}
	switch {
	case p.pc <= qDropSessions:
		out(&t, prunerNames[q])
	case m.mut == deleteBeforeLedger && m.plans[p.plan].changed:
		p.pc = qLedger
		out(&t, prunerNames[q])
	default:
		m.endRound(&t, q, out)
	}
}

func (m *model) removeClass(t *state, class uint8, entry uint16) {
	switch class {
	case qDropPacks:
		t.pack &^= m.those(t, entry, t.pack, bitGoing)
	case qDropIndex:
		seg, run := m.those(t, entry, t.seg, bitSegLeaves), m.those(t, entry, t.run, bitRunLeaves)
		t.seg, t.run = t.seg&^seg, t.run&^run
	case qDropSlots:
		slots := t.slotP | t.slotR
		drop := m.those(t, entry, slots, bitSlotLeaves)
		if m.mut == slotsWithoutHorizon {
			drop |= t.slotR | t.slotP&t.tomb
		}
		t.slotP, t.slotR = t.slotP&^drop, t.slotR&^drop
	case qDropTombs:
		drop := m.those(t, entry, t.tomb, bitTombLeaves)
		if m.mut == slotsWithoutHorizon {
			drop |= t.tomb &^ t.slotP
		}
		t.tomb &^= drop
	case qDropSessions:
		gone := m.passed(t, entry)
		t.sess &^= gone
		if t.dups == 0 {
			each(gone, func(i int) { t.num[i] = 0 }) // nothing asks any more
		}
	}
}
