package sqlguest_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// afar is the same SQL Server through an agent.
func (w *world) afar() *agent.Client {
	c, _ := w.mortal()
	return c
}

// mortal is afar, and how the agent ends before its time.
func (w *world) mortal() (c *agent.Client, kill func()) {
	c, kill, _ = w.agentOf(w.sql)
	return c, kill
}

// agentOf is an agent beside a server, and how it and the way to it end before their time.
func (w *world) agentOf(on server.Server) (c *agent.Client, kill, cut func()) {
	w.t.Helper()
	service, client, err := trust.New(time.Now())
	w.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = agent.Serve(ctx, l, agent.ServiceOptions{Server: on, Keys: service})
	}()
	w.t.Cleanup(func() { stop(); <-ended })
	var way net.Conn
	c, err = agent.Connect(w.t.Context(), agent.ClientOptions{Keys: client, Dial: func(ctx context.Context) (_ net.Conn, err error) {
		way, err = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		return way, err
	}})
	w.must(err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c, func() {
		stop()
		<-ended
	}, func() { _ = way.Close() }
}

// unanswered loses the way to who asked once a BACKUP is made, so that nobody hears that it
// had begun.
type unanswered struct {
	server.Server
	cut func()
}

func (u *unanswered) Backup(ctx context.Context, s server.Statement) (server.Backup, error) {
	b, err := u.Server.Backup(ctx, s)
	if err == nil {
		_, err = b.Streams()[0].Read(make([]byte, 1)) // of a file: once the statement is over
	}
	u.cut()
	return b, err
}

// TestSQL16AnswerIsLostAsALogBegins through files: the BACKUP may be made by then, so the
// error names its file, which the next run takes in, even if the run is interrupted just
// then; one through virtual devices, and one that was never sent, have truncated nothing.
func TestSQL16AnswerIsLostAsALogBegins(t *testing.T) {
	for i, transport := range []string{server.Disk, server.Disk, server.VDI} {
		w := newWorld(t, bridge.Faults{})
		w.all(w.disk(decide.Log, w.sql, "sales"))
		w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (93, N'one')")
		u := &unanswered{Server: w.sql}
		far, kill, cut := w.agentOf(u)
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		u.cut = func() {
			if i == 1 {
				interrupt()
			}
			cut()
		}
		r := w.disk(decide.Log, far, "sales")
		r.Transport = transport
		steps, err := r.All(ctx)
		if len(steps) == 0 || !errors.Is(steps[0].Err, agent.ErrCut) {
			t.Fatalf("%s: %+v %v", transport, steps, err)
		}
		kill()
		err = steps[0].Err
		kept, files, want := (*direct.Kept)(nil), w.files(), []string{"sales log S-log"}
		if transport == server.Disk {
			if want = []string{"sales log S-kept", "sales log S-log"}; !errors.As(err, &kept) || len(files) != 1 || !strings.HasSuffix(kept.Files[0], files[0]) {
				t.Errorf("%q lie there, and the run says %v", files, err)
			}
		} else if errors.As(err, &kept) || len(files) > 0 {
			t.Errorf("virtual devices: %q lie there, and the run says %v", files, err)
		}
		if _, err := far.Backup(t.Context(), server.Statement{}); errors.Is(err, server.ErrUntold) || !errors.Is(err, agent.ErrCut) {
			t.Errorf("a backup that was never sent: %v", err)
		}
		w.want(w.all(w.disk(decide.Log, w.sql, "sales")), want...)
	}
}

// deadly kills the agent once all of a log was read.
type deadly struct {
	sqlguest.Keeper
	kill func()
}

func (d *deadly) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	return d.Keeper.Store(ctx, deadlySource{src, d})
}

type deadlySource struct {
	backup.Source
	d *deadly
}

func (s deadlySource) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	f, err := s.Source.Freeze(ctx, parent)
	return deadlyFrozen{f, s.d}, err
}

type deadlyFrozen struct {
	backup.Frozen
	d *deadly
}

func (f deadlyFrozen) Holds(ctx context.Context) error {
	f.d.kill()
	return f.Frozen.(backup.Holder).Holds(ctx)
}

