package sqlguest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/picture"
)

// TestM1112IsOfTheServersDatabases: which of them a run leaves out, a copy of one that comes
// and goes, one that is offline for a while and one that is renamed change nothing; a new
// one does, and so does its end.
func TestM1112IsOfTheServersDatabases(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	auto := func(when string, want string, exclude ...string) {
		t.Helper()
		w.now = w.now.Add(time.Hour)
		r := w.job(decide.Auto, w.sql)
		r.Exclude = exclude
		steps, err := r.All(t.Context())
		w.must(err)
		for _, s := range w.said(steps) {
			if len(s) > 5 && s[:5] == "stock" && s != want {
				t.Errorf("%s: %s, want %s", when, s, want)
			}
		}
	}
	const full, diff = "stock full M11.12", "stock diff S-auto-diff"
	auto("the first", "stock full M11.1")
	auto("one left out", diff, "sales")
	auto("another one left out", diff, "it's, ünï")
	auto("none left out", diff)
	w.exec("BACKUP DATABASE sales TO DISK='copy.bak' WITH COPY_ONLY")
	w.exec("RESTORE DATABASE copy FROM DISK='copy.bak' WITH MOVE 'sales' TO 'C:\\copy.mdf', MOVE 'sales_log' TO 'C:\\copy.ldf', NORECOVERY")
	auto("a copy that is being restored", diff)
	w.exec("RESTORE DATABASE copy WITH RECOVERY")
	auto("a copy", diff, "copy")
	w.exec("DROP DATABASE copy")
	auto("the copy dropped", diff)
	w.exec("ALTER DATABASE sales SET OFFLINE")
	auto("offline", diff)
	w.exec("ALTER DATABASE sales SET ONLINE")
	auto("online", diff)
	w.exec("ALTER DATABASE sales MODIFY NAME = sold")
	auto("renamed", diff)
	w.exec("CREATE DATABASE fresh")
	auto("a new one", full)
	auto("and again", diff)
	w.exec("DROP DATABASE fresh")
	auto("which is dropped", full)
}

// TestM1112IsNotOfWhatIsLeftOut: a scratch database that is left out by name is made anew,
// and is not there on some days, which is a warning; whatever else comes or goes meanwhile
// is noticed each time.
func TestM1112IsNotOfWhatIsLeftOut(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	for day, x := range []struct{ before, want, warned string }{
		{"CREATE DATABASE scratch", "stock full M11.1", ""},
		{"DROP DATABASE scratch; CREATE DATABASE scratch", "stock diff S-auto-diff", ""},
		{"DROP DATABASE scratch", "stock diff S-auto-diff", "scratch"},
		{"CREATE DATABASE fresh", "stock full M11.12", "scratch"},
		{"CREATE DATABASE scratch", "stock diff S-auto-diff", ""},
		{"DROP DATABASE fresh", "stock full M11.12", ""},
	} {
		w.exec(x.before)
		w.now = w.now.Add(24 * time.Hour)
		r, warned := w.job(decide.Auto, w.sql), ""
		r.Exclude, r.Warn = []string{"scratch"}, func(text string) { warned += text[strings.LastIndex(text, " ")+1:] }
		steps, err := r.All(t.Context())
		w.must(err)
		if said := w.said(steps); !slices.Contains(said, x.want) || slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "scratch") }) {
			t.Errorf("day %d: %q, want %q", day, said, x.want)
		}
		if warned != x.warned {
			t.Errorf("day %d: warned of %q, want %q", day, warned, x.warned)
		}
	}
}

// TestQ19SwitchToSimpleIsSaidOnce by the first data backup behind it, and where the chain
// shows the gap.
func TestQ19SwitchToSimpleIsSaidOnce(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (91, N'in the last log')")
	w.run(decide.Log, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (92, N'in none')")
	w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
	_, said := w.run(decide.Log, "sales") // which makes no point that could say it
	w.want(said, "sales skip Q19")
	for i, want := range []string{"sales diff Q19", "sales diff S-auto-diff"} {
		w.now = w.now.Add(time.Hour)
		steps, said := w.run(decide.Auto, "sales")
		w.want(said, want)
		if got := decide.Exit(decisions(steps)); got != []int{decide.ExitLeftOut, decide.ExitDone}[i] {
			t.Errorf("run %d: exit %d", i, got)
		}
		if p := steps[0].Point; i == 0 && (len(p.Warnings) != 1 || p.Warnings[0] != p.Reason) {
			t.Errorf("point warns %q by %q", p.Warnings, p.Reason)
		}
	}
	w.exec("ALTER DATABASE sales SET RECOVERY FULL")
	w.now = w.now.Add(time.Hour)
	_, said = w.run(decide.Auto, "sales")
	w.want(said, "sales full S-chain-reset", "sales log S-bridged")
	chart := picture.Chart{Source: "sql/LAB/sales", Report: chain.Describe(w.backups("sales"), nil)}
	var text strings.Builder
	w.must(picture.Text(&text, &chart, func(int64) string { return "" }))
	if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), "Q19: sales was switched to the SIMPLE recovery model") {
		t.Errorf("the gap does not say it:\n%s", text.String())
	}
}
