package trial

import (
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
)

// heldAt is what the database held when its server's clock showed a reading: several
// states if it showed it several times, none if the database was not there yet. Where it
// never showed it, it is what was held before it first showed more.
func (w *world) heldAt(t time.Time) (list []rows) {
	var before *moment
	for i := range w.life {
		m := &w.life[i]
		if m.from.After(t) {
			break
		}
		before = m
	}
	shown := false
	for i := range w.life {
		m := &w.life[i]
		if m.from.After(t) || !m.until.IsZero() && !t.Before(m.until) {
			continue
		}
		shown = true
		list = append(list, w.seen(m)...)
	}
	if before != nil && (!shown || w.jumped) {
		list = append(list, w.seen(before)...)
	}
	return append(list, w.skipped(t)...)
}

// skipped is what the database held whenever the clock was set forward over a reading: what
// it held before the first record, in the order of the log, that was written later, if
// nothing tells that the clock had shown the reading before it was set back.
func (w *world) skipped(t time.Time) (list []rows) {
	for i := 1; i < len(w.life) && w.jumped; i++ {
		m := &w.life[i-1]
		if !m.until.IsZero() && !t.Before(m.until) && w.life[i].from.After(t) {
			list = append(list, w.seen(m)...)
		}
	}
	return list
}

// seen is what the database held, and what it was set back to if nothing tells of that.
func (w *world) seen(m *moment) []rows {
	if m.lost == nil || slices.ContainsFunc(m.lost.taken, func(k *kept) bool { return w.tells(m.lost, k) }) {
		return []rows{m.rows}
	}
	return []rows{m.rows, m.lost.rows}
}

// tells: the backup holds something of the world that was lost, or a later one saw it
// abandoned. Of an empty log, after which the machine was set back to where it ended,
// only msdb could tell, and who takes the tail of a log does not ask it.
func (w *world) tells(lost *lostWorld, k *kept) bool {
	return k.State == chain.Confirmed && !k.lost &&
		(lost.end.Less(k.Last) && !(lost.disk && k.Traceless()) || slices.ContainsFunc(w.here(), func(by *kept) bool { return slices.Contains(by.Abandons, k.Set) }))
}

// heldAtInstant is the same for an instant of the server's clock, which it shows once
// unless it is set back by hand.
func (w *world) heldAtInstant(t time.Time) (list []rows) {
	if w.jumped {
		list = w.heldAt(wall(t.In(w.zone)))
	}
	var before *moment
	for i := range w.life {
		m := &w.life[i]
		if m.begun.After(t) && !(i > 0 && m.begun.Before(w.life[i-1].begun)) {
			break
		}
		if !m.begun.After(t) {
			before = m
		}
	}
	if before != nil {
		list = append(list, w.seen(before)...)
	}
	return list
}

// The search that knows the truth: whole paths of forks, which headers do not tell.

func usable(k *kept) bool { return k.State == chain.Confirmed && !k.lost && (k.made || k.traceless()) }

// path is the way of a database through the lines of its life: a new line begins with
// each recovery, and with each revert, which no header tells.
type path []segment

// segment is the stretch of one line, from an LSN on.
type segment struct {
	line int
	from lsn.LSN
}

func (p path) now() int {
	if len(p) == 0 {
		return 0
	}
	return p[len(p)-1].line
}

// at is the line of the record with that LSN, before the one of the record before it.
func (p path) at(at lsn.LSN) (line int) {
	for _, s := range p {
		if s.from.Compare(at) <= 0 {
			line = s.line
		}
	}
	return line
}

func (p path) before(at lsn.LSN) (line int) {
	for _, s := range p {
		if s.from.Less(at) {
			line = s.line
		}
	}
	return line
}

// leaves begins a new line that leaves another way at an LSN.
func (w *world) leaves(from path, at lsn.LSN) {
	w.lines++
	var next path
	for _, s := range from {
		if s.from.Less(at) {
			next = append(next, s)
		}
	}
	w.path = append(next, segment{w.lines, at})
}

// lastOf is the last backup that a plan restores.
func (w *world) lastOf(p plan.Plan) *kept {
	for _, s := range slices.Backward(p.Steps) {
		if s.Point != "" {
			return w.point(s.Point)
		}
	}
	w.fatalf("%s: the plan restores nothing", p.Target)
	return nil
}

