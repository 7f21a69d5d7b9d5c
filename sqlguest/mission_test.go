package sqlguest_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// listening is a server that keeps the BACKUP statements.
type listening struct {
	server.Server
	mu    sync.Mutex
	texts []string
}

func (l *listening) Backup(ctx context.Context, s server.Statement) (server.Backup, error) {
	l.mu.Lock()
	l.texts = append(l.texts, s.Text)
	l.mu.Unlock()
	return l.Server.Backup(ctx, s)
}

// TestQ8NothingButDefaultsAndChecksums: no option that would leave the database in
// another state, skip damage or keep the log; names are quoted.
func TestQ8NothingButDefaultsAndChecksums(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	l := &listening{Server: w.sql}
	for _, want := range []decide.Want{decide.Full, decide.Diff, decide.Log} {
		w.exec("UPDATE stock.dbo.items SET amount = 7 WHERE id = 1")
		r := w.job(want, l)
		r.Databases = []string{"it's, ünï", "stock"}
		_, err := r.All(t.Context())
		w.must(err)
	}
	options := regexp.MustCompile(`^BACKUP (DATABASE|LOG) \[(it's, ünï|stock)\] TO %s WITH CHECKSUM, STATS=5, FORMAT, INIT, NO_COMPRESSION, NAME=N'Holdfast', DESCRIPTION=N'holdfast [0-9a-f]+'(, DIFFERENTIAL)?, BLOCKSIZE=65536, MAXTRANSFERSIZE=1048576$`)
	kinds := map[string]int{}
	for _, text := range l.texts {
		m := options.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("statement %s", text)
			continue
		}
		kinds[m[1]+m[3]]++
	}
	if kinds["DATABASE"] == 0 || kinds["LOG"] == 0 || kinds["DATABASE, DIFFERENTIAL"] == 0 {
		t.Errorf("kinds %v of %q", kinds, l.texts)
	}
}

// TestQ13LogIsTruncatedByItsBackupAlone: fulls, differentials and copy-only logs leave
// the log's beginning where it is.
func TestQ13LogIsTruncatedByItsBackupAlone(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (70, N'x')")
	before := w.lastLog("sales")
	for _, want := range []decide.Want{decide.Full, decide.Diff} {
		w.exec("UPDATE sales.dbo.customers SET name = N'" + string(want) + "' WHERE id = 70")
		if _, said := w.run(want, "sales"); !strings.HasPrefix(said[0], "sales "+string(want)) {
			t.Errorf("did %q", said)
		}
		if w.lastLog("sales") != before {
			t.Errorf("a %s moved the log's beginning", want)
		}
	}
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Request.CopyOnly = []string{"sales"}, true
	w.want(w.all(r), "sales log S-log")
	if w.lastLog("sales") != before {
		t.Error("a copy-only log moved the log's beginning")
	}
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
	if w.lastLog("sales") == before {
		t.Error("the log backup did not move the log's beginning")
	}
}

// meeting is a Keeper in whose Store backups wait for each other.
type meeting struct {
	sqlguest.Keeper
	mu        sync.Mutex
	now, most int
	all       int           // that must meet, 0 for none
	met       chan struct{} // closed when they have
}

func (m *meeting) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	m.mu.Lock()
	if m.now++; m.now > m.most {
		m.most = m.now
	}
	if m.all > 0 && m.most == m.all && m.now == m.all {
		m.all = 0
		close(m.met)
	}
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.now--; m.mu.Unlock() }()
	select {
	case <-m.met:
	case <-ctx.Done():
	}
	return m.Keeper.Store(ctx, src)
}

// TestM6DatabasesAtOnce: as many as --parallel says, and never more.
func TestM6DatabasesAtOnce(t *testing.T) {
	for _, parallel := range []int{0, 1, 2, 3} {
		w := newWorld(t, bridge.Faults{})
		r := w.job(decide.Full, w.sql)
		r.Databases, r.Parallel = []string{"sales", "stock", "it's, ünï", "master"}, parallel
		m := &meeting{Keeper: r.Keep, all: parallel, met: make(chan struct{})}
		if parallel < 2 {
			m.all = 0
			close(m.met)
		}
		r.Keep = m
		if said := w.all(r); len(said) != 3 || m.most != max(parallel, 1) {
			t.Errorf("--parallel %d: %d at once, %q", parallel, m.most, said)
		}
	}
}

