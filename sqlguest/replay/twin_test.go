package replay_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/decide/kept"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// LSNs, names and readings of a clock come twice in a database's life: on another fork, on
// a history that was left, in a mark of the same name.

// over restores sales over itself, without its tail.
func (w *world) over(t plan.Target) {
	w.t.Helper()
	r := w.job(w.instance, t, plan.Options{Replace: true})
	r.NoTail = true
	_, err := r.Do(w.t.Context())
	w.must(err)
	w.now = w.now.Add(time.Minute)
}

// truthful wants a restore to give these rows, or to be refused.
func (w *world) truthful(t plan.Target, o plan.Options, backups []chain.Backup, truth string) {
	w.t.Helper()
	r := w.job(w.instance, t, o)
	if backups != nil {
		r.Backups, r.Keep = backups, nil
	}
	res, err := r.Do(w.t.Context())
	if err != nil {
		w.t.Logf("%s: %v", t, err)
		return
	}
	if got := w.names(o.As); got != truth {
		w.t.Errorf("%s: success with %q, want %q or a refusal; points %v, warnings %q", t, got, truth, res.Points, res.Warnings)
	}
}

// lose damages a point beyond repair.
func (w *world) lose(point string) (left []chain.Backup) {
	w.t.Helper()
	w.must(w.be.List(w.t.Context(), "commit", func(i backend.Info) error {
		if strings.Contains(i.Name, point) {
			return w.be.Damage(i.Name, func([]byte) []byte { return []byte("rubbish") })
		}
		return nil
	}))
	left, problems, err := w.keep().Readable(w.t.Context(), w.identity("sales"))
	w.must(err)
	if len(problems) == 0 {
		w.t.Fatalf("point %s is still there", point)
	}
	return left
}

// TestContinueOnAnotherForkAtTheSameLSN: a full of either fork ends there, and msdb does
// not tell which one was restored.
func TestContinueOnAnotherForkAtTheSameLSN(t *testing.T) {
	w := newWorld(t)
	f1 := w.back(decide.Full, "sales")[0]
	w.add(11, "A")
	w.add(12, "A2")
	truth := w.names("sales")
	f2 := w.back(decide.Full, "sales")[0]
	w.over(plan.Target{Point: f1})
	w.add(11, "B")
	f3 := w.back(decide.Full, "sales")[0]
	w.restore(w.instance, plan.Target{Point: f3}, plan.Options{As: "x", End: plan.NoRecovery})
	w.lab.LoseMSDB(false)
	r := w.job(w.instance, plan.Target{Point: f2}, plan.Options{As: "x"})
	r.Continue = true
	if _, err := r.Do(t.Context()); err == nil && w.names("x") != truth {
		t.Errorf("success with %q, want %q", w.names("x"), truth)
	}
}

// point is a backup as the repository has it.
func (w *world) point(id string) chain.Backup {
	w.t.Helper()
	for _, b := range w.all() {
		if b.Point == id {
			return b
		}
	}
	w.t.Fatalf("point %s is not there", id)
	return chain.Backup{}
}

// TestMarkOfAForkBetween: fork B left A early and has the mark; C left A later, inside a
// log of A in which the mark's LSN lies. Then the name is used on C, too.
func TestMarkOfAForkBetween(t *testing.T) {
	w := newWorld(t)
	f1 := w.back(decide.Full, "sales")[0]
	w.back(decide.Log, "sales")
	for i := range 6 {
		w.add(20+i, "A")
	}
	at := w.now.Add(-30 * time.Second)
	for i := range 4 {
		w.add(26+i, "A")
	}
	w.back(decide.Log, "sales")
	w.over(plan.Target{Point: f1})
	w.add(30, "B")
	after := w.now
	w.now = w.now.Add(time.Minute)
	w.exec("BEGIN TRANSACTION m1 WITH MARK 'payday'; INSERT INTO sales.dbo.customers (id, name) VALUES (33, N'mark'); COMMIT")
	truth := w.names("sales")
	w.now = w.now.Add(time.Minute)
	w.add(34, "B")
	w.over(plan.Target{At: at, Bare: true})
	w.add(40, "C")
	w.back(decide.Full, "sales")
	w.now = w.now.Add(time.Minute)
	w.back(decide.Log, "sales")
	w.truthful(plan.Target{Mark: "m1"}, plan.Options{As: "m"}, nil, truth)
	if state := w.state("m"); state != "none" {
		t.Errorf("what no log holds is refused beforehand; m is %s", state)
	}
	w.now = w.now.Add(time.Minute)
	w.exec("BEGIN TRANSACTION m1 WITH MARK 'payday'; INSERT INTO sales.dbo.customers (id, name) VALUES (41, N'markC'); COMMIT")
	real, truth := w.now, w.names("sales")
	w.now = w.now.Add(time.Minute)
	w.back(decide.Log, "sales")
	res := w.restore(w.instance, plan.Target{Mark: "m1", After: after, Bare: true}, plan.Options{As: "c"})
	if got := w.names("c"); got != truth || res.Moment.Before(real) {
		t.Errorf("moment %s with %q; the mark was made at %s, with %q", res.Moment, got, real, truth)
	}
}

