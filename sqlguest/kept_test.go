package sqlguest_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// disk backs up through staging files.
func (w *world) disk(want decide.Want, on server.Server, databases ...string) *sqlguest.Run {
	r := w.job(want, on)
	r.Transport, r.Databases = server.Disk, databases
	return r
}

// all runs a job that must succeed, and returns what it did.
func (w *world) all(r *sqlguest.Run) []string {
	w.t.Helper()
	steps, err := r.All(w.t.Context())
	w.must(err)
	return w.said(steps)
}

// ours are the options that make a backup the repository's.
func (w *world) ours() string {
	return "NAME='" + chain.SetName + "', DESCRIPTION='" + chain.Owner(w.repo.Config().ID) + "'"
}

// files are the staging files.
func (w *world) files() (names []string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	w.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// dying is a Keeper whose process is killed at a chosen moment of a Store.
type dying struct {
	sqlguest.Keeper
	committed bool // after the point was committed; else when everything was read
}

var errKilled = errors.New("killed")

func (d *dying) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	if d.committed {
		return d.Keeper.Store(ctx, mute{src})
	}
	frozen, err := src.Freeze(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, it := range frozen.Items() {
		stream, err := it.Stream.Open(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, stream); err != nil {
			return nil, err
		}
		_ = stream.Close()
	}
	return nil, errKilled
}

// mute is a source that never hears that its point is durable, nor is released.
type mute struct{ backup.Source }

func (m mute) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	f, err := m.Source.Freeze(ctx, parent)
	return muteFrozen{f}, err
}

type muteFrozen struct{ backup.Frozen }

func (m muteFrozen) Holds(ctx context.Context) error {
	if h, ok := m.Frozen.(backup.Holder); ok {
		return h.Holds(ctx)
	}
	return nil
}
func (m muteFrozen) Committed(context.Context, *recovery.Point) error { return errKilled }
func (m muteFrozen) Release(context.Context) error                    { return nil }

// chainIsWhole tells whether the logs of a database follow each other from a full on,
// all confirmed, and returns how many there are.
func (w *world) chainIsWhole(database string) int {
	w.t.Helper()
	logs := 0
	var before *chain.Header
	for _, b := range w.backups(database) {
		if b.State != chain.Confirmed {
			w.t.Errorf("point %s (%s) is %q: %v", b.Point, b.Kind, b.State, b.Why)
		}
		if b.LastRestore == nil {
			w.t.Errorf("point %s (%s) does not say what it has seen of restores", b.Point, b.Kind)
		}
		if b.Kind != chain.Log {
			continue
		}
		if logs++; before != nil && !chain.Continues(before, &b.Header) {
			w.t.Errorf("log %s begins at %s, the one before ended at %s", b.Point, b.First, before.Last)
		}
		before = &b.Header
	}
	return logs
}

// backups are those of the database, in the repository's order.
func (w *world) backups(database string) (list []chain.Backup) {
	w.t.Helper()
	for _, id := range w.identities() {
		of, err := w.job(decide.Auto, w.sql).Keep.Backups(w.t.Context(), id)
		w.must(err)
		if len(of) > 0 && of[0].Database == database {
			list = append(list, of...)
		}
	}
	return list
}

