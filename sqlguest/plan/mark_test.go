package plan

import (
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
)

// paydays are a full and logs A to C, a day each, over a change of the clock in B's
// second half, and a mark in each log; C's is behind the change.
func paydays(zone string, at [3]time.Time, offsets [4]int) []chain.Backup {
	in := func(t time.Time, o int) time.Time { return t.In(time.FixedZone("", o*3600)) }
	all := []chain.Backup{set(chain.Full, "F", 50, 100, 0), set(chain.Log, "A", 100, 200, 0), set(chain.Log, "B", 200, 300, 0), set(chain.Log, "C", 300, 400, 0)}
	for i := range all {
		b := &all[i]
		b.Started = in(at[0].AddDate(0, 0, i-1).Truncate(24*time.Hour).Add(21*time.Hour), offsets[i])
		b.Finished, b.Zone = b.Started.Add(5*time.Second), zone
		if i > 0 { // msdb's reading, with the offset that the backup's start had
			b.Marks = []chain.Mark{{Name: "payday", LSN: l(uint32(100*i + 50)), At: in(at[i-1], offsets[i])}}
		}
	}
	return all
}

func TestMarksAfterAnInstantAreCounted(t *testing.T) {
	spring := [3]time.Time{time.Date(2026, 3, 27, 11, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 11, 0, 0, 0, time.UTC), time.Date(2026, 3, 29, 10, 0, 0, 0, time.UTC)}
	autumn := [3]time.Time{time.Date(2026, 10, 23, 10, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 10, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC)} // 02:30, shown twice
	const windows = "W. Europe Standard Time"
	clock := func(text string) Target {
		at, isBare, err := ParseTime(text)
		if err != nil {
			t.Fatal(err)
		}
		return Target{Mark: "payday", After: at, Bare: isBare}
	}
	for _, zone := range []string{"", windows} {
		s, a := paydays(zone, spring, [4]int{1, 1, 1, 2}), paydays(zone, autumn, [4]int{2, 2, 2, 1})
		for _, x := range []struct {
			of    []chain.Backup
			after string
			want  string
		}{
			{s, "2026-03-29T08:00:00Z", "F A B C?"},
			{s, "2026-03-29T10:00:00+02:00", "F A B C?"},
			{s, "2026-03-28T11:00:00Z", "F A B?"},
			{s, "2026-03-28T11:00:01Z", "F A B C?"},
			{s, "2026-03-29T11:00:01Z", "refused: - -"},
			{s, "2026-03-29 12:00", "F A B C?"},
			{s, "2026-03-29 12:00:01", "refused: - -"},
			{a, "2026-10-24T10:00:00Z", "F A B?"},
			{a, "2026-10-25T00:00:00Z", "F A B C?"},
			{a, "2026-10-25T00:45:00Z", "ambiguous: 02:30+01:00F1"}, // it may have been the first 02:30
			{a, "2026-10-25T01:30:01Z", "refused: - -"},
			{a, "2026-10-25 02:15", "ambiguous: 02:15+02:00 02:15+01:00"},
			{a, "2026-10-25 01:45", map[string]string{"": "ambiguous: 01:45+02:00 01:45+01:00", windows: "F A B C?"}[zone]},
		} {
			if got := told(Make(clock(x.after), x.of, Options{})); got != x.want {
				t.Errorf("zone %q, after %s: %s, want %s", zone, x.after, got, x.want)
			}
		}
	}
	// Without a zone nobody knows when a clock was set forward: 12:00 was 10:00Z or 11:00Z.
	s := paydays("", spring, [4]int{1, 1, 1, 2})
	if got := told(Make(clock("2026-03-29T10:30:00Z"), s, Options{})); got != "ambiguous: 12:00+02:00F1" {
		t.Error(got)
	}
	if got := told(Make(clock("2026-03-29T10:30:00Z"), paydays(windows, spring, [4]int{1, 1, 1, 2}), Options{})); got != "refused: - -" {
		t.Error(got)
	}
}

