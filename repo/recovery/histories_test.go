package recovery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/repo/recovery"
)

// history is what happened to some sources, and the truth of it: of a data backup
// the place in the log that it was taken at, of a log backup from where to where it
// goes. Nothing of that is told to the policy, which sees parents alone.
type history struct {
	points []*recovery.Point
	from   map[string]int // of logs
	to     map[string]int // of all: the place that it restores
	dbs    map[string]*database
	now    time.Time
}

// database is one that is being written and backed up as the rules allow.
type database struct {
	place           int // of its log
	full, last      string
	start           string // newest data backup, on which a log may open
	lastEnd, logEnd int    // where our last log ended; where the log was last truncated, by us or another
}

// drawHistory draws databases with fulls, copy-only ones, differentials, logs,
// copy-only logs and logs that somebody else took, and images beside them.
func drawHistory(t *rapid.T) *history {
	h := &history{from: map[string]int{}, to: map[string]int{}, dbs: map[string]*database{"sql/x/d": {}, "sql/x/e": {}}, now: day0}
	for i := range rapid.IntRange(0, 60).Draw(t, "points") {
		h.now = h.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 30, 60, 240, 1440, 3000, 15000}).Draw(t, "minutes")) * time.Minute)
		source := rapid.SampledFrom([]string{"sql/x/d", "sql/x/d", "sql/x/d", "sql/x/e", "image/a"}).Draw(t, "source")
		p := &recovery.Point{ID: fmt.Sprintf("%04x", i), Source: source, Identity: source, Kind: recovery.Image, Time: h.now}
		if db := h.dbs[source]; db != nil {
			db.place += 2
			if !h.backup(db, p, rapid.SampledFrom([]string{"full", "copy", "diff", "diff", "log", "log", "log", "log", "log", "copylog", "foreign"}).Draw(t, "backup")) {
				continue
			}
			h.to[p.ID] = db.place
		} else if n := len(h.points); n > 0 {
			p.Parent = h.points[n-1].ID // it stands on nothing
		}
		h.points = append(h.points, p)
	}
	h.now = h.now.Add(time.Duration(rapid.IntRange(0, 20000).Draw(t, "since")) * time.Minute)
	return h
}

// backup makes p a backup, if the state of the database allows it.
func (h *history) backup(db *database, p *recovery.Point, what string) bool {
	p.Kind = recovery.SQLFull
	switch what {
	case "foreign":
		db.logEnd = db.place
		return false
	case "full", "copy":
		if db.start == "" {
			db.logEnd, db.lastEnd = db.place, none // a log begins with the first full
		}
		if what == "full" {
			db.full = p.ID
		}
		db.start = p.ID
	case "diff":
		p.Kind, p.Parent = recovery.SQLDiff, db.full
		if db.full == "" {
			return false
		}
		db.start = p.ID
	default:
		p.Kind = recovery.SQLLog
		switch {
		case db.start == "":
			return false
		case db.last != "" && db.lastEnd == db.logEnd:
			p.Parent = db.last
		case h.to[db.start] >= db.logEnd:
			p.Parent = db.start
		default:
			return false
		}
		h.from[p.ID] = db.logEnd
		if what == "log" {
			db.last, db.logEnd, db.lastEnd = p.ID, db.place, db.place
		}
	}
	return true
}

const none = -1

// moments are the places of a source that what is there restores: even ones are
// those of backups, odd ones lie between.
func (h *history) moments(source string, there func(id string) bool) map[int]bool {
	can := map[int]bool{}
	for i, p := range h.points {
		if p.Source != source || !there(p.ID) || p.Kind == recovery.SQLLog || p.Kind == recovery.SQLDiff && !there(p.Parent) {
			continue
		}
		at := h.to[p.ID]
		can[at] = true
		for _, log := range h.points[i:] {
			if log.Source != source || !there(log.ID) || log.Kind != recovery.SQLLog || h.from[log.ID] > at || h.to[log.ID] <= at {
				continue
			}
			for at < h.to[log.ID] {
				at++
				can[at] = true
			}
		}
	}
	return can
}

// restores reports whether a point can be restored by what is there.
func (h *history) restores(p *recovery.Point, there func(id string) bool) bool {
	switch p.Kind {
	case recovery.SQLDiff:
		return there(p.ID) && there(p.Parent)
	case recovery.SQLLog:
		return there(p.ID) && h.moments(p.Source, there)[h.to[p.ID]-1]
	}
	return there(p.ID)
}

