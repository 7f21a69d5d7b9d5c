package replay_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// filed is a world with a full and a log, whose staging directory is dir.
func filed(t *testing.T) (w *world, dir string) {
	dir = t.TempDir()
	w = newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	return w, dir
}

// many inserts so many rows of a name.
func (w *world) many(n, from int, name string) {
	for i := range n {
		w.add(from+i, name)
	}
}

// takeIn is a run through files, which takes in what was left in them.
func (w *world) takeIn(want decide.Want) []sqlguest.Step {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.Disk, Keep: w.keep(), Databases: []string{"sales"}, Device: w.device}
	steps, err := run.All(w.t.Context())
	w.must(err)
	w.now = w.now.Add(time.Minute)
	return steps
}

// wantLatestFrom wants the rows of now, by a restore that looks into files, too.
func (w *world) wantLatestFrom(r *replay.Run) {
	w.t.Helper()
	truth := w.names("sales")
	r.Options.As, r.Transport = "newest", server.Disk
	_, err := r.Do(w.t.Context())
	w.must(err)
	if got := w.names("newest"); got != truth {
		w.t.Errorf("latest has %.80q, want %.80q", got, truth)
	}
}

// keptPoint is the point that was made of a file.
func (w *world) keptPoint() (point string) {
	w.t.Helper()
	for _, b := range w.all() {
		if b.Rule == chain.RuleKept {
			point = b.Point
		}
	}
	if point == "" {
		w.t.Fatal("nothing was taken in")
	}
	return point
}

// TestKeptLogOfTheNewHistory: the differential is of a volume that was set back, and ends
// further; the log in a file was begun in a later run of SQL Server.
func TestKeptLogOfTheNewHistory(t *testing.T) {
	for _, takenIn := range []bool{false, true} {
		w, dir := filed(t)
		revert := w.volume()
		w.many(30, 1100, "undone")
		w.back(decide.Diff, "sales")
		w.now = w.now.Add(time.Minute)
		revert()
		w.now = w.now.Add(time.Minute)
		w.add(11, "new")
		w.killedLog(dir)
		w.now = w.now.Add(time.Minute)
		if takenIn {
			w.takeIn(decide.Log)
		}
		w.wantLatestFrom(w.job(w.instance, plan.Target{}, plan.Options{}))
	}
}

// TestKeptLogOfTheOldHistory: msdb has its row, and the only backup since is a differential,
// of the volume that was set back.
func TestKeptLogOfTheOldHistory(t *testing.T) {
	for _, n := range []int{12, 40} {
		w, dir := filed(t)
		w.add(10, "one")
		revert := w.volume()
		w.many(n, 1100, "undone")
		undone := w.names("sales")
		file := w.killedLog(dir)
		w.must(os.Rename(file, file+"-away"))
		w.now = w.now.Add(time.Minute)
		revert()
		w.now = w.now.Add(time.Minute)
		w.add(11, "new")
		w.try(decide.Request{Want: decide.Diff}, w.keep())
		w.must(os.Rename(file+"-away", file))
		w.wantLatestFrom(w.job(w.instance, plan.Target{}, plan.Options{}))
		w.add(12, "newer")
		w.takeIn(decide.Log)
		w.restore(w.instance, plan.Target{Point: w.keptPoint()}, plan.Options{As: "y"})
		if got := w.names("y"); got != undone {
			t.Errorf("the kept log's end has %.80q, want %.80q", got, undone)
		}
		w.wantLatest()
	}
}

// TestKeptLogAfterARevertThatWasSeen is a link of the chain, though a log that was undone
// covers its LSNs.
func TestKeptLogAfterARevertThatWasSeen(t *testing.T) {
	w, dir := filed(t)
	revert := w.snapshot()
	w.many(150, 1100, "undone")
	w.takeIn(decide.Log)
	revert()
	w.now = w.now.Add(time.Minute)
	w.add(5000, "new")
	w.takeIn(decide.Auto)
	w.add(5002, "a")
	w.killedLog(dir)
	w.now = w.now.Add(time.Minute)
	w.add(5003, "b")
	w.now = w.now.Add(5 * time.Minute)
	at, truth := w.now, w.names("sales")
	w.now = w.now.Add(5 * time.Minute)
	w.add(5004, "c")
	for _, s := range w.takeIn(decide.Log) {
		if s.Decision.Exit != decide.ExitDone {
			t.Errorf("%s: %s", s.Decision.Rule, s.Decision.Reason)
		}
	}
	w.wantLatest()
	w.restore(w.instance, plan.Target{At: at}, plan.Options{As: "y"})
	if got := w.names("y"); got != truth {
		t.Errorf("behind the kept log is %.80q, want %.80q", got, truth)
	}
}

// TestKeptLogBehindTheOnlyStart: a reboot killed agent and SQL Server alike, and the name of
// the file tells that it was begun before.
func TestKeptLogBehindTheOnlyStart(t *testing.T) {
	for _, reboot := range []bool{false, true} {
		w, dir := filed(t)
		w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
		w.add(10, "a")
		w.exec("ALTER DATABASE sales SET RECOVERY FULL")
		w.back(decide.Diff, "sales")
		w.add(11, "b")
		truth := w.names("sales")
		w.now = w.now.Add(time.Minute)
		w.killedLog(dir)
		w.now = w.now.Add(time.Minute)
		if reboot {
			w.must(w.lab.StopService())
			w.must(w.lab.StartService())
		}
		w.add(12, "c")
		w.takeIn(decide.Log)
		w.restore(w.instance, plan.Target{Point: w.keptPoint()}, plan.Options{As: "y"})
		if got := w.names("y"); got != truth {
			t.Errorf("reboot %v: the kept log's end has %q, want %q", reboot, got, truth)
		}
		w.wantLatest()
	}
}

