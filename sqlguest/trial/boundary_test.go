package trial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// scripted is a life to the millisecond.
type scripted struct {
	*world
	t *testing.T
	// lasting is how long each BACKUP takes, from its start to its end.
	lasting time.Duration
	points  map[string]string // what a case calls them → id
	commits map[string]moment
}

func newScript(t *testing.T, day time.Time) *scripted {
	s := &scripted{world: newWorld(t.Context(), 3, map[string]int{}, mutant{}), t: t, points: map[string]string{}, commits: map[string]moment{}}
	t.Cleanup(s.close)
	s.zone, s.now = berlin, day
	s.hubAndServer()
	return s
}

// hubAndServer starts a server whose database has a table from the beginning.
func (s *scripted) hubAndServer() {
	zone, now := s.zone, s.now
	if err := safely(s.start); err != nil {
		s.t.Fatal(err)
	}
	s.zone, s.now = zone, now
	if _, err := s.db().SetModel(s.ctx, storage.Full); err != nil {
		s.t.Fatal(err)
	}
}

// commit writes one row at a moment.
func (s *scripted) commit(at time.Time, name, mark string, bulk bool) {
	s.t.Helper()
	s.now = at
	tx, err := s.db().Begin(s.ctx, "")
	if err != nil {
		s.t.Fatal(err)
	}
	id := int64(len(s.commits) + 1)
	if bulk {
		err = tx.BulkInsert("t", [][]any{{id, name}})
	} else {
		_, err = tx.Insert("t", []any{id, name})
	}
	if mark != "" {
		tx.SetMark(mark, "", "sa")
	}
	c, commitErr := tx.Commit()
	if err := errors.Join(err, commitErr); err != nil {
		s.t.Fatal(err)
	}
	s.commits[name] = moment{at: c.LSN, begun: at}
}

