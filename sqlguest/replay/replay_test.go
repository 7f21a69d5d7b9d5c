package replay_test

import (
	"context"
	"crypto/rand"
	"fmt"
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
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// instance is a SQL Server and a login at it.
type instance struct {
	t   *testing.T
	lab *lab.Lab
	sql *direct.Server
}

// world is a SQL Server with the sample databases and a repository beside it.
type world struct {
	*instance
	be   *mem.Backend
	repo *repo.Repository
	now  time.Time
	n    atomic.Int64
}

func (i *instance) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// start runs a SQL Server of that name; with sample, it has the sample databases.
func start(t *testing.T, o lab.Options) *instance {
	t.Helper()
	hub := bridge.NewHub(bridge.Options{})
	i := &instance{t: t}
	var err error
	o.Devices, o.Logins = hub, []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}
	if o.Edition != "no boss" {
		o.Logins = append(o.Logins, lab.Login{Name: "boss", Password: "y"})
	}
	i.lab, err = lab.Start(o)
	i.must(err)
	t.Cleanup(func() { i.must(i.lab.Close()) })
	i.sql, err = direct.Open(t.Context(), direct.Options{Address: i.lab.Address(), User: "sa", Password: "x", OpenSet: hub.OpenSet})
	i.must(err)
	t.Cleanup(func() { i.must(i.sql.Close()) })
	return i
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, lab.Options{})
}

// newWorldOn is a world whose SQL Server is made so.
func newWorldOn(t *testing.T, o lab.Options) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), be: mem.New()}
	o.Sample, o.Now = true, w.clock
	w.instance = start(t, o)
	w.repo = w.repository(w.be)
	return w
}

// repository is a new one in an empty place.
func (w *world) repository(be *mem.Backend) *repo.Repository {
	w.t.Helper()
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	r, err := repo.Init(w.t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: w.clock, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	return r
}

func (w *world) clock() time.Time { return w.now }

func (i *instance) exec(text string) {
	i.t.Helper()
	if _, err := i.sql.Query(i.t.Context(), text); err != nil {
		i.t.Fatalf("%s: %v", text, err)
	}
}

// names are the customers above 9, which the tests have added.
func (i *instance) names(database string) string {
	i.t.Helper()
	rows, err := i.sql.Query(i.t.Context(), "SELECT name FROM ["+database+"].dbo.customers WHERE id > 9 ORDER BY id")
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, v := range rows.Values {
		list = append(list, v[0].(string))
	}
	return strings.Join(list, " ")
}

func (i *instance) want(database, names string) {
	i.t.Helper()
	if got := i.names(database); got != names {
		i.t.Errorf("%s holds %q, want %q", database, got, names)
	}
}

// state is the database's, and who may use it.
func (i *instance) state(database string) string {
	i.t.Helper()
	rows, err := i.sql.Query(i.t.Context(), "SELECT state_desc, user_access_desc, is_in_standby FROM sys.databases WHERE name = @db", server.Arg{Name: "db", Value: database})
	i.must(err)
	if len(rows.Values) == 0 {
		return "none"
	}
	v := rows.Values[0]
	if v[2] == true {
		return "STANDBY " + v[1].(string)
	}
	return v[0].(string) + " " + v[1].(string)
}

func (i *instance) wantState(database, want string) {
	i.t.Helper()
	if got := i.state(database); got != want {
		i.t.Errorf("%s is %s, want %s", database, got, want)
	}
}

// add inserts a customer and lets a minute pass.
func (w *world) add(id int, name string) {
	w.t.Helper()
	w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'%s')", id, name))
	w.now = w.now.Add(time.Minute)
}

func (w *world) keep() *sqlguest.Repository {
	return &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
		res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: w.clock})
		if res == nil {
			return nil, err
		}
		return res.Point, err
	}}
}

