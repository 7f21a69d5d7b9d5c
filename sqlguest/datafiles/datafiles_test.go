package datafiles_test

import (
	"context"
	"crypto/rand"
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
	"holdfast/sqlguest/datafiles"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// world is a SQL Server with the sample databases, and a repository with backups of
// sales: each name of a customer is in the backup of that kind and in all behind it.
type world struct {
	t      *testing.T
	sql    *direct.Server
	repo   *repo.Repository
	now    time.Time
	n      atomic.Int64
	points map[string]string // by what they are
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), points: map[string]string{}}
	hub := bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Devices: hub, Sample: true, Now: w.clock, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	w.must(err)
	t.Cleanup(func() { w.must(l.Close()) })
	w.sql, err = direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: "x", OpenSet: hub.OpenSet})
	w.must(err)
	t.Cleanup(func() { w.must(w.sql.Close()) })
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(t.Context(), mem.New(), repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: w.clock, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	for i, kind := range []decide.Want{decide.Full, decide.Log, decide.Diff} {
		w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'%s')", 10+i, kind))
		w.now = w.now.Add(time.Minute)
		w.back(kind)
	}
	return w
}

func (w *world) clock() time.Time { return w.now }

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

// values are the first column of a query's rows.
func (w *world) values(text string) string {
	w.t.Helper()
	rows, err := w.sql.Query(w.t.Context(), text)
	w.must(err)
	var list []string
	for _, v := range rows.Values {
		list = append(list, fmt.Sprint(v[0]))
	}
	return strings.Join(list, " ")
}

func (w *world) device() string { return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", w.n.Add(1)) }

func (w *world) keep() *sqlguest.Repository {
	return &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
		res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: w.clock})
		if res == nil {
			return nil, err
		}
		return res.Point, err
	}}
}

func (w *world) back(want decide.Want) {
	w.t.Helper()
	r := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.VDI, Keep: w.keep(), Device: w.device, Databases: []string{"sales"}}
	steps, err := r.All(w.t.Context())
	w.must(err)
	for _, s := range steps {
		w.must(s.Err)
		if s.Point != nil {
			w.points[string(want)] = s.Point.ID
		}
	}
	w.now = w.now.Add(time.Minute)
}

// run is a request for the files of sales at a point.
func (w *world) run(point string) *datafiles.Run {
	w.t.Helper()
	entries, _, err := w.repo.Points(w.t.Context())
	w.must(err)
	id := entries[0].Identity
	backups, err := w.keep().Backups(w.t.Context(), id)
	w.must(err)
	return &datafiles.Run{
		Restore: replay.Run{Server: w.sql, Streams: &replay.Repository{Repo: w.repo, Identity: id}, Backups: backups, Target: plan.Target{Point: w.points[point]}, Device: w.device},
		Source:  "sql/LAB/sales", Point: w.points[point], Dir: `E:\Out`, Request: fmt.Sprintf("r%d", w.n.Add(1)),
	}
}

const names = "SELECT name FROM %s.dbo.customers WHERE id > 9 ORDER BY id"

