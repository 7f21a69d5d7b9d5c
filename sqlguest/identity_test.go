package sqlguest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// TestWhoKeepsTheFamilysIdentity: databases are NAME/GUID, with "closed" behind them where
// they are not open; ours are NAME/GUID of the backups of an identity, the oldest first,
// with "kept" behind them if they were taken in from a file.
func TestWhoKeepsTheFamilysIdentity(t *testing.T) {
	const f = "sql:lab:F"
	of := func(name string) (d, guid string) { d, guid, _ = strings.Cut(name, "/"); return d, guid }
	for _, c := range []struct {
		why       string
		databases []string
		ours      map[string][]string
		want      []string
	}{
		{"first of all", []string{"prod/1"}, nil, []string{f}},
		{"the first created", []string{"prod/1", "test/2"}, nil, []string{f, f + "/2"}},
		{"the backups'", []string{"test/2", "prod/1"}, map[string][]string{f: {"prod/1"}}, []string{f + "/2", f}},
		{"renamed", []string{"test/2", "new/1"}, map[string][]string{f: {"prod/1"}}, []string{f + "/2", f}},
		{"restored over itself", []string{"test/2", "prod/3"}, map[string][]string{f: {"prod/1"}, f + "/2": {"test/2"}}, []string{f + "/2", f}},
		{"reverted to before a restore", []string{"prod/1"}, map[string][]string{f: {"prod/1", "prod/3"}}, []string{f}},
		{"and before a renaming, too", []string{"old/1", "test/2"}, map[string][]string{f: {"old/1", "prod/3"}}, []string{f, f + "/2"}},
		{"replaced, and there again beside what replaced it", []string{"old/1", "prod/3"}, map[string][]string{f: {"prod/1", "prod/3"}}, []string{f + "/1", f}},
		{"and restored over under that name", []string{"old/4", "test/2"}, map[string][]string{f: {"old/1", "prod/3"}}, []string{f, f + "/2"}},
		{"renamed, and that is closed; its old name is a copy's", []string{"prod/2", "new/1 closed"}, map[string][]string{f: {"prod/1", "new/1"}}, []string{f + "/2", ""}},
		{"the original is gone", []string{"test/2"}, map[string][]string{f: {"prod/1"}}, []string{f + "/2"}},
		{"the original is closed", []string{"prod/1 closed", "test/2"}, map[string][]string{f: {"prod/1"}}, []string{"", f + "/2"}},
		{"renamed, restored anew, and that is closed", []string{"old/1", "prod/3 closed"}, map[string][]string{f: {"prod/1", "prod/3"}}, []string{f + "/1", ""}},
		{"the copy has the original's name now, and goes on with its own", []string{"prod/2"}, map[string][]string{f: {"prod/1"}, f + "/2": {"test/2"}}, []string{f + "/2"}},
		{"a copy, when everything of the original was forgotten", []string{"test/2"}, map[string][]string{f + "/2": {"test/2"}}, []string{f + "/2"}},
		{"a snapshot", []string{"prod/1 closed", "prod_noon/1 snapshot"}, nil, []string{"", ""}},
		{"attached from a copy of the files", []string{"test/1", "prod/1"}, map[string][]string{f: {"prod/1"}}, []string{f + "/1", f}},
		{"and alone", []string{"test/1", "prod/1 closed"}, map[string][]string{f: {"prod/1"}}, []string{f + "/1", ""}},
		{"and twice", []string{"a/1", "b/1", "prod/1"}, map[string][]string{f: {"prod/1"}, f + "/1": {"b/1"}}, []string{f + "/1/a", f + "/1", f}},
		{"and nobody knows which was renamed", []string{"a/1", "b/1"}, map[string][]string{f: {"prod/1"}}, []string{f + "/1", f + "/1/b"}},
		{"a file of a copy that is gone was taken in", []string{"prod/1", "test/4"}, map[string][]string{f: {"prod/1", "test/3 kept"}}, []string{f, f + "/4"}},
		{"one whose GUID the newest does not tell", []string{"test/2"}, map[string][]string{f: {"prod/1", "prod/"}}, []string{f + "/2"}},
	} {
		var list []facts.Database
		for i, name := range c.databases {
			name, state, _ := strings.Cut(name, " ")
			d := facts.Database{ID: 5 + i, Family: "F", Created: time.Unix(int64(i), 0)}
			d.Name, d.GUID = of(name)
			switch state {
			case "closed":
				d.Family, d.GUID = "", ""
			case "snapshot":
				d.SnapshotOf = 5
			}
			list = append(list, d)
		}
		got, err := sqlguest.Identities("lab", list, func(id string) (ours []chain.Backup, err error) {
			for _, name := range c.ours[id] {
				b := chain.Backup{}
				name, kept := strings.CutSuffix(name, " kept")
				if kept {
					b.Rule = chain.RuleKept
				}
				b.Database, b.DatabaseGUID = of(name)
				ours = append(ours, b)
			}
			return ours, nil
		})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q gives %q, want %q (%v)", c.why, c.databases, got, c.want, err)
		}
	}
	broken := errors.New("broken")
	if _, err := sqlguest.Identities("lab", []facts.Database{{Family: "F"}}, func(string) ([]chain.Backup, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a repository that cannot be read: %v", err)
	}
}