func (w *world) device() string { return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", w.n.Add(1)) }

// back backs up databases and returns the last point of each.
func (w *world) back(want decide.Want, databases ...string) (points []string) {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	r := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.VDI, Keep: w.keep(), Device: w.device, Databases: databases}
	steps, err := r.All(w.t.Context())
	w.must(err)
	for _, s := range steps {
		w.must(s.Err)
		if s.Point != nil {
			points = append(points, s.Point.ID)
		}
	}
	w.now = w.now.Add(time.Minute)
	return points
}

// identity is a database's; it has backups.
func (w *world) identity(database string) string {
	w.t.Helper()
	entries, _, err := w.repo.Points(w.t.Context())
	w.must(err)
	for _, e := range slices.Backward(entries) {
		if strings.HasSuffix(e.Source, "/"+database) {
			return e.Identity
		}
	}
	w.t.Fatalf("no backup of %s", database)
	return ""
}

// job is a restore of sales to a server.
func (w *world) job(to *instance, target plan.Target, o plan.Options) *replay.Run {
	w.t.Helper()
	return w.jobOf(to, "sales", target, o)
}

func (w *world) jobOf(to *instance, database string, target plan.Target, o plan.Options) *replay.Run {
	w.t.Helper()
	id := w.identity(database)
	backups, err := w.keep().Backups(w.t.Context(), id)
	w.must(err)
	r := &replay.Run{
		Server: to.sql, Streams: &replay.Repository{Repo: w.repo, Identity: id}, Backups: backups, Target: target, Options: o,
		Keep: w.keep(), Identity: id, Place: "lab", Label: "sql/LAB", Device: w.device,
	}
	if to != w.instance {
		r.Place, r.Label = "other", "sql/OTHER"
	}
	return r
}

func (w *world) restore(to *instance, target plan.Target, o plan.Options) *replay.Result {
	w.t.Helper()
	res, err := w.job(to, target, o).Do(w.t.Context())
	w.must(err)
	return res
}

// story is a database's life: full, log with a mark in it, differential, log. The
// names tell where each row is.
type story struct {
	full, log, diff, last string
	inLog                 time.Time
}

func (w *world) live() (s story) {
	w.t.Helper()
	w.add(10, "full")
	s.full = w.back(decide.Full, "sales")[0]
	w.add(11, "log")
	s.inLog = w.now
	w.now = w.now.Add(time.Minute)
	w.exec("BEGIN TRANSACTION m1 WITH MARK 'payday'; INSERT INTO sales.dbo.customers (id, name) VALUES (12, N'mark'); COMMIT")
	w.now = w.now.Add(time.Minute)
	w.add(13, "behind")
	s.log = w.back(decide.Log, "sales")[0]
	w.add(14, "diff")
	s.diff = w.back(decide.Diff, "sales")[0]
	w.add(15, "last")
	s.last = w.back(decide.Log, "sales")[0]
	w.add(16, "tail")
	return s
}

// TestM16EveryKindOfTargetOnAServerThatHasSeenNothing: it has nothing but the repository.
func TestM16EveryKindOfTargetOnAServerThatHasSeenNothing(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	backups, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	at := chain.Backup{}
	for _, b := range backups {
		if b.Point == s.log {
			at = b
		}
	}
	for i, x := range []struct {
		target plan.Target
		want   string
	}{
		{plan.Target{}, "full log mark behind diff last"},
		{plan.Target{At: s.inLog, Bare: true}, "full log"},
		{plan.Target{Mark: "m1"}, "full log mark"},
		{plan.Target{Mark: "m1", Before: true}, "full log"},
		{plan.Target{Point: s.full}, "full"},
		{plan.Target{Point: s.diff}, "full log mark behind diff"},
		{plan.Target{LSN: at.Last, Before: true}, "full log mark behind"},
	} {
		name := fmt.Sprintf("sales%d", i)
		res := w.restore(other, x.target, plan.Options{As: name})
		other.want(name, x.want)
		other.wantState(name, "ONLINE MULTI_USER")
		if res.Database != name || len(res.Points) == 0 || res.Bytes == 0 || res.LSN.IsZero() || res.Moment.IsZero() {
			t.Errorf("%s: %+v", x.target, res)
		}
	}
}