// TestSQL16KeptLogIsTakenIn: SQL Server has truncated, the repository failed; the next
// run takes the file in, and the chain goes on without a full.
func TestSQL16KeptLogIsTakenIn(t *testing.T) {
	for name, broken := range map[string]func(sqlguest.Keeper) sqlguest.Keeper{
		"repository full": func(k sqlguest.Keeper) sqlguest.Keeper { return &failing{Keeper: k, store: errFull} },
		"killed":          func(k sqlguest.Keeper) sqlguest.Keeper { return &dying{Keeper: k} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			w.want(w.all(w.disk(decide.Auto, w.sql, "sales", "it's, ünï")), "sales full M12", "sales log S-log", "it's, ünï full M12", "it's, ünï log S-log")
			w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (61, N'kept')")
			before := w.lastLog("sales")
			for range 2 { // two runs in a row fail, the second with the file itself
				r := w.disk(decide.Log, w.sql, "sales")
				r.Keep = broken(r.Keep)
				steps, err := r.All(t.Context())
				w.must(err)
				if w.lastLog("sales") == before {
					t.Fatal("the laboratory did not truncate: this test shows nothing")
				}
				if last := steps[len(steps)-1]; last.Err == nil || last.Decision.Do != decide.DoLog {
					t.Errorf("the run ended with %+v", last)
				}
				if n := len(w.files()); n != 1 {
					t.Fatalf("files %q, want one", w.files())
				}
			}
			// A run over another database leaves them alone.
			w.want(w.all(w.disk(decide.Log, w.sql, "it's, ünï")), "it's, ünï log S-log")
			w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (63, N'next')")
			w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-kept", "sales log S-log")
			if logs := w.chainIsWhole("sales"); logs != 3 {
				t.Errorf("%d logs in the chain, want 3", logs)
			}
			if files := w.files(); len(files) > 0 {
				t.Errorf("left behind: %q", files)
			}
			for _, b := range w.backups("sales") {
				if e, err := w.repo.Find(t.Context(), b.Point); err != nil || b.Kind == chain.Log && e.Parent == "" {
					t.Errorf("log %s has no parent (%v)", b.Point, err)
				}
			}
		})
	}
}

