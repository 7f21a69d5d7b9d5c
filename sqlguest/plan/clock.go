package plan

import (
	"time"

	"holdfast/sqlguest/chain"
)

// wall is the reading of the clock that showed t, kept as if it were UTC: readings
// compare with each other and with nothing else.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// at is the instant of a reading with an offset.
func at(reading time.Time, o time.Duration) time.Time {
	return reading.Add(-o).In(time.FixedZone("", int(o/time.Second)))
}

// tick rounds a reading down to what datetime can hold, 1/300 s, shown with 3, 7 or
// 0 as its last digit. Rounding up, as SQL Server does, could let a commit in.
func tick(t time.Time) time.Time {
	ms := t.Nanosecond() / int(time.Millisecond)
	last := map[bool]int{true: 0, false: 3}[ms%10 < 3]
	if ms%10 >= 7 {
		last = 7
	}
	return t.Truncate(time.Second).Add(time.Duration(ms-ms%10+last) * time.Millisecond)
}

// clock is what the backups tell of the server's clock.
type clock struct {
	zone  *time.Location
	seen  []time.Time // starts and ends of backups, with offsets, as they were made
	guess bool        // an offset was assumed
}

func newClock(backups []chain.Backup, zone *time.Location) clock {
	c := clock{zone: zone}
	for i := range backups {
		b := &backups[i]
		if b.State != chain.Confirmed || b.Started.IsZero() {
			continue
		}
		c.seen = append(c.seen, b.Started, b.Finished)
		c.guess = c.guess || b.ZoneAssumed
	}
	return c
}

// read finds the server's reading at a target, and the instant with its offset. The
// readings are given if there are several.
func (c clock) read(t time.Time, isBare bool) (reading, instant time.Time, several []Reading) {
	if isBare {
		reading = wall(t)
		instant, several = c.instant(reading)
		return reading, instant, several
	}
	instants := c.shown(t)
	if len(instants) > 1 {
		return reading, t, []Reading{{Time: instants[0]}, {Time: instants[1]}}
	}
	instant = instants[0]
	if _, several = c.instant(wall(instant)); several != nil {
		return reading, instant, several
	}
	return wall(instant), instant, nil
}

// shown is an instant with the offset that the server had; two if its clock was
// changed between the backups around it.
func (c clock) shown(t time.Time) []time.Time {
	if c.zone != nil {
		return []time.Time{t.In(c.zone)}
	}
	var before, after time.Time
	for _, s := range c.seen {
		if !s.After(t) && !s.Before(before) {
			before = s
		}
		if s.After(t) && (after.IsZero() || s.Before(after)) {
			after = s
		}
	}
	switch {
	case before.IsZero() && after.IsZero():
		return []time.Time{t}
	case before.IsZero():
		before = after
	case after.IsZero():
		after = before
	}
	out := []time.Time{at(t.UTC(), 0).In(before.Location())}
	if offset(before) != offset(after) {
		out = append(out, t.In(after.Location()))
	}
	return out
}

// instant is when the clock showed a reading. Where clocks were set back within
// reach of it, it may have been shown twice.
func (c clock) instant(reading time.Time) (time.Time, []Reading) {
	best := reading
	for i, s := range c.seen {
		if i == 0 || !reading.Before(wall(s)) {
			best = at(reading, offset(s))
		}
	}
	if c.zone != nil {
		best = time.Date(reading.Year(), reading.Month(), reading.Day(), reading.Hour(), reading.Minute(), reading.Second(), reading.Nanosecond(), c.zone)
	}
	for i := 1; i < len(c.seen); i++ {
		from, to := c.seen[i-1], c.seen[i]
		first, second := at(reading, offset(from)), at(reading, offset(to))
		// Set back at some instant between from and to: what was shown before it with
		// the old offset was shown again behind it.
		if offset(to) < offset(from) && !second.Before(from) && first.Before(to) && c.valid(first) && c.valid(second) {
			return first, []Reading{{Time: first}, {Time: second}}
		}
	}
	return best, nil
}

// valid tells whether the zone, if it is known, has that offset then.
func (c clock) valid(t time.Time) bool {
	return c.zone == nil || offset(t.In(c.zone)) == offset(t)
}
