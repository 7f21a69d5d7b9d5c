package plan

import (
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/clock"
)

// whyTwice is why a moment in an hour that was shown twice is not reached.
const whyTwice = "the server's clock was changed about then, and a stop clause cannot tell its hours apart"

// readings are several meanings of a time.
func readings(times []time.Time) (list []Reading) {
	for _, t := range times {
		list = append(list, Reading{Time: t})
	}
	return list
}

// inHour is the state at an instant whose reading the server's clock showed twice. A
// stop clause has no offset, so it may stand only where no log shows the reading again:
//
//   - Shown for the first time: the log in which the instant lies must have ended before
//     the change. What comes before it shows nothing later than the reading.
//   - For the second time: what was written late in the hour's first time is rolled
//     forward then already, and SQL Server takes no earlier reading behind it (4335).
//     Only the ends of logs, marks and LSNs lie there.
func inHour(h *chain.History, s clock.Shown) goal {
	t := twice{h: h, hour: s.Hour, at: s.Instant}
	return goal{
		data: func(d *chain.Backup) bool { return !d.SurelyAfter().After(t.at) },
		log:  t.log,
		done: func(spot) bool { return false },
		stop: Stop{At: clock.Tick(s.Reading)}, time: s.Reading, instant: t.at,
	}
}

// twice is an instant in such an hour.
type twice struct {
	h    *chain.History
	hour *clock.Hour
	at   time.Time
}

func (t *twice) log(l *chain.Backup) verdict {
	switch {
	case !t.at.Before(t.hour.Second):
		return unfit
	case l.BulkLogged && l.SurelyAfter().After(t.at): // R9
		return unfit
	case l.Started.Before(t.at):
		return whole
	case !t.before(l):
		return unfit
	}
	return last
}

// before tells whether a log surely ended before the change. Its end is noted with the
// offset that its start had, so that it may have ended that much later than it says; but
// there is one log backup at a time.
func (t *twice) before(l *chain.Backup) bool {
	if !l.Started.Before(t.hour.To) {
		return false
	}
	later := l.SurelyAfter().Add(t.hour.Second.Sub(t.hour.First))
	if later.Before(t.hour.From) {
		return true
	}
	for i := range t.h.Backups {
		next := &t.h.Backups[i]
		if next.Kind == chain.Log && next.First == l.Last && l.Last.Less(next.Last) && next.Started.Before(later) {
			return true
		}
	}
	return false
}