// copied is a world in which sales has backups, and sales_test was restored from one.
func copied(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, bridge.Faults{})
	w.exec("CREATE TABLE sales.dbo.who (id int PRIMARY KEY, x nvarchar(20))")
	w.run(decide.Auto, "sales")
	w.exec("BACKUP DATABASE sales TO DISK='" + w.dir + "/copy.bak' WITH COPY_ONLY")
	w.exec("RESTORE DATABASE sales_test FROM DISK='" + w.dir + "/copy.bak' WITH MOVE 'sales' TO 'C:\\x\\st.mdf', MOVE 'sales_log' TO 'C:\\x\\st.ldf'")
	return w
}

// heirs are the names of the databases whose backups each identity has, once each.
func (w *world) heirs() map[string][]string {
	w.t.Helper()
	found := map[string][]string{}
	for _, id := range w.identities() {
		list, err := w.job(decide.Auto, w.sql).Keep.Backups(w.t.Context(), id)
		w.must(err)
		for _, b := range list {
			if !slices.Contains(found[id], b.Database) {
				found[id] = append(found[id], b.Database)
			}
		}
	}
	return found
}

// alone fails if backups of several databases are in one identity.
func (w *world) alone() {
	w.t.Helper()
	for id, names := range w.heirs() {
		if len(names) != 1 || id == "" {
			w.t.Errorf("identity %q has backups of %q", id, names)
		}
	}
}

// TestCopyDoesNotInheritFromAnAbsentOriginal: while the original is offline, or dropped,
// a copy of it on the same server goes on for itself, whether it had backups before or
// not; the original goes on with its own when it is back, restored under its name, too.
func TestCopyDoesNotInheritFromAnAbsentOriginal(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprint("known ", known), func(t *testing.T) {
			w := copied(t)
			test := []string{"sales_test full M12", "sales_test log S-log"}
			if known {
				_, said := w.run(decide.Auto, "sales", "sales_test")
				w.want(said, append([]string{"sales log S-auto-log"}, test...)...)
				test = []string{"sales_test log S-auto-log"}
			}
			w.exec("ALTER DATABASE sales SET OFFLINE")
			w.now = w.now.Add(time.Hour)
			_, said := w.run(decide.Auto, "sales", "sales_test")
			w.want(said, append([]string{"sales skip S-offline"}, test...)...)
			w.alone()

			w.exec("ALTER DATABASE sales SET ONLINE")
			w.exec("INSERT INTO sales.dbo.who (id, x) VALUES (1, N'sales')")
			w.now = w.now.Add(time.Hour)
			_, said = w.run(decide.Auto, "sales", "sales_test")
			w.want(said, "sales log S-auto-log", "sales_test log S-auto-log")
			w.alone()

			w.exec("DROP DATABASE sales")
			w.now = w.now.Add(time.Hour)
			_, said = w.run(decide.Auto, "sales_test")
			w.want(said, "sales_test log S-auto-log")
			w.alone()

			w.exec("RESTORE DATABASE sales FROM DISK='" + w.dir + "/copy.bak'")
			w.now = w.now.Add(time.Hour)
			_, said = w.run(decide.Auto, "sales", "sales_test")
			w.want(said, "sales_test log S-auto-log", "sales full Q21", "sales log S-log")
			w.alone()
			if n := len(w.identities()); n != 2 {
				t.Errorf("%d identities", n)
			}
		})
	}
}

