package inject_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/machine"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// wineWorld is a repository, and a SQL Server through the agent under Wine.
type wineWorld struct {
	t      *testing.T
	sql    server.Server
	repo   *repo.Repository
	passed atomic.Int64 // seconds since the beginning
	n      atomic.Int64
	inLog  time.Time
}

func newWineWorld(t *testing.T) *wineWorld {
	t.Helper()
	w := &wineWorld{t: t}
	file, err := seal.NewKeyFile(rand.Reader)
	must(t, err)
	secret, err := seal.ParseKeyFile(file)
	must(t, err)
	w.repo, err = repo.Init(t.Context(), mem.New(), repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: w.clock, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	must(t, err)
	return w
}

func (w *wineWorld) clock() time.Time {
	return time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC).Add(time.Duration(w.passed.Load()) * time.Second)
}

func (w *wineWorld) exec(text string) {
	w.t.Helper()
	if _, err := w.sql.Query(w.t.Context(), text); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	w.passed.Add(60)
}

func (w *wineWorld) keep() *sqlguest.Repository {
	return &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
		res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: w.clock})
		if res == nil {
			return nil, err
		}
		return res.Point, err
	}}
}

func (w *wineWorld) device() string {
	return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", 100+w.n.Add(1))
}

// run backs up the database w and says what was done by which rule.
func (w *wineWorld) run(want decide.Want, on server.Server, keep sqlguest.Keeper) (said string, err error) {
	w.t.Helper()
	w.passed.Add(60)
	r := &sqlguest.Run{Server: on, Label: "sql/WINE", Request: decide.Request{Want: want}, Databases: []string{"w"}, Transport: server.VDI, Keep: keep, Device: w.device}
	steps, err := r.All(w.t.Context())
	for _, s := range steps {
		said += fmt.Sprintf("%s %s ", s.Decision.Do, s.Decision.Rule)
		err = errors.Join(err, s.Err)
	}
	w.passed.Add(60)
	return strings.TrimSpace(said), err
}

func (w *wineWorld) backs(want decide.Want, says string) {
	w.t.Helper()
	said, err := w.run(want, w.sql, w.keep())
	if err != nil || said != says {
		w.t.Fatalf("%s: %s, want %s: %v", want, said, says, err)
	}
}

// crowded is a repository that has no room for a point, once all of it was read.
type crowded struct{ *sqlguest.Repository }

var errCrowded = errors.New("no space left")

func (crowded) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	frozen, err := src.Freeze(ctx, nil)
	if err != nil {
		return nil, err
	}
	stream, err := frozen.Items()[0].Stream.Open(ctx)
	if err == nil {
		_, err = io.Copy(io.Discard, stream)
	}
	return nil, errors.Join(errCrowded, err, frozen.Release(ctx))
}

// backsUp is a full, a log with a mark, a differential, a log that is aborted, and that
// log again.
func (w *wineWorld) backsUp() {
	w.t.Helper()
	for _, text := range []string{"CREATE DATABASE w", "ALTER DATABASE w SET RECOVERY FULL", "CREATE TABLE w.dbo.t (id int PRIMARY KEY)", "INSERT INTO w.dbo.t (id) VALUES (1)"} {
		w.exec(text)
	}
	w.backs(decide.Full, "full S-full")
	w.exec("INSERT INTO w.dbo.t (id) VALUES (2)")
	w.inLog = w.clock()
	w.passed.Add(60)
	w.exec("BEGIN TRANSACTION m1 WITH MARK 'payday'; INSERT INTO w.dbo.t (id) VALUES (3); COMMIT")
	w.exec("INSERT INTO w.dbo.t (id) VALUES (4)")
	w.backs(decide.Log, "log S-log")
	w.exec("INSERT INTO w.dbo.t (id) VALUES (5)")
	w.backs(decide.Diff, "diff S-diff")
	w.exec("INSERT INTO w.dbo.t (id) VALUES (6)")
	if said, err := w.run(decide.Log, w.sql, crowded{w.keep()}); !errors.Is(err, errCrowded) || said != "log S-log" {
		w.t.Errorf("aborted log: %s: %v", said, err)
	}
	w.backs(decide.Log, "log S-log")
}