// backup begins one at a moment.
func (s *scripted) backup(at time.Time, name string, want decide.Want) {
	s.t.Helper()
	s.now = at
	s.lab.BreakDevice(func(_ context.Context, _ string, written int64) error {
		if written == 0 {
			s.now = s.now.Add(s.lasting)
		}
		return nil
	})
	r := &sqlguest.Run{Server: s.sql, Label: "sql/LAB", Place: place, Transport: server.VDI, Databases: []string{s.name},
		Request: decide.Request{Want: want}, Device: s.device, Keep: s.keeper(s.repo)}
	steps, err := r.All(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, step := range steps {
		if step.Err != nil || step.Point == nil || len(steps) != 1 {
			s.t.Fatalf("%s: %+v", name, steps)
		}
		s.points[name] = step.Point.ID
	}
}

// boundary is a target with what must come of it: names of commits that are in, or
// the words of a refusal.
type boundary struct {
	name   string
	target plan.Target
	want   string // names of the commits that are in, in their order
	refuse string
	before string // of a refusal: the neighbours, a point's name or a time
	after  string
	nobody bool // knows the source server's zone: the points keep offsets alone
}

func (s *scripted) check(cases []boundary) {
	hub := s.other()
	for n, c := range cases {
		s.t.Run(c.name, func(t *testing.T) {
			as := fmt.Sprintf("restored %d", n)
			ours := slices.Clone(hub.ours)
			for i := range ours {
				if c.nobody {
					ours[i].Zone = ""
				}
			}
			done, err := s.restoring(hub.sql, hub.repo, ours, c.target, plan.Options{As: as}).Do(s.ctx)
			if c.refuse != "" {
				s.refused(t, c, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := s.selected(hub.sql, as)
			if _, err := hub.sql.Query(s.ctx, "DROP DATABASE "+facts.Quote(as)); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, id := range slices.Sorted(maps.Keys(got)) {
				names = append(names, got[id])
			}
			if text := strings.Join(names, " "); text != c.want {
				t.Errorf("%s: %q, want %q\n%+v", c.target, text, c.want, done.Plan)
			}
		})
	}
}

func (s *scripted) refused(t *testing.T, c boundary, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), c.refuse) {
		t.Fatalf("%s: %v, want a refusal: %s", c.target, err, c.refuse)
	}
	u := unreachable(err)
	if u == nil {
		if !isAmbiguous(err) {
			t.Fatal(err)
		}
		return
	}
	for _, n := range []struct {
		want  string
		point string
		is    bool
		at    time.Time
	}{{c.before, point(u.Before), u.Before != nil, at(u.Before)}, {c.after, point(u.After), u.After != nil, at(u.After)}} {
		got := "none"
		switch {
		case n.is && n.point != "":
			for name, id := range s.points {
				if id == n.point {
					got = "end of " + name
				}
			}
		case n.is:
			got = n.at.Format("15:04:05")
		}
		if got != n.want {
			t.Errorf("%s: neighbour %q, want %q (%v)", c.target, got, n.want, u)
		}
	}
}

// TestBoundaries are the targets at which a comparison that is off by one shows.
func TestBoundaries(t *testing.T) {
	day := time.Date(2026, 3, 2, 8, 0, 0, 0, berlin)
	after := func(ms int) time.Time { return day.Add(time.Duration(ms) * time.Millisecond) }
	s := newScript(t, day)
	s.lasting = 2 * time.Second
	s.commit(after(10_000), "A", "", false)
	s.backup(after(20_500), "full", decide.Full) // 08:00:20 to 08:00:22
	s.commit(after(30_500), "B", "", false)
	s.commit(after(40_250), "C", "m1", false)
	s.backup(after(50_000), "log 1", decide.Log)
	s.commit(after(60_000), "D", "", false)
	s.backup(after(70_000), "log 2", decide.Log)
	if _, err := s.db().SetModel(s.ctx, storage.BulkLogged); err != nil {
		t.Fatal(err)
	}
	s.commit(after(80_000), "E", "m2", true)
	s.backup(after(90_000), "log 3", decide.Log)
	s.commit(after(100_000), "F", "m1", false)
	s.backup(after(110_000), "log 4", decide.Log)
	clock := func(ms int) plan.Target { return plan.Target{At: after(ms), Bare: true} }
	through := func(name string, before bool) plan.Target {
		return plan.Target{LSN: s.commits[name].at, Before: before}
	}
	s.check([]boundary{
		{name: "before the database's first full", target: clock(15_000), refuse: "no full", before: "none", after: "end of full"},
		{name: "before the first full's end", target: clock(21_000), refuse: "no full", before: "none", after: "end of full"},
		{name: "in the second in which the full ended", target: clock(22_900), refuse: "no full", before: "none", after: "end of full"},
		{name: "the first second behind the full", target: clock(23_000), want: "A"},
		{name: "a tick before a log's first commit", target: clock(30_490), want: "A"},
		{name: "a log's first commit", target: clock(30_500), want: "A B"},
		{name: "a log's last commit", target: clock(40_250), want: "A B C"},
		{name: "a tick before a log's last commit", target: clock(40_240), want: "A B"},
		{name: "a log's start", target: clock(50_000), want: "A B C"},
		{name: "between two logs", target: clock(55_000), want: "A B C"},
		{name: "the first commit of the next log", target: clock(60_000), want: "A B C D"},
		{name: "the start of the log before the bulk-logged one", target: clock(70_000), want: "A B C D"},
		{name: "inside a bulk-logged log", target: clock(75_000), refuse: "bulk-logged", before: "end of log 2", after: "end of log 3"},
		{name: "at a commit inside a bulk-logged log", target: clock(80_000), refuse: "bulk-logged", before: "end of log 2", after: "end of log 3"},
		{name: "the first second behind the bulk-logged log", target: clock(93_000), want: "A B C D E"},
		{name: "in the second in which the bulk-logged log ended", target: clock(92_500), refuse: "bulk-logged", before: "end of log 2", after: "end of log 3"},
		{name: "the last log's last commit", target: clock(100_000), want: "A B C D E F"},
		{name: "the last log's start", target: clock(110_000), want: "A B C D E F"},
		{name: "after the last log's start", target: clock(111_000), refuse: "after the last log", before: "08:01:50", after: "end of log 4"},
		{name: "after the last log", target: clock(120_000), refuse: "after the last log", before: "end of log 4", after: "none"},
		{name: "latest", target: plan.Target{}, want: "A B C D E F"},
		{name: "the end of the full", target: plan.Target{Point: s.points["full"]}, want: "A"},
		{name: "the end of a log", target: plan.Target{Point: s.points["log 1"]}, want: "A B C"},
		{name: "the end of the bulk-logged log", target: plan.Target{Point: s.points["log 3"]}, want: "A B C D E"},
		{name: "through a log's first commit by LSN", target: through("B", false), want: "A B"},
		{name: "before a log's first commit by LSN", target: through("B", true), want: "A"},
		{name: "through a log's last commit by LSN", target: through("C", false), want: "A B C"},
		{name: "before a log's last commit by LSN", target: through("C", true), want: "A B"},
		{name: "through a commit in the full by LSN", target: through("A", false), refuse: "no full", before: "none", after: "end of full"},
		{name: "through a commit in a bulk-logged log by LSN", target: through("E", false), refuse: "bulk-logged", before: "end of log 2", after: "end of log 3"},
		{name: "at a mark that is there twice", target: plan.Target{Mark: "m1"}, refuse: "several transactions"},
		{name: "at the first of two marks", target: plan.Target{Mark: "m1", After: after(40_000), Bare: true}, want: "A B C"},
		{name: "before the first of two marks", target: plan.Target{Mark: "m1", Before: true, After: after(40_000), Bare: true}, want: "A B"},
		{name: "at the second of two marks", target: plan.Target{Mark: "m1", After: after(40_260), Bare: true}, want: "A B C D E F"},
		{name: "before the second of two marks", target: plan.Target{Mark: "m1", Before: true, After: after(40_260), Bare: true}, want: "A B C D E"},
		{name: "after the last mark of a name", target: plan.Target{Mark: "m1", After: after(100_010), Bare: true}, refuse: "not at --after or later", before: "none", after: "none"},
		{name: "at a mark in a bulk-logged log", target: plan.Target{Mark: "m2"}, refuse: "bulk-logged", before: "end of log 2", after: "end of log 3"},
		{name: "an instant with another offset", target: plan.Target{At: after(40_250).UTC()}, want: "A B C"},
	})
}

// TestTheHourThatIsShownTwice: clocks go from 3 back to 2 between two logs, and a stop
// clause has no offset.
func TestTheHourThatIsShownTwice(t *testing.T) {
	at := func(hour, minute int) time.Time { // by UTC: 0:30 is 2:30 with summer's offset, 1:30 with winter's
		return time.Date(2026, 10, 25, hour, minute, 0, 0, time.UTC).In(berlin)
	}
	s := newScript(t, at(-1, 0))
	s.backup(at(-1, 10), "full", decide.Full)
	s.commit(at(-1, 30), "at 1:30", "", false)
	s.backup(at(-1, 40), "log 1", decide.Log)
	s.commit(at(0, 30), "at 2:30", "summer", false)
	s.backup(at(0, 40), "log 2", decide.Log)
	s.commit(at(1, 30), "at 2:30 again", "winter", false)
	s.backup(at(1, 40), "log 3", decide.Log)
	s.commit(at(2, 30), "at 3:30", "", false)
	s.backup(at(2, 40), "log 4", decide.Log)
	bare := func(hour, minute int) plan.Target {
		return plan.Target{At: time.Date(2026, 10, 25, hour, minute, 0, 0, time.UTC), Bare: true}
	}
	const twice = "clock was changed about then"
	s.check([]boundary{
		{name: "before the hour", target: bare(1, 30), want: "at 1:30"},
		{name: "the minute before the hour", target: bare(1, 59), want: "at 1:30"},
		{name: "the minute before the hour, in a zone that nobody knows", target: bare(1, 59), nobody: true, refuse: twice},
		{name: "the hour's beginning", target: bare(2, 0), refuse: twice},
		{name: "in the hour", target: bare(2, 30), refuse: twice},
		{name: "in the hour, in a zone that nobody knows", target: bare(2, 30), nobody: true, refuse: twice},
		{name: "the hour's last minute", target: bare(2, 59), refuse: twice},
		{name: "in the hour, by an instant before the change", target: plan.Target{At: at(0, 30)}, want: "at 1:30 at 2:30"},
		{name: "in the hour, by an instant before the change, in a zone that nobody knows", target: plan.Target{At: at(0, 30)}, nobody: true, want: "at 1:30 at 2:30"},
		{name: "in the hour, by an instant behind the change", target: plan.Target{At: at(1, 30)}, refuse: twice, before: "end of log 2", after: "end of log 3"},
		{name: "behind the hour", target: bare(3, 0), want: "at 1:30 at 2:30 at 2:30 again"},
		{name: "behind the hour, in a zone that nobody knows", target: bare(3, 0), nobody: true, refuse: twice},
		{name: "behind the hour, at a commit", target: bare(3, 30), want: "at 1:30 at 2:30 at 2:30 again at 3:30"},
		{name: "in the hour, by LSN before the change", target: plan.Target{LSN: s.commits["at 2:30"].at}, want: "at 1:30 at 2:30"},
		{name: "in the hour, by LSN behind the change", target: plan.Target{LSN: s.commits["at 2:30 again"].at}, want: "at 1:30 at 2:30 at 2:30 again"},
		{name: "in the hour, at a mark before the change", target: plan.Target{Mark: "summer"}, want: "at 1:30 at 2:30"},
		{name: "in the hour, before a mark behind the change", target: plan.Target{Mark: "winter", Before: true}, want: "at 1:30 at 2:30"},
		{name: "in the hour, a point before the change", target: plan.Target{Point: s.points["log 2"]}, want: "at 1:30 at 2:30"},
		{name: "in the hour, a point behind the change", target: plan.Target{Point: s.points["log 3"]}, want: "at 1:30 at 2:30 at 2:30 again"},
	})
}

// TestTimesOfTheHourByTheirOffsets: the first time can be restored if a log ends before
// the change. The second cannot: SQL Server has come beyond its reading (4335).
func TestTimesOfTheHourByTheirOffsets(t *testing.T) {
	at := func(hour, minute int) time.Time {
		return time.Date(2026, 10, 25, hour, minute, 0, 0, time.UTC).In(berlin)
	}
	s := newScript(t, at(-1, 0))
	s.backup(at(-1, 10), "full", decide.Full)
	s.commit(at(0, 20), "2:20", "", false)
	s.commit(at(0, 38), "2:38", "", false)
	s.backup(at(0, 40), "log 1", decide.Log)
	s.commit(at(0, 50), "2:50", "", false)
	s.backup(at(1, 5), "log 2", decide.Log)
	s.commit(at(1, 20), "2:20 again", "", false)
	s.commit(at(1, 30), "2:30 again", "", false)
	s.backup(at(1, 40), "log 3", decide.Log)
	instant := func(hour, minute int) plan.Target { return plan.Target{At: at(hour, minute).UTC()} }
	for _, nobody := range []bool{false, true} {
		s.check([]boundary{
			{name: "the first time", target: instant(0, 30), want: "2:20", nobody: nobody},
			{name: "the second time", target: instant(1, 25), refuse: "clock was changed about then", before: "end of log 2", after: "end of log 3", nobody: nobody},
			{name: "in the log that has both", target: instant(0, 45), refuse: "clock was changed about then", before: "end of log 1", after: "end of log 2", nobody: nobody},
		})
	}
}

// TestTheHourThatIsNeverShown: clocks go from 2 on to 3; a time between is what was
// there before.
func TestTheHourThatIsNeverShown(t *testing.T) {
	at := func(hour, minute int) time.Time {
		return time.Date(2026, 3, 29, hour, minute, 0, 0, time.UTC).In(berlin)
	}
	s := newScript(t, at(-1, 0))
	s.backup(at(-1, 10), "full", decide.Full)
	s.commit(at(0, 30), "at 1:30", "", false)
	s.backup(at(0, 40), "log 1", decide.Log)
	s.commit(at(0, 50), "at 1:50", "", false)
	s.commit(at(1, 10), "at 3:10", "", false)
	s.backup(at(1, 40), "log 2", decide.Log)
	bare := func(hour, minute int) plan.Target {
		return plan.Target{At: time.Date(2026, 3, 29, hour, minute, 0, 0, time.UTC), Bare: true}
	}
	s.check([]boundary{
		{name: "before the change", target: bare(1, 50), want: "at 1:30 at 1:50"},
		{name: "an hour that never was", target: bare(2, 30), want: "at 1:30 at 1:50"},
		{name: "an hour that never was, in a zone that nobody knows", target: bare(2, 30), nobody: true, want: "at 1:30 at 1:50"},
		{name: "behind the change", target: bare(3, 10), want: "at 1:30 at 1:50 at 3:10"},
		{name: "an instant behind the change", target: plan.Target{At: at(1, 10)}, want: "at 1:30 at 1:50 at 3:10"},
		{name: "an instant between backups of two offsets, in a zone that nobody knows", target: plan.Target{At: at(1, 10)}, nobody: true, refuse: "clock was changed about then"},
	})
}

func point(m *chain.Moment) string {
	if m == nil {
		return ""
	}
	return m.Point
}

func at(m *chain.Moment) time.Time {
	if m == nil {
		return time.Time{}
	}
	return m.Time
}
