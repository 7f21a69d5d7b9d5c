package sqlguest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
)

// join puts sales into an availability group, or changes this replica's role in it.
func (w *world) join(role string, preferred bool) {
	w.t.Helper()
	w.must(w.lab.JoinGroup("sales", "group", role, preferred))
}

// guest is a run by way of a guest, over the three samples.
func (w *world) guest(request decide.Request) []sqlguest.Step {
	w.t.Helper()
	request.Guest = true
	r := w.job(request.Want, w.sql)
	r.Request, r.Databases = request, []string{"sales", "stock"}
	steps, err := r.All(w.t.Context())
	w.must(err)
	return steps
}

func warned(s sqlguest.Step, rule decide.Rule) bool {
	return slices.ContainsFunc(s.Decision.Warnings, func(x decide.Warning) bool { return x.Rule == rule })
}

// TestX5GroupInAGuestIsRefusedUnlessAllowed: by name, beside its neighbours; beside the
// server nobody has to allow it.
func TestX5GroupInAGuestIsRefusedUnlessAllowed(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.join(estate.Primary, true)
	steps := w.guest(decide.Request{Want: decide.Full})
	w.want(w.decided(steps), "sales refuse X5", "stock full S-full")
	if !errors.Is(steps[0].Err, sqlguest.ErrRefused) || !strings.Contains(steps[0].Err.Error(), "--allow-ag") || steps[0].Point != nil {
		t.Errorf("%+v", steps[0])
	}
	if got := decide.Exit(decisions(steps)); got != decide.ExitLeftOut {
		t.Errorf("exit %d", got)
	}
	if got := decide.Exit(decisions(steps[:1])); got != decide.ExitRefused {
		t.Errorf("alone: exit %d", got)
	}
	steps = w.guest(decide.Request{Want: decide.Full, AllowAG: true})
	w.want(w.said(steps), "sales full S-full", "stock full S-full")
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	w.must(w.lab.LeaveGroup("sales"))
	w.want(w.said(w.guest(decide.Request{Want: decide.Log})), "sales log S-log", "stock skip Q6")
}

// TestQ11ClusterInAGuestIsRefusedUnlessAllowed: a failover cluster instance, all of it.
func TestQ11ClusterInAGuestIsRefusedUnlessAllowed(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	hub := bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Clustered: true, Sample: true, Devices: hub, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	w.must(err)
	t.Cleanup(func() { w.must(l.Close()) })
	w.sql, err = direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: "x", OpenSet: hub.OpenSet})
	w.must(err)
	t.Cleanup(func() { w.must(w.sql.Close()) })
	steps := w.guest(decide.Request{Want: decide.Full})
	w.want(w.decided(steps), "sales refuse Q11", "stock refuse Q11")
	if decide.Exit(decisions(steps)) != decide.ExitRefused || !errors.Is(steps[0].Err, sqlguest.ErrRefused) || len(w.identities()) > 0 {
		t.Errorf("%+v", steps)
	}
	w.want(w.said(w.guest(decide.Request{Want: decide.Full, AllowAG: true})), "sales full S-full", "stock full S-full")
	_, said := w.run(decide.Diff, "sales")
	w.want(said, "sales diff S-diff")
}

