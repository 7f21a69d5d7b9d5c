package decide

import (
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
)

// TestWhoseLogItWas: only a log that was taken from this database, on this fork, after
// ours, up to where the next one begins, by somebody else, is named.
func TestWhoseLogItWas(t *testing.T) {
	for _, c := range []struct {
		what  string
		edit  func(*chain.Row)
		named bool
	}{
		{"another's", func(*chain.Row) {}, true},
		{"under the database's older name", func(r *chain.Row) { r.Database = "old" }, true},
		{"on another replica, by name", func(r *chain.Row) { r.DatabaseGUID = "DB2" }, true},
		{"of another database of the family", func(r *chain.Row) { r.Database, r.DatabaseGUID = "copy", "DB2" }, false},
		{"on another fork", func(r *chain.Row) { r.Fork = fork2 }, false},
		{"copy-only", func(r *chain.Row) { r.CopyOnly = true }, false},
		{"a full", func(r *chain.Row) { r.Kind = chain.Full }, false},
		{"before ours", func(r *chain.Row) { r.Last = at(300) }, false},
		{"beyond", func(r *chain.Row) { r.Last = at(401) }, false},
		{"ours", func(r *chain.Row) { r.Set = set1 }, false},
	} {
		w := newWorld()
		c.edit(w.foreign(chain.Log, 300, 400, "x"))
		w.db().LastLog, w.r.Want = at(400), Log
		// It is found wherever msdb has it.
		rows := w.f.History.Rows
		for _, h := range [][]chain.Row{rows, {rows[len(rows)-1]}} {
			w.f.History.Rows = h
			d := w.decide()
			if got := strings.Contains(d.Reason, "nightly"); got != c.named || d.Rule != RuleForeignLog && d.Rule != RuleReverted {
				t.Errorf("%s: named %v by %s: %s", c.what, got, d.Rule, d.Reason)
			}
		}
	}
}

func TestTheNewestOfTheirLogsIsNamed(t *testing.T) {
	w := newWorld()
	w.foreign(chain.Log, 300, 350, "first")
	w.foreign(chain.Log, 350, 400, "second").Set = "5E98"
	w.db().LastLog, w.r.Want = at(400), Log
	if d := w.decide(); !strings.Contains(d.Reason, "second") {
		t.Error(d.Reason)
	}
}

func TestDevicesThatKeepNothing(t *testing.T) {
	for device, want := range map[string]bool{
		"NUL": true, "nul": true, "NUL:": true, `\\.\NUL`: true, "/dev/null": true,
		`D:\null.trn`: false, "NULL": false, `D:\NUL.trn`: false, "": false,
	} {
		if discarded(device) != want {
			t.Errorf("%q: %v", device, !want)
		}
	}
}

func TestOnlyOurAbortedLogOverlaps(t *testing.T) {
	for what, edit := range map[string]func(*chain.Backup){
		"copy-only":       func(b *chain.Backup) { b.CopyOnly = true },
		"a full":          func(b *chain.Backup) { b.Kind = chain.Full },
		"from elsewhere":  func(b *chain.Backup) { b.First = at(250) },
		"another's first": func(b *chain.Backup) { b.First = at(301) },
	} {
		w := newWorld()
		aborted(w)
		edit(&w.ours[4])
		w.r.Want = Log
		if d := w.decide(); d.Rule != RuleLog {
			t.Errorf("%s: by %s", what, d.Rule)
		}
	}
}

func TestReadOnlyNeedsALogBehindTheFull(t *testing.T) {
	for last, want := range map[uint32]Rule{299: RuleReadOnly, 300: RuleReadOnly, 301: RuleLog} {
		w := newWorld()
		w.r.Want = Log
		w.without("03")
		w.db().ReadOnly, w.db().LogEnd, w.ours[0].LogEnd = true, "end", "end"
		w.ours[0].Last = at(last)
		if d := w.decide(); d.Rule != want {
			t.Errorf("full that ends at %d: by %s; want %s", last, d.Rule, want)
		}
	}
}
