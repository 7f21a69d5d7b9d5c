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

// Judged is a point and what a policy says of it.
type Judged struct {
	Point   *Point
	Keep    bool
	Reasons []string // why it is kept, or why not; never empty
}

// Judge applies the policy to those of points, ordered oldest first, that are
// asked about (nil: all), source by source, and returns them in their order. It is
// pure: what is kept is kept for a reason that it names. The newest point of a
// source, pinned points, and whatever a point that stays is restored by, are kept
// by any policy. Errors: ErrEmptyPolicy.
func (p Policy) Judge(points []*Point, asked, pinned func(*Point) bool) ([]Judged, error) {
	if p.IsEmpty() {
		return nil, ErrEmptyPolicy
	}
	after := map[string]int{} // how many newer points the source has
	out := make([]Judged, len(points))
	for i := len(points) - 1; i >= 0; i-- {
		point := points[i]
		if asked != nil && !asked(point) {
			out[i] = Judged{Point: point, Keep: true} // of no concern, but it may stand on one that is
			continue
		}
		source := sourceKey(point)
		var why []string
		if after[source] == 0 {
			why = append(why, "last")
		}
		if after[source] < p.Last {
			why = append(why, fmt.Sprintf("keep-last %d", p.Last))
		}
		if pinned(point) {
			why = append(why, "pinned")
		}
		after[source]++
		out[i] = Judged{Point: point, Keep: len(why) > 0, Reasons: why}
	}
	keepChains(out)
	for i := range out {
		if !out[i].Keep {
			out[i].Reasons = []string{fmt.Sprintf("older than the last %d", p.Last)}
		}
	}
	return slices.DeleteFunc(out, func(j Judged) bool { return asked != nil && !asked(j.Point) }), nil
}

// Base is the id of the point without which p cannot be restored: what a
// differential or a log backup of a database stands on. Every other point is
// complete in itself, whatever it was read against, and has none ("").
func (p *Point) Base() string {
	if p.Kind == SQLDiff || p.Kind == SQLLog {
		return p.Parent
	}
	return ""
}

// keepChains keeps what kept points stand on, all the way down.
func keepChains(judged []Judged) {
	byID := map[string]int{}
	for i, j := range judged {
		byID[j.Point.ID] = i
	}
	for i := range judged {
		if !judged[i].Keep {
			continue
		}
		for above := i; ; {
			base, there := byID[judged[above].Point.Base()]
			if !there {
				break
			}
			known := judged[base].Keep
			judged[base].Keep = true
			if why := "needed by " + judged[above].Point.ID; base != above && !slices.Contains(judged[base].Reasons, why) {
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
func NeededBy(points []*Point, going func(id string) bool) error {
	for _, p := range points {
		if base := p.Base(); base != "" && !going(p.ID) && going(base) {
			return fmt.Errorf("point %s: %s of %s stands on it: %w", base, p.ID, p.Source, ErrNeeded)
		}
	}
	return nil
}

// sourceKey tells sources apart by what they really are; all kinds of backups of
// one database are one source.
func sourceKey(p *Point) string {
	switch p.Kind {
	case SQLFull, SQLDiff, SQLLog:
		return "sql " + p.Identity
	}
	return string(p.Kind) + " " + p.Identity
}

// CheckClock returns ErrStaleClock unless now lies between the newest point and
// seven days after it. points are ordered oldest first; without any it is nil.
func CheckClock(points []*Point, now time.Time) error {
	if len(points) == 0 {
		return nil
	}
	newest := points[len(points)-1]
	switch age := now.Sub(newest.Time); {
	case age < 0:
		return fmt.Errorf("it is %s, and the newest point, %s of %s, is of %s: %w", now.Format(time.RFC3339), newest.ID, newest.Source, newest.Time.Format(time.RFC3339), ErrStaleClock)
	case age > staleAfter:
		return fmt.Errorf("it is %s, and the newest point, %s of %s, is %d days old: %w", now.Format(time.RFC3339), newest.ID, newest.Source, int(age.Hours())/24, ErrStaleClock)
	}
	return nil
}
