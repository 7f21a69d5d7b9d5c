package sqlguest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// leave makes a run that is killed when its log is in a file.
func (w *world) leave(n int) {
	w.t.Helper()
	w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'kept')", n))
	r := w.disk(decide.Log, w.sql, "sales")
	r.Keep = &dying{Keeper: r.Keep}
	_, err := r.All(w.t.Context())
	w.must(err)
}

// second gives the world another repository.
func (w *world) second() {
	w.t.Helper()
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(w.t.Context(), mem.New(), repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
}

// TestSQL16AnotherRepositorysFileStays: two repositories share a staging directory. The
// second must not take the first one's only copy of a log, and the first takes it later.
func TestSQL16AnotherRepositorysFileStays(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	w.leave(61)
	first, files := w.repo, w.files()
	if len(files) != 1 {
		t.Fatalf("files %q, want one", files)
	}
	w.second()
	w.want(w.all(w.disk(decide.Auto, w.sql, "sales")), "sales full M12", "sales log S-log")
	if got := w.files(); !slices.Equal(got, files) {
		t.Errorf("the other's file %q, now %q", files, got)
	}
	w.repo = first
	w.want(w.all(w.disk(decide.Log, w.sql, "sales"))[:1], "sales log S-kept")
	if got := w.files(); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestQ20ALogForAnotherRepository is not called ours: it is where it belongs, and two
// repositories for one database tear each other's chains.
func TestQ20ALogForAnotherRepository(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	first := w.repo
	w.second()
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (61, N'more')")
	w.run(decide.Log, "sales")
	w.repo = first
	r := w.job(decide.Log, w.sql)
	r.Databases = []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	if d := steps[0].Decision; d.Rule != decide.RuleForeignLog || !strings.Contains(d.Reason, "of Holdfast, for another repository") {
		t.Errorf("%s: %s", d.Rule, d.Reason)
	}
}

// TestX4RepositoriesExcludeEachOther: one database is backed up into one repository at a
// time, whatever identity it has in each.
func TestX4RepositoriesExcludeEachOther(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	held := false
	r := w.job(decide.Full, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &meanwhile{r.Keep, func() {
		w.second()
		other := w.job(decide.Full, w.sql)
		other.Databases, other.Place = []string{"sales"}, "elsewhere"
		steps, err := other.All(t.Context())
		w.must(err)
		held = slices.ContainsFunc(steps, func(s sqlguest.Step) bool { return errors.Is(s.Err, server.ErrHeld) })
	}}
	w.all(r)
	if !held {
		t.Error("two repositories were at one database at once")
	}
}

// meanwhile is a Keeper that does something before a Store.
type meanwhile struct {
	sqlguest.Keeper
	do func()
}

func (m *meanwhile) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	m.do()
	return m.Keeper.Store(ctx, src)
}

// TestSQL16FileOfAnotherBackupStays: the file's own header is held against msdb's row of
// its name, and SQL Server reads the file to its end before it is given up.
func TestSQL16FileOfAnotherBackupStays(t *testing.T) {
	for _, how := range []string{"exchanged", "cut short", "not whole"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			w.all(w.disk(decide.Auto, w.sql, "sales"))
			w.leave(62)
			one := filepath.Join(w.dir, w.files()[0])
			switch how {
			case "exchanged":
				w.must(os.Rename(one, filepath.Join(w.dir, "hidden")))
				w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (63, N'kept')")
				two := filepath.Join(w.dir, "{6F1C2B5E-0000-4000-8000-000000000063}.bak")
				w.exec("BACKUP LOG sales TO DISK='" + two + "' WITH " + w.ours())
				w.must(os.Rename(two, one))
				w.must(os.Rename(filepath.Join(w.dir, "hidden"), two))
			case "cut short":
				info, err := os.Stat(one)
				w.must(err)
				w.must(os.Truncate(one, info.Size()*2/3))
			}
			before := len(w.files())
			r := w.disk(decide.Log, w.sql, "sales")
			if how == "not whole" {
				r.Server = doubting{w.sql}
			}
			steps, err := r.All(t.Context())
			w.must(err)
			said := w.decided(steps)
			if got := len(w.files()); got != before || said[len(said)-1] != "sales full S-lost" {
				t.Errorf("%d files of %d are left after %q", got, before, said)
			}
			w.chainOfConfirmed("sales")
		})
	}
}

// doubting is a server that does not find a file whole.
type doubting struct{ *direct.Server }

func (d doubting) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.HasPrefix(text, "RESTORE VERIFYONLY") {
		return nil, &server.Error{All: []server.Message{{Number: 3189, Severity: 16, Text: "Damage to the backup set was detected."}}}
	}
	return d.Server.Query(ctx, text, args...)
}

