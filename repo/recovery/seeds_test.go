package recovery_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests of days need real zones

	"holdfast/repo/recovery"
)

// zoneOf is a zone by its name.
func zoneOf(t interface {
	Helper()
	Fatal(...any)
}, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// february is the history of one database that R1 to R12 are about: fulls on each
// Wednesday (1 February 2017 done at 16:00, the next at 15:00), differentials daily
// at 21:00 and, if asked for, logs every 30 minutes from 16:30 on, none at 21:00.
// Of a log the parent is the log before it, of the first one the full. Ids are
// f, d or l with month, day, hour and minute.
type february struct {
	zone        *time.Location
	diffs, logs bool
}

func (f february) at(day, hour, minute, second int) time.Time {
	return time.Date(2017, 2, day, hour, minute, second, 0, f.zone)
}

// until are the points that exist at now.
func (f february) until(now time.Time) []*recovery.Point {
	var points []*recovery.Point
	full, lastLog := "", ""
	for at := f.at(1, 16, 0, 0); !at.After(now); at = at.Add(30 * time.Minute) {
		p := &recovery.Point{Time: at, Source: "sql/db01/sales", Identity: "family"}
		clock := at.Format("15:04")
		_, _, day := at.Date()
		switch {
		case day == 1 && clock == "16:00" || day != 1 && at.Weekday() == time.Wednesday && clock == "15:00":
			p.Kind = recovery.SQLFull
		case f.diffs && clock == "21:00":
			p.Kind, p.Parent = recovery.SQLDiff, full
		case f.logs && clock != "21:00":
			p.Kind, p.Parent = recovery.SQLLog, lastLog
			if lastLog == "" {
				p.Parent = full
			}
		default:
			continue
		}
		kind := string(p.Kind[4])
		p.ID = kind + at.Format("01021504")
		switch kind {
		case "f":
			full = p.ID
		case "l":
			lastLog = p.ID
		}
		points = append(points, p)
	}
	return points
}

// judge is what the policy keeps at now, by id, with the reasons, and of what goes.
func judge(t testing.TB, p recovery.Policy, points []*recovery.Point, now time.Time) (kept, gone map[string]string) {
	t.Helper()
	judged, err := p.Judge(briefs(points), now, nil, nil)
	if err != nil || len(judged) != len(points) {
		t.Fatalf("%d judged of %d: %v", len(judged), len(points), err)
	}
	kept, gone = map[string]string{}, map[string]string{}
	for _, j := range judged {
		if j.Keep {
			kept[j.Point.ID()] = strings.Join(j.Reasons, ", ")
		} else {
			gone[j.Point.ID()] = strings.Join(j.Reasons, ", ")
		}
	}
	return kept, gone
}

// ids are the sorted ids that begin with prefix.
func ids(of map[string]string, prefix string) string {
	var some []string
	for id := range of {
		if strings.HasPrefix(id, prefix) {
			some = append(some, id)
		}
	}
	slices.Sort(some)
	return strings.Join(some, " ")
}

// diffsOf are the ids of the differentials of some days.
func diffsOf(from, to int) string {
	var all []string
	for day := from; day <= to; day++ {
		all = append(all, fmt.Sprintf("d02%02d2100", day))
	}
	return strings.Join(all, " ")
}

// westCoast is the zone of R1 to R12: PST.
func westCoast(t *testing.T) *time.Location { return zoneOf(t, "America/Los_Angeles") }

// TestR1PointsStayToTheEndOfTheirDays: ten days of daily retention, fulls alone, to
// the second and in any zone.
func TestR1PointsStayToTheEndOfTheirDays(t *testing.T) {
	for _, name := range []string{"America/Los_Angeles", "UTC", "Asia/Kathmandu", "Pacific/Auckland"} {
		f := february{zone: zoneOf(t, name)}
		policy := recovery.Policy{Daily: 10, Zone: f.zone}
		for _, tt := range []struct {
			now  time.Time
			want string
		}{
			{f.at(1, 16, 0, 0), "f02011600"},
			{f.at(11, 23, 59, 59), "f02011600 f02081500"},
			{f.at(12, 0, 0, 0).Add(-1), "f02011600 f02081500"},
			{f.at(12, 0, 0, 0), "f02081500"},
			{f.at(25, 23, 59, 59), "f02151500 f02221500"},
			{f.at(26, 0, 0, 0), "f02221500"},
		} {
			points := f.until(tt.now)
			kept, gone := judge(t, policy, points, tt.now.UTC()) // the zone is the policy's, not the clock's
			if got := ids(kept, "f"); got != tt.want {
				t.Errorf("%s, %s: %s, want %s", name, tt.now, got, tt.want)
			}
			for id, why := range gone {
				if why != "older than 10 days" {
					t.Errorf("%s goes: %s", id, why)
				}
			}
		}
	}
}

// TestR2AfterItsDaysAFullStaysByWeeksMonthsAndYearsAlone.
func TestR2AfterItsDaysAFullStaysByWeeksMonthsAndYearsAlone(t *testing.T) {
	f := february{zone: westCoast(t)}
	daily := recovery.Policy{Daily: 10, Zone: f.zone}
	weekly, monthly, yearly := daily, daily, daily
	weekly.Weekly, monthly.Monthly, yearly.Yearly = 2, 2, 2
	for _, tt := range []struct {
		policy recovery.Policy
		until  time.Time // what was backed up
		now    time.Time
		want   string // why the full of 1 February stays
	}{
		{weekly, f.at(11, 23, 59, 59), f.at(11, 23, 59, 59), "keep-daily 10, keep-weekly 2"},
		{daily, f.at(12, 11, 0, 0), f.at(12, 0, 0, 0), ""},
		{weekly, f.at(12, 11, 0, 0), f.at(12, 0, 0, 0), "keep-weekly 2"},
		{weekly, f.at(12, 11, 0, 0), f.at(12, 23, 59, 59), "keep-weekly 2"},
		{weekly, f.at(12, 11, 0, 0), f.at(13, 0, 0, 0), ""},
		{monthly, f.at(12, 11, 0, 0), f.at(12, 0, 0, 0), ""}, // the latest of February so far is that of the 8th
		{monthly, f.at(1, 16, 0, 0), time.Date(2017, 3, 31, 23, 59, 59, 0, f.zone), "last, keep-monthly 2"},
		{yearly, f.at(1, 16, 0, 0), time.Date(2018, 12, 31, 23, 59, 59, 0, f.zone), "last, keep-yearly 2"},
		{yearly, f.at(1, 16, 0, 0), time.Date(2019, 1, 1, 0, 0, 0, 0, f.zone), "last"},
	} {
		if kept, _ := judge(t, tt.policy, f.until(tt.until), tt.now); kept["f02011600"] != tt.want {
			t.Errorf("%+v at %s: %q, want %q", tt.policy, tt.now, kept["f02011600"], tt.want)
		}
	}
}

// TestR3WeekIsRepresentedByItsLatestPoint: the week ends on Sunday 23:59:59; months and
// years likewise take their latest, and the running one counts.
func TestR3WeekIsRepresentedByItsLatestPoint(t *testing.T) {
	f := february{zone: westCoast(t)}
	point := func(id string, at time.Time) *recovery.Point {
		return &recovery.Point{ID: id, Kind: recovery.Image, Source: "image/a", Identity: "a", Time: at}
	}
	points := []*recovery.Point{
		point("before", f.at(1, 16, 0, 0)), point("sunday", f.at(5, 23, 59, 59)), point("monday", f.at(6, 0, 0, 0)), point("tuesday", f.at(28, 23, 59, 59)),
		point("march", time.Date(2017, 3, 1, 0, 0, 0, 0, f.zone)), point("silvester", time.Date(2017, 12, 31, 23, 59, 59, 0, f.zone)), point("newyear", time.Date(2018, 1, 1, 0, 0, 0, 0, f.zone)), point("now", time.Date(2018, 1, 1, 1, 0, 0, 0, f.zone)),
	}
	for _, tt := range []struct {
		policy recovery.Policy
		many   int // of the points
		now    time.Time
		want   string
	}{
		{recovery.Policy{Weekly: 1}, 3, f.at(12, 23, 59, 59), "monday"},
		{recovery.Policy{Weekly: 2}, 3, f.at(12, 23, 59, 59), "monday sunday"},
		{recovery.Policy{Weekly: 2}, 3, f.at(13, 0, 0, 0), "monday"},
		{recovery.Policy{Weekly: 5}, 4, time.Date(2017, 3, 5, 23, 59, 59, 0, f.zone), "monday sunday tuesday"},
		{recovery.Policy{Weekly: 5}, 4, time.Date(2017, 3, 6, 0, 0, 0, 0, f.zone), "monday tuesday"},
		{recovery.Policy{Monthly: 2}, 5, time.Date(2017, 3, 31, 23, 59, 59, 0, f.zone), "march tuesday"},
		{recovery.Policy{Monthly: 2}, 5, time.Date(2017, 4, 1, 0, 0, 0, 0, f.zone), "march"},
		{recovery.Policy{Monthly: 2}, 8, time.Date(2018, 1, 1, 1, 0, 0, 0, f.zone), "now silvester"},
		{recovery.Policy{Yearly: 2}, 8, time.Date(2018, 12, 31, 23, 59, 59, 0, f.zone), "now silvester"},
		{recovery.Policy{Yearly: 2}, 8, time.Date(2019, 1, 1, 0, 0, 0, 0, f.zone), "now"},
	} {
		tt.policy.Zone = f.zone
		if kept, _ := judge(t, tt.policy, points[:tt.many], tt.now); ids(kept, "") != tt.want {
			t.Errorf("%+v at %s: %s, want %s", tt.policy, tt.now, ids(kept, ""), tt.want)
		}
	}
}

// wantFebruary judges fulls and differentials under ten days of daily retention; first
// is why the full of 1 February stays.
func wantFebruary(t *testing.T, f february, now time.Time, fulls, diffs, first string) {
	t.Helper()
	kept, _ := judge(t, recovery.Policy{Daily: 10, Zone: f.zone}, f.until(now), now)
	if ids(kept, "f") != fulls || ids(kept, "d") != diffs || kept["f02011600"] != first {
		t.Errorf("%s:\n%v\nwant %s, %s and %q", now, kept, fulls, diffs, first)
	}
}

// TestR4OnTheEleventhThereAreTwelvePoints, all of them warm.
func TestR4OnTheEleventhThereAreTwelvePoints(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true}
	now := f.at(11, 5, 0, 0)
	wantFebruary(t, f, now, "f02011600 f02081500", diffsOf(1, 10), "keep-daily 10")
	points := f.until(now)
	if len(points) != 12 {
		t.Errorf("%d points", len(points))
	}
	for _, p := range points {
		if !recovery.IsWarm(p.Time, now, f.zone) {
			t.Errorf("%s is cold", p.ID)
		}
	}
}

