package sqlguest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// deafKeeper is a run that is killed before SQL Server's word is kept.
type deafKeeper struct{ sqlguest.Keeper }

func (deafKeeper) Confirm(context.Context, *recovery.Point, json.RawMessage) error { return errKilled }

// busy is a server that fails while it reads headers, and counts how often it is asked.
type busy struct {
	*direct.Server
	say   int32 // 0: it does not fail
	asked int
}

func (b *busy) err() error {
	b.asked++
	if b.say == 0 {
		return nil
	}
	return &server.Error{All: []server.Message{{Number: b.say, Severity: 21, Text: "of something else"}}}
}

func (b *busy) Restore(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	if strings.HasPrefix(st.Text, "RESTORE HEADERONLY") {
		if err := b.err(); err != nil {
			return nil, err
		}
	}
	return b.Server.Restore(ctx, st, streams)
}

func (b *busy) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.HasPrefix(text, "RESTORE HEADERONLY") {
		if err := b.err(); err != nil {
			return nil, err
		}
	}
	return b.Server.Query(ctx, text, args...)
}

// unconfirmed makes a log that SQL Server has truncated, whose confirmation was never
// written and whose row msdb has lost, and gives its point.
func (w *world) unconfirmed() string {
	w.t.Helper()
	w.run(decide.Auto, "sales")
	w.now = w.now.Add(time.Hour)
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (501, N'precious')")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, deafKeeper{r.Keep}
	steps, err := r.All(w.t.Context())
	w.must(err)
	w.lab.LoseMSDB(false)
	w.now = w.now.Add(time.Hour)
	return steps[0].Point.ID
}

// TestSQL150UnreadIsNotDenied: RESTORE HEADERONLY fails of something else than the bytes.
// The point stays what it is, and is confirmed when SQL Server can read it: also behind
// the full that came meanwhile, by the log that begins where it ends.
func TestSQL150UnreadIsNotDenied(t *testing.T) {
	for name, say := range map[string]int32{"session killed": 596, "no memory": 701, "share not mounted": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, bridge.Faults{})
			point := w.unconfirmed()
			r := w.job(decide.Log, &busy{Server: w.sql, say: say})
			if say == 0 {
				r.Transport, r.Staging, r.Local = server.Disk, t.TempDir(), t.TempDir()
			}
			r.Databases = []string{"sales"}
			_, err := r.All(t.Context())
			w.must(err)
			state := func() chain.State {
				all := w.backups("sales")
				return all[slices.IndexFunc(all, func(b chain.Backup) bool { return b.Point == point })].State
			}
			if got := state(); got != chain.Unconfirmed {
				t.Fatalf("the log is %s", got)
			}
			for range 2 { // without the first run's full, where the share was not mounted
				w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'more')", 600+len(w.backups("sales"))))
				w.now = w.now.Add(time.Hour)
				w.run(decide.Log, "sales")
			}
			if got := state(); got != chain.Confirmed {
				t.Errorf("when it can be read again the log is %s", got)
			}
		})
	}
}

// TestSQL150UnreadFileIsNotDeleted: nor is the only copy of a log thrown away because SQL
// Server had no memory to look into it, although the log's place is taken by another
// history's, as after a revert.
func TestSQL150UnreadFileIsNotDeleted(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "sales"))
	snap, err := w.lab.TakeSnapshot()
	w.must(err)
	w.leave(61)
	files := w.files()
	w.must(w.lab.Revert(snap))
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (62, N'instead')")
	w.all(w.disk(decide.Log, &busy{Server: w.sql, say: 701}, "sales"))
	if got := w.files(); len(files) != 1 || !slices.Equal(got, files) {
		t.Errorf("files %q, want %q", got, files)
	}
}

// TestSQL151HeaderNeedsRoom: a point goes into the staging directory to be read only where
// it has room.
func TestSQL151HeaderNeedsRoom(t *testing.T) {
	w, _ := roomy(t, decide.Log)
	point := w.unconfirmed()
	w.lab.FillVolume(w.dir, 10)
	asks := &busy{Server: w.sql}
	r := w.disk(decide.Log, asks, "sales")
	_, err := r.All(t.Context())
	w.must(err)
	all := w.backups("sales")
	b := all[slices.IndexFunc(all, func(b chain.Backup) bool { return b.Point == point })]
	if b.State != chain.Unconfirmed || asks.asked != 0 || len(w.files()) > 0 {
		t.Errorf("the log is %s, asked %d times", b.State, asks.asked)
	}
}