// TestTimeOnTheForkItself: --fork names the fork that the database has been on all the
// time, and a history on it was left by a revert.
func TestTimeOnTheForkItself(t *testing.T) {
	w := backedUp(t)
	revert := w.snapshot()
	w.add(31, "undone")
	at, truth := w.now, w.names("sales")
	w.now = w.now.Add(time.Minute)
	left := w.back(decide.Log, "sales")[0]
	revert()
	w.goesOn()
	w.back(decide.Full, "sales")
	w.now = w.now.Add(time.Minute)
	w.back(decide.Log, "sales")
	w.restore(w.instance, plan.Target{At: at, Bare: true}, plan.Options{As: "f", Fork: w.point(left).Fork})
	if got := w.names("f"); got != truth {
		t.Errorf("it has %q, want %q", got, truth)
	}
}

// TestWitnessOfARevertIsLost: the full that saw it cannot be read any more, and what comes
// after it tells all the same: another log, or a tail and then a new fork.
func TestWitnessOfARevertIsLost(t *testing.T) {
	for _, tail := range []bool{false, true} {
		w := newWorld(t)
		w.back(decide.Full, "sales")
		common := w.back(decide.Log, "sales")[0]
		revert := w.snapshot()
		w.add(31, "undone")
		inside, insideTruth := w.now, w.names("sales")
		w.now = w.now.Add(time.Minute)
		w.add(32, "later")
		w.back(decide.Log, "sales")
		w.now = w.now.Add(time.Minute)
		behind, behindTruth := w.now, w.names("sales")
		w.now = w.now.Add(time.Minute)
		revert()
		w.goesOn()
		full := w.back(decide.Full, "sales")[0]
		w.now = w.now.Add(time.Minute)
		w.add(70, "on")
		if tail {
			w.restore(w.instance, plan.Target{Point: common}, plan.Options{Replace: true})
			w.now = w.now.Add(time.Minute)
			w.add(80, "new fork")
			w.back(decide.Auto, "sales")
		} else {
			w.back(decide.Log, "sales")
		}
		left := w.lose(full)
		w.truthful(plan.Target{At: inside, Bare: true}, plan.Options{As: "inside"}, left, insideTruth)
		w.truthful(plan.Target{At: behind, Bare: true}, plan.Options{As: "behind"}, left, behindTruth)
	}
}

// TestPointThatIsHealedBehindARevert: when the revert could have been seen, the newest
// point could not be read; later it can.
func TestPointThatIsHealedBehindARevert(t *testing.T) {
	for _, part := range []string{"commit", "confirm"} {
		w := backedUp(t)
		revert := w.snapshot()
		w.undone()
		w.now = w.now.Add(time.Minute)
		lost := w.back(decide.Diff, "sales")[0]
		revert()
		saved := map[string][]byte{}
		w.must(w.be.List(t.Context(), part, func(i backend.Info) error {
			if strings.Contains(i.Name, lost) {
				return w.be.Damage(i.Name, func(b []byte) []byte {
					saved[i.Name] = append([]byte{}, b...)
					return []byte("rubbish")
				})
			}
			return nil
		}))
		w.goesOn()
		w.try(decide.Request{Want: decide.Log}, w.keep())
		for name, b := range saved {
			w.must(w.be.Damage(name, func([]byte) []byte { return b }))
		}
		w.goesFurther()
		w.wantLatest()
	}
}

