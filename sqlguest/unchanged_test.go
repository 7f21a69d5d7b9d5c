package sqlguest_test

import (
	"testing"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// TestM24UnchangedDatabasesAreLeftOut: of a run of differentials those into which nothing
// was logged since the look before their full, which SQL Server can prove of read-only
// databases alone: a full writes into every other one. What was writable in between is
// backed up, whether anything was written or not.
func TestM24UnchangedDatabasesAreLeftOut(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.exec("CREATE DATABASE archive")
	w.exec("CREATE TABLE archive.dbo.t (id int PRIMARY KEY)")
	w.exec("ALTER DATABASE archive SET READ_ONLY")
	all := []string{"sales", "stock", "archive"}
	w.run(decide.Full, all...)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (100, N'new')")
	for range 2 { // a differential of the neighbours changes nothing about it
		_, said := w.run(decide.Diff, all...)
		w.want(said, "sales diff S-diff", "stock diff S-diff", "archive skip M24")
	}
	w.must(w.lab.StopService())
	w.must(w.lab.StartService())
	_, said := w.run(decide.Diff, "archive")
	w.want(said, "archive skip M24")

	for range 2 { // once with nothing written, once with a row
		w.exec("ALTER DATABASE archive SET READ_WRITE")
		w.exec("ALTER DATABASE archive SET READ_ONLY")
		steps, said := w.run(decide.Diff, "archive")
		w.want(said, "archive diff S-diff")
		if decide.Exit(decisions(steps)) != decide.ExitDone {
			t.Errorf("%+v", steps)
		}
		w.exec("ALTER DATABASE archive SET READ_WRITE")
		w.exec("INSERT INTO archive.dbo.t (id) VALUES (1)")
		w.exec("ALTER DATABASE archive SET READ_ONLY")
		_, said = w.run(decide.Diff, "archive")
		w.want(said, "archive diff S-diff")
		w.exec("ALTER DATABASE archive SET READ_WRITE")
		w.exec("DELETE FROM archive.dbo.t")
		w.exec("ALTER DATABASE archive SET READ_ONLY")
		_, said = w.run(decide.Full, "archive")
		w.want(said, "archive full S-full")
		_, said = w.run(decide.Diff, "archive")
		w.want(said, "archive skip M24")
	}
}
