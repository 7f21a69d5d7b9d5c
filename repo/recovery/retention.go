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

// staleAfter is how old the newest point may be before a policy wants to be asked
// twice.
const staleAfter = 7 * 24 * time.Hour

// Policy says which points of a source are kept. The zero policy is refused.
type Policy struct {
	Last int // the newest so many
}

// IsEmpty reports whether the policy keeps nothing at all.
func (p Policy) IsEmpty() bool { return p == Policy{} }

// Judged is a point and what a policy says of it.
type Judged struct {
	Point   *Point
	Keep    bool
	Reasons []string // why it is kept, or why not; never empty
}

// Judge applies the policy to points, ordered oldest first, source by source. It
// is pure: what is kept is kept for a reason that it names. Errors: ErrEmptyPolicy.
func (p Policy) Judge(points []*Point, pinned func(*Point) bool) ([]Judged, error) {
	if p.IsEmpty() {
		return nil, ErrEmptyPolicy
	}
	after := map[string]int{} // how many newer points the source has
	out := make([]Judged, len(points))
	for i := len(points) - 1; i >= 0; i-- {
		point := points[i]
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
		if len(why) == 0 {
			out[i].Reasons = []string{fmt.Sprintf("older than the last %d", p.Last)}
		}
	}
	return out, nil
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