// chainOfConfirmed: no point claims a log that its bytes do not hold.
func (w *world) chainOfConfirmed(database string) {
	w.t.Helper()
	for _, b := range w.backups(database) {
		if b.Rule == string(decide.RuleKept) {
			w.t.Errorf("point %s of a file that is not what it is called: %s to %s", b.Point, b.First, b.Last)
		}
	}
}

// TestSQL16UnfinishedFileIsDropped: what a BACKUP LOG leaves that never ended, by its
// name: once it is seen that the log was not truncated. That of others stays.
func TestSQL16UnfinishedFileIsDropped(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	w.leave(64)
	name := w.files()[0]
	w.all(w.disk(decide.Log, w.sql, "sales")) // takes it in
	w.must(os.WriteFile(filepath.Join(w.dir, name), nil, 0o600))
	w.lab.LoseMSDB(false)
	stays := "{00000000-0000-4000-8000-00000000ABCD}.bak"
	w.must(os.WriteFile(filepath.Join(w.dir, stays), nil, 0o600))
	w.all(w.disk(decide.Log, w.sql, "sales"))
	if got := w.files(); !slices.Equal(got, []string{stays}) {
		t.Errorf("files %q, want %q", got, stays)
	}
}

// TestSQL12HistoryThatCannotBeWrittenIsNoDenial: msdb takes no row, and SQL Server has
// truncated. The point is settled by its header, and nothing is lost.
func TestSQL12HistoryThatCannotBeWrittenIsNoDenial(t *testing.T) {
	for _, transport := range []string{server.VDI, server.Disk} {
		t.Run(transport, func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			run := func() []sqlguest.Step {
				r := w.disk(decide.Log, w.sql, "sales")
				r.Transport = transport
				steps, err := r.All(t.Context())
				w.must(err)
				return steps
			}
			w.must(w.full(transport))
			w.lab.LoseMSDB(true)
			if steps := run(); !errors.Is(steps[0].Err, sqlguest.ErrUnconfirmed) || steps[0].Point == nil {
				t.Errorf("%+v", steps[0])
			}
			w.lab.LoseMSDB(false)
			w.want(w.said(run()), "sales log S-log")
			w.chainGoesOn("sales")
			for _, b := range w.backups("sales") {
				if b.State == chain.Denied {
					t.Errorf("point %s is denied: %s", b.Point, strings.Join(b.Why, "; "))
				}
			}
		})
	}
}

// retracting is a server that says of a BACKUP that it has made that it gave it up.
type retracting struct{ server.Server }

func (r retracting) Backup(ctx context.Context, s server.Statement) (server.Backup, error) {
	b, err := r.Server.Backup(ctx, s)
	return retracted{b}, err
}

type retracted struct{ server.Backup }

func (r retracted) Commit(ctx context.Context) (*server.Outcome, error) {
	_, err := r.Backup.Commit(ctx)
	return nil, errors.Join(err, &server.Error{All: []server.Message{{Number: 3013, Severity: 16, Text: "BACKUP is terminating abnormally."}}})
}

// TestSQL12AnErrorAfterTheWordIsNoDenialByItself: SQL Server stands where the backup has
// brought it, whatever the statement's end was. The next run finds out.
func TestSQL12AnErrorAfterTheWordIsNoDenialByItself(t *testing.T) {
	for _, want := range []decide.Want{decide.Log, decide.Full} {
		w := newWorld(t, bridge.Faults{})
		w.must(w.full(server.VDI))
		r := w.job(want, retracting{w.sql})
		r.Databases = []string{"sales"}
		steps, err := r.All(t.Context())
		w.must(err)
		list := w.backups("sales")
		if b := list[len(list)-1]; !errors.Is(steps[0].Err, sqlguest.ErrUnconfirmed) || b.State != chain.Unconfirmed {
			t.Errorf("%s is %q after %v", b.Kind, b.State, steps[0].Err)
		}
		w.run(decide.Log, "sales")
		w.chainIsWhole("sales")
	}
}

// TestAKeptFilesPointHasTheFilesOfThen: what the database was given since is not in that
// backup, and a plan must not place it before its own log does.
func TestAKeptFilesPointHasTheFilesOfThen(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	before := w.backups("sales")[0].Files
	w.leave(61)
	w.exec(`ALTER DATABASE sales ADD FILE (NAME = more, FILENAME = 'C:\Data\more.ndf')`)
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-kept", "sales log S-log")
	all := w.backups("sales")
	kept, next := all[len(all)-2], all[len(all)-1]
	same := func(a, b chain.File) bool {
		a.Pages, b.Pages = 0, 0 // the laboratory's headers do not tell the log's
		return a == b
	}
	if !slices.EqualFunc(kept.Files, before, same) {
		t.Errorf("the kept file's point has the files %+v, want %+v", kept.Files, before)
	}
	if len(next.Files) != len(before)+1 {
		t.Errorf("the next one has %d files, want %d", len(next.Files), len(before)+1)
	}
}