// TestR5DifferentialsOfTheFirstTwoDaysArePurged on 13 February, and both fulls stay.
func TestR5DifferentialsOfTheFirstTwoDaysArePurged(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true}
	wantFebruary(t, f, f.at(13, 11, 0, 0), "f02011600 f02081500", diffsOf(3, 12), "needed by d02072100")
}

// TestR6FullStaysWhileAKeptDifferentialNeedsIt, to the second, and longer if a week's
// latest is such a differential.
func TestR6FullStaysWhileAKeptDifferentialNeedsIt(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true}
	fulls := "f02081500 f02151500"
	wantFebruary(t, f, f.at(17, 23, 59, 59), "f02011600 "+fulls, diffsOf(7, 17), "needed by d02072100")
	wantFebruary(t, f, f.at(18, 0, 0, 0), fulls, diffsOf(8, 17), "")
	now := f.at(18, 0, 0, 0)
	kept, _ := judge(t, recovery.Policy{Daily: 10, Weekly: 3, Zone: f.zone}, f.until(now), now)
	if kept["d02052100"] != "keep-weekly 3" || kept["f02011600"] != "needed by d02052100" {
		t.Errorf("%v", kept)
	}
}

// TestR7DifferentialBelongsToItsBase: by what it names, not by its date; a
// differential that stands for its week holds the full before that week.
func TestR7DifferentialBelongsToItsBase(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true}
	now := f.at(20, 12, 0, 0)
	kept, _ := judge(t, recovery.Policy{Daily: 2, Weekly: 4, Zone: f.zone}, f.until(now), now)
	want := map[string]string{
		"f02011600": "needed by d02052100", "d02052100": "keep-weekly 4",
		"f02081500": "needed by d02122100", "d02122100": "keep-weekly 4",
		"f02151500": "needed by d02192100", "d02182100": "keep-daily 2", "d02192100": "last, keep-daily 2, keep-weekly 4",
	}
	if !maps.Equal(kept, want) {
		t.Errorf("%v\nwant %v", kept, want)
	}
	// On 8 February the full was done before the differential of 21:00.
	points := f.until(f.at(8, 21, 0, 0))
	if d := points[len(points)-1]; d.ID != "d02082100" || d.Parent != "f02081500" {
		t.Fatalf("%+v", d)
	}
	kept, _ = judge(t, recovery.Policy{Last: 1, Zone: f.zone}, points, f.at(8, 21, 0, 0))
	if ids(kept, "") != "d02082100 f02081500" {
		t.Errorf("%v", kept)
	}
}

