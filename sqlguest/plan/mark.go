package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/clock"
)

// isLSN tells whether SQL Server takes a mark's name for an LSN: a stop clause has one
// place for both.
func isLSN(name string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(name)), "lsn:")
}

// since is the earliest time that a mark may have.
type since struct {
	clock clock.Clock
	t     Target
}

// holds tells whether a mark was made then or later. SQL Server notes its time without an
// offset, so that of an instant it may be unknown.
func (s since) holds(at time.Time) (yes, sure bool) {
	switch {
	case s.t.After.IsZero():
		return true, true
	case s.t.Bare:
		return !clock.Wall(at).Before(clock.Wall(s.t.After)), true
	}
	first, last := s.clock.Instants(clock.Wall(at))
	return !last.Before(s.t.After), first.Before(s.t.After) == last.Before(s.t.After)
}

// markOf is the one transaction that is meant by a mark's name.
func (m *maker) markOf(t Target) (occurrence, error) {
	from := since{m.clock, t}
	if !t.After.IsZero() && t.Bare {
		if at := m.clock.Read(t.After, true); at.Several != nil {
			return occurrence{}, &Ambiguous{Target: t.String(), Readings: readings(at.Several), Why: "the server's clock showed the earliest time twice; give it with its offset"}
		}
	}
	found, h := m.marks(t, from)
	if h == nil {
		u := m.unmarked(t)
		for i := range m.backups {
			if b := &m.backups[i]; !b.Unlisted.IsZero() && b.State == chain.Confirmed {
				u.Why = fmt.Sprintf("%s; not all marks of log backup %s are kept: a time or an LSN reaches them", u.Why, b.Point)
				break
			}
		}
		return occurrence{}, u
	}
	why := ""
	if t.After.IsZero() && len(found) > 1 {
		why = "several transactions have that mark"
	} else if _, sure := from.holds(found[0].At); !sure {
		why = "the server's clock was changed about then, and nothing tells whether the first of them was made at that time or later; choose one by its LSN"
	} else if log := m.unlisted(h, found[0], from); log != nil {
		why = fmt.Sprintf("not all marks of log backup %s are kept, and another transaction in it may have that one; choose by LSN", log.Point)
	}
	if why == "" {
		return found[0], nil
	}
	a := &Ambiguous{Target: t.String(), Why: why}
	for _, f := range slices.Concat(found, m.elsewhere(t, from, found)) {
		a.Readings = append(a.Readings, Reading{Time: f.At, LSN: f.LSN, Fork: f.history.Fork})
	}
	return occurrence{}, a
}

// unmarked says that there is no such mark, or none as late as that.
func (m *maker) unmarked(t Target) *Unreachable {
	name := m.backups[len(m.backups)-1].Database
	u := &Unreachable{Target: t.String(), Why: "no log backup is known to hold that mark", hint: "holdfast sql marks " + name + " lists those that there are"}
	found, _ := m.marks(t, since{m.clock, Target{}})
	for i, f := range found {
		if i == 0 {
			u.Why, u.hint = "that mark was made, and not at --after or later:", "leave --after away, or give one of these times or one before it"
		} else {
			u.Why += " and"
		}
		u.Why += fmt.Sprintf(" %s at LSN %s", f.At.Format(milliseconds), f.LSN)
	}
	return u
}

// marks are the occurrences of a mark, one for each transaction, of the history that
// the database is on if it has any; by LSN.
func (m *maker) marks(t Target, from since) ([]occurrence, *chain.History) {
	for _, h := range m.chosen() {
		if list := m.marksOn(h, t, from); len(list) > 0 {
			return list, h
		}
	}
	return nil, nil
}

func (m *maker) marksOn(h *chain.History, t Target, from since) (list []occurrence) {
	for i := range h.Backups {
		b := &h.Backups[i]
		for _, k := range m.o.Marks[b.Point] {
			known := slices.ContainsFunc(list, func(o occurrence) bool { return o.LSN == k.LSN })
			if yes, _ := from.holds(k.At); b.Kind == chain.Log && strings.EqualFold(k.Name, t.Mark) && !known && yes {
				list = append(list, occurrence{k, b.Point, h})
			}
		}
	}
	slices.SortFunc(list, func(a, b occurrence) int { return a.LSN.Compare(b.LSN) })
	return list
}

// elsewhere are the transactions with that mark which are on other histories alone, by
// time.
func (m *maker) elsewhere(t Target, from since, found []occurrence) (list []occurrence) {
	for _, h := range m.chosen() {
		for _, f := range m.marksOn(h, t, from) {
			same := func(o occurrence) bool { return o.LSN == f.LSN && o.At.Equal(f.At) }
			if !slices.ContainsFunc(found, same) && !slices.ContainsFunc(list, same) {
				list = append(list, f)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b occurrence) int { return a.At.Compare(b.At) })
	return list
}

// passedOver warns of a transaction with that mark on another history, where it fits as
// well: with an earliest time the one that was made first.
func (m *maker) passedOver(p *Plan, t Target, f occurrence) {
	from := since{m.clock, t}
	for _, o := range m.elsewhere(t, from, m.marksOn(f.history, t, from)) {
		what := "another"
		if !t.After.IsZero() {
			what = "an earlier"
			if !o.At.Before(f.At) {
				return
			}
		}
		if _, err := m.throughMark(t, o); err == nil {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s transaction with that mark, at %s, is on another history: --fork %s takes it", what, o.At.Format(milliseconds), shortFork(o.history.Fork)))
			return
		}
	}
}

// shortFork is as much of a fork's GUID as chain shows.
func shortFork(fork string) string { return fork[:min(8, len(fork))] }

// twins are the same mark on other histories: name, LSN and time to the millisecond.
func (m *maker) twins(f occurrence) (list []occurrence) {
	for _, h := range m.chosen() {
		for i := range h.Backups {
			for _, k := range m.o.Marks[h.Backups[i].Point] {
				if h != f.history && k.Name == f.Name && k.LSN == f.LSN && k.At.Equal(f.At) {
					list = append(list, occurrence{k, h.Backups[i].Point, h})
				}
			}
		}
	}
	return list
}

// unlisted is a log in whose unknown marks another occurrence may be: any at all, or one
// between the earliest time and the first that is known.
func (m *maker) unlisted(h *chain.History, first occurrence, from since) *chain.Backup {
	for i := range h.Backups {
		b := &h.Backups[i]
		if b.Kind != chain.Log || b.State != chain.Confirmed || b.Unlisted.IsZero() || b.Empty() {
			continue
		}
		later, _ := from.holds(b.SurelyAfter())
		if from.t.After.IsZero() || later && b.Unlisted.Less(first.LSN) {
			return b
		}
	}
	return nil
}
