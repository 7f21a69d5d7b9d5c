package replay_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// TestTailIsTakenBeforeTheDatabaseIsOverwritten: the latest moment is the one just
// now, and the tail is a point like any other afterwards.
func TestTailIsTakenBeforeTheDatabaseIsOverwritten(t *testing.T) {
	w := newWorld(t)
	w.live()
	res := w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff last tail")
	w.wantState("sales", "ONLINE MULTI_USER")
	if res.Tail == "" || res.Points[len(res.Points)-1] != res.Tail {
		t.Errorf("tail %q, points %q", res.Tail, res.Points)
	}
	w.add(17, "onward")
	w.back(decide.Full, "sales")
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff last tail")
}

// TestEarlierMomentOverTheDatabaseKeepsItsTail: what is given up today can be restored
// tomorrow.
func TestEarlierMomentOverTheDatabaseKeepsItsTail(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	res := w.restore(w.instance, plan.Target{At: s.inLog, Bare: true}, plan.Options{Replace: true})
	w.want("sales", "full log")
	w.add(20, "other way")
	w.back(decide.Auto, "sales")
	w.restore(w.instance, plan.Target{Point: res.Tail}, plan.Options{As: "before"})
	w.want("before", "full log mark behind diff last tail")
	w.restore(w.instance, plan.Target{}, plan.Options{As: "after"})
	w.want("after", "full log other way")
}

// TestTailAfterARevertSaysWhatWasLeft: no backup has seen yet that the machine was set
// back, so the tail must say which of ours are not of its history, or a restore would
// mix them.
func TestTailAfterARevertSaysWhatWasLeft(t *testing.T) {
	w := newWorld(t)
	w.live()
	snapshot, err := w.lab.TakeSnapshot()
	w.must(err)
	w.add(17, "undone")
	undone := w.back(decide.Log, "sales")[0]
	w.must(w.lab.Revert(snapshot))
	w.add(18, "instead")

	res := w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff last tail instead")
	all, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	find := func(point string) *chain.Backup {
		i := slices.IndexFunc(all, func(b chain.Backup) bool { return b.Point == point })
		return &all[i]
	}
	tail := find(res.Tail)
	if want := find(undone).Set; !slices.Equal(tail.Abandons, []string{want}) {
		t.Errorf("the tail abandons %q; want %q", tail.Abandons, want)
	}
	if tail.LastRestore == nil || tail.LastRestore.ID != 0 {
		t.Errorf("the tail has seen restore %+v; there was none before it", tail.LastRestore)
	}
	w.restore(w.instance, plan.Target{Point: undone}, plan.Options{As: "before"})
	w.want("before", "full log mark behind diff last tail undone")
}

// TestTimeInTheTailIsReached: no log backup covers it yet.
func TestTimeInTheTailIsReached(t *testing.T) {
	w := newWorld(t)
	w.live()
	at := w.now
	w.now = w.now.Add(time.Minute)
	w.add(17, "too late")
	w.restore(w.instance, plan.Target{At: at, Bare: true}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff last tail")
}

func TestNoTailGivesUpWhatNoBackupHolds(t *testing.T) {
	w := newWorld(t)
	w.live()
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true})
	r.NoTail = true
	res, err := r.Do(t.Context())
	w.must(err)
	w.want("sales", "full log mark behind diff last")
	if res.Tail != "" {
		t.Errorf("tail %s", res.Tail)
	}
}

// TestLostTailIsRefused: a foreign log backup stands between our backups and what the
// database holds.
func TestLostTailIsRefused(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.exec("BACKUP LOG sales TO DISK='NUL'")
	w.add(17, "behind the gap")
	_, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true}).Do(t.Context())
	var miss *plan.Unreachable
	var hint interface{ Hint() string }
	if !errors.As(err, &miss) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--no-tail") {
		t.Fatal(err)
	}
	w.want("sales", "full log mark behind diff last tail behind the gap")
	w.wantState("sales", "ONLINE MULTI_USER")
}

