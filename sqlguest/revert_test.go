package sqlguest_test

import (
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// TestSQL16RevertLeavesAFile: the staging directory lies on a share that is not set back
// with the machine. What the file holds is nowhere else any more.
func TestSQL16RevertLeavesAFile(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (61, N'only in file')")
	r := w.disk(decide.Log, w.sql, "sales")
	r.Keep = &dying{Keeper: r.Keep}
	_, err = r.All(t.Context())
	w.must(err)
	if len(w.files()) != 1 {
		t.Fatalf("the killed run left %v", w.files())
	}
	w.must(w.lab.Revert(snap))
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (62, N'after the revert')")
	said := w.all(w.disk(decide.Log, w.sql, "sales"))
	var taken, next *chain.Backup
	for _, b := range w.backups("sales") {
		switch b.Rule {
		case string(decide.RuleKept):
			taken = &b
		case string(decide.RuleOverlap):
			next = &b
		}
	}
	if len(w.files()) != 0 || taken == nil || taken.State != chain.Confirmed || taken.By != chain.ByItself || next == nil || next.First != taken.First {
		t.Errorf("files %v, taken in %+v, next %+v; %v", w.files(), taken, next, said)
	}
}
