package recovery

import (
	"errors"
	"fmt"
	"time"
)

// ErrEmptyPolicy: the policy keeps nothing, so it says nothing.
var ErrEmptyPolicy = errors.New("the policy is empty")

// ErrStaleClock: by this clock the newest point is of the future, or long ago:
// either the clock is wrong or backups have stopped, and a policy would forget on
// the word of one or the other.
var ErrStaleClock = errors.New("the clock and the newest point do not fit together")

// ErrNeeded: the point is part of a chain that a point which stays is restored by.
var ErrNeeded = errors.New("another recovery point needs it")

// staleAfter is how old the newest point may be before a policy wants to be asked
// twice.
const staleAfter = 7 * 24 * time.Hour

// Policy says which points of a source are kept; what one rule keeps stays,
// whatever the others say. A rule of zero is not there, and the zero Policy is
// refused. Log backups of databases follow Last, Daily, Within and PIT alone and,
// but for PIT, hold nothing: they go once the backups that lead to them are gone.
type Policy struct {
	Last    int           // the newest so many that are no logs, and the logs since the oldest of them
	Daily   int           // of day D all, to the end of day D+Daily
	Weekly  int           // the latest of a week (Monday to Sunday), to the end of the Weekly-th week after it
	Monthly int           // the latest of a month, likewise
	Yearly  int           // the latest of a year, likewise
	Within  time.Duration // all that are not older
	PIT     time.Duration // all that it takes to reach every moment since then

	Zone *time.Location // of days, weeks, months and years; nil is UTC
}

// IsEmpty reports whether the policy keeps nothing at all.
func (p Policy) IsEmpty() bool {
	return p.Within <= 0 && p.PIT <= 0 && p.Last <= 0 && !p.IsCalendar()
}

// IsCalendar reports whether the policy depends on where days begin.
func (p Policy) IsCalendar() bool {
	return p.Daily > 0 || p.Weekly > 0 || p.Monthly > 0 || p.Yearly > 0
}

// Judged is a point and what a policy says of it. Reasons may be shared with
// others: they are not to be changed.
type Judged struct {
	Point   *Brief
	Keep    bool
	Reasons []string // why it is kept, or why not; never empty
}

// Judge applies the policy, as of now, to those of points, ordered oldest first,
// that are asked about (nil: all), source by source, and returns them in their
// order. It is pure: what is kept is kept for a reason that it names. By any policy
// are kept: the newest restorable point of a source, pinned points, and what a
// point that stays is restored by, unless that point is a log that merely is not
// old. Memory: some 70 bytes a point, and 50 for each that only another needs.
// Errors: ErrEmptyPolicy.
func (p Policy) Judge(points []Brief, now time.Time, asked func(*Brief) bool) ([]Judged, error) {
	if p.IsEmpty() {
		return nil, ErrEmptyPolicy
	}
	v := newVerdict(points)
	p.rule(v, now, asked)
	v.hold()
	v.reachLogs()
	say := p.newSaying()
	out := make([]Judged, 0, len(points))
	for i := range points {
		if v.rules[i]&foreign == 0 {
			out = append(out, say.judged(v, i))
		}
	}
	return out, nil
}

// Base is the id of the point without which p cannot be restored: what a
// differential or a log backup of a database stands on. Every other point is
// complete in itself, whatever it was read against, and has none ("").
func (p *Point) Base() string {
	if p.Kind.standsOnParent() {
		return p.Parent
	}
	return ""
}

func (k Kind) standsOnParent() bool { return k == SQLDiff || k == SQLLog }

// NeededBy returns ErrNeeded if one of points that is not itself to go stands on
// one that is.
func NeededBy(points []Brief, going func(id string) bool) error {
	for i := range points {
		p := &points[i]
		if base := p.Base(); base != "" && !going(p.ID()) && going(base) {
			return fmt.Errorf("point %s: %s of %s stands on it: %w", base, p.ID(), p.Source(), ErrNeeded)
		}
	}
	return nil
}

// sourceKey tells sources apart by what they really are.
type sourceKey struct {
	kind     Kind // all kinds of backups of one database are one source
	identity string
}

func keyOf(p *Brief) sourceKey {
	kind := p.Kind()
	switch kind {
	case SQLFull, SQLDiff, SQLLog:
		kind = "sql"
	}
	return sourceKey{kind, p.Identity()}
}

// CheckClock returns ErrStaleClock unless now lies between the newest point and
// seven days after it.
func CheckClock(newest *Brief, now time.Time) error {
	at := newest.Time()
	switch age := now.Sub(at); {
	case age < 0:
		return fmt.Errorf("it is %s, and the newest point, %s of %s, is of %s: %w", now.Format(time.RFC3339), newest.ID(), newest.Source(), at.Format(time.RFC3339), ErrStaleClock)
	case age > staleAfter:
		return fmt.Errorf("it is %s, and the newest point, %s of %s, is %d days old: %w", now.Format(time.RFC3339), newest.ID(), newest.Source(), int(age.Hours())/24, ErrStaleClock)
	}
	return nil
}