// TestTailThatLeadsNowhereIsNotTaken: a copy that was never backed up has no backup
// that its log would go on from, so what changed in it is not saved by a tail.
func TestTailThatLeadsNowhereIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.restore(w.instance, plan.Target{}, plan.Options{As: "copy"})
	w.exec("INSERT INTO copy.dbo.customers (id, name) VALUES (90, N'only here')")
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy", Replace: true})
	_, err := r.Do(t.Context())
	var refused *replay.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "(rule P-tail)") || !strings.Contains(refused.Hint(), "--no-tail") {
		t.Fatal(err)
	}
	w.want("copy", "full log mark behind diff last only here")
	w.wantState("copy", "ONLINE MULTI_USER")
	r = w.job(w.instance, plan.Target{}, plan.Options{As: "copy", Replace: true})
	r.NoTail = true
	res, err := r.Do(t.Context())
	w.must(err)
	if res.Tail != "" || !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, "given up") }) {
		t.Errorf("tail %q, warnings %q", res.Tail, res.Warnings)
	}
	w.want("copy", "full log mark behind diff last")

	// Once it has backups of its own, its tail goes on from them.
	w.back(decide.Full, "copy")
	w.back(decide.Log, "copy")
	w.exec("INSERT INTO copy.dbo.customers (id, name) VALUES (91, N'saved')")
	res, err = w.job(w.instance, plan.Target{}, plan.Options{As: "copy", Replace: true}).Do(t.Context())
	w.must(err)
	if res.Tail == "" {
		t.Error("no tail was taken")
	}
}

// TestM21EndStatesAndContinue: NORECOVERY and STANDBY, and onward from each.
func TestM21EndStatesAndContinue(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	on := func(target plan.Target, o plan.Options) {
		t.Helper()
		r := w.job(other, target, o)
		r.Continue = true
		_, err := r.Do(t.Context())
		w.must(err)
	}
	w.restore(other, plan.Target{Point: s.full}, plan.Options{End: plan.NoRecovery})
	other.wantState("sales", "RESTORING MULTI_USER")
	on(plan.Target{At: s.inLog, Bare: true}, plan.Options{End: plan.Standby, UndoFile: `C:\Data\sales.tuf`})
	other.wantState("sales", "STANDBY MULTI_USER")
	other.want("sales", "full log")
	on(plan.Target{Mark: "m1"}, plan.Options{End: plan.Standby, UndoFile: `C:\Data\sales.tuf`})
	other.want("sales", "full log mark")
	w.back(decide.Log, "sales")
	on(plan.Target{}, plan.Options{End: plan.NoRecovery})
	other.wantState("sales", "RESTORING MULTI_USER")
	on(plan.Target{}, plan.Options{})
	other.want("sales", "full log mark behind diff last tail")
	other.wantState("sales", "ONLINE MULTI_USER")
	r := w.job(other, plan.Target{}, plan.Options{})
	r.Continue = true
	if _, err := r.Do(t.Context()); !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "P-continue") {
		t.Error(err)
	}
}

// TestM19KickUsersThrowsThemOutAndLetsThemIn again when it is done, and when it failed.
func TestM19KickUsersThrowsThemOutAndLetsThemIn(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.use("sales")
	_, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true}).Do(t.Context())
	if !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), "P-use") {
		t.Fatal(err)
	}
	w.restore(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	w.want("sales", "full log mark behind diff last tail")
	w.wantState("sales", "ONLINE MULTI_USER")
	w.use("sales")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: errFault}
	if _, err := r.Do(t.Context()); !errors.Is(err, errFault) || errors.Is(err, replay.ErrLeft) {
		t.Error(err)
	}
	w.wantState("sales", "ONLINE MULTI_USER")
}

// TestUserWhoComesBackIsThrownOutAgain: between the kick and the statement that needs
// the database for itself somebody was faster, a few times.
func TestUserWhoComesBackIsThrownOutAgain(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	again := &server.Error{All: []server.Message{{Number: 3101, Severity: 16, Text: "Exclusive access could not be obtained"}}}
	for _, x := range []struct {
		times int
		kick  bool
		ok    bool
	}{{2, true, true}, {99, true, false}, {1, false, false}} {
		w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE") // no tail: the full is the first that needs it
		r := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true, Kick: x.kick})
		f := &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: again, times: x.times}
		r.Server = f
		_, err := r.Do(t.Context())
		if (err == nil) != x.ok || f.seen > 10 || x.kick && f.seen < 3 {
			t.Errorf("%+v: tried %d times: %v", x, f.seen, err)
		}
		w.wantState("sales", "ONLINE MULTI_USER")
	}
}

// use leaves a session in a database, as somebody does who works with it.
func (i *instance) use(database string) {
	i.t.Helper()
	s, err := direct.Open(i.t.Context(), direct.Options{Address: i.lab.Address(), User: "sa", Password: "x"})
	i.must(err)
	ctx, cancel := context.WithCancel(i.t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Query(ctx, "USE ["+database+"]; WAITFOR DELAY '00:10:00'")
		done <- err
	}()
	i.t.Cleanup(func() { cancel(); <-done; i.must(s.Close()) })
	for i.sessions(database) == 0 {
		select {
		case err := <-done:
			i.t.Fatal("the session ended: ", err)
		default:
		}
	}
}

