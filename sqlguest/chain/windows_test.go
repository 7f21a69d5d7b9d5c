package chain

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/lsn"
)

// timed gives backups times by the minute, in the order given.
func timed(list ...Backup) []Backup {
	t := time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 3600))
	for i := range list {
		list[i].Started, list[i].Finished = t, t.Add(5*time.Second)
		t = t.Add(time.Minute)
	}
	return list
}

func bulk(b Backup) Backup   { b.BulkLogged = true; return b }
func simple(b Backup) Backup { b.Model = "SIMPLE"; return b }
func ruled(rule string, b Backup) Backup {
	b.Rule = rule
	return b
}
func copied(b Backup) Backup       { b.CopyOnly = true; return b }
func damaged(b Backup) Backup      { b.Damage = "lost"; return b }
func on(f string, b Backup) Backup { b.FirstFork, b.Fork = f, f; return b }
func spans(from, to string, at lsn.LSN, b Backup) Backup {
	b.FirstFork, b.Fork, b.ForkPoint = from, to, at
	return b
}

// drawn is a reach in short: windows as from-to, single points, holes.
func drawn(r Reach) string {
	var parts []string
	for _, w := range r.Windows {
		if w.Single {
			parts = append(parts, fmt.Sprintf("%d", w.From.LSN.Block))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", w.From.LSN.Block, w.To.LSN.Block))
	}
	for _, h := range r.Holes {
		parts = append(parts, fmt.Sprintf("%s %d-%d %s", h.Why, h.From.Block, h.To.Block, h.Point))
	}
	if r.Broken {
		parts = append(parts, "broken")
	}
	return strings.Join(parts, ", ")
}

func TestWindowsComeFromTheChain(t *testing.T) {
	a := set(Full, "A", 100, 110)
	c := copied(set(Full, "C", 300, 310))
	for _, x := range []struct {
		what string
		all  []Backup
		want string
	}{
		{"nothing", nil, ""},
		{"fulls alone are single points", timed(a, set(Full, "B", 200, 210)), "110, 210"},
		{"logs make a window", timed(a, set(Log, "L1", 100, 200), set(Log, "L2", 200, 300)), "110-300"},
		{"a log without a full", timed(set(Log, "L1", 100, 200)), "gap 0-100 L1, broken"},
		{"an idle log adds time, and no records", timed(a, set(Log, "L1", 100, 200), set(Log, "E", 200, 200)), "110-200"},
		{"a log that holds nothing behind its full: the time until then", timed(a, set(Log, "L", 100, 110)), "110-110"},
		{"gap", timed(a, set(Log, "L1", 100, 200), set(Log, "L3", 250, 300)), "110-200, gap 200-250 L3, broken"},
		{"bridged by a differential", timed(a, set(Log, "L1", 100, 200), diffOf(a, "D", 260, 270), set(Log, "L3", 250, 300)), "110-200, 270-300, gap 200-270 D"},
		{"bridged by a copy-only full", timed(a, set(Log, "L1", 100, 200), c, set(Log, "L3", 250, 400)), "110-200, 310-400, gap 200-310 C"},
		{"a full before the next log", timed(a, set(Log, "L1", 100, 200), set(Full, "B", 250, 260)), "110-200, 260"},
		{"a full because somebody took the log", timed(a, set(Log, "L1", 100, 200), ruled("Q20", set(Full, "B", 250, 260))), "110-200, 260, gap 200-260 B"},
		{"a full of SIMPLE", timed(a, set(Log, "L1", 100, 200), simple(set(Full, "B", 250, 260))), "110-200, 260, gap 200-260 B"},
		{"a full behind which the logs begin", timed(a, set(Log, "L1", 100, 200), set(Full, "B", 250, 260), set(Log, "L2", 255, 300)), "110-200, 260-300, gap 200-260 B"},
		{"SIMPLE for a while, and back", timed(a, set(Log, "L1", 100, 200), simple(set(Full, "B", 250, 260)), simple(set(Full, "S", 270, 280)), set(Full, "E", 290, 300), set(Log, "L2", 290, 400)),
			"110-200, 260, 280, 300-400, gap 200-260 B, gap 280-300 E"},
		{"bulk-logged: its end only", timed(a, set(Log, "L1", 100, 200), bulk(set(Log, "L2", 200, 300)), set(Log, "L3", 300, 400)), "110-200, 300-400, bulk-logged 200-300 L2"},
		{"a full inside a bulk-logged log", timed(a, set(Log, "L1", 100, 200), set(Full, "B", 240, 250), bulk(set(Log, "L2", 200, 300))), "110-200, 250, 300, bulk-logged 250-300 L2"},
		{"damaged log", timed(a, set(Log, "L1", 100, 200), damaged(set(Log, "L2", 200, 300)), set(Log, "L3", 300, 400)), "110-200, damage 200-300 L2, gap 200-300 L3, broken"},
		{"damaged log that a copy-only one replaces", timed(a, copied(set(Log, "K", 150, 300)), set(Log, "L1", 100, 200), damaged(set(Log, "L2", 200, 300)), set(Log, "L3", 300, 400)), "110-400, damage 200-300 L2"},
		{"a copy-only log and a bulk-logged one that end together", timed(a, copied(set(Log, "K", 100, 200)), bulk(set(Log, "L1", 100, 200))), "110-200, bulk-logged 110-200 L1"},
		{"differential of another's full", timed(a, diffOf(set(Full, "X", 200, 210), "D", 260, 270)), "110, foreign 200-270 D, broken"},
		{"an older full still leads on when the newer one is damaged", timed(a, set(Log, "L1", 100, 200), damaged(set(Full, "B", 150, 160)), set(Log, "L2", 200, 300)), "110-300, damage 150-160 B"},
	} {
		list := Histories(x.all, "FAM")
		got := ""
		if len(list) > 0 {
			got = drawn(list[0].Reach(nil))
		}
		if got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

// TestOnlyConfirmedAndReadableBackupsAreBuiltOn: what each state of one backup does to
// what follows it, and whether the chain is broken then.
func TestOnlyConfirmedAndReadableBackupsAreBuiltOn(t *testing.T) {
	a := set(Full, "A", 100, 110)
	l1, l2, d := set(Log, "L1", 100, 200), set(Log, "L2", 200, 300), diffOf(a, "D", 205, 210)
	in := func(s State, b Backup) Backup { b.State = s; return b }
	met := func(b Backup) Backup { b.Damaged = true; return b }
	gone := func(b Backup) Backup { b.Last = lsn.LSN{}; return b } // nobody has said where it ends
	for _, x := range []struct {
		what   string
		all    []Backup
		want   string
		broken bool
	}{
		{"the full is unconfirmed", timed(in(Unconfirmed, a), l1), "gap 0-100 L1, broken", true},
		{"the full is denied", timed(in(Denied, a), l1), "gap 0-100 L1, broken", true},
		{"the full is damaged", timed(damaged(a), l1), "damage 100-110 A, gap 0-100 L1, broken", true},
		{"SQL Server met damage in the full", timed(met(a), l1), "damage 100-110 A, gap 0-100 L1, broken", true},
		{"the full is another database's", timed(func() Backup { x := a; x.Family = "X"; return x }(), l1), "gap 0-100 L1, broken", true},
		{"the last log is unconfirmed", timed(a, l1, gone(in(Unconfirmed, l2))), "110-200", false},
		{"the last log is denied", timed(a, l1, gone(in(Denied, l2))), "110-200", false},
		{"the last log is damaged", timed(a, l1, damaged(l2)), "110-200, damage 200-300 L2, broken", true},
		{"a log between is denied, and comes again", timed(a, gone(in(Denied, l1)), set(Log, "M", 100, 250)), "110-250", false},
		{"a log between is unconfirmed", timed(a, in(Unconfirmed, l1), l2), "110, gap 110-200 L2, broken", true},
		{"the differential is denied", timed(a, l1, in(Denied, d)), "110-200", false},
		{"the differential is damaged", timed(a, l1, damaged(d), l2), "110-300, damage 205-210 D", false},
		{"the differential's full is unconfirmed", timed(in(Unconfirmed, a), d), "foreign 100-210 D, broken", true},
		{"the differential's full is damaged", timed(damaged(a), d), "damage 100-110 A, foreign 100-210 D, broken", true},
		{"all are unconfirmed", timed(in(Unconfirmed, a), in(Unconfirmed, l1)), "", true},
		{"nothing", nil, "", false},
	} {
		got := ""
		r := Describe(x.all, nil)
		if len(r.Lines) > 0 {
			got = drawn(r.Lines[0].Reach)
		}
		if got != x.want || r.Broken != x.broken {
			t.Errorf("%s: %q, broken %v; want %q, %v", x.what, got, r.Broken, x.want, x.broken)
		}
		told := 0
		for _, f := range r.Forks {
			told += len(f.Logs)
			for _, b := range f.Bases {
				told += len(b.Diffs)
				if b.Point != "" {
					told++
				}
			}
		}
		if x.what != "the full is another database's" && told != len(x.all) {
			t.Errorf("%s: %d of %d backups are told", x.what, told, len(x.all))
		}
	}
}

func TestTimesAreThoseOfTheHistoryThatTheDatabaseWasOn(t *testing.T) {
	a, l1, l2 := set(Full, "A", 100, 110), set(Log, "L1", 100, 200), set(Log, "L2", 200, 300)
	spansOf := func(all []Backup) (got []string) {
		for _, l := range Describe(all, nil).Lines {
			text := l.Fork
			for _, s := range l.Spans {
				text += " " + s.From.Format("04:05") + "-" + s.To.Format("04:05")
			}
			got = append(got, text)
		}
		return got
	}
	forked := timed(a, l1, l2, spans("F1", "F2", at(250), set(Log, "S", 200, 400)), on("F2", set(Log, "T", 400, 500)))
	reverted := timed(a, l1, l2, set(Full, "B", 230, 240), set(Log, "M", 200, 260), set(Log, "N", 260, 270))
	reverted[3].Abandons = []string{"L2"}
	for _, x := range []struct {
		what string
		all  []Backup
		want []string
	}{
		{"one", timed(a, l1, l2), []string{"F1 00:06-02:00"}},
		// Nobody knows when, between 02:00 and 03:00, the restore began.
		{"restored", forked, []string{"F2 00:06-01:00 03:01-04:00", "F1 00:06-02:00"}},
		{"reverted", reverted, []string{"F1 00:06-01:00 03:01-05:00", "F1 00:06-02:00"}},
		{"a log of the second of its full", []Backup{timed(a)[0], timed(l1)[0]}, []string{"F1"}},
	} {
		if got := spansOf(x.all); !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

// TestR9AWindowEndsWithTheLogThatCoversItsTime, and not with a bulk-logged one that
// ends at the same LSN.
func TestR9AWindowEndsWithTheLogThatCoversItsTime(t *testing.T) {
	a, k, l := set(Full, "A", 100, 110), copied(set(Log, "K", 100, 200)), set(Log, "L", 100, 200)
	for _, x := range []struct {
		all  []Backup
		want string
	}{{timed(a, k, l), "L"}, {timed(a, l, k), "K"}, {timed(a, k, bulk(l)), "K"}, {timed(a, bulk(k), l), "L"}} {
		w := Histories(x.all, "FAM")[0].Reach(nil).Windows
		if len(w) != 1 || w[0].To.Point != x.want {
			t.Errorf("%+v; want an end with %s", w, x.want)
		}
	}
}

func TestWindowTimesAreSure(t *testing.T) {
	all := timed(set(Full, "A", 100, 110), set(Log, "L", 100, 200))
	all[0].Finished = all[0].Finished.Add(700 * time.Millisecond)
	w := Histories(all, "FAM")[0].Reach(nil).Windows[0]
	// What ended in the sixth second is surely over in the seventh; a log surely holds
	// what happened before it was begun.
	if got := w.From.Time.Format(time.RFC3339); got != "2026-03-02T08:00:06+01:00" {
		t.Errorf("the window begins at %s", got)
	}
	if got := w.To.Time.Format(time.RFC3339); got != "2026-03-02T08:01:00+01:00" {
		t.Errorf("the window ends at %s", got)
	}
}

func TestForeignLogIsNamedInItsGap(t *testing.T) {
	all := timed(set(Full, "A", 100, 110), set(Log, "L1", 100, 200), set(Log, "L3", 250, 300))
	rows := []Row{{Header: set(Log, "L1", 100, 200).Header}, {Header: set(Log, "F", 200, 250).Header, User: "veeam"}, {Header: copied(set(Log, "K", 200, 240)).Header}}
	h := Histories(all, "FAM")[0].Reach(rows).Holes
	if len(h) != 1 || h[0].Foreign == nil || h[0].Foreign.User != "veeam" {
		t.Errorf("holes %+v", h)
	}
}

func points(h History) string {
	var list []string
	for _, b := range h.Backups {
		list = append(list, b.Point)
	}
	return strings.Join(list, " ")
}

func TestHistoriesFollowForksAndReverts(t *testing.T) {
	a, l1, l2 := set(Full, "A", 100, 110), set(Log, "L1", 100, 200), set(Log, "L2", 200, 300)
	for _, x := range []struct {
		what string
		all  []Backup
		want []string
	}{
		{"one", timed(a, l1, l2), []string{"A L1 L2"}},
		{"restored to 250: L2 ends beyond the fork", timed(a, l1, l2, spans("F1", "F2", at(250), set(Log, "S", 200, 400))), []string{"A L1 S", "A L1 L2"}},
		{"a full between the next log's beginning and the fork point is on both", timed(a, l1, set(Full, "B", 220, 230), l2, spans("F1", "F2", at(250), set(Log, "S", 200, 400))),
			[]string{"A L1 B S", "A L1 B L2"}},
		{"a log that ends before the fork point, and that the restore did not apply whole", timed(a, l1, set(Log, "L2", 200, 240), spans("F1", "F2", at(250), set(Log, "S", 200, 400))),
			[]string{"A L1 S", "A L1 L2"}},
		{"another fork leaves before the full: the way may not lead by it", timed(a, l1, set(Full, "B", 220, 230), spans("F1", "F2", at(210), set(Log, "S", 200, 400)), spans("F1", "F3", at(250), set(Log, "T", 200, 500))),
			[]string{"A L1 T", "A L1 S", "A L1 B"}},
		{"a differential names its full beyond an unknown fork", timed(a, l1, on("F2", diffOf(a, "D", 200, 210))), []string{"A D", "A L1"}},
		{"reverted before L2", func() []Backup {
			x := timed(a, l1, l2, set(Full, "B", 230, 240), set(Log, "M", 200, 260))
			x[3].Abandons = []string{"L2"}
			return x
		}(), []string{"A L1 B M", "A L1 L2"}},
		{"left the fork after it was set back, or before: only what is common", func() []Backup {
			x := timed(a, l1, l2, set(Full, "B", 230, 240), set(Log, "M", 200, 260), spans("F1", "F2", at(260), set(Log, "S", 260, 400)))
			x[3].Abandons = []string{"L2"}
			return x
		}(), []string{"A L1 S", "A L1 B M", "A L1 L2"}},
	} {
		var got []string
		for _, h := range Histories(x.all, "FAM") {
			got = append(got, points(h))
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

func TestLogThatSpansAForkIsTakenOnEitherSide(t *testing.T) {
	l := spans("F1", "F2", at(150), set(Log, "S", 100, 200)).Header
	for _, x := range []struct {
		redo uint32
		fork string
		want bool
	}{{99, "F1", false}, {100, "F1", true}, {150, "F1", true}, {151, "F1", false}, {149, "F2", false}, {150, "F2", true}, {199, "F2", true}, {200, "F2", false}, {120, "F3", false}} {
		if got := l.Takes(at(x.redo), x.fork); got != x.want {
			t.Errorf("at %d on %s: %v", x.redo, x.fork, got)
		}
	}
}

func TestDescribe(t *testing.T) {
	a := set(Full, "A", 100, 110)
	all := timed(a, set(Log, "L1", 100, 200), diffOf(a, "D", 200, 210), set(Log, "L2", 200, 300),
		spans("F1", "F2", at(250), set(Log, "S", 200, 400)), on("F2", diffOf(set(Full, "X", 1, 2), "E", 410, 420)))
	r := Describe(all, nil)
	if r.Family != "FAM" || !r.Broken || len(r.Forks) != 2 || len(r.Lines) != 2 {
		t.Fatalf("%+v", r)
	}
	f1, f2 := r.Forks[0], r.Forks[1]
	if len(f1.Bases) != 1 || len(f1.Bases[0].Diffs) != 1 || len(f1.Logs) != 2 || f1.Parent != "" {
		t.Errorf("F1: %+v", f1)
	}
	if f2.Parent != "F1" || f2.At != at(250) || len(f2.Bases) != 1 || !f2.Bases[0].Missing {
		t.Errorf("F2: %+v", f2)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"histories":[{"fork":"F2"`, `"windows":[{"from":{"point":"A","lsn":"`, `"why":"foreign"`, `"broken":true`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}

// BenchmarkAYearOfLogs is a full a day and a log every quarter of an hour.
func BenchmarkAYearOfLogs(b *testing.B) {
	var all []Backup
	end := uint32(100)
	for day := range 365 {
		all = append(all, set(Full, fmt.Sprint("F", day), end, end+10))
		for k := range 96 {
			all = append(all, set(Log, fmt.Sprint("L", day, "-", k), end, end+20))
			end += 20
		}
	}
	all = timed(all...)
	for b.Loop() {
		if Describe(all, nil).Broken {
			b.Fatal("broken")
		}
	}
}