// TestR8LogsComeEveryHalfHourFromTheFullOn: the history that the other tests are about
// begins at 16:30, and at 21:00 there is the differential.
func TestR8LogsComeEveryHalfHourFromTheFullOn(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true, logs: true}
	first := f.until(f.at(1, 21, 30, 0))
	var got []string
	for _, p := range first {
		got = append(got, p.ID)
	}
	want := "f02011600 l02011630 l02011700 l02011730 l02011800 l02011830 l02011900 l02011930 l02012000 l02012030 d02012100 l02012130"
	if strings.Join(got, " ") != want || first[1].Parent != "f02011600" || first[10].Parent != "f02011600" || first[11].Parent != "l02012030" {
		t.Errorf("%v\nwant %s", got, want)
	}
	kept, _ := judge(t, recovery.Policy{Daily: 10, Zone: f.zone}, first, f.at(1, 21, 30, 0))
	if len(kept) != len(first) {
		t.Errorf("%v", kept)
	}
}

// TestR9LogsFollowDaysAlone: a log of day D goes after the end of D+N, and weeks,
// months and years keep none.
func TestR9LogsFollowDaysAlone(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true, logs: true}
	for _, policy := range []recovery.Policy{{Daily: 10}, {Daily: 10, Weekly: 9, Monthly: 9, Yearly: 9}} {
		policy.Zone = f.zone
		now := f.at(11, 23, 59, 59)
		if _, gone := judge(t, policy, f.until(now), now); len(gone) != 0 {
			t.Errorf("all is at most ten days old, and %v goes", gone)
		}
		now = f.at(12, 0, 0, 0)
		_, gone := judge(t, policy, f.until(now), now)
		for day, want := range map[string]int{"l0201": 9 + 5, "l0202": 42} {
			if got := strings.Fields(ids(gone, day)); len(got) != want {
				t.Errorf("%d logs of %s go, want %d: %v", len(got), day, want, got)
			}
		}
		for id, why := range gone {
			if id[0] == 'l' && id < "l02020000" && why != "older than 10 days" || id > "l02022030" {
				t.Errorf("%s goes: %s", id, why)
			}
		}
	}
	now := f.at(12, 0, 0, 0)
	kept, _ := judge(t, recovery.Policy{Weekly: 9, Monthly: 9, Yearly: 9, Zone: f.zone}, f.until(now), now)
	for id, why := range kept {
		if id[0] == 'l' && why != "last" && !strings.HasPrefix(why, "needed by l") {
			t.Errorf("%s stays: %s", id, why)
		}
	}
}

