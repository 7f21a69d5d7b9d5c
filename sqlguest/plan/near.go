package plan

import (
	"slices"

	"holdfast/sqlguest/chain"
)

// along plans the way to a goal on a history.
func (m *maker) along(h *chain.History, t Target, g goal) (Plan, error) {
	s := newSearch(h, g)
	var w way
	var ok bool
	switch at := m.o.Standing; {
	case at == nil:
		w, ok = s.find()
	case g.lsn.IsZero() || at.Redo.Compare(g.lsn) <= 0:
		w, ok = s.on(spot{at.Redo, at.Fork})
	}
	if ok {
		return m.steps(h, t, g, w)
	}
	u := &Unreachable{Target: t.String(), Why: "no full, differential and logs lead there"}
	switch {
	case s.bulk:
		u.Why = "it lies in a bulk-logged log backup, which restores to its end only"
	case m.o.Standing != nil:
		u.Why = "no logs lead there from where the database stands"
	case g.lsn.IsZero() && !m.begun(h, g):
		u.Why = "it lies after the last log backup"
	}
	if m.o.Standing == nil {
		u.Before, u.After = m.neighbours(h, g)
	}
	return Plan{}, u
}

// begun tells whether any backup of the history was begun at or after the goal.
func (m *maker) begun(h *chain.History, g goal) bool {
	for i := range h.Backups {
		if !wall(h.Backups[i].Started).Before(g.time) {
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
			behind = wall(moment.Time).After(g.time)
			m.inside(h, b, g, &before)
		}
		switch {
		case !behind && (before == nil || before.LSN.Less(b.Last)):
			before = moment
		case behind && (after == nil || b.Last.Less(after.LSN)):
			after = moment
		}
	}
	return before, after
}

// inside offers the last moment that a log surely covers, where its end lies behind
// the goal already and its start before it.
func (m *maker) inside(h *chain.History, b *chain.Backup, g goal, before **chain.Moment) {
	start := wall(b.Started)
	if b.Kind != chain.Log || !start.Before(g.time) || !wall(b.SurelyAfter()).After(g.time) {
		return
	}
	if _, _, several := m.clock.read(b.Started, false); several != nil {
		return
	}
	if list, jumped := m.lived(start); m.o.Fork == "" && (jumped || !slices.Contains(list, h)) {
		return
	}
	if _, ok := newSearch(h, atTime(h, start)).find(); ok && (*before == nil || (*before).LSN.Less(b.Last)) {
		*before = &chain.Moment{Time: b.Started, LSN: b.First}
	}
}
