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

// try is a run over sales whose outcome is the test's own business.
func (w *world) try(r decide.Request, keep sqlguest.Keeper) []sqlguest.Step {
	w.t.Helper()
	run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: r, Transport: server.VDI, Keep: keep, Databases: []string{"sales"}, Device: w.device}
	steps, err := run.All(w.t.Context())
	w.must(err)
	return steps
}

// wantLatest restores the newest moment under another name, and compares.
func (w *world) wantLatest() {
	w.t.Helper()
	truth := w.names("sales")
	res := w.restore(w.instance, plan.Target{}, plan.Options{As: "x"})
	if got := w.names("x"); got != truth {
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
				w := newWorld(t)
				w.back(decide.Full, "sales")
				w.back(decide.Log, "sales")
				snap, err := w.lab.TakeSnapshot()
				w.must(err)
				w.undone()
				w.try(r, deaf{w.keep()})
				w.must(w.lab.Revert(snap))
				w.goesOn()
				w.try(decide.Request{Want: next}, w.keep())
				w.goesFurther()
				w.wantLatest()
			})
		}
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
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	w.try(decide.Request{Want: decide.Auto}, deaf{w.keep()})
	w.must(w.lab.Revert(snap))
	w.goesOn()
	w.back(decide.Auto, "sales")
	w.wantLatest()
}

// TestRevertBehindTheOnlyBackup: it is copy-only, so that nothing but msdb's row knew it.
func TestRevertBehindTheOnlyBackup(t *testing.T) {
	w := newWorld(t)
	w.exec("BACKUP DATABASE sales TO DISK='NUL'")
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	w.try(decide.Request{Want: decide.Full, CopyOnly: true}, w.keep())
	w.must(w.lab.Revert(snap))
	w.goesOn()
	w.try(decide.Request{Want: decide.Log}, w.keep())
	w.wantLatest()
}

// TestRevertAfterMsdbWasEmptied: no older row is left by which the loss of the newest
// would be seen.
func TestRevertAfterMsdbWasEmptied(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	w.lab.LoseMSDB(false)
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	w.back(decide.Diff, "sales")
	w.must(w.lab.Revert(snap))
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
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	w.try(decide.Request{Want: decide.Diff}, deaf{w.keep()})
	w.must(w.lab.Revert(snap))
	w.try(decide.Request{Want: decide.Auto}, w.keep())
	w.wantLatest()
}

// TestContinueAcrossARevert: a database that was restored to the end of the history that
// was left stands, by LSN and fork, where the other one can go on.
func TestContinueAcrossARevert(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	common := w.back(decide.Log, "sales")[0]
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	left := w.back(decide.Log, "sales")[0]
	w.must(w.lab.Revert(snap))
	w.goesOn()
	w.back(decide.Auto, "sales")
	truth := w.names("sales")
	for point, want := range map[string]string{left: "refused", common: "there"} {
		w.restore(w.instance, plan.Target{Point: point}, plan.Options{As: "x" + want, End: plan.NoRecovery})
		r := w.job(w.instance, plan.Target{}, plan.Options{As: "x" + want})
		r.Continue = true
		_, err = r.Do(t.Context())
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
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	truth := w.names("sales")
	point := w.try(decide.Request{Want: decide.Log}, deaf{w.keep()})[0].Point.ID
	w.must(w.lab.Revert(snap))
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
				w := newWorld(t)
				w.back(decide.Full, "sales")
				w.back(decide.Log, "sales")
				w.lab.LoseMSDB(false)
				snap, err := w.lab.TakeSnapshot()
				w.must(err)
				w.undone()
				w.back(decide.Diff, "sales")
				w.add(33, "undone three")
				w.try(decide.Request{Want: above}, deaf{w.keep()})
				w.must(w.lab.Revert(snap))
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
			snap, err := w.lab.TakeSnapshot()
			w.must(err)
			for i := range 30 {
				w.add(1100+i, "undone")
			}
			truth := w.names("sales")
			w.exec(`BACKUP LOG sales TO DISK='{00000000-0000-4000-8000-999999999999}.bak' WITH CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
			w.must(w.lab.Revert(snap))
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
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	later()
	w.undone()
	later()
	w.try(decide.Request{Want: decide.Log}, deaf{w.keep()})
	later()
	at := w.now
	later()
	w.must(w.lab.Revert(snap))
	w.add(41, "instead")
	later()
	w.try(decide.Request{Want: decide.Auto}, w.keep())
	later()
	_, err = w.job(w.instance, plan.Target{At: at}, plan.Options{As: "y"}).Do(t.Context())
	var miss *plan.Unreachable
	if !errors.As(err, &miss) {
		t.Errorf("restored to %s: %v", at, err)
	}
}

// TestRevertWhoseWitnessIsLost: the full that saw it cannot be read any more.
func TestRevertWhoseWitnessIsLost(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.undone()
	w.back(decide.Diff, "sales")
	w.must(w.lab.Revert(snap))
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
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	for i := range 40 {
		w.add(1100+i, "u")
	}
	left := w.back(decide.Log, "sales")[0]
	w.must(w.lab.Revert(snap))
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
