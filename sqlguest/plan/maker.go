package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/clock"
)

// maker makes plans of one database.
type maker struct {
	o         *Options
	backups   []chain.Backup
	histories []chain.History
	clock     clock.Clock
	family    string
	reached   map[*chain.History]*chain.Reach
}

// reach is what of a history can be restored.
func (m *maker) reach(h *chain.History) *chain.Reach {
	if m.reached[h] == nil {
		r := h.Reach(nil)
		m.reached[h] = &r
	}
	return m.reached[h]
}

func newMaker(backups []chain.Backup, o *Options) *maker {
	m := &maker{o: o, backups: backups, clock: clock.New(backups, o.Zone), reached: map[*chain.History]*chain.Reach{}}
	for _, b := range backups {
		if b.State == chain.Confirmed && b.Family != "" {
			m.family = b.Family
		}
	}
	m.histories = chain.Histories(backups, m.family)
	if o.Marks == nil {
		o.Marks = marksOf(backups)
	}
	return m
}

// marksOf are the marks that came with the backups' confirmations.
func marksOf(backups []chain.Backup) map[string][]Mark {
	marks := map[string][]Mark{}
	for i := range backups {
		b := &backups[i]
		for _, k := range b.Marks {
			marks[b.Point] = append(marks[b.Point], Mark{Name: k.Name, LSN: k.LSN, At: k.At})
		}
	}
	return marks
}

// plan finds the history that a target belongs to, and the way to it.
func (m *maker) plan(t Target) (Plan, error) {
	switch {
	case len(m.histories) == 0:
		return Plan{}, &Unreachable{Target: t.String(), Why: "no backup is confirmed"}
	case t.Point != "":
		return m.toPoint(t)
	case !t.LSN.IsZero():
		return m.toLSN(t)
	case t.Mark != "":
		return m.toMark(t)
	case !t.At.IsZero():
		return m.toTime(t)
	}
	return m.latest(t)
}

// shortestFork is how much of a fork's GUID is asked for, as of every id.
const shortestFork = 4

// nameFork completes Options.Fork.
func (m *maker) nameFork(t Target) error {
	text := strings.ToUpper(strings.Trim(m.o.Fork, "{}"))
	if text == "" || len(m.histories) == 0 {
		return nil
	}
	var found []string
	for i := range m.histories {
		switch fork := m.histories[i].Fork; {
		case fork == text:
			m.o.Fork = fork
			return nil
		case len(text) >= shortestFork && strings.HasPrefix(fork, text) && !slices.Contains(found, fork):
			found = append(found, fork)
		}
	}
	switch len(found) {
	case 0:
		return &Unreachable{Target: t.String(), Why: fmt.Sprintf("no backup is on fork %s, or more of its name is needed (%d characters at least)", m.o.Fork, shortestFork)}
	case 1:
		m.o.Fork = found[0]
		return nil
	}
	a := &Ambiguous{Target: t.String(), Why: fmt.Sprintf("several forks begin with %s", m.o.Fork)}
	for _, fork := range found {
		a.Readings = append(a.Readings, Reading{Fork: fork})
	}
	return a
}

// chosen are the histories that may be meant: all, or those of Options.Fork.
func (m *maker) chosen() []*chain.History {
	var list []*chain.History
	for i := range m.histories {
		if h := &m.histories[i]; m.o.Fork == "" || h.Fork == m.o.Fork {
			list = append(list, h)
		}
	}
	return list
}

// latest is the end of the newest backup, and nothing less: if that cannot be
// restored, what can be is another moment.
func (m *maker) latest(t Target) (Plan, error) {
	list := m.chosen()
	if len(list) == 0 {
		return Plan{}, &Unreachable{Target: t.String(), Why: "no backup is on fork " + m.o.Fork}
	}
	h := list[0]
	var first error
	for _, b := range h.Newest() {
		p, err := m.along(h, t, endOf(b))
		if err == nil {
			p.Again = m.o.Tail
			return p, nil
		}
		first = cmp.Or(first, err)
	}
	return Plan{}, first
}