// TestR10LogsThatNothingLeadsToAreNotCalledRetained: on 13 February those of the 3rd
// before its differential are young enough, and what they would be restored on is gone.
// The earliest moment is that differential's, 3 February 21:00. Logs hold nothing (X9).
func TestR10LogsThatNothingLeadsToAreNotCalledRetained(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true, logs: true}
	for _, policy := range []recovery.Policy{{Daily: 10}, {Daily: 10, Monthly: 9}} {
		policy.Zone = f.zone
		now := f.at(13, 11, 0, 0)
		kept, gone := judge(t, policy, f.until(now), now)
		logs := strings.Fields(ids(kept, "l"))
		if logs[0] != "l02032130" || logs[len(logs)-1] != "l02131100" || len(logs) != 5+9*47+23-1 { // at 15:00 of the 8th there is a full instead
			t.Errorf("%d logs are kept, from %s to %s", len(logs), logs[0], logs[len(logs)-1])
		}
		if ids(kept, "d") != diffsOf(3, 12) || ids(kept, "f") != "f02011600 f02081500" {
			t.Errorf("%s, %s", ids(kept, "f"), ids(kept, "d"))
		}
		lost := 0
		for id, why := range gone {
			switch {
			case id[0] == 'l' && id < "l02030000" && why == "older than 10 days":
			case id[0] == 'l' && id >= "l02030000" && id <= "l02032030" && why == "unreachable":
				lost++
			case id == "d02012100" || id == "d02022100":
			default:
				t.Errorf("%s goes: %s", id, why)
			}
		}
		if lost != 42 {
			t.Errorf("%d logs of 3 February are unreachable, want 42", lost)
		}
	}
}

