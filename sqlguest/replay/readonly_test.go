package replay_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/server"
)

// SQL Server writes nothing into a read-only database, not even that its log was backed up.
// Such a database must neither cost a backup at each run nor be believed unchanged without
// proof.

// said is a run over sales in a word for each step.
func (w *world) said(r decide.Request) (steps []string) {
	w.t.Helper()
	w.now = w.now.Add(15 * time.Minute)
	for _, s := range w.try(r, w.keep()) {
		w.must(s.Err)
		steps = append(steps, fmt.Sprintf("%s %s %d", s.Decision.Do, s.Decision.Rule, s.Decision.Exit))
	}
	return steps
}

// says fails unless a run says that.
func (w *world) says(r decide.Request, want ...string) {
	w.t.Helper()
	if got := w.said(r); !slices.Equal(got, want) {
		w.t.Errorf("%q: %q, want %q", r.Want, got, want)
	}
}

// restart starts SQL Server anew.
func (w *world) restart() {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	w.must(w.lab.StopService())
	w.must(w.lab.StartService())
}

// sealed is a world in which sales has a full and two logs, the second since it is read-only.
func sealed(t *testing.T) *world {
	t.Helper()
	w := backedUp(t)
	w.add(10, "x")
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	w.says(decide.Request{Want: decide.Log}, "log S-log 0")
	return w
}

const nothingNew = "skip S-read-only 0"

// TestReadOnlyDatabaseRestsInAutomaticRuns: nothing is due of what cannot have changed but
// the weekly full, and behind that the database is unchanged as ever.
func TestReadOnlyDatabaseRestsInAutomaticRuns(t *testing.T) {
	w := sealed(t)
	for range 6 {
		w.says(decide.Request{}, nothingNew)
		w.now = w.now.Add(24 * time.Hour)
	}
	w.now = w.now.Add(24 * time.Hour)
	w.says(decide.Request{}, "full S-auto-full 0", nothingNew)
	for range 3 {
		w.says(decide.Request{}, nothingNew)
		w.now = w.now.Add(24 * time.Hour)
	}
	w.says(decide.Request{Want: decide.Diff}, "skip M24 0")
	w.wantLatest()
}

// silent is a SQL Server of before 2016 SP2, which does not tell where a log ends.
type silent struct{ server.Server }

func (s silent) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.Contains(text, "dm_db_log_stats") {
		return nil, &server.Error{All: []server.Message{{Number: 208, Severity: 16, Text: "Invalid object name"}}}
	}
	return s.Server.Query(ctx, text, args...)
}

// TestReadOnlyDatabaseOfAnOldServerIsNotBelieved: it may have been writable in between.
func TestReadOnlyDatabaseOfAnOldServerIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	back := func(want decide.Want) {
		w.now = w.now.Add(time.Minute)
		run := &sqlguest.Run{Server: silent{w.sql}, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.VDI, Keep: w.keep(), Databases: []string{"sales"}, Device: w.device}
		_, err := run.All(t.Context())
		w.must(err)
	}
	back(decide.Full)
	back(decide.Log)
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	back(decide.Log)
	w.exec("ALTER DATABASE sales SET READ_WRITE")
	w.add(11, "monthly load")
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	back(decide.Log)
	w.wantLatest()
}

// TestReadOnlyDatabaseCostsAFullARestart: nobody can prove that its disk was not exchanged
// while SQL Server was down. Whatever is asked for, one full shows what it is now.
func TestReadOnlyDatabaseCostsAFullARestart(t *testing.T) {
	for want, steps := range map[decide.Want][]string{
		decide.Log:  {"full S-read-only 0", nothingNew},
		decide.Auto: {"full S-read-only 0", nothingNew},
		decide.Diff: {"full S-read-only 0"},
	} {
		w := sealed(t)
		for range 2 {
			w.restart()
			w.says(decide.Request{Want: decide.Log, CopyOnly: true}, nothingNew)
			w.says(decide.Request{Want: want}, steps...)
			for range 2 {
				w.says(decide.Request{Want: decide.Log}, nothingNew)
				w.says(decide.Request{}, nothingNew)
				w.says(decide.Request{Want: decide.Diff}, "skip M24 0")
			}
			if want == decide.Diff {
				break // the base has the full's name now, and without logs that is proof
			}
		}
		w.wantLatest()
	}
}

// takenBack is a world whose read-only import of four rows was backed up, and taken back with
// its disk; so many other rows are there instead, read-only, too.
func takenBack(t *testing.T, rows int) *world {
	t.Helper()
	w := backedUp(t)
	revert := w.volume()
	w.many(4, 10, "wrong")
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	w.says(decide.Request{Want: decide.Log}, "log S-log 0")
	revert()
	w.many(rows, 10, "right")
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	return w
}

// TestReadOnlyVolumeSetBackToTheSameLSN: an import is taken back with its disk, and the one
// that is made instead ends at the very same LSN.
func TestReadOnlyVolumeSetBackToTheSameLSN(t *testing.T) {
	for _, want := range []decide.Want{decide.Log, decide.Auto, decide.Diff} {
		met := false
		for n := 2; n < 5 && !met; n++ { // until one meets the LSN
			w := takenBack(t, n)
			said := w.said(decide.Request{Want: want})
			met = slices.Contains(said, "full S-read-only 0")
			w.wantLatest()
		}
		if !met {
			t.Errorf("%s: no import ended where the other one had", want)
		}
	}
}

// TestCopyOnlyFullOfAReadOnlyVolumeThatWasSetBack: it ends where the log of the import does
// that was taken back, and is the newer one.
func TestCopyOnlyFullOfAReadOnlyVolumeThatWasSetBack(t *testing.T) {
	for n := 2; n < 6; n++ { // one of them meets the LSN
		w := takenBack(t, n)
		w.said(decide.Request{Want: decide.Full, CopyOnly: true})
		w.wantLatest()
	}
}

// TestForeignLogBeforeARestartIsNamed: our copy-only full lies behind the gap, and SQL
// Server was started since; the gap and whose it is are told all the same.
func TestForeignLogBeforeARestartIsNamed(t *testing.T) {
	for bridge, steps := range map[decide.Want][]string{
		decide.Full: {"refuse Q20 3", "full Q20 0"}, decide.Diff: {"refuse Q20 3", "diff Q20 0"},
	} {
		w := backedUp(t)
		w.add(10, "x")
		w.exec("BACKUP LOG sales TO DISK='foreign.bak'")
		w.add(11, "y")
		w.says(decide.Request{Want: decide.Full, CopyOnly: true}, "full S-full 0")
		w.restart()
		w.add(12, "z")
		w.says(decide.Request{Want: decide.Log, Bridge: bridge}, steps...)
		w.says(decide.Request{Want: decide.Log, Bridge: bridge}, "log S-bridged 0")
		w.wantLatest()
	}
}

// TestReadOnlyWithoutLogChainAndARestart: without a chain there is nothing that a start of
// SQL Server could have cut.
func TestReadOnlyWithoutLogChainAndARestart(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	w.says(decide.Request{}, "full M12 0", nothingNew)
	w.says(decide.Request{Want: decide.Full, CopyOnly: true}, "full S-full 0")
	for range 2 {
		w.restart()
		w.says(decide.Request{}, nothingNew)
		w.says(decide.Request{Want: decide.Log}, nothingNew)
	}
	w.wantLatest()
}