// TestKeptFileOfADroppedCopyIsNotItsOriginals: the log that only a file holds is of
// another database that has backups.
func TestKeptFileOfADroppedCopyIsNotItsOriginals(t *testing.T) {
	w := copied(t)
	w.all(w.disk(decide.Auto, w.sql, "sales", "sales_test"))
	w.exec("INSERT INTO sales_test.dbo.who (id, x) VALUES (1, N'test')")
	r := w.disk(decide.Log, w.sql, "sales_test")
	r.Keep = &failing{Keeper: r.Keep, store: errFull}
	_, err := r.All(t.Context())
	w.must(err)
	left := w.files()
	w.exec("DROP DATABASE sales_test")
	w.now = w.now.Add(time.Hour)
	w.want(w.all(w.disk(decide.Log, w.sql, "sales")), "sales log S-log")
	w.want(w.files(), left...)
	if len(left) != 2 { // with the one that the copy was made from
		t.Errorf("files %q: this test shows nothing", left)
	}
	w.alone()
}

// onBackup is a server on which something happens before the first BACKUP of a run.
type onBackup struct {
	server.Server
	once sync.Once
	do   func()
}

func (s *onBackup) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	s.once.Do(s.do)
	return s.Server.Backup(ctx, st)
}

// TestDatabaseThatOpensDuringARun: one that was not open when the run began and is when
// its turn comes continues its own backups.
func TestDatabaseThatOpensDuringARun(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	for _, name := range []string{"za", "zb"} {
		w.exec("CREATE DATABASE " + name)
		w.exec("ALTER DATABASE " + name + " SET RECOVERY FULL")
		w.exec("CREATE TABLE " + name + ".dbo.t (id int PRIMARY KEY)")
	}
	w.run(decide.Auto)
	w.now = w.now.Add(time.Hour)
	w.exec("ALTER DATABASE za SET OFFLINE")
	w.exec("ALTER DATABASE zb SET OFFLINE")
	r := w.job(decide.Auto, &onBackup{Server: w.sql, do: func() {
		w.exec("ALTER DATABASE za SET ONLINE")
		w.exec("ALTER DATABASE zb SET ONLINE")
	}})
	r.Parallel, r.Databases = 1, []string{"sales", "za", "zb"}
	steps, err := r.All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales log S-auto-log", "za log S-auto-log", "zb log S-auto-log")
	w.alone()
}

// onLook is a server on which something happens when its databases have been asked for
// often enough: by the run, and by each job whose database was not open.
type onLook struct {
	server.Server
	mu   sync.Mutex
	left int
	do   func()
}

func (s *onLook) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	rows, err := s.Server.Query(ctx, text, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(text, "FROM sys.master_files") {
		if s.left--; s.left == 0 {
			s.do()
		}
	}
	return rows, err
}

// TestDatabaseThatOpensAtItsTurnIsLeftOut: it has no locks yet, so it is left to the next
// run, and nothing is ever stored without an identity.
func TestDatabaseThatOpensAtItsTurnIsLeftOut(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.now = w.now.Add(time.Hour)
	w.exec("ALTER DATABASE sales SET OFFLINE")
	r := w.job(decide.Auto, &onLook{Server: w.sql, left: 2, do: func() { w.exec("ALTER DATABASE sales SET ONLINE") }})
	r.Databases = []string{"sales"}
	steps, err := r.All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales skip S-offline")
	if exit := decide.Exit(decisions(steps)); exit != decide.ExitLeftOut {
		t.Errorf("exit %d", exit)
	}
	_, said := w.run(decide.Auto, "sales")
	w.want(said, "sales log S-auto-log")
	w.alone()

	var src backup.Source = &sqlguest.Source{Label: "sql/LAB/sales"}
	if p, err := r.Keep.Store(t.Context(), src); p != nil || !errors.Is(err, sqlguest.ErrNameless) {
		t.Errorf("a source without an identity: %+v, %v", p, err)
	}
}

// TestIdentityThatChangesDuringARun: a run that finds another database's backups in its
// identity, when it has the locks, makes none.
func TestIdentityThatChangesDuringARun(t *testing.T) {
	w := copied(t)
	w.exec("ALTER DATABASE sales SET OFFLINE")
	r := w.job(decide.Auto, w.sql)
	r.Keep, r.Databases = &hiding{r.Keep, map[string]bool{}}, []string{"sales_test"}
	steps, err := r.All(t.Context())
	w.must(err)
	if len(steps) != 1 || !errors.Is(steps[0].Err, sqlguest.ErrHeir) {
		t.Errorf("%+v", steps)
	}
	w.alone()
}

// hiding is a Keeper that has no backups yet when it is asked first.
type hiding struct {
	sqlguest.Keeper
	asked map[string]bool
}

func (h *hiding) Backups(ctx context.Context, id string) ([]chain.Backup, error) {
	if !h.asked[id] {
		h.asked[id] = true
		return nil, nil
	}
	return h.Keeper.Backups(ctx, id)
}
