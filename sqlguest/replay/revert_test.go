package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// A machine that is set back to a snapshot gives out the same LSNs once more. What was
// backed up in between must never be mixed with what comes after.

// deaf is a repository that dies before it keeps SQL Server's word.
type deaf struct{ sqlguest.Keeper }

func (deaf) Confirm(context.Context, *recovery.Point, json.RawMessage) error {
	return errors.New("killed")
}

// backedUp is a world in which sales has a full and a log.
func backedUp(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	return w
}

// snapshot gives a function that sets the machine back to now.
func (w *world) snapshot() (revert func()) {
	w.t.Helper()
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	return func() { w.t.Helper(); w.must(w.lab.Revert(snap)) }
}

// volume gives a function that sets back the files of sales alone; msdb remembers.
func (w *world) volume() (revert func()) {
	w.t.Helper()
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	return func() { w.t.Helper(); w.must(w.lab.RevertFiles(snap, "sales")) }
}

// try is a run over sales whose outcome is the test's own business.
func (w *world) try(r decide.Request, keep sqlguest.Keeper) []sqlguest.Step {
	w.t.Helper()
	run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: r, Transport: server.VDI, Keep: keep, Databases: []string{"sales"}, Device: w.device}
	steps, err := run.All(w.t.Context())
	w.must(err)
	return steps
}

// wantLatest restores the newest moment under another name, and compares.
func (w *world) wantLatest() { w.t.Helper(); w.wantLatestAs("x") }

func (w *world) wantLatestAs(name string) {
	w.t.Helper()
	truth := w.names("sales")
	res := w.restore(w.instance, plan.Target{}, plan.Options{As: name})
	if got := w.names(name); got != truth {
		w.t.Errorf("latest has %q, want %q; points %v", got, truth, res.Points)
	}
}

// undone are rows that only the history that is left has.
func (w *world) undone() {
	w.add(31, "undone")
	w.add(32, "undone too")
}

// goesOn writes more than was undone, so that LSNs overtake those of before.
func (w *world) goesOn() {
	w.now = w.now.Add(time.Minute)
	for i := range 18 {
		w.add(41+i, fmt.Sprint("more", i))
	}
}

// TestRevertBehindABackupThatNobodyConfirmed: the run is killed after its point is
// durable and before SQL Server's word is kept, then the machine is set back.
func TestRevertBehindABackupThatNobodyConfirmed(t *testing.T) {
	for name, r := range map[string]decide.Request{
		"differential": {Want: decide.Diff}, "copy-only full": {Want: decide.Full, CopyOnly: true}, "log": {Want: decide.Log}, "full": {Want: decide.Full},
	} {
		for _, next := range []decide.Want{decide.Auto, decide.Log, decide.Diff} {
			t.Run(name+", then "+string(next), func(t *testing.T) {
				w := backedUp(t)
				revert := w.snapshot()
				w.undone()
				w.try(r, deaf{w.keep()})
				revert()
				w.goesOn()
				w.try(decide.Request{Want: next}, w.keep())
				w.goesFurther()
				w.wantLatest()
			})
		}
	}
}

// TestVolumeSetBackBeneathAnMsdbThatRemembers: the database's files alone are set back,
// and what was backed up since has left no trace in them: msdb has its row, the base and
// the end of the log are as they were.
func TestVolumeSetBackBeneathAnMsdbThatRemembers(t *testing.T) {
	for name, r := range map[string]decide.Request{"differential": {Want: decide.Diff}, "copy-only full": {Want: decide.Full, CopyOnly: true}, "copy-only log": {Want: decide.Log, CopyOnly: true}} {
		for _, next := range []decide.Want{decide.Log, decide.Diff, decide.Auto} {
			for _, seen := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, then %s, seen %v", name, next, seen), func(t *testing.T) {
					w := backedUp(t)
					revert := w.volume()
					w.undone()
					w.try(r, w.keep())
					w.now = w.now.Add(time.Minute)
					revert()
					if !seen { // LSNs overtake those of before
						w.goesOn()
					}
					w.try(decide.Request{Want: next}, w.keep())
					w.goesFurther()
					w.wantLatest()
				})
			}
		}
	}
}

