package siege_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/sqlguest"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// database is the one under siege.
const database = "d"

// world is a SQL Server, an agent beside it, and a program with a repository afar.
type world struct {
	t    testing.TB
	lab  *lab.Lab
	hub  *bridge.Hub
	near *direct.Server // the test's own way to the server
	repo *repo.Repository
	full *atomic.Bool
	gate atomic.Pointer[gate]
	now  time.Time
	n    atomic.Int64
	rows int

	agent *running
}

// running is an agent and a session with it.
type running struct {
	sql    *direct.Server
	client *agent.Client
	stop   context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

// gate lets SQL Server send its first command to a virtual device and no other until it
// is opened: what is small would be over before anything can happen to it.
type gate struct {
	first atomic.Bool
	open  chan struct{}
	once  sync.Once
}

func (g *gate) pass() {
	if !g.first.CompareAndSwap(false, true) {
		<-g.open
	}
}

func (g *gate) unlock() { g.once.Do(func() { close(g.open) }) }

// crowded is a backend that has no room while it is told so.
type crowded struct {
	backend.Backend
	full *atomic.Bool
}

func (c crowded) Put(ctx context.Context, name string, data []byte) error {
	if c.full.Load() {
		return fmt.Errorf("put %s: %w", name, backend.ErrNoSpace)
	}
	return c.Backend.Put(ctx, name, data)
}

func (c crowded) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if c.full.Load() {
		return fmt.Errorf("put %s: %w", name, backend.ErrNoSpace)
	}
	return c.Backend.PutIfAbsent(ctx, name, data)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, full: &atomic.Bool{}, now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	w.hub = bridge.NewHub(bridge.Options{Faults: bridge.Faults{Before: func(int, vdi.Code) {
		if g := w.gate.Load(); g != nil {
			g.pass()
		}
	}}})
	var err error
	w.lab, err = lab.Start(lab.Options{Devices: w.hub, Now: func() time.Time { return w.now }, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	w.must(err)
	t.Cleanup(func() { w.must(w.lab.Close()) })
	w.near = w.login()
	t.Cleanup(func() { w.must(w.near.Close()) })
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(t.Context(), crowded{mem.New(), w.full}, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}},
		repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	for _, text := range []string{"CREATE DATABASE " + database, "ALTER DATABASE d SET RECOVERY FULL", "CREATE TABLE d.dbo.t (id int PRIMARY KEY, text nvarchar(200))"} {
		w.exec(text)
	}
	t.Cleanup(w.kill)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) login() *direct.Server {
	w.t.Helper()
	s, err := direct.Open(context.Background(), direct.Options{Address: w.lab.Address(), User: "sa", Password: "x", OpenSet: w.hub.OpenSet})
	w.must(err)
	return s
}

func (w *world) exec(text string) {
	w.t.Helper()
	if _, err := w.near.Query(context.Background(), text); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

// write inserts rows.
func (w *world) write(n int) {
	w.t.Helper()
	for range n {
		w.rows++
		w.exec(fmt.Sprintf("INSERT INTO d.dbo.t (id, text) VALUES (%d, N'%0100d')", w.rows, w.rows))
	}
}

// connect puts a new agent beside the server and begins a session with it.
func (w *world) connect() *running {
	w.t.Helper()
	w.kill()
	service, keys, err := trust.New(time.Now())
	w.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{sql: w.login(), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		_ = agent.Serve(ctx, l, agent.ServiceOptions{Server: r.sql, Keys: service, Once: true})
	}()
	r.client, err = agent.Connect(context.Background(), agent.ClientOptions{Keys: keys, Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns = append(r.conns, c)
		return c, err
	}})
	w.must(err)
	w.agent = r
	return r
}

// cut ends the connection as a cable does.
func (r *running) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// kill ends agent and session, and waits until nothing of them runs.
func (w *world) kill() {
	if w.agent == nil {
		return
	}
	w.agent.stop()
	_ = w.agent.client.Close()
	<-w.agent.ended
	_ = w.agent.sql.Close()
	w.agent = nil
}

// job is a run over the database. Each run has its second: points are told apart by it.
func (w *world) job(want decide.Want, on server.Server) *sqlguest.Run {
	w.now = w.now.Add(time.Minute)
	return &sqlguest.Run{
		Server: on, Label: "sql/LAB", Request: decide.Request{Want: want}, Databases: []string{database}, Transport: server.VDI,
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

// backups are those of the database in the repository.
func (w *world) backups() []chain.Backup {
	w.t.Helper()
	entries, problems, err := w.repo.Points(context.Background())
	w.must(err)
	w.must(errors.Join(asErrors(problems)...))
	if len(entries) == 0 {
		return nil
	}
	list, err := w.job(decide.Auto, w.near).Keep.Backups(context.Background(), entries[0].Identity)
	w.must(err)
	return list
}

func asErrors(list []*repo.PointError) (errs []error) {
	for _, e := range list {
		errs = append(errs, e)
	}
	return errs
}

// start is where SQL Server's next log backup begins, "" without a log chain.
func (w *world) start() string {
	w.t.Helper()
	at, err := facts.AskInstance(context.Background(), w.near)
	w.must(err)
	all, err := facts.AskDatabases(context.Background(), w.near, at)
	w.must(err)
	for _, d := range all {
		if d.Name == database {
			return d.LastLog.String()
		}
	}
	w.t.Fatal("the database is gone")
	return ""
}

// Phases of a backup at which something happens.
const (
	beforeBackup = "before BACKUP"
	streaming    = "while streaming"
	lastByte     = "between the last byte and the commit"
	beforeWord   = "after the commit, before the word"
	afterWord    = "after the word"
)

var phases = []string{beforeBackup, streaming, lastByte, beforeWord, afterWord}

// trap is a server that lets something happen at a phase, once.
type trap struct {
	server.Server
	phase  string
	happen func()
	sprung sync.Once
	did    atomic.Bool
}

func (s *trap) reach(phase string) {
	if phase == s.phase {
		s.sprung.Do(func() { s.did.Store(true); s.happen() })
	}
}

func (s *trap) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	s.reach(beforeBackup)
	b, err := s.Server.Backup(ctx, st)
	if err != nil {
		return nil, err
	}
	return &trapped{Backup: b, trap: s}, nil
}

type trapped struct {
	server.Backup
	trap *trap
}

func (b *trapped) Streams() []io.ReadCloser {
	var list []io.ReadCloser
	for _, s := range b.Backup.Streams() {
		list = append(list, &watched{ReadCloser: s, trap: b.trap})
	}
	return list
}

func (b *trapped) Commit(ctx context.Context) (*server.Outcome, error) {
	b.trap.reach(beforeWord)
	out, err := b.Backup.Commit(ctx)
	b.trap.reach(afterWord)
	return out, err
}

type watched struct {
	io.ReadCloser
	trap *trap
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.trap.reach(streaming)
	}
	if err == io.EOF {
		r.trap.reach(lastByte)
	}
	return n, err
}