func (m *maker) toPoint(t Target) (Plan, error) {
	var first error
	why := "there is no such point"
	for i := range m.backups {
		b := &m.backups[i]
		if b.Point != t.Point {
			continue
		}
		why = "SQL Server has not confirmed it, or it is of another database"
		// The states of a point lie on its own fork, whatever came of that later.
		for _, h := range m.holding(b) {
			p, err := m.along(h, t, endOf(b))
			if err == nil {
				return p, nil
			}
			first = cmp.Or(first, err)
		}
	}
	if first != nil {
		return Plan{}, first
	}
	return Plan{}, &Unreachable{Target: t.String(), Why: why}
}

// toLSN: on different histories the same LSN is another moment, so that all ways to
// it must be the same one.
func (m *maker) toLSN(t Target) (Plan, error) {
	var found []Plan
	var first error
	for _, h := range m.chosen() {
		p, err := m.along(h, t, throughLSN(h, t.LSN, t.Before, Stop{Mark: "lsn:" + t.LSN.String(), Before: t.Before}))
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		if !slices.ContainsFunc(found, func(f Plan) bool { return f.same(p) }) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		if first == nil {
			first = &Unreachable{Target: t.String(), Why: "no backup is on fork " + m.o.Fork}
		}
		return Plan{}, first
	case 1:
		return found[0], nil
	}
	a := &Ambiguous{Target: t.String(), Why: "the database was there on several histories"}
	for _, p := range found {
		a.Readings = append(a.Readings, Reading{LSN: t.LSN, Fork: p.Fork})
	}
	return Plan{}, a
}

// same tells whether two plans restore the same backups.
func (p Plan) same(o Plan) bool {
	return slices.EqualFunc(p.Steps, o.Steps, func(a, b Step) bool { return a.Do == b.Do && a.Point == b.Point })
}

// occurrence is a mark in a log.
type occurrence struct {
	Mark
	log     string
	history *chain.History
}

func (m *maker) toMark(t Target) (Plan, error) {
	f, err := m.markOf(t)
	if err != nil {
		return Plan{}, err
	}
	p, err := m.throughMark(t, f)
	if err == nil {
		m.passedOver(&p, t, f)
		return p, nil
	}
	// A log that stands by itself may hold the same transaction as the one that took its
	// place, and lead there where that cannot be stopped inside.
	for _, o := range m.twins(f) {
		if p, err := m.throughMark(t, o); err == nil {
			return p, nil
		}
	}
	return p, err
}

// throughMark is the way to an occurrence on its history.
func (m *maker) throughMark(t Target, f occurrence) (Plan, error) {
	exact := Stop{Mark: "lsn:" + f.LSN.String(), Before: t.Before}
	if isLSN(f.Name) {
		p, err := m.along(f.history, t, throughLSN(f.history, f.LSN, t.Before, exact))
		p.At = f.At
		return p, err
	}
	p, err := m.along(f.history, t, throughLSN(f.history, f.LSN, t.Before, Stop{Mark: f.Name, Before: t.Before, After: clock.Tick(clock.Wall(f.At)), Until: m.until(t, f)}))
	if err == nil && !m.meets(p, f) {
		// Another transaction with this name comes first by the clause: the LSN is exact.
		p, err = m.along(f.history, t, throughLSN(f.history, f.LSN, t.Before, exact))
	}
	p.At = f.At
	return p, err
}

// until is Stop.Until of an occurrence.
func (m *maker) until(t Target, f occurrence) (until lsn.LSN) {
	if t.Before {
		return f.LSN
	}
	for i := range f.history.Backups {
		for _, k := range m.o.Marks[f.history.Backups[i].Point] {
			if strings.EqualFold(k.Name, f.Name) && f.LSN.Less(k.LSN) && (until.IsZero() || k.LSN.Less(until)) {
				until = k.LSN
			}
		}
	}
	return until
}

// meets tells whether the clause of a plan stops at that occurrence: none of the same
// name that the clause lets pass lies between the data backups and it.
func (m *maker) meets(p Plan, f occurrence) bool {
	var from lsn.LSN
	for _, s := range p.Steps {
		if s.Do == DoLog {
			from = s.Before
			break
		}
	}
	for _, marks := range m.o.Marks {
		for _, k := range marks {
			if strings.EqualFold(k.Name, f.Name) && k.LSN.Less(f.LSN) && !k.LSN.Less(from) && !clock.Wall(k.At).Before(p.Stop.After) {
				return false
			}
		}
	}
	return true
}

