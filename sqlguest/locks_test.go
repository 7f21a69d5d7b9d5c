package sqlguest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// killing is a server whose sessions that hold locks can be killed, and that does
// something when a run has looked at msdb's history, which is the last look before it
// decides.
type killing struct {
	server.Server
	w        *world
	sessions []any // that hold locks
	looked   func()
	always   bool // to look once is not all
	holds    int
}

func (d *killing) Hold(ctx context.Context, name string) (func() error, error) {
	all := func() (ids []any) {
		rows, err := d.w.sql.Query(ctx, "SELECT session_id FROM sys.dm_exec_sessions WHERE session_id <> @@SPID")
		d.w.must(err)
		for _, v := range rows.Values {
			ids = append(ids, v[0])
		}
		return ids
	}
	before := all()
	release, err := d.Server.Hold(ctx, name)
	if err == nil {
		d.holds++
		d.sessions = append(d.sessions, slices.DeleteFunc(all(), func(id any) bool { return slices.Contains(before, id) })...)
	}
	return release, err
}

// kill is what an administrator types.
func (d *killing) kill() {
	for _, id := range d.sessions {
		var said *server.Error
		if _, err := d.w.sql.Query(d.w.t.Context(), fmt.Sprintf("KILL %v", id)); err != nil && !(errors.As(err, &said) && said.Has(6106)) { // it has ended by itself
			d.w.t.Errorf("kill session %v: %v", id, err)
		}
	}
	d.sessions = nil
}

func (d *killing) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	rows, err := d.Server.Query(ctx, text, args...)
	if do := d.looked; do != nil && strings.Contains(text, "msdb.dbo.backupset") {
		if !d.always {
			d.looked = nil
		}
		do()
	}
	return rows, err
}

// TestX4LostLockLetsNobodyDecideOnOldFacts: the sessions that hold a run's locks are killed
// between its look and its BACKUP, and another takes the log meanwhile. The run finds
// out, takes the locks again, looks again, and decides otherwise.
func TestX4LostLockLetsNobodyDecideOnOldFacts(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (90, N'taken by another')")
	d := &killing{Server: w.sql, w: w}
	d.looked = func() {
		d.kill()
		w.exec("BACKUP LOG sales TO DISK='NUL'")
	}
	r := w.job(decide.Log, d)
	r.Databases = []string{"sales"}
	w.want(w.all(r), "sales refuse Q20", "sales full Q20")
	if d.holds != 4 {
		t.Errorf("locks were taken %d times, want twice two", d.holds)
	}
}

// TestX4LostLockThatAnotherRunHas: the database is left to that run, and nothing is done.
func TestX4LostLockThatAnotherRunHas(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	before, points := w.lastLog("sales"), w.points()
	d := &killing{Server: w.sql, w: w}
	d.looked = func() {
		d.kill()
		release, err := w.sql.Hold(t.Context(), "holdfast "+w.identities()[0])
		w.must(err)
		t.Cleanup(func() { _ = release() })
	}
	r := w.job(decide.Log, d)
	r.Databases = []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	if !slices.ContainsFunc(steps, func(s sqlguest.Step) bool { return errors.Is(s.Err, server.ErrHeld) && s.Point == nil }) {
		t.Errorf("nobody says that another has it: %+v", steps)
	}
	if w.lastLog("sales") != before || w.points() != points {
		t.Error("a backup was made without the lock")
	}
}

// TestX4SessionsThatDieTimeAfterTime end the database's part of the run.
func TestX4SessionsThatDieTimeAfterTime(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	d := &killing{Server: w.sql, w: w, always: true}
	d.looked = d.kill
	r := w.job(decide.Full, d)
	r.Databases = []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	if !slices.ContainsFunc(steps, func(s sqlguest.Step) bool { return errors.Is(s.Err, server.ErrLockLost) }) || w.points() != 0 {
		t.Errorf("%d points, %+v", w.points(), steps)
	}
}

// settles counts what is settled.
type settles struct {
	sqlguest.Keeper
	n int
}

func (s *settles) Settle(ctx context.Context, point string, word json.RawMessage) error {
	s.n++
	return s.Keeper.Settle(ctx, point, word)
}

// TestX4NothingIsSettledWithoutTheLock: SQL Server's word on an unconfirmed point is written
// by who has the lock, for whoever has it may be making that very point.
func TestX4NothingIsSettledWithoutTheLock(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (91, N'unconfirmed')")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &failing{Keeper: r.Keep, confirm: errors.New("killed")}
	_, err := r.All(t.Context())
	w.must(err)

	d := &killing{Server: w.sql, w: w}
	var release func() error
	d.looked = func() {
		d.kill()
		var err error
		release, err = w.sql.Hold(t.Context(), "holdfast "+w.identities()[0])
		w.must(err)
	}
	r = w.job(decide.Log, d)
	s := &settles{Keeper: r.Keep}
	r.Databases, r.Keep = []string{"sales"}, s
	steps, err := r.All(t.Context())
	w.must(err)
	if s.n != 0 || !slices.ContainsFunc(steps, func(s sqlguest.Step) bool { return errors.Is(s.Err, server.ErrHeld) }) {
		t.Errorf("%d settled: %+v", s.n, steps)
	}
	w.must(release())
	r = w.job(decide.Log, w.sql)
	s = &settles{Keeper: r.Keep}
	r.Databases, r.Keep = []string{"sales"}, s
	w.want(w.all(r), "sales log S-log")
	if s.n != 1 {
		t.Errorf("%d settled by the run that has the lock", s.n)
	}
}

// points is how many there are.
func (w *world) points() int {
	w.t.Helper()
	entries, problems, err := w.repo.Points(w.t.Context())
	w.must(err)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	return len(entries)
}