// TestRevertOfASimpleDatabaseThatGetsLogs: nothing tells of the differential, and without
// logs nothing could be mixed. Then logs begin.
func TestRevertOfASimpleDatabaseThatGetsLogs(t *testing.T) {
	for _, between := range []decide.Want{decide.Diff, decide.Auto, decide.Full} {
		w := newWorld(t)
		w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE")
		w.back(decide.Full, "sales")
		w.lab.LoseMSDB(false)
		revert := w.snapshot()
		for i := range 12 {
			w.add(500+i, "undone")
		}
		w.now = w.now.Add(time.Minute)
		w.try(decide.Request{Want: decide.Diff}, deaf{w.keep()})
		revert()
		w.add(40, "after")
		w.now = w.now.Add(time.Minute)
		w.try(decide.Request{Want: between}, w.keep())
		w.exec("ALTER DATABASE sales SET RECOVERY FULL")
		w.now = w.now.Add(time.Minute)
		w.try(decide.Request{Want: decide.Auto}, w.keep())
		w.goesOn()
		w.goesFurther()
		w.wantLatest()
	}
}

// killedLog leaves a log in the staging directory, as a run does that was killed.
func (w *world) killedLog(dir string) (file string) {
	w.t.Helper()
	at, err := facts.AskInstance(w.t.Context(), w.sql)
	w.must(err)
	all, err := facts.AskDatabases(w.t.Context(), w.sql, at)
	w.must(err)
	d := &all[slices.IndexFunc(all, func(d facts.Database) bool { return d.Name == "sales" })]
	device := kept.Stamp(w.keep().ID(), sqlguest.LockName(d)) + kept.InRun(at.Run(d)) + "-999999999999}"
	w.exec(`BACKUP LOG sales TO DISK='` + device + `.bak' WITH CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
	return filepath.Join(dir, device+".bak")
}

// TestFileTakenInBehindARestart: a log that lay in a file becomes a point after a
// differential that was made later, and SQL Server was restarted in between.
func TestFileTakenInBehindARestart(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.back(decide.Full, "sales")
	w.add(10, "one")
	file := w.killedLog(dir)
	w.must(os.Rename(file, file+"-away"))
	w.add(11, "two")
	w.now = w.now.Add(time.Minute)
	w.back(decide.Diff, "sales")
	truth := w.names("sales")
	w.now = w.now.Add(time.Minute)
	w.must(w.lab.StopService())
	w.must(w.lab.StartService())
	w.must(os.Rename(file+"-away", file))
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "x"})
	r.Transport = server.Disk
	_, err := r.Do(t.Context())
	w.must(err)
	if got := w.names("x"); got != truth {
		t.Errorf("latest has %q, want %q", got, truth)
	}
}

// TestKeptLogOfAVolumeThatWasSetBack: msdb has its row, and logs of the new history cover
// its LSNs once more.
func TestKeptLogOfAVolumeThatWasSetBack(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.back(decide.Full, "sales")
	w.back(decide.Log, "sales")
	w.add(10, "one")
	revert := w.volume()
	for i := range 12 {
		w.add(1100+i, "undone")
	}
	file := w.killedLog(dir)
	w.must(os.Rename(file, file+"-away"))
	w.now = w.now.Add(time.Minute)
	revert()
	for i := range 3 {
		for k := range 5 {
			w.add(2000+5*i+k, "new")
		}
		w.back(decide.Log, "sales")
		w.now = w.now.Add(time.Minute)
	}
	w.must(os.Rename(file+"-away", file))
	run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: decide.Log}, Transport: server.Disk, Keep: w.keep(), Databases: []string{"sales"}, Device: w.device}
	_, err := run.All(t.Context())
	w.must(err)
	w.wantLatest()
	for _, b := range w.all() {
		if b.Rule == string(decide.RuleKept) && b.By != chain.ByItself {
			t.Errorf("the kept log is confirmed by %q", b.By)
		}
	}
}

// all are the backups as the repository has them.
func (w *world) all() []chain.Backup {
	w.t.Helper()
	list, err := w.keep().Backups(w.t.Context(), w.identity("sales"))
	w.must(err)
	return list
}

// TestReadOnlyDatabaseGetsOneLog: SQL Server cannot note in it that its log was backed up,
// and hands it out again. That is no revert.
func TestReadOnlyDatabaseGetsOneLog(t *testing.T) {
	w := backedUp(t)
	w.add(10, "x")
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	var said []string
	for range 4 {
		w.now = w.now.Add(time.Minute)
		for _, s := range w.try(decide.Request{Want: decide.Log}, w.keep()) {
			said = append(said, string(s.Decision.Do)+" "+string(s.Decision.Rule))
		}
	}
	if want := []string{"log S-log", "skip S-read-only", "skip S-read-only", "skip S-read-only"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	w.wantLatest()
	w.exec("ALTER DATABASE sales SET READ_WRITE")
	w.goesOn()
	w.back(decide.Log, "sales")
	w.wantLatestAs("y")
}