func (m *maker) toTime(t Target) (Plan, error) {
	at := m.clock.Read(t.At, t.Bare)
	if at.Several != nil {
		return Plan{}, &Ambiguous{Target: t.String(), Readings: readings(at.Several),
			Why: whyTwice + "; it may be"}
	}
	begun := func(b *chain.Backup) bool { return !clock.Wall(b.Started).Before(at.Reading) }
	to := func(h *chain.History) goal { return atTime(h, at.Reading) }
	if at.Hour != nil {
		begun = func(b *chain.Backup) bool { return !b.Started.Before(at.Instant) }
		to = func(h *chain.History) goal { return inHour(h, at) }
	}
	list, jumped := m.lived(begun)
	if m.o.Fork != "" {
		list = slices.DeleteFunc(list, func(h *chain.History) bool { return h.Fork != m.o.Fork })
		if len(list) == 0 { // it did not live there then, and is asked for all the same
			list, jumped = m.chosen(), false
		}
	}
	if len(list) == 0 {
		return Plan{}, m.nowhere(t)
	}
	if jumped {
		u := &Unreachable{Target: t.String(), Why: "the database was restored or set back about then, and no backup tells what it held between the last backup before that and the first one after it"}
		u.Before, u.After = m.around(at.Reading)
		return Plan{}, u
	}
	var p Plan
	var first error
	for _, h := range list {
		var err error
		if p, err = m.along(h, t, to(h)); err == nil {
			first = nil
			break
		}
		first = cmp.Or(first, err)
	}
	p.At = at.Instant
	if m.clock.Guess {
		p.Warnings = append(p.Warnings, "a backup does not say its offset from UTC; the server's present one was assumed")
	}
	if at.Skipped {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the server's clock never showed %s: it was set forward over it, at %s", at.Reading.Format("15:04:05"), at.Instant.Format(time.RFC3339)))
	}
	return p, first
}

// nowhere says why a time belongs to no history.
func (m *maker) nowhere(t Target) *Unreachable {
	if m.o.Fork != "" {
		return &Unreachable{Target: t.String(), Why: "no backup is on fork " + m.o.Fork}
	}
	return &Unreachable{Target: t.String(), Why: "the database was set back since, and the backup that saw it is not there: what was backed up then lies on no history that is known"}
}

// lived are the histories that a moment belongs to: those of the first backup that was
// begun at or after it, by the server's clock, for all of them are one until then.
// If there is none, it is the newest. Jumped tells that the database changed over from
// another history between that backup and the one before it, so that nobody knows
// which it was on.
func (m *maker) lived(begun func(b *chain.Backup) bool) (list []*chain.History, jumped bool) {
	var previous *chain.Backup
	reverted := false // seen since then, if only by a backup that SQL Server gave up
	var gone chain.Gone
	for i := range m.backups {
		b := &m.backups[i]
		reverted = b.Family == m.family && len(gone.News(b)) > 0 || reverted
		if b.State != chain.Confirmed || b.Family != m.family || b.Fork == "" {
			continue
		}
		if begun(b) {
			// Who names the fork knows of the restore.
			return m.holding(b), previous != nil && (previous.Fork != b.Fork && m.o.Fork == "" || reverted)
		}
		previous, reverted = b, b.By == chain.ByItself // the next one may be of another history
	}
	return []*chain.History{&m.histories[0]}, false
}

// holding are the histories that hold a backup, those that end on its fork first.
func (m *maker) holding(b *chain.Backup) []*chain.History {
	var own, others []*chain.History
	for i := range m.histories {
		switch h := &m.histories[i]; {
		case !h.Holds(b.Point):
		case h.Fork == b.Fork:
			own = append(own, h)
		default:
			others = append(others, h)
		}
	}
	return append(own, others...)
}

// around are the last reachable end of a backup that was made before a reading, and
// the first that was made after it, whatever their histories.
func (m *maker) around(reading time.Time) (before, after *chain.Moment) {
	for i := range m.backups {
		b := &m.backups[i]
		if !slices.ContainsFunc(m.holding(b), func(h *chain.History) bool { return m.reach(h).Ends(b.Point) }) {
			continue
		}
		moment := &chain.Moment{Point: b.Point, LSN: b.Last, Time: b.SurelyAfter()}
		switch {
		case !clock.Wall(moment.Time).After(reading):
			end := b.Ending()
			before = &end
		case after == nil:
			after = moment
		}
	}
	return before, after
}
