package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// refusedBy fails unless the restore and its preview are refused by that rule.
func (w *world) refusedBy(rule string, job func() *replay.Run) {
	w.t.Helper()
	p, err := job().Preview(w.t.Context())
	w.must(err)
	if err := p.Err(); !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "(rule "+rule+")") {
		w.t.Errorf("the plan says %v", err)
	}
	if _, err := job().Do(w.t.Context()); !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "(rule "+rule+")") {
		w.t.Errorf("the restore says %v", err)
	}
}

// TestTailBehindAForeignLogIsNotGivenUp: somebody took a log, and then an earlier moment
// is restored over the database, by whatever target: its tail would lead nowhere.
func TestTailBehindAForeignLogIsNotGivenUp(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	w.exec("BACKUP LOG sales TO DISK='NUL'")
	w.add(17, "precious")
	for _, c := range []struct {
		target plan.Target
		o      plan.Options
	}{
		{plan.Target{Point: s.full}, plan.Options{Replace: true}},
		{plan.Target{At: s.inLog, Bare: true}, plan.Options{Replace: true}},
		{plan.Target{Mark: "m1"}, plan.Options{Replace: true}},
		{plan.Target{}, plan.Options{Replace: true, Nearest: plan.Before}},
		{plan.Target{At: w.now, Bare: true}, plan.Options{Replace: true, Nearest: plan.Before}},
	} {
		w.refusedBy("P-tail", func() *replay.Run { return w.job(w.instance, c.target, c.o) })
	}
	w.want("sales", "full log mark behind diff last tail precious")
	w.wantState("sales", "ONLINE MULTI_USER")

	// A full saves it, and then its tail leads somewhere.
	w.back(decide.Full, "sales")
	w.add(18, "tail of the full")
	res := w.restore(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true})
	w.want("sales", "full")
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{As: "x"})
	w.want("x", "full log mark behind diff last tail precious tail of the full")
}

// TestTailBehindAnUnconfirmedLogIsTaken: what a run that was killed has left explains the
// gap, and is settled first.
func TestTailBehindAnUnconfirmedLogIsTaken(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	w.now = w.now.Add(time.Minute)
	w.try(decide.Request{Want: decide.Log}, deaf{w.keep()})
	w.add(17, "behind it")
	job := func() *replay.Run { return w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true}) }
	p, err := job().Preview(t.Context())
	w.must(err)
	w.must(p.Err())
	res, err := job().Do(t.Context())
	w.must(err)
	w.want("sales", "full")
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{As: "x"})
	w.want("x", "full log mark behind diff last tail behind it")
}

