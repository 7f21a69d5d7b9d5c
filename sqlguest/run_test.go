package sqlguest_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
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
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// world is a SQL Server with the sample databases and a repository beside it.
type world struct {
	t    *testing.T
	lab  *lab.Lab
	hub  *bridge.Hub
	sql  *direct.Server
	repo *repo.Repository
	be   *mem.Backend
	now  time.Time
	dir  string // of staging files
	// volume, if set, is what a path of the server's lies on
	volume func(path string) (mount string, available, total int64, system string)
	n      atomic.Int64
}

func newWorld(t *testing.T, faults bridge.Faults) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), hub: bridge.NewHub(bridge.Options{Faults: faults}), be: mem.New(), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	l, err := lab.Start(lab.Options{Devices: w.hub, Sample: true, BackupDirectory: w.dir, Path: func(p string) string { return p }, Now: func() time.Time { return w.now }, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}},
		Volume: func(path string) (string, int64, int64, string) {
			if w.volume != nil {
				return w.volume(path)
			}
			return `C:\`, 100 << 30, 200 << 30, "NTFS"
		}})
	w.must(err)
	w.lab = l
	t.Cleanup(func() { w.must(l.Close()) })
	w.sql, err = direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: "x", OpenSet: w.hub.OpenSet})
	w.must(err)
	t.Cleanup(func() { w.must(w.sql.Close()) })
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(t.Context(), w.be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(text string) {
	w.t.Helper()
	if _, err := w.sql.Query(w.t.Context(), text); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

// run backs up and returns "DATABASE do RULE" for each step that is no skip of a
// system database.
func (w *world) run(want decide.Want, databases ...string) ([]sqlguest.Step, []string) {
	w.t.Helper()
	r := w.job(want, w.sql)
	r.Databases = databases
	steps, err := r.All(w.t.Context())
	w.must(err)
	return steps, w.said(steps)
}

// said are the steps in words; none may have failed.
func (w *world) said(steps []sqlguest.Step) []string {
	w.t.Helper()
	for _, s := range steps {
		if s.Err != nil {
			w.t.Errorf("%s: %v", s.Source, s.Err)
		}
	}
	return w.decided(steps)
}

// decided are the steps in words.
func (w *world) decided(steps []sqlguest.Step) (said []string) {
	for _, s := range steps {
		if name := strings.TrimPrefix(s.Source, "sql/LAB/"); name != "master" && name != "model" && name != "msdb" && name != "tempdb" && s.Decision.Rule != decide.RuleExcluded {
			said = append(said, fmt.Sprintf("%s %s %s", name, s.Decision.Do, s.Decision.Rule))
		}
	}
	return said
}

func (w *world) job(want decide.Want, on server.Server) *sqlguest.Run {
	return &sqlguest.Run{
		Server: on, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.VDI, Parallel: 2,
		Device: func() string { return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", w.n.Add(1)) },
		Keep: &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
			res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: func() time.Time { return w.now }})
			if res == nil {
				return nil, err
			}
			return res.Point, err
		}},
	}
}

func (w *world) want(got []string, want ...string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("got  %q\nwant %q", got, want)
	}
}

// sixDatabases adds to the samples (FULL, SIMPLE, a name with everything) one that is
// bulk-logged, one in single-user mode and one that is read-only.
func (w *world) sixDatabases() {
	w.t.Helper()
	for _, name := range []string{"bulk", "single", "old"} {
		w.exec("CREATE DATABASE " + name)
		w.exec("CREATE TABLE " + name + ".dbo.t (id int PRIMARY KEY)")
	}
	w.exec("ALTER DATABASE bulk SET RECOVERY BULK_LOGGED")
	w.exec("ALTER DATABASE single SET RECOVERY FULL")
	w.exec("ALTER DATABASE single SET SINGLE_USER")
	w.exec("ALTER DATABASE old SET RECOVERY FULL")
	w.exec("ALTER DATABASE old SET READ_ONLY")
}

// TestWeekOfAutomaticBackups: first fulls, then logs where there are logs, a
// differential a day, a full a week, each by its rule and with its part of the exit
// code, and nothing is left unconfirmed.
func TestWeekOfAutomaticBackups(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.sixDatabases()
	every := func(of map[string]string) (all []string) {
		for _, name := range []string{"sales", "stock", "it's, ünï", "bulk", "single", "old"} {
			for _, what := range strings.Split(of[name], ", ") {
				all = append(all, name+" "+what)
			}
		}
		return all
	}
	run := func(exit int, want map[string]string) {
		t.Helper()
		steps, said := w.run(decide.Auto)
		w.want(said, every(want)...)
		if got := decide.Exit(decisions(steps)); got != exit {
			t.Errorf("exit %d, want %d", got, exit)
		}
	}
	run(decide.ExitLeftOut, map[string]string{"sales": "full M12, log S-log", "stock": "full M11.1", "it's, ünï": "full M12, log S-log",
		"bulk": "full M12, log S-log", "single": "full M12", "old": "full M12, skip S-read-only"})
	for day, hours := range []int{23, 23, 5*24 - 1} { // the days between them would be as the first
		w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'day')", 100+day))
		w.exec(fmt.Sprintf("UPDATE stock.dbo.items SET amount = %d WHERE id = 1", day))
		w.exec(fmt.Sprintf("INSERT INTO bulk.dbo.t (id) VALUES (%d)", day))
		w.now = w.now.Add(time.Hour)
		_, said := w.run(decide.Log, "sales", "it's, ünï", "bulk")
		w.want(said, "sales log S-log", "it's, ünï log S-log", "bulk log S-log")
		w.now = w.now.Add(time.Duration(hours) * time.Hour)
		if day == 2 {
			run(decide.ExitLeftOut, map[string]string{"sales": "full S-auto-full, log S-log", "stock": "full S-auto-full", "it's, ünï": "full S-auto-full, log S-log",
				"bulk": "full S-auto-full, log S-log", "single": "full S-auto-full", "old": "full S-auto-full"})
			continue
		}
		run(decide.ExitLeftOut, map[string]string{"sales": "diff S-auto-diff, log S-log", "stock": "diff S-auto-diff", "it's, ünï": "diff S-auto-diff, log S-log",
			"bulk": "diff S-auto-diff, log S-log", "single": "diff S-auto-diff", "old": "skip S-read-only"})
	}
	w.exec("ALTER DATABASE single SET MULTI_USER")
	w.now = w.now.Add(time.Hour)
	run(decide.ExitDone, map[string]string{"sales": "log S-auto-log", "stock": "diff S-auto-diff", "it's, ünï": "log S-auto-log",
		"bulk": "log S-auto-log", "single": "log S-auto-log", "old": "skip S-read-only"})
	for _, id := range w.identities() {
		backups, err := w.job(decide.Auto, w.sql).Keep.Backups(t.Context(), id)
		w.must(err)
		for _, b := range backups {
			if b.State != chain.Confirmed || b.By != chain.ByRow || b.Set == "" {
				t.Errorf("%s %s: %q by %q", b.Database, b.Kind, b.State, b.By)
			}
		}
	}
}

// identities are those of all points in the repository.
func (w *world) identities() []string {
	w.t.Helper()
	entries, problems, err := w.repo.Points(w.t.Context())
	w.must(err)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	var ids []string
	for _, e := range entries {
		if !slices.Contains(ids, e.Identity) {
			ids = append(ids, e.Identity)
		}
	}
	return ids
}

// TestQ20ForeignLogBackupFailsTheLogAndAFullFollows in the same run.
func TestQ20ForeignLogBackupFailsTheLogAndAFullFollows(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (20, N'lost to NUL')")
	w.exec("BACKUP LOG sales TO DISK='NUL'")
	steps, said := w.run(decide.Log, "sales")
	w.want(said, "sales refuse Q20", "sales full Q20")
	defer func() {
		_, said := w.run(decide.Log, "sales")
		w.want(said, "sales log S-bridged")
	}()
	if code := decide.Exit(decisions(steps)); code != decide.ExitLeftOut {
		t.Errorf("exit %d, want %d", code, decide.ExitLeftOut)
	}
}

func decisions(steps []sqlguest.Step) []decide.Decision {
	var all []decide.Decision
	for _, s := range steps {
		all = append(all, s.Decision)
	}
	return all
}

// failing is a Keeper whose repository fails, or that is killed, at a chosen place.
type failing struct {
	sqlguest.Keeper
	store, confirm error
}

func (f *failing) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	if f.store == nil {
		return f.Keeper.Store(ctx, src)
	}
	frozen, err := src.Freeze(ctx, nil)
	if err != nil {
		return nil, err
	}
	stream, err := frozen.Items()[0].Stream.Open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, err
	}
	return nil, errors.Join(f.store, frozen.Release(ctx))
}

func (f *failing) Confirm(ctx context.Context, p *recovery.Point, word json.RawMessage) error {
	if f.confirm != nil {
		return f.confirm
	}
	return f.Keeper.Confirm(ctx, p, word)
}

var errFull = errors.New("no space left in the repository")

// TestLogIsNotTruncatedWhenTheRepositoryFailed: SQL Server handed out all of its log,
// the repository could not keep it, and the next log begins where this one did.
func TestLogIsNotTruncatedWhenTheRepositoryFailed(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (30, N'kept')")
	before := w.lastLog("sales")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &failing{Keeper: r.Keep, store: errFull}
	steps, err := r.All(t.Context())
	w.must(err)
	if !slices.ContainsFunc(steps, func(s sqlguest.Step) bool { return errors.Is(s.Err, errFull) && s.Decision.Do == decide.DoLog }) {
		t.Fatalf("no step failed: %+v", steps)
	}
	if after := w.lastLog("sales"); after != before {
		t.Errorf("the next log began at %s and begins at %s now", before, after)
	}
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
}

// lastLog is where SQL Server's next log backup of the database begins.
func (w *world) lastLog(database string) string {
	w.t.Helper()
	at, err := facts.AskInstance(w.t.Context(), w.sql)
	w.must(err)
	all, err := facts.AskDatabases(w.t.Context(), w.sql, at)
	w.must(err)
	i := slices.IndexFunc(all, func(d facts.Database) bool { return d.Name == database })
	if i < 0 {
		w.t.Fatalf("no database %s", database)
	}
	return all[i].LastLog.String()
}

// TestUnconfirmedPointIsSettledByTheNextRun: the run that made it was killed between
// its commit and SQL Server's word.
func TestUnconfirmedPointIsSettledByTheNextRun(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (40, N'forty')")
	r := w.job(decide.Log, w.sql)
	killed := errors.New("killed")
	r.Databases, r.Keep = []string{"sales"}, &failing{Keeper: r.Keep, confirm: killed}
	_, err := r.All(t.Context())
	w.must(err)
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	for _, id := range w.identities() {
		backups, err := w.job(decide.Log, w.sql).Keep.Backups(t.Context(), id)
		w.must(err)
		if len(backups) != 4 {
			t.Errorf("%d backups", len(backups))
		}
		for i, b := range backups {
			if b.State != chain.Confirmed || i > 1 && !chain.Continues(&backups[i-1].Header, &b.Header) {
				t.Errorf("backup %d (%s) is %q, %s to %s", i, b.Kind, b.State, b.First, b.Last)
			}
		}
	}
}

// forgetful is a Keeper that shows none of its backups.
type forgetful struct{ sqlguest.Keeper }

func (f *forgetful) Backups(context.Context, string) ([]chain.Backup, error) { return nil, nil }

// TestRunEndsThatMendsNothing: the log asks for a full, and the full changes nothing.
func TestRunEndsThatMendsNothing(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &forgetful{r.Keep}
	steps, err := r.All(t.Context())
	w.must(err)
	if last := steps[len(steps)-1]; last.Err == nil || len(steps) > 8 {
		t.Errorf("%d steps, the last with %v", len(steps), last.Err)
	}
}

// TestX4OneRunPerDatabase: the second run says that another holds it.
func TestX4OneRunPerDatabase(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	_, _ = w.run(decide.Auto, "sales")
	id := w.identities()[0]
	release, err := w.sql.Hold(t.Context(), "holdfast "+id)
	w.must(err)
	r := w.job(decide.Log, w.sql)
	r.Databases = []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	if !slices.ContainsFunc(steps, func(s sqlguest.Step) bool {
		return errors.Is(s.Err, server.ErrHeld) && s.Err.Error() == "lock database sales: lock is held by another run"
	}) {
		t.Errorf("nobody says that it is held: %+v", steps)
	}
	w.must(release())
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
}

// TestDatabaseThatIsNotThere is an error before anything is done.
func TestDatabaseThatIsNotThere(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	r := w.job(decide.Auto, w.sql)
	r.Databases = []string{"sales", "nobody's"}
	if _, err := r.All(t.Context()); !errors.Is(err, sqlguest.ErrNoDatabase) || !strings.Contains(err.Error(), "nobody's") {
		t.Errorf("%v", err)
	}
	if len(w.identities()) > 0 {
		t.Error("something was backed up")
	}
}

// TestX7FullStagingVolume: log backups into files stop, by name, before SQL Server has
// truncated anything; virtual devices need no such room.
func TestX7FullStagingVolume(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.volume = func(path string) (string, int64, int64, string) {
		if strings.HasPrefix(path, "/stage/") {
			return "/stage", 5 << 20, 9 << 30, "ext4"
		}
		return "/", 9 << 30, 9 << 30, "ext4"
	}
	w.exec("CREATE DATABASE other ON (NAME = a, FILENAME = '/stage/other.mdf') LOG ON (NAME = b, FILENAME = '/other.ldf')")
	w.run(decide.Auto, "sales")
	before := w.lastLog("sales")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Transport, r.Staging, r.Local = []string{"sales"}, server.Disk, "/stage/here", w.dir
	steps, err := r.All(t.Context())
	w.must(err)
	if len(steps) != 1 || steps[0].Decision.Rule != decide.RuleStaging || steps[0].Decision.Exit != decide.ExitRefused || !errors.Is(steps[0].Err, sqlguest.ErrRefused) ||
		!strings.Contains(steps[0].Decision.Reason, "/stage") {
		t.Errorf("%+v", steps)
	}
	if w.lastLog("sales") != before {
		t.Error("the log was truncated")
	}
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
}
