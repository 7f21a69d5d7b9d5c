package recovery

import (
	"errors"
	"fmt"
	"slices"
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

// Policy says which points of a source are kept. The zero policy is refused.
type Policy struct {
	Last int // the newest so many
}

// IsEmpty reports whether the policy keeps nothing at all.
func (p Policy) IsEmpty() bool { return p.Last <= 0 }

// Judged is a point and what a policy says of it. Reasons may be shared with
// others: they are not to be changed.
type Judged struct {
	Point   *Brief
	Keep    bool
	Reasons []string // why it is kept, or why not; never empty
}

// Judge applies the policy to those of points, ordered oldest first, that are
// asked about (nil: all), source by source, and returns them in their order. It is
// pure: what is kept is kept for a reason that it names. The newest point of a
// source, pinned points, and whatever a point that stays is restored by, are kept
// by any policy. Memory: some 50 bytes a point, and 50 for each that another needs.
// Errors: ErrEmptyPolicy.
func (p Policy) Judge(points []Brief, asked func(*Brief) bool) ([]Judged, error) {
	if p.IsEmpty() {
		return nil, ErrEmptyPolicy
	}
	newer := map[sourceKey]int{} // how many newer points the source has
	say := p.newSaying()
	out := make([]Judged, len(points))
	for i := len(points) - 1; i >= 0; i-- {
		point := &points[i]
		if asked != nil && !asked(point) {
			out[i] = Judged{Point: point, Keep: true} // of no concern, but it may stand on one that is
			continue
		}
		source := keyOf(point)
		why := say.why(newer[source] == 0, newer[source] < p.Last, point.Pinned)
		newer[source]++
		out[i] = Judged{Point: point, Keep: len(why) > 0, Reasons: why}
	}
	keepChains(points, out)
	for i := range out {
		if !out[i].Keep {
			out[i].Reasons = say.old
		}
	}
	return slices.DeleteFunc(out, func(j Judged) bool { return asked != nil && !asked(j.Point) }), nil
}

// saying holds the reasons that many points have in common. None has room
// behind it: whoever appends to one makes his own.
type saying struct {
	kept map[[3]bool][]string
	last string
	old  []string
}

func (p Policy) newSaying() *saying {
	return &saying{kept: map[[3]bool][]string{}, last: fmt.Sprintf("keep-last %d", p.Last), old: []string{fmt.Sprintf("older than the last %d", p.Last)}}
}

func (s *saying) why(newest, amongLast, pinned bool) []string {
	which := [3]bool{newest, amongLast, pinned}
	why, ok := s.kept[which]
	if !ok {
		for i, word := range []string{"last", s.last, "pinned"} {
			if which[i] {
				why = append(why, word)
			}
		}
		why = slices.Clip(why)
		s.kept[which] = why
	}
	return why
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

// keepChains keeps what kept points stand on, all the way down.
func keepChains(points []Brief, judged []Judged) {
	ids := newByID(points)
	for i := range judged {
		if !judged[i].Keep {
			continue
		}
		for above := i; ; {
			base, there := ids.base(above)
			if !there {
				break
			}
			known := judged[base].Keep
			judged[base].Keep = true
			if why := "needed by " + points[above].ID(); base != above && !slices.Contains(judged[base].Reasons, why) {
				judged[base].Reasons = append(judged[base].Reasons, why)
			}
			if known {
				break // its own chain is, or will be, followed for itself
			}
			above = base
		}
	}
}

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
