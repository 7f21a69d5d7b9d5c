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
	open    // nobody knows yet whether it is good
	foreign // of no concern: it stays, and what it stands on

	// holding are the rules by which a log stays whatever it takes.
	holding = newest | byPIT | pinned | open | foreign
)

// verdict is what becomes of the points of one source, by their places.
type verdict struct {
	members
	chain Chain
	whole []bool  // it can be restored by what there is now
	rules []rules //
	keep  []bool  //
	by    []int32 // one that is kept and needs it, none if none does
}

// newVerdict is nothing said yet; with all of the source being there.
func newVerdict(m members, chain Chain) *verdict {
	v := &verdict{members: m, chain: chain, rules: make([]rules, m.len()), keep: make([]bool, m.len()), by: make([]int32, m.len())}
	all := make([]bool, m.len())
	for k := range all {
		all[k], v.by[k] = true, none
	}
	v.whole = chain.Reach(all)
	return v
}

// account is what has been seen of a source, from its newest point backwards.
type account struct {
	restores          bool   // a point that is asked about can be restored
	data              bool   // and is no log
	first             *Brief // the newest that has been seen
	counted           int    // for Last
	week, month, year int    // the earliest that have been seen
	covered           bool   // every moment of PIT
}

// rule finds the rules that speak for each point.
func (p Policy) rule(v *verdict, now time.Time, asked func(*Brief) bool) {
	a := account{week: math.MaxInt, month: math.MaxInt, year: math.MaxInt}
	for k := range v.rules {
		if asked != nil && !asked(v.at(k)) {
			v.rules[k] = foreign
			continue
		}
		a.restores = a.restores || v.whole[k]
		a.data = a.data || v.whole[k] && !v.isLog(k)
	}
	days := newCalendar(p.Zone)
	today := days.of(now)
	for k := range slices.Backward(v.rules) {
		if v.rules[k] == foreign {
			continue
		}
		b := v.at(k)
		if b.Pinned {
			v.rules[k] |= pinned
		}
		if v.chain.Open(k) {
			v.rules[k] |= open
		}
		if v.whole[k] == a.restores && (a.first == nil || a.first.Time().Equal(b.Time())) {
			a.first = b // nobody knows which of two of one moment was the last
			v.rules[k] |= newest
		}
		at, serves := time.Unix(b.seconds, int64(b.nanoseconds)), v.chain.Serves(k)
		if !v.whole[k] {
			if p.PIT > 0 && !a.covered && !serves.IsZero() {
				v.rules[k] |= byPIT // it restores nothing, and shows on which history the source was
			}
			continue
		}
		v.rules[k] |= p.byAge(at, now) | p.byCalendar(&a, days.of(at), today, v.isLog(k)) | p.byCount(&a, v.isLog(k))
		if serves.After(at) {
			at = serves
		}
		v.rules[k] |= p.byMoment(&a, at, now, v.isLog(k))
	}
	among := slices.Clone(v.whole)
	for k := range among {
		among[k] = among[k] && v.rules[k]&foreign == 0
	}
	if k := v.chain.Newest(among); k >= 0 {
		v.rules[k] |= newest
	}
}

func (p Policy) byAge(at, now time.Time) rules {
	if p.Within > 0 && !at.Before(now.Add(-p.Within)) {
		return byWithin
	}
	return 0
}

// byCalendar applies the rules of days, weeks, months and years. The week that is not
// over is the first of the last so many: its latest point is the latest so far.
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
		if r.n > 0 && r.at < *r.seen && r.this-r.at < r.n {
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
// log and serves from the first of them on, and all that came after it.
func (p Policy) byMoment(a *account, at, now time.Time, isLog bool) rules {
	if p.PIT <= 0 || a.covered {
		return 0
	}
	a.covered = !isLog && !at.After(p.since(now))
	return byPIT
}

// since is the first moment of PIT, the zero time if there is no such rule.
func (p Policy) since(now time.Time) time.Time {
	if p.PIT <= 0 {
		return time.Time{}
	}
	return now.Add(-p.PIT)
}

// hold keeps what the rules keep, logs by holding rules alone, and what all that is
// restored by, all the way down.
func (v *verdict) hold(since time.Time) {
	for k := range v.rules {
		v.keep[k] = v.rules[k]&holding != 0 || v.rules[k] != 0 && !v.isLog(k)
	}
	v.chain.Hold(v.keep, v.by, since)
}

// reachLogs keeps the logs that are not old, as far as what is kept leads to them, and
// looks whether all that is kept is still restorable by itself. If it were not, for what
// goes is what told two histories apart, all would stay.
func (v *verdict) reachLogs() {
	held := slices.Clone(v.keep)
	for k := range v.keep {
		v.keep[k] = v.keep[k] || v.whole[k] && v.rules[k] != 0
	}
	for lost := true; lost; {
		lost = false
		reached := v.chain.Reach(v.keep)
		for k := range v.keep {
			if !v.keep[k] || !v.whole[k] || reached[k] {
				continue
			}
			if held[k] {
				v.keepAll(int32(k))
				return
			}
			v.keep[k], lost = false, true
		}
	}
}

// keepAll keeps every point of the source, for the sake of one.
func (v *verdict) keepAll(of int32) {
	for k := range v.keep {
		if !v.keep[k] {
			v.keep[k], v.rules[k], v.by[k] = true, 0, of
		}
	}
}

// saying holds the reasons that many points have in common.
type saying struct {
	rules       [10]string // by the number of the rule
	kept        map[rules][]string
	old, oldLog []string
	unreachable []string
}

func (p Policy) newSaying() *saying {
	s := &saying{kept: map[rules][]string{}, unreachable: []string{"unreachable"}}
	s.rules = [10]string{
		"last", fmt.Sprintf("keep-last %d", p.Last), fmt.Sprintf("keep-daily %d", p.Daily), fmt.Sprintf("keep-weekly %d", p.Weekly), fmt.Sprintf("keep-monthly %d", p.Monthly),
		fmt.Sprintf("keep-yearly %d", p.Yearly), "keep-within " + span(p.Within), "keep-pit " + span(p.PIT), "pinned", "unconfirmed",
	}
	for _, no := range []struct {
		is, logs bool
		why      string
	}{
		{p.Last > 0, true, fmt.Sprintf("older than the last %d", p.Last)},
		{p.Daily > 0, true, "older than " + count(p.Daily, "day")},
		{p.Weekly > 0, false, "not the latest of one of " + count(p.Weekly, "week")},
		{p.Monthly > 0, false, "not the latest of one of " + count(p.Monthly, "month")},
		{p.Yearly > 0, false, "not the latest of one of " + count(p.Yearly, "year")},
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

// judged is a point and why.
func (s *saying) judged(v *verdict, k int) Judged {
	j := Judged{Point: v.at(k), Keep: v.keep[k], Orphan: !v.keep[k] && !v.whole[k]}
	switch {
	case j.Keep && v.rules[k] == 0:
		j.Reasons = []string{"needed by " + v.at(int(v.by[k])).ID()}
	case j.Keep:
		j.Reasons = s.because(v.rules[k])
	case v.rules[k] != 0 || !v.whole[k]:
		j.Reasons = s.unreachable
	case v.isLog(k):
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

// count is "1 day", "7 days".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
