package replay_test

import (
	"strings"
	"testing"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
)

// renamed is a world whose sales is called umsatz now, with a backup under that name, and
// where a stranger has the name that it had.
func renamed(t *testing.T) (*world, story) {
	w := newWorld(t)
	s := w.live()
	w.exec("ALTER DATABASE sales MODIFY NAME = umsatz")
	w.exec("CREATE DATABASE sales ON (NAME = sales, FILENAME = 'C:\\Data\\other.mdf') LOG ON (NAME = sales_log, FILENAME = 'C:\\Log\\other.ldf'); CREATE TABLE sales.dbo.customers (id int PRIMARY KEY, name nvarchar(40)); INSERT INTO sales.dbo.customers (id, name) VALUES (10, N'foreign')")
	w.back(decide.Auto, "umsatz")
	return w, s
}

// TestRestoreGoesToTheDatabaseThatWasNamed: the backup of then knows the name of then,
// which is somebody else's by now.
func TestRestoreGoesToTheDatabaseThatWasNamed(t *testing.T) {
	w, s := renamed(t)
	for want, target := range map[string]plan.Target{"full": {Point: s.full}, "full log": {At: s.inLog, Bare: true}, "full log mark": {Mark: "m1"}} {
		p, err := w.jobOf(w.instance, "umsatz", target, plan.Options{Replace: true}).Preview(t.Context())
		w.must(err)
		if p.Plan.Database != "umsatz" || strings.Contains(findings(p), "P-family") {
			t.Errorf("%s: the plan is for %s: %s", target, p.Plan.Database, findings(p))
		}
		for _, step := range p.Plan.Steps {
			if strings.Contains(step.Text, "[sales]") {
				t.Errorf("%s: %s", target, step.Text)
			}
		}
		res, err := w.jobOf(w.instance, "umsatz", target, plan.Options{Replace: true}).Do(t.Context())
		w.must(err)
		w.want("umsatz", want)
		w.want("sales", "foreign")
		if res.Database != "umsatz" {
			t.Errorf("%s: restored to %s", target, res.Database)
		}
	}
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	if res := w.mustDo(w.jobOf(other, "umsatz", plan.Target{Point: s.full}, plan.Options{})); res.Database != "umsatz" {
		t.Errorf("elsewhere: restored to %s", res.Database)
	}
	other.want("umsatz", "full")
}

// TestRestoreGoesToTheNameThatWasTyped: whatever the newest backup knows.
func TestRestoreGoesToTheNameThatWasTyped(t *testing.T) {
	w, s := renamed(t)
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	if res := w.mustDo(w.jobOf(other, "umsatz", plan.Target{Point: s.full}, plan.Options{Name: "sales"})); res.Database != "sales" {
		t.Errorf("restored to %s", res.Database)
	}
	other.want("sales", "full")
	other.wantState("umsatz", "none")
	w.want("sales", "foreign")
}

// mustDo carries a restore out.
func (w *world) mustDo(r *replay.Run) *replay.Result {
	w.t.Helper()
	res, err := r.Do(w.t.Context())
	w.must(err)
	return res
}