// TestQ7DataAndLogFilesAreBackedUp: SQL Server reads the primary file, the secondary one
// and the log out of a point's streams, and what lies in each comes back from them alone.
func TestQ7DataAndLogFilesAreBackedUp(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.exec(`CREATE DATABASE three ON (NAME = a, FILENAME = 'C:\Data\a.mdf'), (NAME = b, FILENAME = 'C:\Data\b.ndf') LOG ON (NAME = c, FILENAME = 'C:\Log\c.ldf')`)
	w.exec("CREATE TABLE three.dbo.t (id int PRIMARY KEY, name nvarchar(100))")
	for i := range 300 {
		w.exec(fmt.Sprintf("INSERT INTO three.dbo.t (id, name) VALUES (%d, N'%s')", i, strings.Repeat("x", 100)))
	}
	_, said := w.run(decide.Full, "three")
	w.want(said, "three full S-full")
	keep := w.job(decide.Full, w.sql).Keep
	backups, err := keep.Backups(t.Context(), w.identities()[0])
	w.must(err)
	kinds := map[string]int{} // 0 rows, 1 log
	for _, f := range backups[0].Files {
		kinds[f.Name] = f.Type
	}
	if want := map[string]int{"a": 0, "b": 0, "c": 1}; !maps.Equal(kinds, want) {
		t.Errorf("the point knows the files %v, want %v", kinds, want)
	}
	w.exec("DROP DATABASE three")
	restore := func(text, device string) *server.Outcome {
		t.Helper()
		streams, err := keep.Open(t.Context(), backups[0].Point)
		w.must(err)
		defer streams[0].Close()
		out, err := w.sql.Restore(t.Context(), server.Statement{Text: text, Name: "{00000000-0000-4000-8000-77777777777" + device + "}", Devices: 1, Transport: server.VDI}, []io.Reader{streams[0]})
		w.must(err)
		return out
	}
	listed := restore("RESTORE FILELISTONLY FROM %s", "1").Rows
	at := slices.Index(listed.Columns, "Type")
	types := ""
	for _, row := range listed.Values {
		types += fmt.Sprint(row[at])
	}
	if types != "DDL" {
		t.Errorf("the stream holds files of types %s, want DDL", types)
	}
	restore("RESTORE DATABASE three FROM %s", "2")
	rows, err := w.sql.Query(t.Context(), "SELECT COUNT(*), SUM(id) FROM three.dbo.t")
	w.must(err)
	if got := fmt.Sprint(rows.Values[0]); got != "[300 44850]" {
		t.Errorf("restored %s", got)
	}
}

// TestM7M9DifferentialNeedsAFullOfOurs: the first backup of a database is a full, whatever
// was asked for; the next one that is asked to be a differential is one, through virtual
// devices; somebody else's full, which it would hang on, makes it a full again.
func TestM7M9DifferentialNeedsAFullOfOurs(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	l := &listening{Server: w.sql}
	step := func(want ...string) {
		t.Helper()
		r := w.job(decide.Diff, l)
		r.Databases = []string{"sales"}
		steps, err := r.All(t.Context())
		w.must(err)
		w.want(w.said(steps), want...)
		w.exec("UPDATE sales.dbo.customers SET name = N'changed' WHERE id = 1")
	}
	step("sales full M11.1")
	step("sales diff S-diff")
	if last := l.texts[len(l.texts)-1]; !strings.Contains(last, "DIFFERENTIAL") || !strings.Contains(last, "MAXTRANSFERSIZE") {
		t.Errorf("statement %s", last)
	}
	w.exec("BACKUP DATABASE sales TO DISK='NUL'")
	step("sales full M11.9")
	step("sales diff S-diff")
	_, said := w.run(decide.Auto, "stock")
	w.want(said, "stock full M11.1")
}
