package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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