// TestR11PointsAreWarmForNinetyDays: on 12 February 2017 the fulls of 1 and 8 February
// are; of November 2016 the days up to the 13th are cold.
func TestR11PointsAreWarmForNinetyDays(t *testing.T) {
	f := february{zone: westCoast(t)}
	now := f.at(12, 11, 0, 0)
	for _, tt := range []struct {
		at   time.Time
		warm bool
	}{
		{f.at(8, 15, 0, 0), true}, {f.at(1, 16, 0, 0), true}, {now, true},
		{time.Date(2016, 11, 30, 0, 0, 0, 0, f.zone), true},
		{time.Date(2016, 11, 14, 0, 0, 0, 0, f.zone), true},
		{time.Date(2016, 11, 13, 23, 59, 59, 0, f.zone), false},
		{time.Date(2016, 11, 1, 0, 0, 0, 0, f.zone), false},
	} {
		if got := recovery.IsWarm(tt.at.UTC(), now.UTC(), f.zone); got != tt.warm {
			t.Errorf("%s: warm %v", tt.at, got)
		}
	}
}

// TestR12TableOfTenDays: R1 and R6 together, to the second.
func TestR12TableOfTenDays(t *testing.T) {
	f := february{zone: westCoast(t), diffs: true}
	both := "f02011600 f02081500"
	wantFebruary(t, f, f.at(11, 5, 0, 0), both, diffsOf(1, 10), "keep-daily 10")
	wantFebruary(t, f, f.at(11, 23, 59, 59), both, diffsOf(1, 11), "keep-daily 10")
	wantFebruary(t, f, f.at(12, 0, 0, 0), both, diffsOf(2, 11), "needed by d02072100")
	wantFebruary(t, f, f.at(13, 11, 0, 0), both, diffsOf(3, 12), "needed by d02072100")
	wantFebruary(t, f, f.at(17, 23, 59, 59), both+" f02151500", diffsOf(7, 17), "needed by d02072100")
	wantFebruary(t, f, f.at(18, 0, 0, 0), "f02081500 f02151500", diffsOf(8, 17), "")
}

// TestForgettingEveryHalfHourIsForgettingAtLast: what a policy dropped before does
// not change what it keeps later. (By then the parents of many logs are gone.)
func TestForgettingEveryHalfHourIsForgettingAtLast(t *testing.T) {
	f := february{zone: zoneOf(t, "America/Los_Angeles"), diffs: true, logs: true}
	policy := recovery.Policy{Daily: 3, Weekly: 1, Zone: f.zone}
	all := f.until(f.at(22, 12, 0, 0))
	there := map[string]bool{}
	for n, p := range all {
		there[p.ID] = true
		left := slices.DeleteFunc(slices.Clone(all[:n+1]), func(p *recovery.Point) bool { return !there[p.ID] })
		_, gone := judge(t, policy, left, p.Time)
		for id := range gone {
			delete(there, id)
		}
	}
	atLast, _ := judge(t, policy, all, all[len(all)-1].Time)
	if !slices.Equal(slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(atLast))) {
		t.Errorf("step by step\n%v\nat last\n%v", slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(atLast)))
	}
}