// TestSQL16AgentIsKilledDuringALog through files: the error says where the only copy of the
// log lies and that the next run takes it in, and nothing of snapshots, which it has none
// of; and so it is.
func TestSQL16AgentIsKilledDuringALog(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Log, w.sql, "sales"))
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (93, N'one')")
	far, kill := w.mortal()
	r := w.disk(decide.Log, far, "sales")
	r.Keep = &deadly{r.Keep, kill}
	steps, err := r.All(t.Context())
	if len(steps) == 0 || steps[0].Err == nil {
		t.Fatalf("%v %v", steps, err)
	}
	err = steps[0].Err
	kept := (*direct.Kept)(nil)
	if !errors.As(err, &kept) || errors.Is(err, backup.ErrTorn) || !errors.Is(err, agent.ErrCut) {
		t.Fatalf("got %v", err)
	}
	for _, word := range []string{kept.Files[0], w.dir, "LAB", "may be truncated, and if so its only backup is in "} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %v", word, err)
		}
	}
	if files := w.files(); len(files) != 1 || !strings.HasSuffix(kept.Files[0], files[0]) {
		t.Errorf("%q lie there", files)
	}
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-kept", "sales log S-log")
}

// TestSQL16ThroughTheAgent: what a run beside the server has left, the agent's next run
// takes in, and the other way round; both are one source (SQL-5).
func TestSQL16ThroughTheAgent(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	far := w.afar()
	ways := []server.Server{w.sql, far}
	run := func(on server.Server, keep func(sqlguest.Keeper) sqlguest.Keeper) []string {
		r := w.disk(decide.Log, on, "sales")
		r.Place, r.Label = "", "sql/"+map[bool]string{true: "VM", false: "LAB"}[on == server.Server(far)]
		if keep != nil {
			r.Keep = keep(r.Keep)
		}
		steps, err := r.All(t.Context())
		w.must(err)
		var said []string
		for _, s := range steps {
			if (s.Err != nil) != (keep != nil) {
				t.Errorf("%s: %v", s.Source, s.Err)
			}
			said = append(said, string(s.Decision.Do)+" "+string(s.Decision.Rule))
		}
		return said
	}
	w.want(run(w.sql, nil), "full M12", "log S-log")
	for i, broken := range ways {
		w.exec([]string{"INSERT INTO sales.dbo.customers (id, name) VALUES (91, N'x')", "INSERT INTO sales.dbo.customers (id, name) VALUES (92, N'y')"}[i])
		run(broken, func(k sqlguest.Keeper) sqlguest.Keeper { return &failing{Keeper: k, store: errFull} })
		w.want(run(ways[1-i], nil), "log S-kept", "log S-log")
	}
	if n := len(w.identities()); n != 1 {
		t.Errorf("%d sources for one database", n)
	}
	if logs := w.chainIsWhole("sales"); logs != 5 {
		t.Errorf("%d logs in the chain, want 5", logs)
	}
	if files := w.files(); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// TestSQL12ThroughTheAgent: the header's rows travel.
func TestSQL12ThroughTheAgent(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	far := w.afar()
	run := func(keep func(sqlguest.Keeper) sqlguest.Keeper) {
		r := w.job(decide.Log, far)
		r.Databases, r.Keep = []string{"sales"}, keep(r.Keep)
		_, err := r.All(t.Context())
		w.must(err)
	}
	same := func(k sqlguest.Keeper) sqlguest.Keeper { return k }
	run(same)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (93, N'one')")
	run(func(k sqlguest.Keeper) sqlguest.Keeper { return &failing{Keeper: k, confirm: errKilled} })
	w.lab.LoseMSDB(false)
	run(same)
	list := w.backups("sales")
	if b := list[len(list)-2]; b.State != chain.Confirmed || b.By != chain.ByServer {
		t.Errorf("point is %q by %q: %v", b.State, b.By, b.Why)
	}
	if logs := w.chainIsWhole("sales"); logs != 3 {
		t.Errorf("%d logs in the chain, want 3", logs)
	}
}
