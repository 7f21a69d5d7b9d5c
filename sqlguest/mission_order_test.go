package sqlguest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/seal"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// order is what happened, one after the other: objects that were written, by the first
// part of their name, and SQL Server's statements.
type order struct {
	mu   sync.Mutex
	list []string
}

func (o *order) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, what)
}

// noting is a place that notes what is written, and that can refuse it.
type noting struct {
	backend.Backend
	*order
	refuse string // objects whose names begin so
}

var errTorn = errors.New("the cable was torn")

func (n *noting) Put(ctx context.Context, name string, data []byte) error {
	return n.put(ctx, name, data, n.Backend.Put)
}

func (n *noting) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return n.put(ctx, name, data, n.Backend.PutIfAbsent)
}

func (n *noting) put(ctx context.Context, name string, data []byte, how func(context.Context, string, []byte) error) error {
	if n.refuse != "" && strings.HasPrefix(name, n.refuse) {
		return errTorn
	}
	err := how(ctx, name, data)
	kind, _, _ := strings.Cut(name, "/")
	n.note(kind)
	return err
}

// obeying is a server that notes its BACKUPs' beginnings, ends of data and words.
type obeying struct {
	server.Server
	*order
}

func (o *obeying) Backup(ctx context.Context, s server.Statement) (server.Backup, error) {
	o.note("BACKUP by " + s.Transport)
	b, err := o.Server.Backup(ctx, s)
	return &obeyed{b, o.order}, err
}

type obeyed struct {
	server.Backup
	*order
}

func (o *obeyed) Commit(ctx context.Context) (*server.Outcome, error) {
	o.note("word")
	return o.Backup.Commit(ctx)
}

// notingWorld is a world whose repository notes.
func notingWorld(t *testing.T) (*world, *noting, *obeying) {
	t.Helper()
	w := newWorld(t, bridge.Faults{})
	o := &order{}
	n := &noting{Backend: mem.New(), order: o}
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(t.Context(), n, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	return w, n, &obeying{Server: w.sql, order: o}
}

// run backs up sales and returns the order of what happened.
func (n *noting) run(w *world, want decide.Want, on server.Server) (happened []string, steps []sqlguest.Step) {
	w.t.Helper()
	n.list = nil
	r := w.job(want, on)
	r.Databases = []string{"sales"}
	steps, err := r.All(w.t.Context())
	w.must(err)
	return n.list, steps
}

// TestM5M10StreamsThenMetadataThenTheSentinel: a full, a differential and a log each go in
// this order: SQL Server begins through its virtual devices, its data are stored, then
// what they are, and the commit last of all; only then SQL Server hears the word, and
// what it says is kept behind that.
func TestM5M10StreamsThenMetadataThenTheSentinel(t *testing.T) {
	w, n, sql := notingWorld(t)
	for _, want := range []decide.Want{decide.Full, decide.Diff, decide.Log} {
		w.exec("UPDATE sales.dbo.customers SET name = N'" + string(want) + "' WHERE id = 1")
		happened, steps := n.run(w, want, sql)
		if w.want(w.said(steps), "sales "+string(want)+" S-"+string(want)); t.Failed() {
			return
		}
		happened = slices.DeleteFunc(happened, func(what string) bool { return what == "sessions" }) // who is at work
		rank := func(what string) int {
			return slices.Index([]string{"BACKUP by vdi", "data", "meta", "index", "commit", "word", "confirm"}, what)
		}
		if !slices.IsSortedFunc(happened, func(a, b string) int { return rank(a) - rank(b) }) || happened[0] != "BACKUP by vdi" ||
			!slices.Contains(happened, "meta") || !slices.Equal(happened[len(happened)-3:], []string{"commit", "word", "confirm"}) {
			t.Errorf("%s: %q", want, happened)
		}
	}
}

// TestM23PointWithoutItsSentinelIsNeverOffered: everything but the commit is in the
// repository: nobody lists the point, no chain has it, SQL Server never heard the word and
// hands the same log out again.
func TestM23PointWithoutItsSentinelIsNeverOffered(t *testing.T) {
	w, n, sql := notingWorld(t)
	n.run(w, decide.Auto, sql)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (95, N'in the next')")
	points, log := w.points(), w.lastLog("sales")
	n.refuse = "commit/"
	happened, steps := n.run(w, decide.Log, sql)
	if len(steps) != 1 || !errors.Is(steps[0].Err, errTorn) || steps[0].Point != nil || slices.Contains(happened, "word") {
		t.Errorf("%q: %+v", happened, steps)
	}
	n.refuse = ""
	backups, err := w.job(decide.Log, w.sql).Keep.Backups(t.Context(), w.identities()[0])
	w.must(err)
	if w.points() != points || len(backups) != points || w.lastLog("sales") != log {
		t.Errorf("%d points, were %d; the next log begins at %s, was %s", w.points(), points, w.lastLog("sales"), log)
	}
	_, steps = n.run(w, decide.Log, sql)
	w.want(w.said(steps), "sales log S-log")
}
