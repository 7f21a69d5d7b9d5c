package sqlguest_test

import (
	"context"
	"regexp"
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