// TestContinueBehindAVolumeThatWasSetBack: the differential was restored elsewhere before
// the database's files were set back, and then it shall go on with what came later.
func TestContinueBehindAVolumeThatWasSetBack(t *testing.T) {
	for _, told := range []bool{true, false} {
		w := backedUp(t)
		revert := w.volume()
		w.undone()
		left := w.back(decide.Diff, "sales")[0]
		w.now = w.now.Add(time.Minute)
		revert()
		w.goesOn()
		w.back(decide.Log, "sales")
		w.restore(w.instance, plan.Target{Point: left}, plan.Options{As: "x", End: plan.NoRecovery})
		if !told {
			w.lab.LoseMSDB(false)
		}
		r := w.job(w.instance, plan.Target{}, plan.Options{As: "x"})
		r.Continue = true
		_, err := r.Do(t.Context())
		if miss := (*plan.Unreachable)(nil); !errors.As(err, &miss) {
			t.Errorf("msdb tells what was restored: %v; it went on: %v", told, err)
		}
	}
}

// TestRestartBehindADifferentialBreaksNothing: nobody can prove that no disk was exchanged
// while SQL Server was down, so a restore goes round the differential. No full follows,
// and every moment is there as before.
func TestRestartBehindADifferentialBreaksNothing(t *testing.T) {
	w := backedUp(t)
	w.undone()
	between := w.now
	w.now = w.now.Add(time.Minute)
	w.add(35, "before the differential")
	diff := w.back(decide.Diff, "sales")[0]
	w.now = w.now.Add(time.Minute)
	w.must(w.lab.StopService())
	w.must(w.lab.StartService())
	w.goesOn()
	log := w.try(decide.Request{Want: decide.Log}, w.keep())
	if len(log) != 1 || log[0].Decision.Rule != decide.RuleLog {
		t.Errorf("steps %+v", log)
	}
	w.wantLatest()
	res := w.restore(w.instance, plan.Target{At: between.Add(30 * time.Second)}, plan.Options{As: "y"})
	if got := w.names("y"); slices.Contains(res.Points, diff) || !strings.Contains(got, "undone too") || strings.Contains(got, "before the differential") {
		t.Errorf("points %v, rows %q", res.Points, got)
	}
	w.restore(w.instance, plan.Target{Point: diff}, plan.Options{As: "z"})
	if got := w.names("z"); !strings.Contains(got, "before the differential") {
		t.Errorf("the differential itself has %q", got)
	}
}

// goesFurther is one more log.
func (w *world) goesFurther() {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	w.add(99, "last")
	w.back(decide.Log, "sales")
}

// TestRevertOnANightOfAutomaticBackups: the same with a differential that was due.
func TestRevertOnANightOfAutomaticBackups(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Auto, "sales")
	w.now = w.now.Add(24 * time.Hour)
	revert := w.snapshot()
	w.undone()
	w.try(decide.Request{Want: decide.Auto}, deaf{w.keep()})
	revert()
	w.goesOn()
	w.back(decide.Auto, "sales")
	w.wantLatest()
}

// TestRevertBehindTheOnlyBackup: it is copy-only, so that nothing but msdb's row knew it.
func TestRevertBehindTheOnlyBackup(t *testing.T) {
	w := newWorld(t)
	w.exec("BACKUP DATABASE sales TO DISK='NUL'")
	revert := w.snapshot()
	w.undone()
	w.try(decide.Request{Want: decide.Full, CopyOnly: true}, w.keep())
	revert()
	w.goesOn()
	w.try(decide.Request{Want: decide.Log}, w.keep())
	w.wantLatest()
}

// TestRevertAfterMsdbWasEmptied: no older row is left by which the loss of the newest
// would be seen.
func TestRevertAfterMsdbWasEmptied(t *testing.T) {
	w := backedUp(t)
	w.lab.LoseMSDB(false)
	revert := w.snapshot()
	w.undone()
	w.back(decide.Diff, "sales")
	revert()
	w.goesOn()
	w.try(decide.Request{Want: decide.Auto}, w.keep())
	w.wantLatest()
}

// TestRevertOfAnUnchangedSimpleDatabase: nothing has changed since the full, and the
// newest backup is of what is no more.
func TestRevertOfAnUnchangedSimpleDatabase(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
	w.back(decide.Full, "sales")
	revert := w.snapshot()
	w.undone()
	w.try(decide.Request{Want: decide.Diff}, deaf{w.keep()})
	revert()
	w.try(decide.Request{Want: decide.Auto}, w.keep())
	w.wantLatest()
}

