package replay_test

import (
	"context"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// TestClocksOfTwoBackupMachinesDecideNothing: one that is ten minutes ahead, or behind,
// makes a full and a log, the other restores over the database and makes the next full.
// Then the policy takes the log (weeks keep none): latest stays what it was (SQL-140).
func TestClocksOfTwoBackupMachinesDecideNothing(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		w := newWorld(t)
		skew := ahead
		keep := func() *sqlguest.Repository {
			return &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
				res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: func() time.Time { return w.now.Add(skew) }})
				if res == nil {
					return nil, err
				}
				return res.Point, err
			}}
		}
		back := func(want decide.Want) string {
			w.now = w.now.Add(time.Minute)
			r := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: want}, Transport: server.VDI, Keep: keep(), Device: w.device, Databases: []string{"sales"}}
			steps, err := r.All(t.Context())
			w.must(err)
			return steps[0].Point.ID
		}
		w.add(10, "full")
		first := back(decide.Full)
		w.add(11, "undone")
		undone := back(decide.Log)
		skew = 0 // the other machine
		r := w.job(w.instance, plan.Target{Point: first}, plan.Options{Replace: true})
		r.NoTail, r.Keep = true, keep()
		_, err := r.Do(t.Context())
		w.must(err)
		w.add(12, "newest")
		newest := back(decide.Full)
		e, err := w.repo.Find(t.Context(), undone)
		w.must(err)
		w.must(w.repo.Forget(t.Context(), e, "policy"))
		list, err := w.keep().Backups(t.Context(), w.identity("sales"))
		w.must(err)
		if len(list) != 2 || list[0].Point != first || list[1].Point != newest {
			t.Errorf("ahead %s: %d backups in another order", ahead, len(list))
		}
		w.restore(w.instance, plan.Target{}, plan.Options{As: "y"})
		w.want("y", "full newest")
	}
}
