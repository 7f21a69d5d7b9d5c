package plan

import (
	"math"
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/clock"
)

// verdict is what a log is to a goal.
type verdict uint8

const (
	unfit verdict = iota // it leads beyond the goal, or cannot be stopped inside
	whole                // it lies before the goal
	last                 // the goal lies in it
)

// goal is a moment as the search sees it.
type goal struct {
	// data tells whether the state at the end of a data backup is not behind the goal.
	data func(b *chain.Backup) bool
	// log judges a log that the database takes.
	log func(b *chain.Backup) verdict
	// done tells whether a database that stands there is at the goal.
	done func(at spot) bool
	stop Stop
	// lsn is where the goal lies, if that is known; time else.
	lsn  lsn.LSN
	time time.Time // by the server's clock
	// instant is the time where its reading was shown twice.
	instant time.Time
}

// behind tells whether a time of a backup lies behind a goal by time.
func (g *goal) behind(t time.Time) bool {
	if !g.instant.IsZero() {
		return t.After(g.instant)
	}
	return clock.Wall(t).After(g.time)
}

// endOf is the state at the end of a backup.
func endOf(b *chain.Backup) goal {
	return goal{
		data: func(d *chain.Backup) bool {
			return d.Last.Compare(b.Last) <= 0 && (b.Kind == chain.Log || d.Point == b.Point)
		},
		log: func(l *chain.Backup) verdict {
			if b.Kind == chain.Log && l.Last.Compare(b.Last) <= 0 {
				return whole
			}
			return unfit
		},
		done: func(at spot) bool { return at.redo == b.Last && at.on(b) && at.tie.Holds(b) },
		lsn:  b.Last,
	}
}

// throughLSN is the state after the record with that LSN, or before it.
func throughLSN(h *chain.History, target lsn.LSN, before bool, stop Stop) goal {
	return goal{
		data: func(d *chain.Backup) bool { return d.Last.Compare(target) <= 0 },
		log: func(l *chain.Backup) verdict {
			switch {
			case l.Last.Compare(target) <= 0:
				return whole
			case l.BulkLogged: // R9
				return unfit
			}
			return last
		},
		done: func(at spot) bool { return before && at.redo == target && !at.tie.Bound && at.lies(h) },
		stop: stop, lsn: target,
	}
}

// atTime is the state before the first record, in the order of the log, that was
// written after a reading of the server's clock.
func atTime(h *chain.History, reading time.Time) goal {
	reading = clock.Tick(reading)
	// Once the clock had passed the reading it was too late, even if it was set back
	// afterwards.
	passed := math.MaxInt
	for i := range h.Backups {
		if b := &h.Backups[i]; clock.Wall(b.Started).After(reading) {
			passed = min(passed, h.Made[b.Point])
		}
	}
	surelyBefore := func(b *chain.Backup) bool { return !clock.Wall(b.SurelyAfter()).After(reading) }
	return goal{
		data: func(d *chain.Backup) bool { return surelyBefore(d) && h.Made[d.Point] < passed },
		log: func(l *chain.Backup) verdict {
			switch {
			case l.BulkLogged && !surelyBefore(l): // R9
				return unfit
			case !clock.Wall(l.Started).Before(reading):
				return last
			}
			return whole
		},
		done: idle(h, reading),
		stop: Stop{At: reading}, time: reading,
	}
}

// idle finds where nothing was written until a reading of the clock: a log that was begun
// at it or later ends there. Empty ones do where a database rests.
func idle(h *chain.History, reading time.Time) func(at spot) bool {
	ends := map[lsn.LSN][]*chain.Backup{}
	for i := range h.Backups {
		if b := &h.Backups[i]; b.Kind == chain.Log && !clock.Wall(b.Started).Before(reading) {
			ends[b.Last] = append(ends[b.Last], b)
		}
	}
	return func(at spot) bool {
		return slices.ContainsFunc(ends[at.redo], func(b *chain.Backup) bool { return at.tie.Holds(b) && b.Rests(at.redo, at.fork) })
	}
}

// spot is where a restoring database stands.
type spot struct {
	redo lsn.LSN
	fork string
	tie  chain.Tie
}