// rows are the numbers in a database's table.
func (w *wineWorld) rows(database string) string {
	w.t.Helper()
	rows, err := w.sql.Query(w.t.Context(), "SELECT id FROM ["+database+"].dbo.t ORDER BY id")
	if err != nil {
		return err.Error()
	}
	said := ""
	for _, v := range rows.Values {
		said += fmt.Sprint(v[0])
	}
	return said
}

func (w *wineWorld) restore(target plan.Target, o plan.Options, goOn bool, want string) {
	w.t.Helper()
	id := w.identity()
	backups, err := w.keep().Backups(w.t.Context(), id)
	must(w.t, err)
	r := &replay.Run{
		Server: w.sql, Streams: &replay.Repository{Repo: w.repo, Identity: id}, Backups: backups, Target: target, Options: o, Continue: goOn,
		Keep: w.keep(), Identity: id, Place: "wine", Label: "sql/WINE", Device: w.device, Transport: server.VDI,
	}
	if _, err := r.Do(w.t.Context()); err != nil {
		w.t.Errorf("restore %s as %s: %v", target, o.As, err)
	}
	if got := w.rows(o.As); got != want {
		w.t.Errorf("restored %s: %s holds %s, want %s", target, o.As, got, want)
	}
}

// restores goes to the latest moment, to a moment inside a log, to a mark, and to
// STANDBY and onward from there.
func (w *wineWorld) restores() {
	w.t.Helper()
	w.restore(plan.Target{}, plan.Options{As: "latest"}, false, "123456")
	w.restore(plan.Target{At: w.inLog}, plan.Options{As: "moment"}, false, "12")
	w.restore(plan.Target{Mark: "m1"}, plan.Options{As: "mark"}, false, "123")
	w.restore(plan.Target{At: w.inLog}, plan.Options{As: "standby", End: plan.Standby, UndoFile: `C:\standby.undo`}, false, "12")
	w.restore(plan.Target{}, plan.Options{As: "standby"}, true, "123456")
}

// killing kills the agent when the first bytes of a backup have come.
type killing struct {
	server.Server
	kill func()
}

func (k *killing) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	b, err := k.Server.Backup(ctx, st)
	if err == nil {
		k.kill()
	}
	return b, err
}

// killedWhileStreaming: the agent's process is killed in the middle of a log backup:
// SQL Server aborts it and truncates nothing; the guest is clean after the run, and the
// next run goes on where the last log ended.
func (w *wineWorld) killedWhileStreaming(g *machine.Guest, o inject.Options, i *inject.Injected) {
	w.t.Helper()
	w.exec("INSERT INTO w.dbo.t (id) VALUES (7)")
	_, err := w.run(decide.Log, &killing{Server: i.Client, kill: func() {
		for pid := range g.Running() {
			must(w.t, g.Kill(w.t.Context(), pid))
		}
	}}, w.keep())
	if !errors.Is(err, agent.ErrCut) {
		w.t.Errorf("the run whose agent was killed: %v", err)
	}
	must(w.t, i.Close(w.t.Context()))
	clean(w.t, g)
	next, err := inject.Open(w.t.Context(), o)
	must(w.t, err)
	w.sql = next.Client
	w.backs(decide.Log, "log S-log")
	w.restore(plan.Target{}, plan.Options{As: "after"}, false, "1234567")
	entries, err := w.keep().Backups(w.t.Context(), w.identity())
	must(w.t, err)
	for _, b := range entries {
		if b.State != chain.Confirmed {
			w.t.Errorf("%s %s is %s", b.Kind, b.Point, b.State)
		}
	}
	must(w.t, next.Close(w.t.Context()))
	clean(w.t, g)
}

func (w *wineWorld) identity() string {
	w.t.Helper()
	entries, _, err := w.repo.Points(w.t.Context())
	must(w.t, err)
	return entries[0].Identity
}
