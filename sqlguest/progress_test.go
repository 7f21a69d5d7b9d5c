package sqlguest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// watching is told how a run gets on.
type watching struct {
	mu    sync.Mutex
	total map[string]int64 // as it was said at the beginning
	read  int64
}

func (w *watching) Begin(item string, totalBytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total[item], w.read = totalBytes, 0
}

func (w *watching) Read(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read += bytes
}

func (*watching) End(string)  {}
func (*watching) Note(string) {}

// TestProgressSaysAboutHowMuchWillCome: a full and a differential tell whoever watches how
// many bytes they will have, as soon as they begin, and are not far off; a database's name
// tells whose they are.
func TestProgressSaysAboutHowMuchWillCome(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.exec("CREATE TABLE sales.dbo.bulk (id int PRIMARY KEY, name nvarchar(100))")
	for i := 0; i < 500; i += 100 {
		var rows []string
		for k := range 100 {
			rows = append(rows, fmt.Sprintf("(%d, N'%s')", i+k, strings.Repeat("y", 100)))
		}
		w.exec("INSERT INTO sales.dbo.bulk (id, name) VALUES " + strings.Join(rows, ", "))
	}
	for _, want := range []decide.Want{decide.Full, decide.Diff} {
		watch := &watching{total: map[string]int64{}}
		r := w.job(want, w.sql)
		r.Databases = []string{"sales"}
		r.Keep = &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
			res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: func() time.Time { return w.now }, Progress: watch})
			if res == nil {
				return nil, err
			}
			return res.Point, err
		}}
		w.want(w.all(r), "sales "+string(want)+" S-"+string(want))
		said := watch.total["sql/LAB/sales"]
		if said <= 0 || said > 2*watch.read || watch.read > 2*said {
			t.Errorf("%s: about %d bytes were announced, %d came", want, said, watch.read)
		}
		w.exec("UPDATE sales.dbo.bulk SET name = N'changed'")
	}
}
