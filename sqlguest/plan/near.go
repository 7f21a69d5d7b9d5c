package plan

import (
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/clock"
)

// along plans the way to a goal on a history.
func (m *maker) along(h *chain.History, t Target, g goal) (Plan, error) {
	on := m.o.Standing != nil
	switch {
	case on && m.strays(h):
		return Plan{}, &Unreachable{Target: t.String(), Why: whyStrays, hint: hintAnew}
	case on && m.passed(h, g):
		return Plan{}, &Unreachable{Target: t.String(), Why: whyPassed, hint: "it goes on to later moments alone; " + hintAnew}
	}
	s := newSearch(h, g)
	if w, ok := m.try(s); ok {
		return m.steps(h, t, g, w)
	}
	s.free, s.dead = true, map[spot]bool{}
	_, cut := m.try(s)
	u := &Unreachable{Target: t.String(), Why: "no full, differential and logs lead there"}
	switch {
	case cut && on:
		u.Why, u.hint = "the differential or copy-only backup that it stands on was made before SQL Server was started anew, and the next log after that: "+whyCut, hintAnew
	case cut:
		u.Why = "between the logs that lead there and the differential or copy-only backup that they would follow SQL Server was started anew: " + whyCut
	case s.bulk:
		u.Why = "it lies in a bulk-logged log backup, which restores to its end only"
	case on:
		u.Why, u.hint = "no logs lead there from where the database stands", hintAnew
	case !g.instant.IsZero() && m.begun(h, g):
		u.Why = whyTwice + "; choose an LSN, a mark or a point"
	case !g.stop.IsZero() && !slices.ContainsFunc(h.Backups, func(b chain.Backup) bool { return b.Kind == chain.Log }):
		u.Why = "there are no log backups of it, so that only the ends of its fulls and differentials can be restored"
	case g.lsn.IsZero() && !m.begun(h, g):
		u.Why = "it lies after the last log backup"
	}
	if !on {
		u.Before, u.After = m.neighbours(h, g)
	}
	return Plan{}, u
}

// try searches from where the database stands that is gone on with, else from any start.
func (m *maker) try(s *search) (way, bool) {
	if at := m.o.Standing; at != nil {
		return s.on(spot{at.Redo, at.Fork, m.tied()})
	}
	return s.find()
}

// hintAnew: a full begins before what logs have passed.
const hintAnew = "--replace instead of --continue begins anew, with the full; holdfast chain shows what can be restored"

// whyCut: see chain.Tie.
const whyCut = "nothing proves that its disk was not set back in between, and logs of another history would fit as well"

// whyPassed: SQL Server takes no stop past which it has gone already (error 4335).
const whyPassed = "the database that is to be gone on with has gone past it already"

// passed tells whether a database that is gone on with may hold what was written after
// the goal: it stands behind a backup that was begun later, or at the end of one that is
// not surely over by then. Of an LSN the LSN tells; what was begun where the log had
// ended already adds nothing.
func (m *maker) passed(h *chain.History, g goal) bool {
	redo := m.o.Standing.Redo
	if !g.lsn.IsZero() {
		return g.lsn.Less(redo)
	}
	here, over := false, false
	for i := range h.Backups {
		switch b := &h.Backups[i]; {
		case b.Last.Less(redo) && g.behind(b.Started):
			return true
		case b.Set != "" && b.Set == m.o.Standing.Set && redo.Less(b.Last): // it was stopped in it
			stop := m.o.Standing.Stop
			return g.instant.IsZero() && g.behind(stop) || slices.ContainsFunc(m.o.Marks[b.Point], func(k Mark) bool { return k.LSN.Less(redo) && g.behind(k.At) })
		case b.Last == redo:
			here, over = true, over || !g.behind(b.SurelyAfter())
		}
	}
	return here && !over
}

// begun tells whether any backup of the history was begun at or after the goal.
func (m *maker) begun(h *chain.History, g goal) bool {
	for i := range h.Backups {
		if b := &h.Backups[i]; g.behind(b.Started) || clock.Wall(b.Started).Equal(g.time) {
			return true
		}
	}
	return false
}

// neighbours are the reachable moments next to a goal.
func (m *maker) neighbours(h *chain.History, g goal) (before, after *chain.Moment) {
	r := m.reach(h)
	for i := range h.Backups {
		b := &h.Backups[i]
		if !r.Ends(b.Point) {
			continue
		}
		moment := &chain.Moment{Point: b.Point, LSN: b.Last, Time: b.SurelyAfter()}
		behind := g.lsn.Less(b.Last)
		if g.lsn.IsZero() {
			behind = g.behind(moment.Time)
			m.inside(h, b, g, &before)
		}
		switch {
		case !behind && (before == nil || before.LSN.Less(b.Last)):
			end := b.Ending()
			before = &end
		case behind && (after == nil || b.Last.Less(after.LSN)):
			after = moment
		}
	}
	for i := range slices.Backward(h.Backups) { // where it rested there, until when
		b := &h.Backups[i]
		end := b.Ending()
		if before != nil && b.Rests(before.LSN, "") && before.Time.Before(end.Time) && (!g.lsn.IsZero() || !g.behind(b.SurelyAfter())) && m.takes(h, b) {
			before = &end
		}
	}
	return before, after
}

// inside offers the last moment that a log surely covers, where its end lies behind
// the goal already and its start before it.
func (m *maker) inside(h *chain.History, b *chain.Backup, g goal, before **chain.Moment) {
	start := clock.Wall(b.Started)
	if b.Kind != chain.Log || !start.Before(g.time) || !clock.Wall(b.SurelyAfter()).After(g.time) {
		return
	}
	if m.takes(h, b) && (*before == nil || !b.Last.Less((*before).LSN)) {
		*before = &chain.Moment{Time: b.Started, LSN: b.First}
	}
}

// takes tells whether a log's start is a time that is reached, on that history.
func (m *maker) takes(h *chain.History, b *chain.Backup) bool {
	start := clock.Wall(b.Started)
	if s := m.clock.Read(b.Started, false); b.Kind != chain.Log || s.Several != nil || s.Hour != nil {
		return false
	}
	if list, jumped := m.lived(func(b *chain.Backup) bool { return !clock.Wall(b.Started).Before(start) }); m.o.Fork == "" && (jumped || !slices.Contains(list, h)) {
		return false
	}
	_, ok := newSearch(h, atTime(h, start)).find()
	return ok
}