// TestContinueAcrossARevert: a database that was restored to the end of the history that
// was left stands, by LSN and fork, where the other one can go on.
func TestContinueAcrossARevert(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	common := w.back(decide.Log, "sales")[0]
	revert := w.snapshot()
	w.undone()
	left := w.back(decide.Log, "sales")[0]
	revert()
	w.goesOn()
	w.back(decide.Auto, "sales")
	truth := w.names("sales")
	for point, want := range map[string]string{left: "refused", common: "there"} {
		w.restore(w.instance, plan.Target{Point: point}, plan.Options{As: "x" + want, End: plan.NoRecovery})
		r := w.job(w.instance, plan.Target{}, plan.Options{As: "x" + want})
		r.Continue = true
		_, err := r.Do(t.Context())
		var miss *plan.Unreachable
		switch got := ""; {
		case want == "refused" && !errors.As(err, &miss):
			t.Errorf("it went on from %s: %v", left, err)
		case want == "there":
			w.must(err)
			if got = w.names("xthere"); got != truth {
				t.Errorf("%q, want %q", got, truth)
			}
		}
	}
}

// TestWhatARevertHasUndoneIsStillReachable: SQL Server had truncated its log for a backup
// whose run was killed; then the machine was set back to where that log begins.
func TestWhatARevertHasUndoneIsStillReachable(t *testing.T) {
	w := backedUp(t)
	revert := w.snapshot()
	w.undone()
	truth := w.names("sales")
	point := w.try(decide.Request{Want: decide.Log}, deaf{w.keep()})[0].Point.ID
	revert()
	w.now = w.now.Add(time.Minute)
	w.add(41, "instead")
	w.back(decide.Auto, "sales")
	w.restore(w.instance, plan.Target{Point: point}, plan.Options{As: "y"})
	if got := w.names("y"); got != truth {
		t.Errorf("point %s has %q, want %q", point, got, truth)
	}
	w.wantLatest()
}

// TestRevertUnderWhatNobodyConfirmed: above the backup that vanished lies one whose run was
// killed, and msdb has no older rows.
func TestRevertUnderWhatNobodyConfirmed(t *testing.T) {
	for _, next := range []decide.Want{decide.Log, decide.Auto} {
		for _, above := range []decide.Want{decide.Log, decide.Diff, decide.Full} {
			t.Run(fmt.Sprint(above, ", then ", next), func(t *testing.T) {
				w := backedUp(t)
				w.lab.LoseMSDB(false)
				revert := w.snapshot()
				w.undone()
				w.back(decide.Diff, "sales")
				w.add(33, "undone three")
				w.try(decide.Request{Want: above}, deaf{w.keep()})
				revert()
				w.goesOn()
				w.try(decide.Request{Want: next}, w.keep())
				w.goesFurther()
				w.wantLatest()
			})
		}
	}
}

