package sqlguest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

func (w *world) packs() (names []string) {
	w.t.Helper()
	w.must(w.be.List(w.t.Context(), ledger.Data, func(i backend.Info) error { names = append(names, i.Name); return nil }))
	return names
}

// lose takes the packs away that fn has stored, and lets the repository know.
func (w *world) lose(fn func()) {
	w.t.Helper()
	before := w.packs()
	fn()
	gone := 0
	for _, name := range w.packs() {
		if !slices.Contains(before, name) {
			w.must(w.be.Delete(w.t.Context(), name))
			gone++
		}
	}
	if gone == 0 {
		w.t.Fatal("nothing was stored in packs")
	}
	_, err := w.repo.RepairPacks(w.t.Context(), false, nil)
	w.must(err)
}

// fill writes so much into a database that its log does not fit into a manifest.
func (w *world) fill(database string, from int) {
	w.t.Helper()
	table := fmt.Sprintf("%s.dbo.much%d", database, from)
	w.exec("CREATE TABLE " + table + " (id int PRIMARY KEY, name nvarchar(2000))")
	for i := range 40 {
		w.exec(fmt.Sprintf("INSERT INTO %s (id, name) VALUES (%d, N'%s')", table, i, strings.Repeat(fmt.Sprint(from*1000+i, " "), 300)))
	}
}

// TestM115LostFullIsNotBuiltOn: whatever is asked for, the next backup after a repair that
// found a full's packs gone is a full, and says why; the one after it goes on as ever. In
// a database that is little this holds for logs of the same day, too.
func TestM115LostFullIsNotBuiltOn(t *testing.T) {
	for _, c := range []struct {
		name     string
		want     decide.Want
		database string
		hours    int
		said     []string
		then     string
	}{
		{"log of the same day", decide.Log, "sales", 1, []string{"sales full M11.5", "sales log S-log"}, "sales log S-log"},
		{"log of the next day", decide.Log, "sales", 24, []string{"sales full M11.5", "sales log S-log"}, "sales log S-log"},
		{"automatic", decide.Auto, "sales", 1, []string{"sales full M11.5", "sales log S-log"}, "sales log S-auto-log"},
		{"differential", decide.Diff, "sales", 1, []string{"sales full M11.5"}, "sales diff S-diff"},
		{"differential of SIMPLE", decide.Auto, "stock", 1, []string{"stock full M11.5"}, "stock diff S-auto-diff"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			w.fill(c.database, 1)
			w.lose(func() { w.run(decide.Full, c.database) })
			w.run(decide.Log, "it's, ünï") // others go on
			w.now = w.now.Add(time.Duration(c.hours) * time.Hour)
			steps, said := w.run(c.want, c.database)
			w.want(said, c.said...)
			if d := steps[0].Decision; d.Exit != decide.ExitLeftOut || !strings.Contains(d.Reason, "lost a part") {
				t.Errorf("exit %d: %s", d.Exit, d.Reason)
			}
			w.now = w.now.Add(time.Hour)
			steps, said = w.run(c.want, c.database)
			w.want(said, c.then)
			if got := decide.Exit(decisions(steps)); got != decide.ExitDone {
				t.Errorf("exit %d the second time", got)
			}
		})
	}
}

// TestM24LostFullOfAReadOnlyDatabase: a database that nobody writes to is unchanged since a
// full that is there.
func TestM24LostFullOfAReadOnlyDatabase(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.fill("stock", 1)
	w.exec("ALTER DATABASE stock SET READ_ONLY")
	w.lose(func() { w.run(decide.Full, "stock") })
	_, said := w.run(decide.Auto, "stock")
	w.want(said, "stock full M11.5")
	_, said = w.run(decide.Auto, "stock")
	w.want(said, "stock skip M24")
}

// TestLostDifferentialIsNotBuiltOn: the logs since the full lead past it; where one of them
// is lost as well nothing does.
func TestLostDifferentialIsNotBuiltOn(t *testing.T) {
	for _, both := range []bool{false, true} {
		w := newWorld(t, bridge.Faults{})
		w.run(decide.Auto, "sales")
		log := func() { w.run(decide.Log, "sales") }
		w.fill("sales", 1)
		if both {
			w.lose(log)
		} else {
			log()
		}
		w.fill("sales", 2)
		w.lose(func() { w.run(decide.Diff, "sales") })
		log()
		w.now = w.now.Add(24 * time.Hour)
		_, said := w.run(decide.Log, "sales")
		if both {
			w.want(said, "sales full S-unreachable", "sales log S-log")
		} else {
			w.want(said, "sales log S-log")
		}
	}
}

// TestLostGroundOfAReadOnlyDatabase: where SQL Server hands out the log again that is here,
// it is looked for as well, with what it stands on, however much that is.
func TestLostGroundOfAReadOnlyDatabase(t *testing.T) {
	for _, c := range []struct{ lost, rule string }{{"full", "M11.5"}, {"log", "S-unreachable"}} {
		w := newWorld(t, bridge.Faults{})
		w.fill("sales", 1)
		full := func() { w.run(decide.Full, "sales") }
		log := func() { w.run(decide.Log, "sales") }
		if c.lost == "full" {
			w.lose(func() {
				full()
				w.exec("ALTER DATABASE sales SET READ_ONLY")
				log()
			})
		} else {
			full()
			w.fill("sales", 2)
			w.exec("ALTER DATABASE sales SET READ_ONLY")
			w.lose(log)
		}
		for _, want := range [][]string{{"sales full " + c.rule, "sales skip S-read-only"}, {"sales skip S-read-only"}} {
			w.now = w.now.Add(24 * time.Hour)
			steps, said := w.run(decide.Log, "sales")
			w.want(said, want...)
			if got := steps[0].Decision.Exit; (got == decide.ExitLeftOut) != (len(want) > 1) {
				t.Errorf("lost %s: exit %d of %q", c.lost, got, said)
			}
		}
	}
}