// TestSQL16FileOfADurablePointIsDropped: killed between the commit and the file's end.
func TestSQL16FileOfADurablePointIsDropped(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (64, N'twice')")
	r := w.disk(decide.Log, w.sql, "sales")
	r.Keep = &dying{Keeper: r.Keep, committed: true}
	_, err := r.All(t.Context())
	w.must(err)
	if n := len(w.files()); n != 1 {
		t.Fatalf("%d files, want 1", n)
	}
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-log")
	if logs := w.chainIsWhole("sales"); logs != 3 {
		t.Errorf("%d logs in the chain, want 3", logs)
	}
	if files := w.files(); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// TestSQL16KeptLogsWithoutMSDB: the files' own headers and where SQL Server stands tell
// what they are.
func TestSQL16KeptLogsWithoutMSDB(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	for _, id := range []string{"71", "72"} {
		w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (" + id + ", N'kept')")
		w.exec("BACKUP LOG sales TO DISK='{6F1C2B5E-0000-4000-8000-0000000000" + id + "}.bak' WITH " + w.ours())
	}
	w.lab.LoseMSDB(false)
	said := w.all(w.disk(decide.Log, w.sql, "sales"))
	w.want(said, "sales log S-kept", "sales log S-kept", "sales log S-log")
	if logs := w.chainIsWhole("sales"); logs != 4 {
		t.Errorf("%d logs in the chain", logs)
	}
	if files := w.files(); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// blind is a server that does not look at its staging directory.
type blind struct{ server.Server }

// TestSQL16FilesOfOthersStay: a file with a name like ours, made by somebody else, and
// one that is no backup at all.
func TestSQL16FilesOfOthersStay(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	theirs := "{6F1C2B5E-0000-4000-8000-00000000ABCD}.bak"
	w.exec("BACKUP LOG sales TO DISK='" + filepath.Join(w.dir, theirs) + "' WITH COPY_ONLY, NAME='Theirs'")
	w.must(os.WriteFile(filepath.Join(w.dir, strings.Replace(theirs, "6F", "70", 1)), []byte("no backup"), 0o600))
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-log")
	if n := len(w.files()); n != 2 {
		t.Errorf("files %q, want both", w.files())
	}
}

// deaf is a server that shows its staging directory and gives nothing out of it.
type deaf struct{ *direct.Server }

var errDisk = errors.New("disk error")

func (deaf) Adopt(context.Context, server.Statement) (server.Backup, error) { return nil, errDisk }

// TestSQL16FileThatCannotBeHad: the run says so, and goes on with a full; the file stays
// for a better day, on which it fills the gap.
func TestSQL16FileThatCannotBeHad(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (73, N'kept')")
	w.exec("BACKUP LOG sales TO DISK='{6F1C2B5E-0000-4000-8000-000000000073}.bak' WITH " + w.ours())
	steps, err := w.disk(decide.Log, deaf{w.sql}, "sales").All(t.Context())
	w.must(err)
	w.want(w.decided(steps), "sales log S-kept", "sales refuse S-lost", "sales full S-lost")
	if !errors.Is(steps[0].Err, errDisk) || len(w.files()) != 1 {
		t.Errorf("first step ended with %v, files %q", steps[0].Err, w.files())
	}
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-kept", "sales log S-log")
	if logs := w.chainIsWhole("sales"); logs != 3 {
		t.Errorf("%d logs", logs)
	}
}

// TestSQL16KeptFulls: the one that SQL Server's differentials refer to is taken in, one
// that nothing refers to is deleted.
func TestSQL16KeptFulls(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	for range 2 {
		r := w.disk(decide.Full, w.sql, "stock")
		r.Server, r.Keep = blind{w.sql}, &dying{Keeper: r.Keep}
		_, err := r.All(t.Context())
		w.must(err)
	}
	if n := len(w.files()); n != 2 {
		t.Fatalf("files %q, want two", w.files())
	}
	w.exec("UPDATE stock.dbo.items SET amount = 7 WHERE id = 1")
	w.want(w.all(w.disk(decide.Diff, w.sql, "stock")), "stock full S-kept", "stock diff S-diff")
	if files := w.files(); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// TestSQL12SettledByTheHeader: msdb has lost the row of an unconfirmed point; its stream
// and SQL Server's place in the log tell. A point whose log SQL Server gave up is denied
// by the same means, and the log comes once more.
func TestSQL12SettledByTheHeader(t *testing.T) {
	for _, transport := range []string{server.VDI, server.Disk} {
		t.Run(transport, func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			run := func(keep func(sqlguest.Keeper) sqlguest.Keeper) []string {
				r := w.disk(decide.Log, w.sql, "sales")
				r.Transport = transport
				r.Keep = keep(r.Keep)
				steps, err := r.All(t.Context())
				w.must(err)
				return w.decided(steps)
			}
			same := func(k sqlguest.Keeper) sqlguest.Keeper { return k }
			run(same)
			w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (81, N'one')")
			run(func(k sqlguest.Keeper) sqlguest.Keeper { return &failing{Keeper: k, confirm: errKilled} })
			w.lab.LoseMSDB(false)
			w.want(run(same), "sales log S-log")
			list := w.backups("sales")
			if b := list[len(list)-2]; b.State != chain.Confirmed || b.By != chain.ByServer || b.Set == "" {
				t.Errorf("point is %q by %q: %v", b.State, b.By, b.Why)
			}
			w.chainIsWhole("sales")
			if files := w.files(); len(files) > 0 {
				t.Errorf("left behind: %q", files)
			}
		})
	}
}

// TestSQL12NothingIsBuiltOnALogWithoutTheWord: the point was committed and SQL Server never
// heard of it: it is what its bytes are, and SQL Server hands its log out once more.
func TestSQL12NothingIsBuiltOnALogWithoutTheWord(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (82, N'one')")
	before := w.lastLog("sales")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &abandoning{Keeper: r.Keep}
	_, err := r.All(t.Context())
	w.must(err)
	if w.lastLog("sales") != before {
		t.Fatal("SQL Server truncated without the word")
	}
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-overlap")
	alone := 0
	for _, b := range w.backups("sales") {
		if b.State == chain.Confirmed && b.By == chain.ByItself {
			alone++
		}
	}
	if alone != 1 {
		t.Errorf("%d points stand by themselves, want 1", alone)
	}
}

// abandoning commits the point, and the connection is cut before the word.
type abandoning struct{ sqlguest.Keeper }

func (a *abandoning) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	return a.Keeper.Store(ctx, cut{src})
}

type cut struct{ backup.Source }

func (c cut) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	f, err := c.Source.Freeze(ctx, parent)
	return cutFrozen{muteFrozen{f}}, err
}

type cutFrozen struct{ muteFrozen }

func (c cutFrozen) Release(ctx context.Context) error { return c.Frozen.Release(ctx) }