func (i *instance) sessions(database string) int {
	i.t.Helper()
	rows, err := i.sql.Query(i.t.Context(), "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE database_id = DB_ID(@db)", server.Arg{Name: "db", Value: database})
	i.must(err)
	return int(rows.Values[0][0].(int64))
}

var errFault = errors.New("fault on purpose")

// faulty fails a statement that begins with a text, the nth time; with after it fails
// when the statement is done.
type faulty struct {
	server.Server
	at    string
	err   error
	nth   int
	times int // so often alone, if it is not 0
	after bool
	seen  int
	do    func()
}

func (f *faulty) Restore(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	if !strings.HasPrefix(st.Text, f.at) {
		return f.Server.Restore(ctx, st, streams)
	}
	f.seen++
	if f.seen <= f.nth || f.times > 0 && f.seen > f.nth+f.times {
		return f.Server.Restore(ctx, st, streams)
	}
	if f.do != nil {
		f.do()
	}
	if f.after {
		if _, err := f.Server.Restore(ctx, st, streams); err != nil {
			return nil, err
		}
	}
	return nil, f.err
}

// cut ends a stream with an error in its middle.
type cut struct {
	replay.Streams
	point string
	left  int64
}

func (c *cut) Open(ctx context.Context, point string, n int) (io.ReadCloser, error) {
	r, err := c.Streams.Open(ctx, point, n)
	if err != nil || point != c.point {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, c.left), broken{}), r}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errFault }

