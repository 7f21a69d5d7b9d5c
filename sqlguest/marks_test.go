package sqlguest_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// TestMarksAreKeptWithTheLogThatHoldsThem, by LSN and fork: those that a restore has
// undone stay in msdb, and belong to no log that follows.
func TestMarksAreKeptWithTheLogThatHoldsThem(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	mark := func(name string) {
		w.now = w.now.Add(time.Minute)
		w.exec("BEGIN TRAN " + name + " WITH MARK 'for the test'; UPDATE sales.dbo.customers SET name = N'" + name + "' WHERE id = 1; COMMIT TRAN " + name)
	}
	w.run(decide.Auto, "sales")
	w.exec("BACKUP DATABASE sales TO DISK='aside' WITH COPY_ONLY")
	mark("early")
	w.now = w.now.Add(time.Minute)
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	for range 20 {
		mark("undone")
	}
	w.now = w.now.Add(time.Minute)
	w.exec("RESTORE DATABASE sales FROM DISK='aside' WITH REPLACE")
	mark("fresh")
	w.now = w.now.Add(time.Minute)
	_, said = w.run(decide.Auto, "sales")
	w.want(said, "sales full Q21", "sales log S-log")

	all, err := w.job(decide.Log, w.sql).Keep.Backups(t.Context(), w.identities()[0])
	w.must(err)
	var got []string
	for _, m := range chain.Marks(all) {
		got = append(got, m.Name)
	}
	w.want(got, "early", "fresh")
	undone := slices.IndexFunc(all, func(b chain.Backup) bool {
		return slices.Contains(b.Why, "marks of what a restore of the database has undone were left out")
	})
	if undone < 0 {
		t.Error("no log was in doubt: the LSNs of what was undone were not given out again, and the test proves nothing")
	}
}