func drawPolicy(t *rapid.T) recovery.Policy {
	n := rapid.SampledFrom([]int{0, 0, 1, 2, 5})
	length := rapid.SampledFrom([]time.Duration{0, 0, time.Hour, 36 * time.Hour, 240 * time.Hour})
	p := recovery.Policy{
		Last: n.Draw(t, "last"), Daily: n.Draw(t, "daily"), Weekly: n.Draw(t, "weekly"), Monthly: n.Draw(t, "monthly"), Yearly: n.Draw(t, "yearly"),
		Within: length.Draw(t, "within"), PIT: length.Draw(t, "pit"),
		Zone: rapid.SampledFrom([]*time.Location{nil, zoneOf(t, "Europe/Berlin"), zoneOf(t, "Pacific/Apia")}).Draw(t, "zone"),
	}
	if p.IsEmpty() {
		p.Last = 1
	}
	return p
}

// TestPolicyProperties: whatever happened and whatever the policy.
func TestPolicyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, policy := drawHistory(t), drawPolicy(t)
		var pins []string
		for _, p := range h.points {
			if rapid.IntRange(0, 9).Draw(t, "pin") == 0 {
				pins = append(pins, p.ID)
			}
		}
		short := briefs(h.points, pins...)
		judged, err := policy.Judge(short, h.now, nil, nil)
		if err != nil || len(judged) != len(short) {
			t.Fatalf("%d judged of %d, %v", len(judged), len(short), err)
		}
		kept := map[string]bool{}
		why := map[string][]string{}
		for i, j := range judged {
			if j.Point != &short[i] || len(j.Reasons) == 0 {
				t.Fatalf("%d: %+v", i, j)
			}
			kept[j.Point.ID()], why[j.Point.ID()] = j.Keep, j.Reasons
		}
		h.everyReasonHolds(t, policy, pins, kept, why)
		h.whatIsKeptRestores(t, kept)
		h.momentsStay(t, policy, kept)
		h.judgedAgain(t, policy, pins, kept)
		h.moreKeepsMore(t, policy, short, kept)
	})
}

func all(string) bool { return true }

// everyReasonHolds: nothing is kept or goes without a reason that is true.
func (h *history) everyReasonHolds(t *rapid.T, policy recovery.Policy, pins []string, kept map[string]bool, why map[string][]string) {
	for i, p := range h.points {
		for _, reason := range why[p.ID] {
			switch by, of, _ := strings.Cut(reason, " "); {
			case !kept[p.ID] && reason == "unreachable":
				if p.Kind != recovery.SQLLog {
					t.Fatalf("%s, a %s, is unreachable", p.ID, p.Kind)
				}
			case !kept[p.ID]:
				if slices.Contains(pins, p.ID) || h.isWithin(p, policy) || h.isDaily(p, policy) || h.isLatest(i, policy) != "" {
					t.Fatalf("%s goes, %s", p.ID, reason)
				}
			case by == "needed":
				needs := h.point(strings.TrimPrefix(of, "by "))
				if needs == nil || !kept[needs.ID] || needs.Source != p.Source || needs.Kind != recovery.SQLLog && needs.Parent != p.ID {
					t.Fatalf("%s stays, %s", p.ID, reason)
				}
			case by == "pinned" && slices.Contains(pins, p.ID),
				by == "last" && !h.hasNewer(i, func(q *recovery.Point) bool { return q.Time.After(p.Time) && h.restores(q, all) }),
				by == "keep-last" && h.newerData(i) < policy.Last,
				by == "keep-daily" && h.isDaily(p, policy),
				by == "keep-within" && h.isWithin(p, policy),
				by == "keep-pit" && policy.PIT > 0,
				strings.Contains(h.isLatest(i, policy), by) && by != "":
			default:
				t.Fatalf("%s stays, %s", p.ID, reason)
			}
		}
	}
}