// after is where a database stands that was brought to a backup's end.
func after(b *chain.Backup) spot { return spot{b.Last, b.Fork, b.Tie()} }

// on tells whether a database at a backup's last LSN stands on the backup's own fork.
// Where nobody says the fork, it may.
func (at spot) on(b *chain.Backup) bool {
	return at.fork == "" || at.fork == b.Fork || at.fork == b.FirstFork && b.ForkPoint == b.Last
}

// lies tells whether the spot is one of the history's: a backup ends there, or a log leads
// through it. Another fork has the same LSNs.
func (at spot) lies(h *chain.History) bool {
	return slices.ContainsFunc(h.Backups, func(b chain.Backup) bool {
		return b.Last == at.redo && at.on(&b) || b.Takes(at.redo, at.fork)
	})
}

// search looks for a way to a goal along a history.
type search struct {
	h    *chain.History
	g    goal
	logs []*chain.Backup // usable ones, by last LSN
	// low[i] is the earliest first LSN of logs[i:]: where to stop looking.
	low  []lsn.LSN
	dead map[spot]bool // from where no way leads on
	bulk bool          // a bulk-logged log was in the way
	free bool          // logs may be of any run of SQL Server (chain.Tie)
}

func newSearch(h *chain.History, g goal) *search {
	s := &search{h: h, g: g, dead: map[spot]bool{}}
	for i := range h.Backups {
		if b := &h.Backups[i]; b.Kind == chain.Log && b.Usable() && !b.Empty() {
			s.logs = append(s.logs, b)
		}
	}
	s.low = make([]lsn.LSN, len(s.logs)+1)
	s.low[len(s.logs)] = lsn.Max
	for i := len(s.logs) - 1; i >= 0; i-- {
		s.low[i] = s.logs[i].First
		if s.low[i+1].Less(s.low[i]) {
			s.low[i] = s.low[i+1]
		}
	}
	return s
}

// way is the backups to restore, in order.
type way []*chain.Backup

// find tries the starts that come nearest to the goal first: so an older
// differential, the full alone or an older full is taken only where it must be.
func (s *search) find() (way, bool) {
	var starts []*chain.Backup
	for i := range s.h.Backups {
		if b := &s.h.Backups[i]; b.Kind != chain.Log && s.h.Starts(b) && s.g.data(b) {
			starts = append(starts, b)
		}
	}
	slices.SortStableFunc(starts, func(a, b *chain.Backup) int { return b.Last.Compare(a.Last) })
	for _, b := range starts {
		logs, ok := s.on(after(b))
		if !ok {
			continue
		}
		if b.Kind == chain.Diff {
			return append(way{s.h.Base(b), b}, logs...), true
		}
		return append(way{b}, logs...), true
	}
	return nil, false
}

// on goes on with logs from a spot.
func (s *search) on(at spot) (way, bool) {
	if s.free {
		at.tie.Run = ""
	}
	if s.g.done(at) {
		return nil, true
	}
	if s.dead[at] {
		return nil, false
	}
	s.dead[at] = true
	for _, l := range s.takers(at) {
		switch s.g.log(l) {
		case last:
			return way{l}, true
		case whole:
			if rest, ok := s.on(after(l)); ok {
				return append(way{l}, rest...), true
			}
		case unfit:
			s.bulk = s.bulk || l.BulkLogged
		}
	}
	return nil, false
}

// takers are the logs that a database at that spot takes: links of the chain first,
// then those that reach further.
func (s *search) takers(at spot) []*chain.Backup {
	i, _ := slices.BinarySearchFunc(s.logs, at.redo, func(l *chain.Backup, redo lsn.LSN) int {
		if redo.Less(l.Last) {
			return 1
		}
		return -1
	})
	var list []*chain.Backup
	for ; i < len(s.logs) && s.low[i].Compare(at.redo) <= 0; i++ {
		if s.logs[i].Takes(at.redo, at.fork) && at.tie.Holds(s.logs[i]) {
			list = append(list, s.logs[i])
		}
	}
	slices.SortStableFunc(list, func(a, b *chain.Backup) int {
		if a.CopyOnly != b.CopyOnly {
			return map[bool]int{true: 1, false: -1}[a.CopyOnly]
		}
		return b.Last.Compare(a.Last)
	})
	return list
}
