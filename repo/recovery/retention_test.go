package recovery_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
)

var day0 = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

// series makes points a day apart, the oldest first: "ID SOURCE [KIND [PARENT]]".
func series(words ...string) []*recovery.Point {
	var all []*recovery.Point
	for i, w := range words {
		f := append(strings.Fields(w), "", "")
		p := &recovery.Point{ID: f[0], Source: f[1], Identity: f[1], Kind: recovery.Image, Time: day0.AddDate(0, 0, i), Parent: f[3]}
		if f[2] != "" {
			p.Kind = recovery.Kind(f[2])
		}
		all = append(all, p)
	}
	return all
}

// briefs shortens points; pins are the ids of those that are pinned.
func briefs(points []*recovery.Point, pins ...string) []recovery.Brief {
	short := recovery.BriefsOf(points)
	for i := range short {
		short[i].Pinned = slices.Contains(pins, short[i].ID())
	}
	return short
}

// show is a judgement in a form to compare: "+" is kept, "-" goes.
func show(judged []recovery.Judged) string {
	var words []string
	for _, j := range judged {
		mark := "-"
		if j.Keep {
			mark = "+"
		}
		words = append(words, mark+j.Point.ID()+" "+strings.Join(j.Reasons, ", "))
	}
	return strings.Join(words, "\n")
}

func wantJudged(t *testing.T, judged []recovery.Judged, err error, want ...string) {
	t.Helper()
	if got := show(judged); err != nil || got != strings.Join(want, "\n") {
		t.Errorf("%v\n%s\nwant\n%s", err, got, strings.Join(want, "\n"))
	}
}

func TestPolicyCountsEachSourceForItself(t *testing.T) {
	points := series("a1 image/a", "b1 image/b", "a2 image/a", "a3 image/a")
	judged, err := recovery.Policy{Last: 2}.Judge(briefs(points), day0, nil, nil)
	wantJudged(t, judged, err, "-a1 older than the last 2", "+b1 last, keep-last 2", "+a2 keep-last 2", "+a3 last, keep-last 2")
	judged, err = recovery.Policy{Last: 1}.Judge(briefs(points, "a1", "a3"), day0, nil, nil)
	wantJudged(t, judged, err, "+a1 pinned", "+b1 last, keep-last 1", "-a2 older than the last 1", "+a3 last, keep-last 1, pinned")
}

// TestSourceIsItsIdentityNotItsName: a VM that was made anew under an old name is
// another source, and a VM that was renamed the same one.
func TestSourceIsItsIdentityNotItsName(t *testing.T) {
	points := series("a1 vm/web vm", "a2 vm/web vm", "a3 vm/web vm")
	points[0].Identity, points[1].Identity, points[2].Identity = "old", "old", "new"
	points[1].Source = "vm/renamed"
	judged, err := recovery.Policy{Last: 1}.Judge(briefs(points), day0, nil, nil)
	wantJudged(t, judged, err, "-a1 older than the last 1", "+a2 last, keep-last 1", "+a3 last, keep-last 1")
	points[0].Identity, points[1].Identity, points[2].Identity = "same", "same", "same"
	points[1].Kind = recovery.Image // an image that somebody named like a VM's instance is no VM
	judged, err = recovery.Policy{Last: 1}.Judge(briefs(points), day0, nil, nil)
	wantJudged(t, judged, err, "-a1 older than the last 1", "+a2 last, keep-last 1", "+a3 last, keep-last 1")
}

// TestPolicyNeverBreaksAKeptChain: a database's backups are one source, and what a
// kept one is restored by stays, asked about or not.
func TestPolicyNeverBreaksAKeptChain(t *testing.T) {
	points := series("f1 sql/x/db sql-full", "l1 sql/x/db sql-log f1", "f2 sql/x/db sql-full", "d1 sql/x/db sql-diff f2", "l2 sql/x/db sql-log d1", "l3 sql/x/db sql-log l2")
	judged, err := recovery.Policy{Last: 1}.Judge(briefs(points), day0, nil, nil)
	wantJudged(t, judged, err, "-f1 older than the last 1", "-l1 older than the last 1", "+f2 needed by d1", "+d1 keep-last 1", "+l2 keep-last 1", "+l3 last, keep-last 1")
	judged, err = recovery.Policy{Last: 1}.Judge(briefs(points, "l1"), day0, nil, nil)
	wantJudged(t, judged, err, "+f1 needed by l1", "+l1 pinned", "+f2 needed by d1", "+d1 keep-last 1", "+l2 keep-last 1", "+l3 last, keep-last 1")
	judged, err = recovery.Policy{Last: 1}.Judge(briefs(points), day0, func(p *recovery.Brief) bool { return p.Kind() == recovery.SQLFull }, nil)
	wantJudged(t, judged, err, "+f1 needed by l1", "+f2 last, keep-last 1")

	// The parent of a disk's point is only what it was read against.
	disks := series("a1 vm/a vm", "a2 vm/a vm a1", "a3 vm/a vm a2")
	judged, err = recovery.Policy{Last: 1}.Judge(briefs(disks), day0, nil, nil)
	wantJudged(t, judged, err, "-a1 older than the last 1", "-a2 older than the last 1", "+a3 last, keep-last 1")

	// A manifest that lies cannot make it run for ever.
	round := series("x1 sql/x/db sql-log x2", "x2 sql/x/db sql-log x1", "x3 sql/x/db sql-log x3")
	judged, err = recovery.Policy{Last: 2}.Judge(briefs(round), day0, nil, nil)
	wantJudged(t, judged, err, "-x1 unreachable", "-x2 unreachable", "+x3 last")

	for named, want := range map[string]error{"f1": recovery.ErrNeeded, "f1 l1": nil, "l1": nil, "l2": recovery.ErrNeeded, "f2 d1 l2": recovery.ErrNeeded, "f2 d1 l2 l3": nil, "": nil} {
		going := strings.Fields(named)
		if err := recovery.NeededBy(briefs(points), func(id string) bool { return slices.Contains(going, id) }, nil); !errors.Is(err, want) {
			t.Errorf("forget %q: %v, want %v", named, err, want)
		}
	}
}