func (h *history) point(id string) *recovery.Point {
	i := slices.IndexFunc(h.points, func(p *recovery.Point) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return h.points[i]
}

func (h *history) hasNewer(i int, is func(*recovery.Point) bool) bool {
	return slices.ContainsFunc(h.points[i+1:], func(p *recovery.Point) bool { return p.Source == h.points[i].Source && is(p) })
}

func (h *history) newerData(i int) (n int) {
	for _, p := range h.points[i+1:] {
		if p.Source == h.points[i].Source && p.Kind != recovery.SQLLog {
			n++
		}
	}
	return n
}

func (h *history) isWithin(p *recovery.Point, policy recovery.Policy) bool {
	return policy.Within > 0 && h.now.Sub(p.Time) <= policy.Within
}

// isDaily goes from the point's day on, by the calendar.
func (h *history) isDaily(p *recovery.Point, policy recovery.Policy) bool {
	if policy.Daily == 0 {
		return false
	}
	zone := policy.Zone
	if zone == nil {
		zone = time.UTC
	}
	year, month, day := p.Time.In(zone).Date()
	return h.now.Before(time.Date(year, month, day+policy.Daily+1, 0, 0, 0, 0, zone))
}

// isLatest names the rules by which the point stands for its week, month or year.
func (h *history) isLatest(i int, policy recovery.Policy) (rules string) {
	zone := policy.Zone
	if zone == nil {
		zone = time.UTC
	}
	at := h.points[i].Time.In(zone)
	year, month, day := at.Date()
	for _, r := range []struct {
		rule string
		n    int
		end  func(later int) time.Time
	}{
		{"keep-weekly", policy.Weekly, func(n int) time.Time {
			return time.Date(year, month, day-(int(at.Weekday())+6)%7+7*(n+1), 0, 0, 0, 0, zone)
		}},
		{"keep-monthly", policy.Monthly, func(n int) time.Time { return time.Date(year, month+time.Month(n)+1, 1, 0, 0, 0, 0, zone) }},
		{"keep-yearly", policy.Yearly, func(n int) time.Time { return time.Date(year+n+1, 1, 1, 0, 0, 0, 0, zone) }},
	} {
		newer := func(p *recovery.Point) bool { return p.Kind != recovery.SQLLog && p.Time.Before(r.end(0)) }
		if r.n > 0 && h.points[i].Kind != recovery.SQLLog && h.now.Before(r.end(r.n-1)) && !h.hasNewer(i, newer) {
			rules += r.rule + " "
		}
	}
	return rules
}

// whatIsKeptRestores: each kept point that could be restored still can be, and the
// newest such point of each source is kept.
func (h *history) whatIsKeptRestores(t *rapid.T, kept map[string]bool) {
	there := func(id string) bool { return kept[id] }
	for i, p := range h.points {
		if !h.restores(p, all) {
			t.Fatalf("%s cannot be restored from the beginning: the history is wrong", p.ID)
		}
		if kept[p.ID] && !h.restores(p, there) {
			t.Fatalf("%s is kept and cannot be restored", p.ID)
		}
		if !kept[p.ID] && !h.hasNewer(i, func(*recovery.Point) bool { return true }) {
			t.Fatalf("%s is the newest of %s, and goes", p.ID, p.Source)
		}
	}
}

// momentsStay: what could be reached of the last so long, still can be.
func (h *history) momentsStay(t *rapid.T, policy recovery.Policy, kept map[string]bool) {
	if policy.PIT == 0 {
		return
	}
	cutoff := h.now.Add(-policy.PIT)
	begin := map[string]int{} // the last place before the cutoff that has a time
	for _, p := range h.points {
		if !p.Time.After(cutoff) {
			begin[p.Source] = h.to[p.ID]
		} else if p.Kind == recovery.Image && !kept[p.ID] {
			t.Fatalf("%s is of the last %v, and goes", p.ID, policy.PIT)
		}
	}
	for source := range h.dbs {
		still := h.moments(source, func(id string) bool { return kept[id] })
		for place := range h.moments(source, all) {
			if place >= begin[source] && !still[place] {
				t.Fatalf("place %d of %s, after %d, can no longer be reached", place, source, begin[source])
			}
		}
	}
}

// judgedAgain: what was kept is kept at the same moment.
func (h *history) judgedAgain(t *rapid.T, policy recovery.Policy, pins []string, kept map[string]bool) {
	left := slices.DeleteFunc(slices.Clone(h.points), func(p *recovery.Point) bool { return !kept[p.ID] })
	again, err := policy.Judge(briefs(left, pins...), h.now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range again {
		if !j.Keep {
			t.Fatalf("%s is kept first and then goes: %v", j.Point.ID(), j.Reasons)
		}
	}
}

// moreKeepsMore: no rule keeps less by being given more.
func (h *history) moreKeepsMore(t *rapid.T, policy recovery.Policy, short []recovery.Brief, kept map[string]bool) {
	more := policy
	switch rapid.IntRange(0, 6).Draw(t, "more") {
	case 0:
		more.Last++
	case 1:
		more.Daily++
	case 2:
		more.Weekly++
	case 3:
		more.Monthly++
	case 4:
		more.Yearly++
	case 5:
		more.Within += 50 * time.Hour
	case 6:
		more.PIT += 50 * time.Hour
	}
	judged, err := more.Judge(short, h.now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range judged {
		if kept[j.Point.ID()] && !j.Keep {
			t.Fatalf("%s is kept by %+v and not by %+v: %v", j.Point.ID(), policy, more, j.Reasons)
		}
	}
}