// TestTailBehindAKeptFileIsTaken: what is missing between our backups and the tail lies in
// a file of a run that was killed, which becomes a point first; if that fails, nothing is
// overwritten, and nobody is told to give the rows up for it.
func TestTailBehindAKeptFileIsTaken(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	s := w.live()
	w.exec(`BACKUP LOG sales TO DISK='{00000000-0000-4000-8000-999999999999}.bak' WITH CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
	w.add(17, "behind it")
	job := func() *replay.Run {
		r := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true})
		r.Transport = server.Disk
		return r
	}
	p, err := job().Preview(t.Context())
	w.must(err)
	if text := findings(p); p.Err() != nil || !strings.Contains(text, "P-kept") || strings.Contains(text, "P-tail") {
		t.Errorf("the plan says %s", text)
	}
	r := job()
	r.Keep = &noStore{r.Keep}
	_, err = r.Do(t.Context())
	var refused *replay.Refused
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	for _, f := range refused.Findings {
		if f.Rule == "P-tail" && strings.Contains(f.Remedy, "--no-tail") {
			t.Errorf("%s: %s", f.Text, f.Remedy)
		}
	}
	w.wantState("sales", "ONLINE MULTI_USER")
	res, err := job().Do(t.Context())
	w.must(err)
	w.want("sales", "full")
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{As: "x"})
	w.want("x", "full log mark behind diff last tail behind it")
}

// thief takes a log just before ours.
type thief struct {
	server.Server
	w *world
}

func (s *thief) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	s.w.exec("BACKUP LOG sales TO DISK='NUL'")
	s.w.add(19, "late")
	return s.Server.Backup(ctx, st)
}

// TestLogTakenJustBeforeTheTail: it was not there when the restore looked.
func TestLogTakenJustBeforeTheTail(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	r := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true})
	r.Server = &thief{w.sql, w}
	_, err := r.Do(t.Context())
	var miss *plan.Unreachable
	if !errors.As(err, &miss) || errors.Is(err, replay.ErrLeft) {
		t.Errorf("%v", err)
	}
	w.want("sales", "full log mark behind diff last tail late")
	w.wantState("sales", "ONLINE MULTI_USER")
}

// unspoken is a server whose word on a backup comes too late: SQL Server gives it up when
// its point is durable already.
type unspoken struct{ server.Server }

type unheard struct{ server.Backup }

func (u unspoken) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	b, err := u.Server.Backup(ctx, st)
	if err != nil {
		return nil, err
	}
	return unheard{b}, nil
}

func (u unheard) Commit(ctx context.Context) (*server.Outcome, error) {
	return nil, errors.Join(errFault, u.Abort(ctx))
}

// TestTailBehindAnOverlapIsKeptOrRefused: a log that SQL Server gave up was taken once
// more, and then the database was restored over twice.
func TestTailBehindAnOverlapIsKeptOrRefused(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	full := w.back(decide.Full, "sales")[0]
	w.add(11, "one")
	run := &sqlguest.Run{Server: unspoken{w.sql}, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: decide.Log}, Transport: server.VDI, Keep: w.keep(), Databases: []string{"sales"}, Device: w.device}
	_, err := run.All(t.Context())
	w.must(err)
	w.now = w.now.Add(time.Minute)
	log := w.back(decide.Log, "sales")[0]
	w.restore(w.instance, plan.Target{Point: log}, plan.Options{Replace: true})
	w.now = w.now.Add(time.Minute)
	w.add(13, "precious")
	res, err := w.job(w.instance, plan.Target{Point: full}, plan.Options{Replace: true}).Do(t.Context())
	if errors.Is(err, replay.ErrRefused) {
		w.want("sales", "full one precious")
		return
	}
	w.must(err)
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{As: "x"})
	w.want("x", "full one precious")
}

// TestContinueOfAForeignDatabaseAtAnLSNOfOurs: no backup is restored, and so none of the
// plan's says whose the database must be.
func TestContinueOfAForeignDatabaseAtAnLSNOfOurs(t *testing.T) {
	const foreign = "it's, ünï"
	w := newWorld(t)
	ours := w.back(decide.Full, "sales")[0]
	theirs := w.back(decide.Full, foreign)[0]
	list, err := w.keep().Backups(t.Context(), w.identity(foreign))
	w.must(err)
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	_, err = w.jobOf(other, foreign, plan.Target{Point: theirs}, plan.Options{As: "sales", End: plan.NoRecovery}).Do(t.Context())
	w.must(err)
	for _, target := range []plan.Target{{}, {Point: ours}} {
		w.refusedBy("P-family", func() *replay.Run {
			r := w.job(other, target, plan.Options{})
			r.Continue = true
			r.Backups[0].Last, r.Backups[0].Fork = list[0].Last, list[0].Fork // the family alone tells them apart
			return r
		})
	}
	other.wantState("sales", "RESTORING MULTI_USER")
}

// TestUndoFileOfAnotherIsSpared: going on with a database in STANDBY overwrites nobody's
// file, and the undo file of last time may be named again.
func TestUndoFileOfAnotherIsSpared(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	undo := func(name string) string { return `C:\Data\` + name + `.tuf` }
	for _, name := range []string{"x", "y"} {
		w.restore(w.instance, plan.Target{Point: s.full}, plan.Options{As: name, End: plan.Standby, UndoFile: undo(name)})
	}
	on := func(as, point, path string) *replay.Run {
		r := w.job(w.instance, plan.Target{Point: point}, plan.Options{As: as, End: plan.Standby, UndoFile: path})
		r.Continue = true
		return r
	}
	files := w.databaseFiles("x")
	for _, path := range append(files, `C:\Data\stock.mdf`, `c:\data\STOCK.mdf`) {
		w.refusedBy("P-undo", func() *replay.Run { return on("x", s.log, path) })
	}
	w.refusedBy("P-undo", func() *replay.Run {
		return w.job(w.instance, plan.Target{Point: s.full}, plan.Options{As: "z", End: plan.Standby, UndoFile: `C:\Data\z.mdf`})
	})
	res, err := on("x", s.log, undo("x")).Do(t.Context())
	w.must(err)
	if len(res.Warnings) > 0 {
		t.Errorf("its own undo file: %q", res.Warnings)
	}
	res, err = on("x", s.last, undo("y")).Do(t.Context())
	w.must(err)
	if text := fmt.Sprint(res.Warnings); !strings.Contains(text, `x_1_undo.tuf, for `+undo("y")) {
		t.Errorf("another's undo file: %s", text)
	}
	w.wantState("x", "STANDBY MULTI_USER")
	w.want("x", "full log mark behind diff last")
	_, err = on("y", s.last, "").Do(t.Context())
	w.must(err)
	w.want("y", "full log mark behind diff last")
}

// databaseFiles are the paths of a database's files.
func (w *world) databaseFiles(name string) (list []string) {
	w.t.Helper()
	rows, err := w.sql.Query(w.t.Context(), "SELECT physical_name FROM sys.master_files WHERE database_id = DB_ID(@db)", server.Arg{Name: "db", Value: name})
	w.must(err)
	for _, v := range rows.Values {
		list = append(list, v[0].(string))
	}
	return list
}
