package replay_test

import (
	"testing"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
)

// TestCopyIsNotRestoredForItsOriginal: a copy beside the original is backed up while that
// is offline, and while it is dropped; what is restored is the original's all the same,
// and the copy is left as it is.
func TestCopyIsNotRestoredForItsOriginal(t *testing.T) {
	w := newWorld(t)
	w.add(10, "both")
	w.back(decide.Full, "sales")
	w.restore(w.instance, plan.Target{}, plan.Options{As: "sales_test"})
	w.add(11, "real")
	w.exec("INSERT INTO sales_test.dbo.customers (id, name) VALUES (66, N'test')")
	w.back(decide.Auto, "sales", "sales_test")

	w.exec("ALTER DATABASE sales SET OFFLINE")
	w.back(decide.Auto, "sales", "sales_test")
	w.exec("ALTER DATABASE sales SET ONLINE")
	w.add(12, "later")
	w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
	w.want("sales", "both real later")
	w.back(decide.Auto, "sales", "sales_test")

	w.exec("DROP DATABASE sales")
	w.back(decide.Auto)
	w.restore(w.instance, plan.Target{}, plan.Options{As: "sales"})
	w.want("sales", "both real later")
	w.want("sales_test", "both test")

	w.add(13, "last")
	w.back(decide.Log, "sales", "sales_test")
	backups, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	for _, b := range backups {
		if b.Database != "sales" {
			t.Errorf("a backup of %s is among those of sales", b.Database)
		}
	}
	if backups[0].Kind != "full" || len(backups) < 6 {
		t.Errorf("%d backups of sales: its own from before are not there", len(backups))
	}
}