// TestM15FilesOfAPointCanBeAttached: each point's files hold what the database held
// then, no database is left behind, and the original goes on.
func TestM15FilesOfAPointCanBeAttached(t *testing.T) {
	w := newWorld(t)
	before := w.values("SELECT name FROM sys.databases ORDER BY name")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (20, N'later')")
	for point, want := range map[string]string{"full": "full", "log": "full log", "diff": "full log diff"} {
		var list string
		r := w.run(point)
		r.Write = func(path string, data []byte) error {
			list = path + "\n" + string(data)
			return nil
		}
		res, err := r.Do(t.Context())
		w.must(err)
		if after := w.values("SELECT name FROM sys.databases ORDER BY name"); after != before {
			t.Errorf("%s: databases %q, before %q", point, after, before)
		}
		root := `E:\Out\` + w.points[point] + `\` + r.Request
		if len(res.Files) != 2 || res.Files[0].Path != root+`\Data\sales.mdf` || res.Files[1].Path != root+`\Log\sales_log.ldf` || res.Dir != root || res.Database != "sales" {
			t.Errorf("%s: %+v", point, res)
		}
		if res.List != root+`\database_files.txt` || !strings.HasPrefix(list, res.List+"\n\uFEFF# Database sales of sql/LAB/sales, as of point "+w.points[point]+"\r\n") ||
			!strings.Contains(list, res.Files[0].Path+"\tsales\trows\tsales\tLAB\tC:\\Data\\sales.mdf\r\n") || !strings.Contains(list, res.Attach) {
			t.Errorf("%s: the list is\n%s", point, list)
		}
		w.exec(strings.Replace(res.Attach, "[sales]", "again_"+point, 1))
		if got := w.values(fmt.Sprintf(names, "again_"+point)); got != want {
			t.Errorf("%s: the files hold %q, want %q", point, got, want)
		}
		w.exec("DROP DATABASE again_" + point)
	}
	if got := w.values(fmt.Sprintf(names, "sales")); got != "full log diff later" {
		t.Errorf("the original holds %q", got)
	}
}

// streams fail, or end the run, at a stream of the n-th point that is opened.
type streams struct {
	replay.Streams
	at   int
	fail func() error
}

func (s *streams) Open(ctx context.Context, point string, n int) (io.ReadCloser, error) {
	r, err := s.Streams.Open(ctx, point, n)
	if s.at--; s.at != 0 || err != nil {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, 5000), reader(s.fail)), r}, nil
}

type reader func() error

func (r reader) Read([]byte) (int, error) { return 0, r() }

// TestNothingIsLeftOfARequestThatFailed, wherever it did.
func TestNothingIsLeftOfARequestThatFailed(t *testing.T) {
	w := newWorld(t)
	databases := "SELECT name FROM sys.databases ORDER BY name"
	before := w.values(databases)
	torn := errors.New("the repository is gone")
	failed := 0
	for at := 1; at <= 8; at++ { // some are opened for a look only
		for _, cut := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			r := w.run("diff")
			r.Restore.Streams = &streams{r.Restore.Streams, at, func() error {
				if cut {
					cancel()
					return ctx.Err()
				}
				return torn
			}}
			_, err := r.Do(ctx)
			cancel()
			if err == nil {
				continue
			}
			failed++
			if !cut && !errors.Is(err, torn) || errors.Is(err, replay.ErrLeft) || errors.Is(err, datafiles.ErrLeft) {
				t.Errorf("stream %d, cut %v: %v", at, cut, err)
			}
			if after := w.values("SELECT name FROM sys.databases ORDER BY name"); after != before {
				t.Errorf("stream %d, cut %v: databases %q, before %q", at, cut, after, before)
			}
			for _, file := range []string{`Data\sales.mdf`, `Log\sales_log.ldf`} {
				path := `E:\Out\` + w.points["diff"] + `\` + r.Request + `\` + file
				if got := w.values("EXEC master.dbo.xp_fileexist N'" + path + "'"); got != "0" {
					t.Errorf("stream %d, cut %v: %s is still there", at, cut, path)
				}
			}
		}
	}
	if failed < 4 {
		t.Errorf("only %d requests failed: the test proves little", failed)
	}
	res, err := w.run("diff").Do(t.Context())
	w.must(err)
	if !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, datafiles.List) }) {
		t.Errorf("nobody says that there is no list: %q", res.Warnings)
	}
}

// TestADatabaseOfTheTemporaryNameIsNotTouched: a leftover of a killed run, or
// somebody's own.
func TestADatabaseOfTheTemporaryNameIsNotTouched(t *testing.T) {
	w := newWorld(t)
	w.exec("CREATE DATABASE Rst_sales")
	_, err := w.run("full").Do(t.Context())
	if !errors.Is(err, datafiles.ErrTaken) || !strings.Contains(err.Error(), "Rst_sales") {
		t.Errorf("%v", err)
	}
	if got := w.values("SELECT state_desc FROM sys.databases WHERE name = 'Rst_sales'"); got != "ONLINE" {
		t.Errorf("Rst_sales is %q", got)
	}
}

func TestADirectoryMustBeAWholePathAndShort(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{"", "out", `C:out`, `E:\` + strings.Repeat("x", 230)} {
		r := w.run("full")
		r.Dir = dir
		if _, err := r.Do(t.Context()); !errors.Is(err, datafiles.ErrDirectory) {
			t.Errorf("%q: %v", dir, err)
		}
	}
	r := w.run("full")
	r.Restore.Target = plan.Target{Point: "nothing"}
	if _, err := r.Do(t.Context()); !errors.Is(err, plan.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// TestM18FilesOfOneNameStayApart, whatever system's paths they have.
func TestM18FilesOfOneNameStayApart(t *testing.T) {
	w := newWorld(t)
	r := w.run("full")
	r.Dir = "/srv/out/"
	for i := range r.Restore.Backups {
		b := &r.Restore.Backups[i]
		b.Files = []chain.File{
			{ID: 1, Name: "sales", Path: "/var/a/data/x.mdf"}, {ID: 2, Name: "sales_log", Type: 1, Path: "/var/b/Data/x.mdf"},
		}
	}
	res, err := r.Do(t.Context())
	w.must(err)
	if res.Files[0].Path != res.Dir+"/data/x.mdf" || res.Files[1].Path != res.Dir+"/Data-2/x.mdf" || !strings.HasPrefix(res.Dir, "/srv/out/"+w.points["full"]+"/r") {
		t.Errorf("%+v", res.Files)
	}
}

// failing refuses a statement that begins so, as often as it says.
type failing struct {
	server.Server
	begins string
	times  int
}

var errLost = errors.New("the connection is lost")

func (f *failing) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.HasPrefix(text, f.begins) && f.times > 0 {
		f.times--
		return nil, errLost
	}
	return f.Server.Query(ctx, text, args...)
}

// TestADatabaseThatCannotBeDetachedIsDropped, and one that cannot be dropped is named.
func TestADatabaseThatCannotBeDetachedIsDropped(t *testing.T) {
	w := newWorld(t)
	gone := func() bool { return w.values("SELECT name FROM sys.databases WHERE name = 'Rst_sales'") == "" }
	for _, begins := range []string{"EXEC master.dbo.sp_detach_db", "ALTER DATABASE [Rst_sales] SET SINGLE_USER", "EXEC master.dbo.xp_create_subdir"} {
		r := w.run("full")
		r.Restore.Server = &failing{w.sql, begins, 1}
		if _, err := r.Do(t.Context()); !errors.Is(err, errLost) || errors.Is(err, datafiles.ErrLeft) || !gone() {
			t.Errorf("%s: %v", begins, err)
		}
	}
	r := w.run("full")
	r.Restore.Server = &failing{&failing{w.sql, "EXEC master.dbo.sp_detach_db", 1}, "DROP DATABASE", 1}
	if _, err := r.Do(t.Context()); !errors.Is(err, errLost) || !errors.Is(err, datafiles.ErrLeft) || gone() {
		t.Errorf("%v", err)
	}
}