// truths are the backups whose ends can be reached: found by trying, from the
// beginning, which log a database at the end of which backup takes.
func (w *world) truths() map[*kept]bool {
	reached := map[*kept]bool{}
	for again := true; again; {
		again = false
		for _, k := range w.taken {
			if !reached[k] && usable(k) && w.truth(k, reached) {
				reached[k], again = true, true
			}
		}
	}
	for _, k := range w.taken { // an empty log ends where something else did
		if usable(k) && k.Kind == chain.Log && k.First == k.Last {
			for _, o := range w.taken {
				if reached[o] && o.Last == k.Last && o.path.now() == k.path.now() {
					reached[k] = true
				}
			}
		}
	}
	return reached
}

func (w *world) truth(k *kept, reached map[*kept]bool) bool {
	switch k.Kind {
	case chain.Full:
		return true
	case chain.Diff:
		return slices.ContainsFunc(w.taken, func(f *kept) bool { return usable(f) && f.Set == k.Base })
	}
	return slices.ContainsFunc(w.taken, func(o *kept) bool { return reached[o] && w.takes(k, o) })
}

// takes tells whether the log goes on from the end of another backup. A revert makes
// two worlds of the same LSNs; what was abandoned never leads to what came later, and
// rather too much is taken for abandoned than too little (decide): each log of which
// nobody can tell whether the database went on from it.
func (w *world) takes(l, o *kept) bool {
	if l.Kind != chain.Log || o.Empty() || o.By == chain.ByItself || o.Last.Less(l.First) || !o.Last.Less(l.Last) || w.behind(l, o) || w.behind(o, l) {
		return false
	}
	return l.through(o) && !w.withheld(l, o) && o.Tie().Holds(&l.Backup)
}

// through tells whether the way to a log leads through the end of a backup.
func (k *kept) through(o *kept) bool {
	line := o.path.now()
	return k.path.before(o.Last) == line || k.path.at(o.Last) == line
}

// withheld tells whether nobody who sees headers alone can know that the log goes on
// from that backup: LSNs were given out twice on the fork that the log has left, by a
// revert; or another fork leaves it between the log's beginning and the backup.
func (w *world) withheld(l, o *kept) bool {
	if l.FirstFork == l.Fork || o.Fork == l.Fork {
		return false
	}
	if o.Fork != l.FirstFork {
		return true // of the forks between its first and its last one a log's header tells nothing
	}
	for _, k := range w.taken {
		if k.gone && k.Fork == o.Fork && !k.Last.Less(l.First) && w.behind(o, k) {
			return true
		}
		if k.FirstFork == o.Fork && k.Fork != l.Fork && k.Fork != o.Fork && !k.ForkPoint.Less(l.First) && k.ForkPoint.Less(o.Last) {
			return true
		}
	}
	return false
}

// behind tells whether l was made after the full that abandons o.
func (w *world) behind(l, o *kept) bool {
	for _, k := range w.taken {
		if slices.Contains(k.Abandons, o.Set) {
			return true
		}
		if k == l {
			return false
		}
	}
	return false
}

// truthAt finds a log that was begun at or after a time, by the same life of the
// database, and that can be reached from a backup that surely ended before it.
func (w *world) truthAt(target time.Time) string {
	second := target.Truncate(time.Second)
	var first, previous *kept
	reverted := false
	var gone chain.Gone
	for _, k := range w.here() {
		reverted = len(gone.News(&k.Backup)) > 0 || reverted
		if k.State != chain.Confirmed {
			continue
		}
		if !wall(k.Started).Before(target) {
			first = k
			break
		}
		previous, reverted = k, false
	}
	if first == nil || previous == nil || previous.Fork != first.Fork || reverted {
		return "" // nobody knows on which history the database was
	}
	reached := w.truths()
	for _, l := range w.taken {
		if l.Kind != chain.Log || !usable(l) || wall(l.Started).Before(target) || l.BulkLogged || w.behind(l, first) {
			continue
		}
		if l.Last.Less(first.Last) || !l.through(first) {
			continue
		}
		for _, o := range w.taken {
			ended := wall(o.Finished).Add(time.Second)
			if reached[o] && w.takes(l, o) && !ended.After(second) && !w.behind(first, o) {
				return o.Point + " and " + l.Point
			}
		}
	}
	return ""
}

// truthThrough finds a log that holds a record and can be reached from a backup that
// ends before it.
func (w *world) truthThrough(at lsn.LSN, line int) string {
	reached := w.truths()
	for _, l := range w.taken {
		if l.Kind != chain.Log || !usable(l) || l.BulkLogged || at.Less(l.First) || !at.Less(l.Last) || l.path.at(at) != line {
			continue
		}
		for _, o := range w.taken {
			if reached[o] && o.Last.Compare(at) <= 0 && w.takes(l, o) {
				return o.Point + " and " + l.Point
			}
		}
	}
	return ""
}