// TestPITHoldsWhatItsMomentsNeed: the backup before the first moment, what that
// stands on, and all since.
func TestPITHoldsWhatItsMomentsNeed(t *testing.T) {
	f := february{zone: zoneOf(t, "America/Los_Angeles"), diffs: true, logs: true}
	now := f.at(13, 11, 0, 0)
	kept, gone := judge(t, recovery.Policy{PIT: 10 * 24 * time.Hour, Zone: f.zone}, f.until(now), now)
	if got := ids(kept, "d"); got != diffsOf(2, 12) || kept["f02011600"] != "needed by d02072100" {
		t.Errorf("%s, %q", got, kept["f02011600"])
	}
	if logs := strings.Fields(ids(kept, "l")); logs[0] != "l02022130" || kept[logs[0]] != "keep-pit 10d" {
		t.Errorf("from %s: %s", logs[0], kept[logs[0]])
	}
	for id, why := range gone {
		if why != "no moment of the last 10d needs it" || id > "l02022030" && id[0] == 'l' {
			t.Errorf("%s goes: %s", id, why)
		}
	}
}

// TestDaysOfChangedClocksAreDays: 23 or 25 hours long, they end at midnight.
func TestDaysOfChangedClocksAreDays(t *testing.T) {
	for _, tt := range []struct {
		zone             string
		year, month, day int // the day after which the clock is changed, or on which
	}{
		{"Europe/Berlin", 2026, 3, 28}, {"Europe/Berlin", 2026, 10, 24}, {"America/New_York", 2026, 3, 7}, {"America/New_York", 2026, 10, 31},
		{"Africa/Cairo", 2026, 4, 23}, {"Australia/Lord_Howe", 2026, 4, 4}, {"America/Havana", 2026, 10, 31}, {"Asia/Kolkata", 2026, 3, 28},
	} {
		zone := zoneOf(t, tt.zone)
		midnight := func(days int) time.Time {
			return time.Date(tt.year, time.Month(tt.month), tt.day+days, 0, 0, 0, 0, zone)
		}
		last := midnight(1).Add(-time.Second)
		points := []*recovery.Point{
			{ID: "a", Kind: recovery.VM, Identity: "v", Time: last}, {ID: "b", Kind: recovery.VM, Identity: "v", Time: midnight(1)}, {ID: "c", Kind: recovery.VM, Identity: "v", Time: midnight(1).Add(time.Hour)},
		}
		for now, want := range map[time.Time]string{midnight(2).Add(-time.Second): "a b c", midnight(2): "b c", midnight(3).Add(-time.Second): "b c", midnight(3): "c"} {
			if kept, _ := judge(t, recovery.Policy{Daily: 1, Zone: zone}, points, now); ids(kept, "") != want {
				t.Errorf("%s at %s: %s, want %s", tt.zone, now, ids(kept, ""), want)
			}
		}
	}
}

// TestLengthsOfTimeEndToTheSecond: what is as old as Within stays, and a point of
// the very moment at which PIT begins is enough to begin with.
func TestLengthsOfTimeEndToTheSecond(t *testing.T) {
	points := series("a1 image/a", "a2 image/a", "a3 image/a")
	for _, policy := range []recovery.Policy{{Within: 24 * time.Hour}, {PIT: 24 * time.Hour}} {
		for after, want := range map[time.Duration]string{-1: "a2 a3", 0: "a2 a3", 1: "a3"} {
			if policy.PIT > 0 {
				want = map[time.Duration]string{-1: "a1 a2 a3", 0: "a2 a3", 1: "a2 a3"}[after]
			}
			if kept, _ := judge(t, policy, points, day0.AddDate(0, 0, 2).Add(after)); ids(kept, "") != want {
				t.Errorf("%+v, %d ns later: %s, want %s", policy, after, ids(kept, ""), want)
			}
		}
	}
}
