package recovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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
	Weekly  int           // the latest of each of the last so many weeks (Monday to Sunday), this one included
	Monthly int           // the latest of each of the last so many months, likewise
	Yearly  int           // the latest of each of the last so many years, likewise
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
	Orphan  bool     // it goes, and could not be restored by all that there is
}

// Judge applies the policy, as of now, to those of points, ordered oldest first,
// that are asked about (nil: all), source by source, and returns them in their
// order. It is pure: what is kept is kept for a reason that it names. By any policy
// are kept: the newest restorable point of a source, pinned points, points that nobody
// has confirmed yet, and what a point that stays is restored by, unless that point is a
// log that merely is not old. What leads where chains tell; nil leaves it to parents.
// Memory: some 70 bytes a point, 50 for each that only another needs, and the chain of
// one source at a time. Errors: ErrEmptyPolicy, those of chains.
func (p Policy) Judge(points []Brief, now time.Time, asked func(*Brief) bool, chains Chains) ([]Judged, error) {
	if p.IsEmpty() {
		return nil, ErrEmptyPolicy
	}
	all := make([]Judged, len(points))
	say, by := p.newSaying(), bySource(points)
	for n := range by.count() {
		m := by.members(n)
		if asked != nil && !m.any(asked) {
			continue
		}
		chain, err := m.chain(chains)
		if err != nil {
			return nil, err
		}
		v := newVerdict(m, chain)
		p.rule(v, now, asked)
		v.hold(p.since(now))
		v.reachLogs()
		for k := range v.rules {
			if v.rules[k]&foreign == 0 {
				all[m.order[k]] = say.judged(v, k)
			}
		}
	}
	return slices.DeleteFunc(all, func(j Judged) bool { return j.Point == nil }), nil
}

// Going are the points that go, in the order in which they are to be forgotten, so that
// whatever is left when that ends half-way is as good as before: first what may stand on
// others, the newest first, and then fulls of databases, the oldest first, since a later
// one may tell that those before it are of a history that was left.
func Going(judged []Judged) []*Brief {
	var going []*Brief
	for _, j := range slices.Backward(judged) {
		if !j.Keep && j.Point.with.kind != SQLFull {
			going = append(going, j.Point)
		}
	}
	for _, j := range judged {
		if !j.Keep && j.Point.with.kind == SQLFull {
			going = append(going, j.Point)
		}
	}
	return going
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

// NeededBy returns ErrNeeded, naming them all, if some of points that are not themselves
// to go cannot be restored any more without those that are.
func NeededBy(points []Brief, going func(id string) bool, chains Chains) error {
	var why []string
	for _, s := range StandOn(points, going, chains) {
		why = append(why, s.String())
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(why, "; "), ErrNeeded)
}

// Standing are points of one source, by their ids, that cannot be restored without others.
type Standing struct {
	Source     string
	Points, On []string // On is empty where only what tells histories apart is missed
}

func (s Standing) String() string {
	who, on := strings.Join(s.Points, ", "), strings.Join(s.On, ", ")
	switch {
	case len(s.On) == 0:
		return fmt.Sprintf("%s of %s cannot be restored without those that are to go", who, s.Source)
	case len(s.Points) == 1 && len(s.On) == 1:
		return fmt.Sprintf("point %s: %s of %s stands on it", on, who, s.Source)
	}
	return fmt.Sprintf("%s of %s stand on %s", who, s.Source, on)
}

// StandOn finds those of points that cannot be restored without some that are to go, and
// are not among these. A source whose chain cannot be told is judged by parents: what
// cannot be read must be possible to forget.
func StandOn(points []Brief, going func(id string) bool, chains Chains) (list []Standing) {
	by := bySource(points)
	for n := range by.count() {
		m := by.members(n)
		there := make([]bool, m.len())
		for k := range there {
			there[k] = !going(m.at(k).ID())
		}
		if !slices.Contains(there, false) {
			continue
		}
		chain, err := m.chain(chains)
		if err != nil {
			chain = newParents(m)
		}
		if s := newVerdict(m, chain).standing(there); len(s.Points) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// standing finds those that are there and need what is not.
func (v *verdict) standing(there []bool) Standing {
	s := Standing{Source: v.at(0).Source()}
	var places []int
	for k, left := range v.chain.Reach(there) {
		if !there[k] || left || !v.whole[k] && (!v.chain.Open(k) || len(v.goingBelow(there, k)) == 0) {
			continue // or nothing leads to it as it is
		}
		s.Points, places = append(s.Points, v.at(k).ID()), append(places, k)
	}
	if len(places) > 0 {
		s.On = v.goingBelow(there, places...)
	}
	return s
}

// goingBelow are those that go of what the points at these places are restored by.
func (v *verdict) goingBelow(there []bool, places ...int) (going []string) {
	way := make([]bool, v.len())
	for _, k := range places {
		way[k] = true
	}
	v.chain.Hold(way, slices.Clone(v.by), time.Time{})
	for g := range way {
		if way[g] && !there[g] {
			going = append(going, v.at(g).ID())
		}
	}
	return going
}

// sourceKey tells sources apart by what they really are.
type sourceKey struct {
	kind     Kind // all kinds of backups of one database are one source
	identity string
}

func keyOf(p *Brief) sourceKey {
	if p.isDatabase() {
		return sourceKey{"sql", p.Identity()}
	}
	return sourceKey{p.Kind(), p.Identity()}
}

// isDatabase tells whether it is a backup of a database, of any kind.
func (b *Brief) isDatabase() bool {
	return slices.Contains([]Kind{SQLFull, SQLDiff, SQLLog}, b.with.kind)
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
