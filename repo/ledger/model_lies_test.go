package ledger

// The roll, and listings that lie. What is found by name (FORMAT.md §9) is found
// here too, whatever a listing says; of all else a listing says what it likes.

// enrolled is the session whose record has number n in the roll, or -1.
func (s *state) enrolled(n uint8) int {
	for i := range modelSIDs {
		if has(s.sess, i) && s.num[i] == n {
			return i
		}
	}
	return -1
}

func (s *state) enroll(sid int, n uint8) {
	s.sess, s.sentSess, s.num[sid] = s.sess|1<<sid, s.sentSess|1<<sid, n
}

// rollEnd is the first free number from where the entry says that the roll begins.
func (m *model) rollEnd(s *state, entry uint16) uint8 {
	_, end := s.roll(uint8(m.entries[entry].view.Entry.Roll))
	return end
}

// roll follows the roll from a number to the first that is free.
func (s *state) roll(n uint8) (found mask, end uint8) {
	for ; ; n++ {
		i := s.enrolled(n)
		if i < 0 {
			return found, n
		}
		found |= 1 << i
	}
}

// readRoll is what a pruner learns of sessions.
func (m *model) readRoll(s *state, entry uint16) (found mask, end uint8) {
	found, end = s.roll(uint8(m.entries[entry].view.Entry.Roll))
	if m.mut == sessionsAreListed && m.cfg.lies {
		found = 0
	}
	return found, end
}

// passed are the records of sessions that the entry lets go.
func (m *model) passed(s *state, entry uint16) (gone mask) {
	view := m.entries[entry].view
	each(s.sess, func(i int) {
		early := m.mut == rollCutEarly && s.slotR>>i&1 == 1
		if early || view.MayRemove(RollName(uint32(s.num[i]))) {
			gone |= 1 << i
		}
	})
	return gone
}

// shown calls fn with what a listing may say, of objects that are there and objects
// that ever were: all, nothing, all but one, all that ever was.
func shown(there, ever mask, fn func(mask)) {
	fn(there)
	if there != 0 {
		fn(0)
	}
	for rest := there; rest != 0; rest &= rest - 1 {
		if one := rest & -rest; one != there {
			fn(there &^ one)
		}
	}
	if ever &^= there; ever != 0 {
		fn(there | ever)
	}
}

// stepLies is one LIST of pruner q that may lie, with what it then asks by name.
func (m *model) stepLies(s *state, q int, out emit) {
	then := func(pc uint8, fill func(t *state, p *pruner)) {
		t := *s
		fill(&t, &t.q[q])
		if t.q[q].pc = pc; pc == qDecided {
			m.decided(&t, q, out)
			return
		}
		out(&t, prunerNames[q])
	}
	p, entry := &s.q[q], s.led[s.q[q].g]
	switch p.pc {
	case qSlots:
		named := m.named(s, p, entry)
		for _, seen := range []mask{0, ^mask(0)} {
			then(qTombs, func(_ *state, p *pruner) { p.slotP, p.slotR = s.slotP&(named|seen), s.slotR&(named|seen) })
		}
	case qTombs:
		shown(s.tomb, s.sentTomb, func(seen mask) { then(qIndex, func(_ *state, p *pruner) { p.tomb = seen }) })
	case qIndex:
		runs := m.those(s, entry, s.run, bitRunRun)
		named := m.those(s, entry, s.seg, bitSegRun)
		for _, others := range []mask{0, ^mask(0)} {
			shown(s.seg, s.sentSeg, func(seen mask) { // of the past: read before, and kept
				then(qPacks, func(t *state, p *pruner) { p.run, p.seg = runs|t.run&others, seen|named })
			})
		}
	case qPacks:
		shown(s.pack, s.sentPack, func(seen mask) {
			then(qDecided, func(t *state, p *pruner) { p.pack = m.confirmed(t, p, entry, seen) })
		})
	}
}

// named are the sessions whose slots a pruner asks for by name.
func (m *model) named(s *state, p *pruner, entry uint16) mask {
	view := m.entries[entry].view
	var named mask
	for i := range modelSIDs {
		sid := m.names[i][s.gen[i]].sid
		if has(p.sess, i) && sid.Gen >= view.Entry.Horizon || view.IsPoint(sid) {
			named |= 1 << i
		}
	}
	return named
}

// confirmed is what a pruner makes of a listing of packs (prune, confirmPacks).
func (m *model) confirmed(s *state, p *pruner, entry uint16, seen mask) mask {
	listed := s.listed(p.seg, p.run)
	view := m.entries[entry].view
	var ask, going mask
	for i := range modelSIDs {
		n := &m.names[i][s.gen[i]]
		if view.IsGoing(n.pack) {
			going |= 1 << i
		}
		if view.IsCondemned(n.pack) {
			ask |= 1 << i
		}
	}
	trusted := m.those(s, entry, listed, bitReuse) | m.those(s, entry, m.inRuns(s, entry, p.seg, p.run), bitReuseRun) | ask
	if m.mut != hiddenIsGone {
		seen |= (listed&^going | ask) & s.pack
	}
	if m.mut != shownIsThere {
		seen &^= listed &^ going &^ trusted &^ s.pack
	}
	return seen
}

// forgottenParent: a point was forgotten and its pack condemned before anybody who
// writes now began; its slot is still there.
func forgottenParent(m *model, s *state) { m.condemnedOld(s, 1) }

// longGone: the old point and its pack are gone, and the ledger says no more of them.
// The pack of writer 1 holds the chunk since, was condemned, and writer 2 has
// reused it before that.
func longGone(m *model, s *state) {
	s.gen[1] = 1
	s.begun(1, 1, wSlot)
	s.enroll(1, 1)
	s.w[0].pc = wSuccess
	s.sess, s.slotP, s.pack, s.seg = s.sess&^1, 2, 2, 2
	s.sentP, s.sentPack, s.sentSeg, s.tomb, s.sentTomb = 3, 3, 3, 2, 3
	n := m.names[1][1]
	s.led[1] = m.intern(&Entry{Version: Version, Horizon: 1, Roll: 1}, 1)
	s.led[2] = m.intern(&Entry{Version: Version, Horizon: 1, Roll: 1, Condemned: []Condemned{{Since: 2, Packs: []string{n.pack}, Covered: []string{n.text}}}}, 2)
	s.n = 3
}
