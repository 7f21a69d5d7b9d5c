// Package clock reads a server's clock from what its backups say of it: their starts and
// ends, each with the offset that the server had then, and the name of its time zone
// where SQL Server tells that.
//
// A clock that is set forward never shows an hour, and one that is set back shows an hour
// twice. Where the zone is known its rules tell which; where only offsets are, anything
// between two backups of different offsets is open.
package clock

import (
	"cmp"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/zones"
)

// Wall is the reading of the clock that showed t, kept as if it were UTC: readings
// compare with each other and with nothing else.
func Wall(t time.Time) time.Time {
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

// Tick rounds a reading down to what datetime can hold, 1/300 s, shown with 3, 7 or
// 0 as its last digit. Rounding up, as SQL Server does, could let a commit in.
func Tick(t time.Time) time.Time {
	ms := t.Nanosecond() / int(time.Millisecond)
	last := map[bool]int{true: 0, false: 3}[ms%10 < 3]
	if ms%10 >= 7 {
		last = 7
	}
	return t.Truncate(time.Second).Add(time.Duration(ms-ms%10+last) * time.Millisecond)
}

// Clock is what the backups tell of the server's clock.
type Clock struct {
	zone *time.Location // said by somebody who knows
	seen []sight        // starts and ends of backups, as they were made
	// Guess: a backup does not say its offset, the server's of now stands for it.
	Guess bool
}

// sight is a time of a backup, with the offset that the server had then.
type sight struct {
	time.Time
	zone *time.Location // the zone that the point keeps; nil: only the offset is known
}

// Hour is a stretch of readings that the clock showed twice, about one of them: when it
// was set back lies between two sights.
type Hour struct {
	From, To      time.Time // the last sight before, and the first one behind
	First, Second time.Time // when the reading was shown
}

// Shown is a moment by the server's clock.
type Shown struct {
	Reading time.Time   // as Wall has it
	Instant time.Time   // with the server's offset
	Several []time.Time // it means several instants, and nothing here tells which
	Hour    *Hour       // the reading was shown twice
	Skipped bool        // the clock never showed the reading; instant is when it was set forward
}

// New reads the clock from backups in the order of their making. Zone is the server's
// time zone where somebody knows it better than they do; nil else.
func New(backups []chain.Backup, zone *time.Location) Clock {
	c := Clock{zone: zone}
	named := map[string]*time.Location{}
	for i := range backups {
		b := &backups[i]
		if b.State != chain.Confirmed || b.Started.IsZero() {
			continue
		}
		z, known := named[b.Zone]
		if !known {
			z = zones.Find(b.Zone)
			named[b.Zone] = z
		}
		c.seen = append(c.seen, sight{b.Started, z}, sight{b.Finished, z})
		c.Guess = c.Guess || b.ZoneAssumed
	}
	return c
}

// zoneOf is the zone whose rules held between two sights; nil if it is not known, or if
// its rules are not those that the server went by.
func (c Clock) zoneOf(from, to sight) *time.Location {
	if c.zone != nil {
		return c.zone
	}
	z := cmp.Or(from.zone, to.zone)
	if z == nil || to.zone != nil && from.zone != nil && to.zone != from.zone && to.zone.String() != from.zone.String() {
		return nil
	}
	if offset(from.In(z)) != offset(from.Time) || offset(to.In(z)) != offset(to.Time) {
		return nil
	}
	return z
}

// Read finds the server's reading at a time, and the instant with its offset. A bare
// time is a reading, whatever its location says; any other one an instant.
func (c Clock) Read(t time.Time, isBare bool) Shown {
	if isBare {
		s := c.instant(Wall(t))
		if s.Hour != nil {
			s.Several = []time.Time{s.Hour.First, s.Hour.Second}
		}
		return s
	}
	instants := c.shown(t)
	if len(instants) > 1 {
		return Shown{Instant: t, Several: instants}
	}
	s := c.instant(Wall(instants[0]))
	s.Instant, s.Skipped = instants[0], false
	return s
}

// shown is an instant with the offset that the server had; two if its clock was
// changed between the backups around it, and nobody knows when.
func (c Clock) shown(t time.Time) []time.Time {
	var before, after sight
	for _, s := range c.seen {
		if !s.After(t) && !s.Before(before.Time) {
			before = s
		}
		if s.After(t) && (after.IsZero() || s.Before(after.Time)) {
			after = s
		}
	}
	switch {
	case before.IsZero() && after.IsZero():
		if c.zone != nil {
			return []time.Time{t.In(c.zone)}
		}
		return []time.Time{t}
	case before.IsZero():
		before = after
	case after.IsZero():
		after = before
	}
	if z := c.zoneOf(before, after); z != nil {
		return []time.Time{t.In(z)}
	}
	out := []time.Time{t.In(before.Location())}
	if offset(before.Time) != offset(after.Time) {
		out = append(out, t.In(after.Location()))
	}
	return out
}

// instant is when the clock showed a reading. Where clocks were set back within
// reach of it, it may have been shown twice; instant is the first time then.
func (c Clock) instant(reading time.Time) Shown {
	for i := 1; i < len(c.seen); i++ {
		from, to := c.seen[i-1], c.seen[i]
		first, second := at(reading, offset(from.Time)), at(reading, offset(to.Time))
		z := c.zoneOf(from, to)
		// Set back at some instant between from and to: what was shown before it with
		// the old offset was shown again behind it.
		if offset(to.Time) < offset(from.Time) && !second.Before(from.Time) && first.Before(to.Time) && valid(z, first) && valid(z, second) {
			return Shown{Reading: reading, Instant: first, Hour: &Hour{from.Time, to.Time, first, second}}
		}
	}
	s := Shown{Reading: reading, Instant: reading}
	z := c.zone
	for i := range c.seen {
		if i == 0 || !reading.Before(Wall(c.seen[i].Time)) {
			s.Instant = at(reading, offset(c.seen[i].Time))
			z = c.zoneOf(c.seen[i], c.seen[min(i+1, len(c.seen)-1)])
		}
	}
	// What the sight before it says is right if the zone has that offset then; of the hour
	// that is shown twice the zone alone cannot tell which it was.
	if z != nil && (len(c.seen) == 0 || !valid(z, s.Instant)) {
		s.Instant, s.Skipped = inZone(reading, z)
	}
	return s
}

// Instants are the first and the last time at which the clock may have shown a reading.
func (c Clock) Instants(reading time.Time) (first, last time.Time) {
	s := c.instant(reading)
	if s.Hour != nil {
		return s.Hour.First, s.Hour.Second
	}
	for i := 1; i < len(c.seen); i++ {
		from, to := c.seen[i-1], c.seen[i]
		if offset(from.Time) == offset(to.Time) || c.zoneOf(from, to) != nil {
			continue
		}
		// Set forward at some instant between the two, which nobody knows.
		late, early := at(reading, offset(from.Time)), at(reading, offset(to.Time))
		if early.Before(late) && late.After(from.Time) && early.Before(to.Time) {
			return early, late
		}
	}
	return s.Instant, s.Instant
}

// inZone is when the clocks of a zone showed a reading; if they never did, when they
// were set forward over it.
func inZone(reading time.Time, z *time.Location) (instant time.Time, skipped bool) {
	t := time.Date(reading.Year(), reading.Month(), reading.Day(), reading.Hour(), reading.Minute(), reading.Second(), reading.Nanosecond(), z)
	change, next := t.ZoneBounds()
	switch shows := Wall(t); {
	case shows.Before(reading):
		return next.In(z), true
	case shows.After(reading):
		return change.In(z), true
	}
	return t, false
}

// valid tells whether the zone, if it is known, has that offset then.
func valid(z *time.Location, t time.Time) bool {
	return z == nil || offset(t.In(z)) == offset(t)
}
