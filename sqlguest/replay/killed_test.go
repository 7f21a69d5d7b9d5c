package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/repo/backend"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// noConfirm loses SQL Server's word, as a run that is killed behind its point does.
type noConfirm struct{ sqlguest.Keeper }

func (noConfirm) Confirm(context.Context, *recovery.Point, json.RawMessage) error { return errFault }

// TestRunKilledBehindItsTailsPointLosesNothing: msdb knows the tail, and the next run
// asks it before it plans.
func TestRunKilledBehindItsTailsPointLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.live()
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Keep = noConfirm{r.Keep}
	r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] WITH", err: errFault}
	if _, err := r.Do(t.Context()); err == nil {
		t.Fatal("the fault was not met")
	}
	w.wantState("sales", "RESTORING SINGLE_USER")
	p, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true}).Preview(t.Context())
	w.must(err)
	if n := len(p.Plan.Steps); n < 4 {
		t.Errorf("the plan has %d steps", n)
	}
	w.restore(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	w.want("sales", "full log mark behind diff last tail")
	w.wantState("sales", "ONLINE MULTI_USER")
	backups, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	if last := backups[len(backups)-1]; !last.Usable() || !last.Tail {
		t.Errorf("the tail's point was not confirmed: %+v", last)
	}
}

// noStore is a repository that takes nothing.
type noStore struct{ sqlguest.Keeper }

func (noStore) Store(context.Context, backup.Source) (*recovery.Point, error) { return nil, errFault }