// TestRefusalNamesAllThatStandsOnWhatIsToGo, so that nobody has to ask once for each.
func TestRefusalNamesAllThatStandsOnWhatIsToGo(t *testing.T) {
	points := series("f1 sql/x/a sql-full", "l1 sql/x/a sql-log f1", "l2 sql/x/a sql-log l1", "g1 sql/x/b sql-full", "h1 sql/x/b sql-diff g1")
	err := recovery.NeededBy(briefs(points), func(id string) bool { return id == "f1" || id == "g1" }, nil)
	const want = "l1, l2 of sql/x/a stand on f1; point g1: h1 of sql/x/b stands on it: "
	if !errors.Is(err, recovery.ErrNeeded) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s…", err, want)
	}
}

func TestEmptyPolicyIsRefused(t *testing.T) {
	for _, p := range []recovery.Policy{{}, {Last: -1}, {Daily: -1, Weekly: -1, Monthly: -1, Yearly: -1, Within: -1, PIT: -1, Zone: time.UTC}} {
		if judged, err := p.Judge(briefs(series("a1 image/a")), day0, nil, nil); !errors.Is(err, recovery.ErrEmptyPolicy) || judged != nil {
			t.Errorf("%+v: %v %v", p, judged, err)
		}
	}
	if judged, err := (recovery.Policy{Last: 1}).Judge(nil, day0, nil, nil); err != nil || len(judged) != 0 {
		t.Errorf("no points: %v %v", judged, err)
	}
}

// TestClockThatDoesNotFitTheNewestPointStopsAPolicy: before it, or more than seven
// days after it.
func TestClockThatDoesNotFitTheNewestPointStopsAPolicy(t *testing.T) {
	points := series("a1 image/a", "b1 image/b", "a2 image/a")
	newest := points[2].Time
	for after, fits := range map[time.Duration]bool{
		-time.Nanosecond: false, -24 * time.Hour: false, 0: true, time.Hour: true, 7 * 24 * time.Hour: true, 7*24*time.Hour + time.Nanosecond: false, 3000 * time.Hour: false,
	} {
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -12*3600)} {
			err := recovery.CheckClock(&briefs(points)[2], newest.Add(after).In(zone))
			if fits != (err == nil) || !fits && !errors.Is(err, recovery.ErrStaleClock) {
				t.Errorf("%v after the newest point: %v", after, err)
			}
			if err != nil && !strings.Contains(err.Error(), "a2 of image/a") {
				t.Errorf("which point is it? %v", err)
			}
		}
	}
}

// TestOfTwoPointsOfOneMomentBothAreTheNewest: a full and the log that follows it.
func TestOfTwoPointsOfOneMomentBothAreTheNewest(t *testing.T) {
	points := series("l1"+db+"sql-full", "a0"+db+"sql-log l1", "b0"+db+"sql-log a0")
	points[1].Time, points[2].Time = day0, day0.AddDate(0, 0, -1)
	points = []*recovery.Point{points[2], points[1], points[0]}
	judged, err := recovery.Policy{Yearly: 1}.Judge(briefs(points), day0.AddDate(9, 0, 0), nil, nil)
	wantJudged(t, judged, err, "-b0 weeks, months and years keep no log", "+a0 last", "+l1 last")
}

// TestForgettingInTurnNeverLeavesHalfAChain: logs and differentials go before fulls.
func TestForgettingInTurnNeverLeavesHalfAChain(t *testing.T) {
	points := series("f1"+db+"sql-full", "v1 vm/v vm", "d1"+db+"sql-diff f1", "l1"+db+"sql-log d1", "f2"+db+"sql-full", "v2 vm/v vm", "d2"+db+"sql-diff f2", "f3"+db+"sql-full", "v3 vm/v vm")
	judged, err := recovery.Policy{Last: 1}.Judge(briefs(points), day0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, b := range recovery.Going(judged) {
		order = append(order, b.ID())
	}
	if got := strings.Join(order, " "); got != "d2 v2 l1 d1 v1 f1 f2" {
		t.Errorf("they go as %s", got)
	}
}
