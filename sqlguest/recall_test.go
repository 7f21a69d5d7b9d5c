package sqlguest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
)

// TestX4RecallWritesUnderTheLocks: a restore that finds a point without SQL Server's word asks
// for it, and writes it only if no run of the database is under way, by either of its
// locks; what it writes is by what the server shows while it has them.
func TestX4RecallWritesUnderTheLocks(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.run(decide.Auto, "sales")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (92, N'unconfirmed')")
	r := w.job(decide.Log, w.sql)
	r.Databases, r.Keep = []string{"sales"}, &failing{Keeper: r.Keep, confirm: errors.New("killed")}
	_, err := r.All(t.Context())
	w.must(err)
	id := w.identities()[0]

	var name string
	looks, free := 0, 0 // free: of them, those while anybody could have begun
	ask := func(ctx context.Context) (*decide.Facts, []string, error) {
		at, err := facts.AskInstance(ctx, w.sql)
		w.must(err)
		all, err := facts.AskDatabases(ctx, w.sql, at)
		w.must(err)
		d := all[slices.IndexFunc(all, func(d facts.Database) bool { return d.Name == "sales" })]
		name, looks = sqlguest.LockName(&d), looks+1
		for _, lock := range []string{name, "holdfast " + id} {
			if release, err := w.sql.Hold(ctx, lock); err == nil {
				free++
				w.must(release())
			}
		}
		return sqlguest.FamilyFacts(at, d, d.Family), nil, nil
	}
	recall := func() (*sqlguest.Recalled, int) {
		t.Helper()
		r := w.job(decide.Log, w.sql)
		s := &settles{Keeper: r.Keep}
		r.Keep, looks, free = s, 0, 0
		out, err := r.Recall(t.Context(), id, ask, false)
		w.must(err)
		if last := out.Backups[len(out.Backups)-1]; last.State != chain.Confirmed {
			t.Errorf("the newest is %s for the restore", last.State)
		}
		return out, s.n
	}
	_, _, err = ask(t.Context())
	w.must(err)
	for _, lock := range []string{name, "holdfast " + id} {
		release, err := w.sql.Hold(t.Context(), lock)
		w.must(err)
		if _, wrote := recall(); wrote != 0 {
			t.Errorf("%d words written while another run has %s", wrote, lock)
		}
		w.must(release())
	}
	if _, wrote := recall(); wrote != 1 || looks != 2 || free != 2 {
		t.Errorf("%d words written; %d looks, with %d locks free in them; want 1, after a second look under both", wrote, looks, free)
	}
	if _, err := w.sql.Hold(t.Context(), name); errors.Is(err, server.ErrHeld) {
		t.Error("the lock is not let go")
	}
}