// TestM11SecondaryGivesCopyOnlyFullsAndLogs: what a secondary cannot give becomes what it
// can; the chain goes on over a change of roles, and the differential base is the
// primary's full all along.
func TestM11SecondaryGivesCopyOnlyFullsAndLogs(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.join(estate.Primary, true)
	_, said := w.run(decide.Auto, "sales")
	w.want(said, "sales full M12", "sales log S-log")

	w.join(estate.Secondary, true)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (100, N'from the primary')")
	for want, expected := range map[decide.Want]string{decide.Diff: "sales full M11.11", decide.Full: "sales full S-full"} {
		steps, said := w.run(want, "sales")
		w.want(said, expected)
		if !steps[0].Decision.CopyOnly {
			t.Errorf("%s: %+v", want, steps[0].Decision)
		}
	}
	_, said = w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	r := w.job(decide.Log, w.sql)
	r.Request.CopyOnly, r.Databases = true, []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	if len(steps) != 1 || steps[0].Decision.Rule != decide.RuleCopyLog || !errors.Is(steps[0].Err, sqlguest.ErrImpossible) {
		t.Errorf("copy-only log: %+v", steps)
	}

	w.join(estate.Primary, false)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (101, N'after the failover')")
	steps, said = w.run(decide.Diff, "sales")
	w.want(said, "sales diff S-diff")
	if !warned(steps[0], decide.RulePreferred) {
		t.Errorf("another replica is preferred: %+v", steps[0].Decision.Warnings)
	}
	_, said = w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	if n := w.chainIsWhole("sales"); n != 3 {
		t.Errorf("%d logs", n)
	}
	_, sql := w.another()
	_, err = w.restore(sql, plan.Options{}).Do(t.Context())
	w.must(err)
	rows, err := sql.Query(t.Context(), "SELECT COUNT(*) FROM sales.dbo.customers WHERE id >= 100")
	w.must(err)
	if rows.Values[0][0] != int64(2) {
		t.Errorf("%v", rows.Values)
	}
}

// TestM11AutomaticOnASecondary: where we have nothing yet a copy-only full and the log,
// then logs; a full by age is copy-only again.
func TestM11AutomaticOnASecondary(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.exec("BACKUP DATABASE sales TO DISK='NUL'") // the primary's, by somebody else
	w.join(estate.Secondary, true)
	_, said := w.run(decide.Auto, "sales")
	w.want(said, "sales full M12", "sales log S-log")
	_, said = w.run(decide.Auto, "sales")
	w.want(said, "sales log S-auto-log")
	w.now = w.now.AddDate(0, 0, 7)
	steps, said := w.run(decide.Auto, "sales")
	w.want(said, "sales full S-auto-full", "sales log S-log")
	if !steps[0].Decision.CopyOnly {
		t.Errorf("%+v", steps[0].Decision)
	}
	w.chainIsWhole("sales")
}

// TestM13LogsOfASecondaryHaveNoMarks: a transaction's mark is in the primary's msdb alone;
// the log that holds it says so, and the mark is not among ours.
func TestM13LogsOfASecondaryHaveNoMarks(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.join(estate.Primary, true)
	w.run(decide.Auto, "sales")
	mark := func(name string) {
		w.exec("BEGIN TRANSACTION " + name + " WITH MARK 'm'; UPDATE sales.dbo.customers SET name = N'" + name + "' WHERE id = 1; COMMIT")
	}
	mark("one")
	steps, _ := w.run(decide.Log, "sales")
	if warned(steps[0], decide.RuleMarks) {
		t.Error("a warning about a primary's log")
	}
	w.join(estate.Secondary, true)
	mark("two")
	steps, _ = w.run(decide.Log, "sales")
	if !warned(steps[0], decide.RuleMarks) {
		t.Errorf("warnings %+v", steps[0].Decision.Warnings)
	}
	w.join(estate.Primary, true)
	mark("three")
	w.run(decide.Log, "sales")
	var names []string
	for _, b := range w.backups("sales") {
		for _, m := range b.Marks {
			names = append(names, m.Name)
		}
	}
	if !slices.Equal(names, []string{"one", "three"}) {
		t.Errorf("marks %q", names)
	}
}

// TestX5RestoreOverAGroupIsRefused: before anything is touched, with the way out; after
// the database has left its group it is overwritten.
func TestX5RestoreOverAGroupIsRefused(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.join(estate.Primary, true)
	before := w.lastLog("sales")
	_, err := w.restore(w.sql, plan.Options{Replace: true, Kick: true}).Do(t.Context())
	var refused *replay.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "(rule X5)") || !strings.Contains(refused.Hint(), "REMOVE DATABASE") {
		t.Errorf("%v", err)
	}
	if w.lastLog("sales") != before || len(w.backups("sales")) != 2 {
		t.Error("the tail was taken")
	}
	w.must(w.lab.LeaveGroup("sales"))
	_, err = w.restore(w.sql, plan.Options{Replace: true, Kick: true}).Do(t.Context())
	w.must(err)
}