// TestMarksNamedLikeAnLSN: a stop clause would mean that LSN.
func TestMarksNamedLikeAnLSN(t *testing.T) {
	for _, name := range []string{"lsn:" + l(220).String(), "LSN:" + l(220).String(), "lsn:payday", " lsn:1"} {
		list := chained()
		list[3].Marks = []chain.Mark{{Name: name, LSN: l(280), At: list[3].Started}}
		p, err := Make(Target{Mark: name}, list, Options{})
		if told(p, err) != "A D L2?" || p.Stop.Mark != "lsn:"+l(280).String() || p.At != list[3].Started {
			t.Errorf("%s: %s, stop %s, at %s", name, told(p, err), p.Stop, p.At)
		}
	}
}

// TestMarksThatAreNotKeptMakeANameNoPlace: another transaction of that name may lie among
// them.
func TestMarksThatAreNotKeptMakeANameNoPlace(t *testing.T) {
	list := chained()
	list[1].Marks = []chain.Mark{{Name: "x", LSN: l(150), At: list[1].Started.Add(-time.Minute)}}
	list[3].Marks = []chain.Mark{{Name: "x", LSN: l(280), At: list[3].Started.Add(-time.Minute)}}
	list[1].Unlisted = l(160)
	for _, c := range []struct {
		t    Target
		want string
	}{
		{Target{Mark: "x"}, "ambiguous"},
		{Target{Mark: "x", After: list[1].Started.Add(-time.Minute)}, "A L1?"},
		{Target{Mark: "x", After: list[1].Started.Add(-time.Second)}, "ambiguous"},
		{Target{Mark: "x", After: list[1].Started.Add(time.Minute)}, "A D L2?"},
		{Target{Mark: "y"}, "refused"},
		{Target{LSN: l(170)}, "A L1?"},
	} {
		p, err := Make(c.t, list, Options{})
		if got := told(p, err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s after %s: %s, want %s", c.t, c.t.After, got, c.want)
		}
		if c.want == "ambiguous" && !c.t.After.IsZero() && !strings.Contains(err.Error(), "log backup L1") {
			t.Error(err)
		}
	}
	list[3].Marks = nil
	if _, err := Make(Target{Mark: "x"}, list, Options{}); err == nil || !strings.Contains(err.Error(), "log backup L1") {
		t.Errorf("one that is known, and perhaps others: %v", err)
	}
}

// TestMarkThatIsRefusedSaysWhatThereIs: made before --after, misspelt, or made twice in a
// second.
func TestMarkThatIsRefusedSaysWhatThereIs(t *testing.T) {
	at := func(m, ms int) time.Time { return time.Date(2026, 3, 2, 8, m, 1, ms*1e6, cet) }
	o := Options{Marks: map[string][]Mark{"L1": {{"m1", l(150), at(5, 120)}, {"m1", l(160), at(5, 340)}}}}
	for _, x := range []struct {
		target     Target
		says, hint string
	}{
		{Target{Mark: "m1", After: at(6, 0)}, "restore to mark m1: it cannot be reached: that mark was made, and not at --after or later: 2026-03-02T08:05:01.120+01:00 at LSN " + l(150).String() + " and 2026-03-02T08:05:01.340+01:00 at LSN " + l(160).String(), "one of these times"},
		{Target{Mark: "m2", Before: true}, "restore to just before mark m2: it cannot be reached: no log backup is known", "holdfast sql marks sales lists"},
		{Target{Mark: "m1"}, "08:05:01.120+01:00 at LSN " + l(150).String() + " or 2026-03-02T08:05:01.340+01:00 at LSN", "--after"},
	} {
		_, err := Make(x.target, chained(), o)
		hint, is := err.(interface{ Hint() string })
		if !is || !strings.Contains(err.Error(), x.says) || !strings.Contains(hint.Hint(), x.hint) {
			t.Errorf("%s: %v; hint %v", x.target, err, hint)
		}
	}
	if got := told(Make(Target{Mark: "m1", After: at(5, 340)}, chained(), o)); got != "A L1?" {
		t.Error(got)
	}
	a := &Ambiguous{Readings: []Reading{{LSN: l(1), Fork: "F1"}, {LSN: l(1), Fork: "F2"}}}
	if hint := a.Hint(); !strings.Contains(hint, "--fork") || strings.Contains(hint, "--lsn") {
		t.Errorf("an LSN on two histories: %s", hint)
	}
}
