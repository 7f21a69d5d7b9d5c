package recovery

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// rules is a set of the rules that speak for a point.
type rules uint16

// The rules, in the order in which they are named.
const (
	newest rules = 1 << iota // of its source's restorable points
	byLast
	byDaily
	byWeekly
	byMonthly
	byYearly
	byWithin
	byPIT
	pinned
	foreign // of no concern: it stays, and what it stands on

	// holding are the rules by which a log stays whatever it takes.
	holding = newest | byPIT | pinned | foreign
)

// verdict is what becomes of each point, by their numbers.
type verdict struct {
	*links
	whole    []bool  // it can be restored by what there is now
	base     []int32 // by what: none of a point that is complete in itself, or that nothing leads to
	rules    []rules
	keep     []bool
	neededBy []int32 // the newest that is kept and stands on it, none if none does
}

func newVerdict(points []Brief) *verdict {
	l := newLinks(points)
	v := &verdict{links: l, base: slices.Clone(l.parent), rules: make([]rules, len(points)), keep: make([]bool, len(points)), neededBy: make([]int32, len(points))}
	v.whole = l.reach(l.isWhole, func(int) bool { return true }, v.base)
	for i := range v.neededBy {
		v.neededBy[i] = none
	}
	return v
}

// account is what has been seen of a source, from its newest point backwards.
type account struct {
	restores          bool // a point that is asked about can be restored
	data              bool // and is no log
	first             bool // the newest has been seen
	counted           int  // for Last
	week, month, year int  // the earliest that have been seen
	covered           bool // every moment of PIT
}

// rule finds the rules that speak for each point.
func (p Policy) rule(v *verdict, now time.Time, asked func(*Brief) bool) {
	accounts := make([]account, v.count)
	for i := range v.briefs {
		if asked != nil && !asked(&v.briefs[i]) {
			v.rules[i] = foreign
			continue
		}
		a := &accounts[v.source[i]]
		a.restores = a.restores || v.whole[i]
		a.data = a.data || v.whole[i] && !v.isLog(i)
		a.week, a.month, a.year = math.MaxInt, math.MaxInt, math.MaxInt
	}
	days := newCalendar(p.Zone)
	today := days.of(now)
	for i := range slices.Backward(v.briefs) {
		if v.rules[i] == foreign {
			continue
		}
		a, b := &accounts[v.source[i]], &v.briefs[i]
		if b.Pinned {
			v.rules[i] |= pinned
		}
		if !a.first && v.whole[i] == a.restores {
			a.first = true
			v.rules[i] |= newest
		}
		if !v.whole[i] {
			continue
		}
		at := time.Unix(b.seconds, int64(b.nanoseconds))
		v.rules[i] |= p.byAge(at, now) | p.byCalendar(a, days.of(at), today, v.isLog(i)) | p.byCount(a, v.isLog(i)) | p.byMoment(a, at, now, v.isLog(i))
	}
}

func (p Policy) byAge(at, now time.Time) rules {
	if p.Within > 0 && !at.Before(now.Add(-p.Within)) {
		return byWithin
	}
	return 0
}

// byCalendar applies the rules of days, weeks, months and years. The latest point
// of a week that is not over is its latest so far, which may change.
func (p Policy) byCalendar(a *account, at, today periods, isLog bool) (found rules) {
	if p.Daily > 0 && today.day-at.day <= p.Daily {
		found |= byDaily
	}
	if isLog {
		return found // weeks, months and years keep no log
	}
	for _, r := range []struct {
		rule     rules
		n        int
		seen     *int
		at, this int
	}{
		{byWeekly, p.Weekly, &a.week, at.week, today.week},
		{byMonthly, p.Monthly, &a.month, at.month, today.month},
		{byYearly, p.Yearly, &a.year, at.year, today.year},
	} {
		if r.n > 0 && r.at < *r.seen && r.this-r.at <= r.n {
			found |= r.rule
		}
		*r.seen = min(*r.seen, r.at)
	}
	return found
}

// byCount applies Last: logs are not counted, unless nothing else is asked about,
// for a few hours of them would be all.
func (p Policy) byCount(a *account, isLog bool) (found rules) {
	if a.counted < p.Last {
		found = byLast
	}
	if !isLog || !a.data {
		a.counted++
	}
	return found
}