// TestFaultAtEachStep: before anything is overwritten everything is as it was; after
// that the database is named with its state, and --continue ends the restore.
func TestFaultAtEachStep(t *testing.T) {
	for _, x := range []struct {
		name  string
		plan  func(s story, r *replay.Run, w *world, cancel func())
		state string // afterwards
		left  bool
		says  string
	}{
		{"the tail's backup fails", func(_ story, r *replay.Run, w *world, _ func()) {
			r.Server = &noBackup{w.sql}
		}, "ONLINE MULTI_USER", false, "(database sales is as it was)"},
		{"the full is refused", func(_ story, r *replay.Run, w *world, _ func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: errFault}
		}, "ONLINE MULTI_USER", false, "(database sales is open again and as it was; its next backup is a full)"},
		{"interrupted before the full", func(_ story, r *replay.Run, w *world, cancel func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: context.Canceled, do: cancel}
		}, "ONLINE MULTI_USER", false, "(database sales is open again and as it was; its next backup is a full)"},
		{"the full's stream is cut", func(s story, r *replay.Run, _ *world, _ func()) {
			r.Streams = &cut{r.Streams, s.full, 200_000}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
		{"the last log's stream cannot be opened", func(s story, r *replay.Run, _ *world, _ func()) {
			r.Streams = &missing{r.Streams, s.last}
		}, "ONLINE MULTI_USER", false, ""},
		{"the differential fails", func(_ story, r *replay.Run, w *world, _ func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: errFault, nth: 1}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
		{"a log's stream is cut", func(s story, r *replay.Run, _ *world, _ func()) {
			r.Streams = &cut{r.Streams, s.last, 1000}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
		{"interrupted in a log", func(s story, r *replay.Run, w *world, cancel func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE LOG", err: context.Canceled, do: cancel}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
		{"a log's answer is lost", func(s story, r *replay.Run, w *world, _ func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE LOG", err: errFault, after: true}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
		{"recovery fails", func(s story, r *replay.Run, w *world, _ func()) {
			r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] WITH", err: errFault}
		}, "RESTORING MULTI_USER", true, "left RESTORING"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.live()
			w.use("sales")
			r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x.plan(s, r, w, cancel)
			_, err := r.Do(ctx)
			var left *replay.Left
			if err == nil || errors.As(err, &left) != x.left || !errors.Is(err, errFault) && !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
			w.wantState("sales", x.state)
			if !strings.Contains(err.Error(), x.says) {
				t.Errorf("it does not say %q: %v", x.says, err)
			}
			if !x.left {
				w.want("sales", "full log mark behind diff last tail")
				if k := w.kinds(w.back(decide.Log, "sales")); strings.Contains(k, "full") != strings.Contains(x.says, "a full") {
					t.Errorf("the next backup is %s", k)
				}
				return
			}
			if left.State != "RESTORING" || !strings.Contains(left.Hint(), "--continue") || !strings.Contains(err.Error(), "sales") {
				t.Errorf("%v, %s", err, left.Hint())
			}
			on := w.job(w.instance, plan.Target{}, plan.Options{})
			on.Continue = true
			_, err = on.Do(t.Context())
			w.must(err)
			w.want("sales", "full log mark behind diff last tail")
			w.wantState("sales", "ONLINE MULTI_USER")
		})
	}
}

// kinds are those of points of sales.
func (w *world) kinds(points []string) (list string) {
	for _, b := range w.job(w.instance, plan.Target{}, plan.Options{}).Backups {
		if slices.Contains(points, b.Point) {
			list += " " + string(b.Kind)
		}
	}
	return list
}

// noBackup refuses BACKUP.
type noBackup struct{ server.Server }

func (n *noBackup) Backup(context.Context, server.Statement) (server.Backup, error) {
	return nil, errFault
}

// missing has lost a point.
type missing struct {
	replay.Streams
	point string
}

func (m *missing) Open(ctx context.Context, point string, n int) (io.ReadCloser, error) {
	if point == m.point {
		return nil, errFault
	}
	return m.Streams.Open(ctx, point, n)
}

// TestX4RestoreWaitsForNobody: a backup or another restore of the database is told of,
// and nothing is done.
func TestX4RestoreWaitsForNobody(t *testing.T) {
	w := newWorld(t)
	w.live()
	for _, name := range []string{"holdfast " + w.identity("sales"), "holdfast restore sales"} {
		release, err := w.sql.Hold(t.Context(), name)
		w.must(err)
		if _, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true}).Do(t.Context()); !errors.Is(err, server.ErrHeld) {
			t.Errorf("%s is held: %v", name, err)
		}
		w.must(release())
	}
	w.want("sales", "full log mark behind diff last tail")
}

// TestSQLServerElsewhereEndsTheRestore: what the plan says of every step is compared.
func TestSQLServerElsewhereEndsTheRestore(t *testing.T) {
	w := newWorld(t)
	w.live()
	for _, at := range []string{"RESTORE DATABASE [sales] FROM", "RESTORE LOG", "RESTORE DATABASE [sales] WITH"} {
		other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
		r := w.job(other, plan.Target{}, plan.Options{})
		r.Server = &faulty{Server: other.sql, at: at} // it says that it did
		if _, err := r.Do(t.Context()); !errors.Is(err, replay.ErrAstray) {
			t.Errorf("%s does nothing: %v", at, err)
		}
	}
}

// TestForkElsewhereEndsTheRestore: an LSN alone may be another history's.
func TestForkElsewhereEndsTheRestore(t *testing.T) {
	w := newWorld(t)
	w.live()
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	r := w.job(other, plan.Target{}, plan.Options{})
	r.Server = &pretending{other.sql, []func(string, *server.Rows){put("redo_start_fork_guid", "", "11111111-0000-4000-8000-000000000001")}}
	if _, err := r.Do(t.Context()); !errors.Is(err, replay.ErrAstray) || !strings.Contains(err.Error(), "it is on fork 11111111") {
		t.Error(err)
	}
}

// TestMarkThatIsNotInTheLogIsMissed: the database is not opened at another moment.
func TestMarkThatIsNotInTheLogIsMissed(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	r := w.job(other, plan.Target{Mark: "ghost"}, plan.Options{})
	for _, b := range r.Backups {
		if b.Point == s.log {
			r.Options.Marks = map[string][]plan.Mark{s.log: {{Name: "ghost", LSN: b.Marks[0].LSN, At: b.Marks[0].At}}}
		}
	}
	var left *replay.Left
	if _, err := r.Do(t.Context()); !errors.Is(err, replay.ErrMissed) || !errors.As(err, &left) {
		t.Error(err)
	}
	other.wantState("sales", "RESTORING MULTI_USER")
}

// forgetful has lost everything but the newest backup once a tail was stored.
type forgetful struct {
	sqlguest.Keeper
	stored bool
}

func (f *forgetful) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	f.stored = true
	return f.Keeper.Store(ctx, src)
}

func (f *forgetful) Backups(ctx context.Context, identity string) ([]chain.Backup, error) {
	list, err := f.Keeper.Backups(ctx, identity)
	if f.stored && len(list) > 0 {
		list = list[len(list)-1:]
	}
	return list, err
}

// TestPlanThatFailsBehindTheTailPutsTheDatabaseBack: somebody forgot the full meanwhile.
func TestPlanThatFailsBehindTheTailPutsTheDatabaseBack(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.use("sales")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Keep = &forgetful{Keeper: w.keep()}
	if _, err := r.Do(t.Context()); !errors.Is(err, plan.ErrUnreachable) || errors.Is(err, replay.ErrLeft) {
		t.Error(err)
	}
	w.wantState("sales", "ONLINE MULTI_USER")
	w.want("sales", "full log mark behind diff last tail")
}
