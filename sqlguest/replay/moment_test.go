package replay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
)

// TestMomentOfAResultLiesBehindItsRows: also where a row came in the second in which the
// log ended, which msdb rounds down. Behind it nothing is in.
func TestMomentOfAResultLiesBehindItsRows(t *testing.T) {
	w := newWorld(t)
	at := map[string]time.Time{}
	add := func(id int, name string) {
		w.now = w.now.Truncate(time.Minute).Add(time.Minute + 700*time.Millisecond)
		at[name] = w.now
		w.exec(fmt.Sprintf("BEGIN TRANSACTION %[2]s WITH MARK; INSERT INTO sales.dbo.customers (id, name) VALUES (%[1]d, N'%[2]s'); COMMIT", id, name))
	}
	w.back(decide.Full, "sales")
	add(10, "a")
	first := w.backAtOnce(decide.Log)
	add(11, "b")
	add(12, "c")
	second := w.backAtOnce(decide.Log)
	add(13, "d")
	marks, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	var b, ends chain.Backup
	for _, k := range marks {
		if k.Point == second {
			b = k
		}
		if k.Point == first {
			ends = k
		}
	}
	if len(b.Marks) != 2 {
		t.Fatalf("%+v", b.Marks)
	}
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	for i, x := range []struct {
		target plan.Target
		rows   string
		last   string // row in it
		next   string // first one that is not
		none   bool   // nobody can tell
	}{
		{target: plan.Target{}, rows: "a b c", last: "c", next: "d"},
		{target: plan.Target{Point: first}, rows: "a", last: "a", next: "b"},
		{target: plan.Target{At: at["b"].Add(time.Second), Bare: true}, rows: "a b", last: "b", next: "c"},
		{target: plan.Target{Mark: "b"}, rows: "a b", last: "b", next: "c"},
		{target: plan.Target{LSN: ends.Last, Before: true}, rows: "a", last: "a", next: "b"},
		{target: plan.Target{LSN: b.Marks[0].LSN}, rows: "a b", none: true},
	} {
		name := fmt.Sprintf("sales%d", i)
		res := w.restore(other, x.target, plan.Options{As: name, End: plan.Standby})
		other.want(name, x.rows)
		if x.none != res.Moment.IsZero() || !x.none && (res.Moment.Before(at[x.last]) || !res.Moment.Before(at[x.next])) {
			t.Errorf("%s: at %s; %s was written at %s, %s at %s", x.target, res.Moment, x.last, at[x.last], x.next, at[x.next])
		}
		if res.LSN.IsZero() || res.Fork == "" {
			t.Errorf("%s: %+v", x.target, res)
		}
	}
	// There is nothing to go on with, and it stands where it stood.
	r := w.job(other, plan.Target{}, plan.Options{As: "sales0"})
	r.Continue = true
	res, err := r.Do(t.Context())
	w.must(err)
	if res.LSN != b.Last || res.Fork != b.Fork || !res.Moment.Equal(b.SurelyAfter()) {
		t.Errorf("gone on with nothing: %+v", res)
	}
	// The tail is what it ends with.
	res = w.restore(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	w.want("sales", "a b c d")
	if res.Moment.Before(at["d"]) || res.Moment.After(w.now.Add(time.Second)) {
		t.Errorf("with the tail: at %s; d was written at %s", res.Moment, at["d"])
	}
}

// backAtOnce backs up within the second.
func (w *world) backAtOnce(want decide.Want) string {
	w.t.Helper()
	now := w.now
	w.now = now.Add(-time.Minute) // back lets a minute pass
	point := w.back(want, "sales")[0]
	return point
}

// TestMomentOfAnIdleTailIsTheTails: nothing was logged since the full, and that is known
// until the tail was taken.
func TestMomentOfAnIdleTailIsTheTails(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.now = w.now.Add(time.Hour)
	res := w.restore(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	if res.Tail == "" || res.Moment.Before(w.now) || res.Moment.After(w.now.Add(2*time.Second)) {
		t.Errorf("at %s, by %s; tail %q", res.Moment, w.now, res.Tail)
	}
}

// TestNearestOntoTheTailIsToldOnce: the plan that is made with the tail says what is
// restored, and the one before it no more.
func TestNearestOntoTheTailIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.add(10, "a")
	w.back(decide.Log, "sales")
	w.add(11, "b")
	res, err := w.job(w.instance, plan.Target{At: w.now.Add(time.Hour), Bare: true}, plan.Options{Replace: true, Kick: true, Nearest: plan.Before}).Do(t.Context())
	w.must(err)
	if told := strings.Join(res.Warnings, "\n"); strings.Count(told, "cannot be reached") != 1 || !strings.Contains(told, "this restores end of point "+res.Tail) {
		t.Errorf("tail %s: %q", res.Tail, res.Warnings)
	}
}