// forget takes points out of the repository.
func (w *world) forget(points ...string) {
	w.t.Helper()
	entries, _, err := w.repo.Points(w.t.Context())
	w.must(err)
	for _, e := range entries {
		if slices.Contains(points, e.ID) {
			w.must(w.repo.Forget(w.t.Context(), e, "test"))
		}
	}
}

// TestWhatWasUndoneIsKnownInACopy: a log that was undone is gone here, with the full that
// saw it; a copy has it still, and gets what was made later.
func TestWhatWasUndoneIsKnownInACopy(t *testing.T) {
	w, _ := filed(t)
	there := w.repository(mem.New())
	var copied []string
	carry := func() {
		c := there.CopierFrom(w.repo, nil)
		entries, _, err := w.repo.Points(t.Context())
		w.must(err)
		for _, e := range entries {
			if !slices.Contains(copied, e.ID) {
				copied = append(copied, e.ID)
				_, err := c.Copy(t.Context(), e)
				w.must(err)
			}
		}
	}
	revert := w.snapshot()
	w.many(60, 1100, "undone")
	gone := w.back(decide.Log, "sales")
	carry()
	revert()
	w.now = w.now.Add(time.Hour)
	w.add(40, "a")
	for _, s := range w.try(decide.Request{Want: decide.Auto}, w.keep()) {
		if s.Point != nil {
			gone = append(gone, s.Point.ID) // the full that saw it, and its log
		}
	}
	w.forget(gone[0])
	w.now = w.now.Add(24 * time.Hour)
	w.add(41, "b")
	w.back(decide.Full, "sales")
	w.forget(gone[1:]...)
	w.now = w.now.Add(24 * time.Hour)
	w.add(42, "c")
	w.back(decide.Full, "sales")
	carry()
	list, err := (&sqlguest.Repository{Repo: there}).Backups(t.Context(), w.identity("sales"))
	w.must(err)
	r := w.job(w.instance, plan.Target{}, plan.Options{})
	r.Streams, r.Backups, r.Keep = &replay.Repository{Repo: there, Identity: w.identity("sales")}, list, nil
	w.wantLatestFrom(r)
}

// TestKeptLogOfADatabaseThatIsReadOnlySince: it was not when the log was made, and the chain
// goes on through it; also one whose name does not tell the run of SQL Server.
func TestKeptLogOfADatabaseThatIsReadOnlySince(t *testing.T) {
	for name, do := range map[string]func(w *world, readOnly func()){
		"":                  func(_ *world, readOnly func()) { readOnly() },
		"restarted before":  func(w *world, readOnly func()) { w.restart(); readOnly() },
		"restarted after":   func(w *world, readOnly func()) { readOnly(); w.restart() },
		"of another device": func(_ *world, readOnly func()) { readOnly() },
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := filed(t)
			w.add(10, "a")
			w.now = w.now.Add(time.Minute)
			if file := w.killedLog(dir); name == "of another device" {
				w.must(os.Rename(file, strings.Replace(file, filepath.Base(file)[14:24], "-4999-8999", 1)))
			}
			w.now = w.now.Add(10 * time.Minute)
			w.add(11, "b")
			w.now = w.now.Add(5 * time.Minute)
			at, truth := w.now, w.names("sales")
			w.now = w.now.Add(5 * time.Minute)
			w.add(12, "c")
			w.now = w.now.Add(time.Minute)
			do(w, func() { w.exec("ALTER DATABASE sales SET READ_ONLY") })
			w.takeIn(decide.Log)
			w.takeIn(decide.Log)
			w.wantLatest()
			w.restore(w.instance, plan.Target{At: at}, plan.Options{As: "y"})
			if got := w.names("y"); got != truth {
				t.Errorf("behind the kept log is %q, want %q", got, truth)
			}
		})
	}
}

// dies is a keeper that ends its program when the tail's BACKUP has ended in its file.
type dies struct {
	sqlguest.Keeper
	w *world
}

func (k dies) Store(_ context.Context, s backup.Source) (*recovery.Point, error) {
	k.w.exec(`BACKUP LOG sales TO DISK='` + s.(*sqlguest.Source).Device + `.bak' WITH NORECOVERY, CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(k.ID()) + `'`)
	panic("killed")
}

// TestTailOfAKilledRestoreIsUsed, though a differential is the only backup that leads to it.
func TestTailOfAKilledRestoreIsUsed(t *testing.T) {
	w, _ := filed(t)
	w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
	w.add(10, "a")
	w.exec("ALTER DATABASE sales SET RECOVERY FULL")
	w.back(decide.Diff, "sales")
	w.add(11, "b")
	truth := w.names("sales")
	w.now = w.now.Add(time.Minute)
	job := func() *replay.Run {
		r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
		r.Transport = server.Disk
		return r
	}
	func() {
		defer func() { _ = recover() }()
		r := job()
		r.Keep = dies{r.Keep, w}
		_, err := r.Do(t.Context())
		t.Errorf("not killed: %v", err)
	}()
	w.now = w.now.Add(time.Minute)
	_, err := job().Do(t.Context())
	w.must(err)
	if got := w.names("sales"); got != truth {
		t.Errorf("got %q, want %q", got, truth)
	}
}