// TestFileOfBeforeARevertIsTakenInLate: the staging directory is out of reach for a run,
// which makes a data backup of the new history first.
func TestFileOfBeforeARevertIsTakenInLate(t *testing.T) {
	for name, between := range map[string]decide.Request{"full": {Want: decide.Full}, "differential": {Want: decide.Diff}, "copy-only": {Want: decide.Full, CopyOnly: true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
			w.back(decide.Full, "sales")
			w.back(decide.Log, "sales")
			revert := w.snapshot()
			for i := range 30 {
				w.add(1100+i, "undone")
			}
			truth := w.names("sales")
			w.exec(`BACKUP LOG sales TO DISK='{00000000-0000-4000-8000-999999999999}.bak' WITH CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
			revert()
			w.now = w.now.Add(time.Minute)
			w.add(41, "instead")
			file := filepath.Join(dir, "{00000000-0000-4000-8000-999999999999}.bak")
			w.must(os.Rename(file, file+"-away"))
			w.try(between, w.keep())
			w.must(os.Rename(file+"-away", file))
			w.now = w.now.Add(time.Minute)
			run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: decide.Log}, Transport: server.Disk, Keep: w.keep(), Databases: []string{"sales"}, Device: w.device}
			steps, err := run.All(t.Context())
			w.must(err)
			i := slices.IndexFunc(steps, func(s sqlguest.Step) bool { return s.Decision.Rule == decide.RuleKept && s.Point != nil })
			if i < 0 {
				t.Fatalf("the file was not taken in: %+v", steps)
			}
			w.restore(w.instance, plan.Target{Point: steps[i].Point.ID}, plan.Options{As: "y"})
			if got := w.names("y"); got != truth {
				t.Errorf("it has %q, want %q", got, truth)
			}
			w.wantLatest()
		})
	}
}

// TestTimeBehindALogThatStandsByItself: whether it was given up or undone later, no backup
// tells what the database held until the next one.
func TestTimeBehindALogThatStandsByItself(t *testing.T) {
	w := newWorld(t)
	later := func() { w.now = w.now.Add(5 * time.Minute) }
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	revert := w.snapshot()
	later()
	w.undone()
	later()
	w.try(decide.Request{Want: decide.Log}, deaf{w.keep()})
	later()
	at := w.now
	later()
	revert()
	w.add(41, "instead")
	later()
	w.try(decide.Request{Want: decide.Auto}, w.keep())
	later()
	_, err := w.job(w.instance, plan.Target{At: at}, plan.Options{As: "y"}).Do(t.Context())
	var miss *plan.Unreachable
	if !errors.As(err, &miss) {
		t.Errorf("restored to %s: %v", at, err)
	}
}

// TestRevertWhoseWitnessIsLost: the full that saw it cannot be read any more.
func TestRevertWhoseWitnessIsLost(t *testing.T) {
	w := backedUp(t)
	revert := w.snapshot()
	w.undone()
	w.back(decide.Diff, "sales")
	revert()
	w.goesOn()
	full := w.try(decide.Request{Want: decide.Auto}, w.keep())[0].Point.ID
	w.goesFurther()
	truth := w.names("sales")
	hurt := 0
	w.must(w.be.List(t.Context(), "commit", func(i backend.Info) error {
		if strings.Contains(i.Name, full) {
			hurt++
			return w.be.Damage(i.Name, func([]byte) []byte { return []byte("rubbish") })
		}
		return nil
	}))
	list, problems, err := w.keep().Readable(t.Context(), w.identity("sales"))
	w.must(err)
	if hurt == 0 || len(problems) == 0 {
		t.Fatalf("%d objects damaged, and told of: %v", hurt, problems)
	}
	r := w.job(w.instance, plan.Target{Point: list[len(list)-1].Point}, plan.Options{As: "x"})
	r.Backups, r.Keep = list, nil
	if _, err := r.Do(t.Context()); err == nil && w.names("x") != truth {
		t.Errorf("success with %q, want %q", w.names("x"), truth)
	}
}

// TestContinueOntoTheHistoryThatWasLeft is the other way round: nobody tells what was
// restored last, and a log of the history that was left covers the LSN.
func TestContinueOntoTheHistoryThatWasLeft(t *testing.T) {
	w := backedUp(t)
	revert := w.snapshot()
	for i := range 40 {
		w.add(1100+i, "u")
	}
	left := w.back(decide.Log, "sales")[0]
	revert()
	w.add(41, "instead")
	full := w.try(decide.Request{Want: decide.Auto}, w.keep())
	i := slices.IndexFunc(full, func(s sqlguest.Step) bool { return s.Decision.Do == decide.DoFull })
	w.restore(w.instance, plan.Target{Point: full[i].Point.ID}, plan.Options{As: "x", End: plan.NoRecovery})
	w.lab.LoseMSDB(false)
	r := w.job(w.instance, plan.Target{Point: left}, plan.Options{As: "x"})
	r.Continue = true
	if _, err := r.Do(t.Context()); err == nil {
		t.Errorf("it went on, and has %q", w.names("x"))
	}
}

// TestMsdbEmptiedEveryNight: that alone is no revert of a database without logs.
func TestMsdbEmptiedEveryNight(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
	for day := range 5 {
		for _, s := range w.try(decide.Request{Want: decide.Auto}, w.keep()) {
			if day > 0 && s.Decision.Do != decide.DoDiff {
				t.Errorf("day %d: %s by %s", day, s.Decision.Do, s.Decision.Rule)
			}
		}
		w.add(50+day, fmt.Sprint("day", day))
		w.lab.LoseMSDB(false)
		w.now = w.now.Add(24 * time.Hour)
	}
}