// closeByTail backs the tail up to a file and leaves it at that, as a run does that is
// killed before the file is a point.
func (w *world) closeByTail() {
	w.exec(`BACKUP LOG sales TO DISK='{00000000-0000-4000-8000-999999999999}.bak' WITH NORECOVERY, CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
	w.wantState("sales", "RESTORING MULTI_USER")
}

// TestTailInAFileThatNobodyReachesIsNotOverwritten: it is the only copy of what the
// database held.
func TestTailInAFileThatNobodyReachesIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	w.closeByTail()
	for _, target := range []plan.Target{{}, {Point: s.full}} {
		_, err := w.job(w.instance, target, plan.Options{Replace: true, Kick: true}).Do(t.Context())
		if !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "P-tail") || !strings.Contains(err.Error(), "999999999999") {
			t.Errorf("%s: %v", target, err)
		}
		if hint := (interface{ Hint() string })(nil); !errors.As(err, &hint) || strings.Contains(hint.Hint(), "--no-tail") {
			t.Errorf("%s: hint %v", target, hint)
		}
	}
	w.wantState("sales", "RESTORING MULTI_USER")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true})
	r.NoTail = true
	_, err := r.Do(t.Context())
	w.must(err)
	w.want("sales", "full log mark behind diff last")
}

// TestTailInAStagingFileIsTakenInAndRestored: whatever name the restore is to.
func TestTailInAStagingFileIsTakenInAndRestored(t *testing.T) {
	for _, o := range []plan.Options{{Replace: true, Kick: true}, {As: "copy"}} {
		dir := t.TempDir()
		w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
		w.exec("ALTER AUTHORIZATION ON DATABASE::sales TO boss")
		w.live()
		w.closeByTail()
		job := func() *replay.Run {
			r := w.job(w.instance, plan.Target{}, o)
			r.Transport = server.Disk
			return r
		}
		p, err := job().Preview(t.Context())
		w.must(err)
		if !strings.Contains(findings(p), "P-kept") {
			t.Errorf("the preview does not tell of the file: %+v", p.Findings)
		}
		_, err = job().Do(t.Context())
		w.must(err)
		name := "sales"
		if o.As != "" {
			name = o.As
		}
		if !strings.HasPrefix(w.settings(name), "boss ") { // which the file does not tell
			t.Errorf("%s is %s", name, w.settings(name))
		}
		w.want(name, "full log mark behind diff last tail")
		if files, _ := filepath.Glob(filepath.Join(dir, "*.bak")); len(files) != 0 {
			t.Errorf("files left: %v", files)
		}
	}
}

// TestStagingFileThatIsNotTakenInStopsTheRestore: the latest moment lies in it.
func TestStagingFileThatIsNotTakenInStopsTheRestore(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.live()
	w.closeByTail()
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy"})
	r.Transport, r.Keep = server.Disk, &noStore{r.Keep}
	if _, err := r.Do(t.Context()); !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "P-kept") {
		t.Errorf("%v", err)
	}
	w.wantState("copy", "none")
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files: %v, %v", files, err)
	}
}

func findings(p *replay.Preview) (text string) {
	for _, f := range p.Findings {
		text += f.Rule + ": " + f.Text + "\n"
	}
	return text
}

// TestUnreadableConfirmationIsAnUnconfirmedPoint: of a full that a newer one follows it
// changes nothing, of the newest backup its home server is asked; the next backup is a
// full with a reason.
func TestUnreadableConfirmationIsAnUnconfirmedPoint(t *testing.T) {
	w := newWorld(t)
	w.live()
	var names []string
	w.must(w.be.List(t.Context(), "", func(i backend.Info) error {
		if strings.HasPrefix(i.Name, "confirm") {
			names = append(names, i.Name)
		}
		return nil
	}))
	for _, name := range names {
		w.must(w.be.Damage(name, func([]byte) []byte { return []byte("rubbish") }))
	}
	list, problems, err := w.keep().Readable(t.Context(), w.identity("sales"))
	if err != nil || len(list) != 4 || len(problems) != 4 || list[0].Usable() || !strings.HasPrefix(problems[0].Object, "confirm/") {
		t.Errorf("%d backups, %v, %v", len(list), problems, err)
	}
	if _, err := w.keep().Whole(t.Context(), w.identity("sales")); err == nil {
		t.Error("retention is told that all can be read")
	}
	w.restore(w.instance, plan.Target{}, plan.Options{As: "x"})
	w.want("x", "full log mark behind diff last")
	if made := w.back(decide.Log, "sales"); len(made) == 0 {
		t.Fatal("no backup was made")
	}
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	w.restore(other, plan.Target{}, plan.Options{})
	other.want("sales", "full log mark behind diff last tail")
}

// TestPlanOverADatabaseTakesKeptLogsIntoAccount: the run takes them in, and so leads to the
// tail behind them; nobody is told to give anything up.
func TestPlanOverADatabaseTakesKeptLogsIntoAccount(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.live()
	w.exec(`BACKUP LOG sales TO DISK='{00000000-0000-4000-8000-999999999999}.bak' WITH CHECKSUM, FORMAT, INIT, NAME='Holdfast', DESCRIPTION='` + chain.Owner(w.keep().ID()) + `'`)
	w.add(17, "since")
	job := func(keep sqlguest.Keeper) *replay.Run {
		r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
		r.Transport, r.Guest, r.Address = server.Disk, "sql01", "db:1433"
		if keep != nil {
			r.Keep = keep
		}
		return r
	}
	p, err := job(nil).Preview(t.Context())
	w.must(err)
	w.must(p.Err())
	if n := len(p.Plan.Steps); n < 3 || p.Plan.Steps[n-3].Point != replay.KeptPoint || p.Plan.Steps[n-2].Point != plan.TailPoint || !p.Plan.Again || !strings.Contains(findings(p), "P-kept") {
		t.Errorf("planned %+v\n%s", p.Plan.Steps, findings(p))
	}
	_, err = job(&noStore{w.keep()}).Do(t.Context())
	if hint := (interface{ Hint() string })(nil); !errors.As(err, &hint) || strings.Contains(hint.Hint(), "--no-tail") || !strings.Contains(hint.Hint(), "999999999999") {
		t.Errorf("%v, hint %v", err, hint)
	}
	_, err = job(nil).Do(t.Context())
	w.must(err)
	w.want("sales", "full log mark behind diff last tail since")
	backups, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	i := slices.IndexFunc(backups, func(b chain.Backup) bool { return b.Rule == chain.RuleKept })
	if i < 0 || backups[i].Guest != "sql01" || backups[i].Address != "db:1433" || backups[i].Zone != backups[0].Zone {
		t.Errorf("the point of the file does not tell where it is from: %+v", backups)
	}
}