// byMoment applies PIT: to reach every moment it takes the newest point that is no
// log and not after the first of them, and all that came after it.
func (p Policy) byMoment(a *account, at, now time.Time, isLog bool) rules {
	if p.PIT <= 0 || a.covered {
		return 0
	}
	a.covered = !isLog && !at.After(now.Add(-p.PIT))
	return byPIT
}

// hold keeps what the rules keep, logs by holding rules alone, and what all that is
// restored by, all the way down.
func (v *verdict) hold() {
	for i := range v.rules {
		v.keep[i] = v.rules[i]&holding != 0 || v.rules[i] != 0 && !v.isLog(i)
	}
	for i := range slices.Backward(v.keep) {
		if !v.keep[i] || v.neededBy[i] != none {
			continue // what is needed by another has been followed from there
		}
		for above := int32(i); ; {
			base := v.base[above]
			if base == none || v.neededBy[base] != none {
				break
			}
			v.keep[base], v.neededBy[base] = true, above
			above = base
		}
	}
}

// reachLogs keeps the logs that are not old, as far as what is kept leads to them.
func (v *verdict) reachLogs() {
	holds := func(i int) bool { return v.keep[i] && v.whole[i] }
	may := func(i int) bool { return v.rules[i] != 0 && v.whole[i] }
	for i, reached := range v.reach(holds, may, nil) {
		v.keep[i] = v.keep[i] || reached
	}
}

// saying holds the reasons that many points have in common.
type saying struct {
	rules       [9]string // by the number of the rule
	kept        map[rules][]string
	old, oldLog []string
	unreachable []string
}

func (p Policy) newSaying() *saying {
	s := &saying{kept: map[rules][]string{}, unreachable: []string{"unreachable"}}
	s.rules = [9]string{
		"last", fmt.Sprintf("keep-last %d", p.Last), fmt.Sprintf("keep-daily %d", p.Daily), fmt.Sprintf("keep-weekly %d", p.Weekly), fmt.Sprintf("keep-monthly %d", p.Monthly),
		fmt.Sprintf("keep-yearly %d", p.Yearly), "keep-within " + span(p.Within), "keep-pit " + span(p.PIT), "pinned",
	}
	for _, no := range []struct {
		is, logs bool
		why      string
	}{
		{p.Last > 0, true, fmt.Sprintf("older than the last %d", p.Last)},
		{p.Daily > 0, true, fmt.Sprintf("older than %d days", p.Daily)},
		{p.Weekly > 0, false, fmt.Sprintf("not the latest of one of %d weeks", p.Weekly)},
		{p.Monthly > 0, false, fmt.Sprintf("not the latest of one of %d months", p.Monthly)},
		{p.Yearly > 0, false, fmt.Sprintf("not the latest of one of %d years", p.Yearly)},
		{p.Within > 0, true, "older than " + span(p.Within)},
		{p.PIT > 0, true, "no moment of the last " + span(p.PIT) + " needs it"},
	} {
		if no.is {
			s.old = append(s.old, no.why)
		}
		if no.is && no.logs {
			s.oldLog = append(s.oldLog, no.why)
		}
	}
	if len(s.oldLog) == 0 {
		s.oldLog = []string{"weeks, months and years keep no log"}
	}
	return s
}

// span writes a length of time as it is typed: 7d, 36h, 90m.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, nothing := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, nothing) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// judged is the i-th point and why.
func (s *saying) judged(v *verdict, i int) Judged {
	j := Judged{Point: &v.briefs[i], Keep: v.keep[i]}
	switch {
	case j.Keep && v.rules[i] == 0:
		j.Reasons = []string{"needed by " + v.briefs[v.neededBy[i]].ID()}
	case j.Keep:
		j.Reasons = s.because(v.rules[i])
	case v.rules[i] != 0 || !v.whole[i]:
		j.Reasons = s.unreachable
	case v.isLog(i):
		j.Reasons = s.oldLog
	default:
		j.Reasons = s.old
	}
	return j
}

func (s *saying) because(which rules) []string {
	why, known := s.kept[which]
	if !known {
		for n, word := range s.rules {
			if which&(1<<n) != 0 {
				why = append(why, word)
			}
		}
		s.kept[which] = why
	}
	return why
}
