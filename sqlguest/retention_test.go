package sqlguest_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/retain"
)

// forget applies a policy to the repository, as of now, and returns how many went.
func (w *world) forget(policy recovery.Policy) int {
	w.t.Helper()
	points, problems, err := w.repo.Briefs(w.t.Context())
	w.must(err)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	ours := w.job(decide.Auto, w.sql).Keep
	chains := retain.Chains(func(identity string) ([]chain.Backup, error) { return ours.Backups(w.t.Context(), identity) })
	judged, err := policy.Judge(points, w.now, nil, chains)
	w.must(err)
	going := recovery.Going(judged)
	for _, b := range going {
		w.must(w.repo.ForgetBrief(w.t.Context(), *b, "by a test"))
	}
	return len(going)
}

// TestBackupsGoOnBesideAPolicy: two weeks of fulls, differentials and logs, with a
// policy applied every evening. No chain breaks, and whatever is left can be restored.
func TestBackupsGoOnBesideAPolicy(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	policy := recovery.Policy{Daily: 2, Weekly: 2}
	w.run(decide.Auto, "sales")
	gone := 0
	for day := range 13 {
		for range 2 {
			w.now = w.now.Add(8 * time.Hour)
			w.exec("UPDATE sales.dbo.customers SET name = N'another' WHERE id = 1")
			_, said := w.run(decide.Log, "sales")
			w.want(said, "sales log S-log")
		}
		w.now = w.now.Add(8 * time.Hour)
		_, said := w.run(decide.Auto, "sales")
		for _, s := range said {
			if strings.Contains(s, "refuse") || strings.Contains(s, "full") && !strings.HasSuffix(s, "S-auto-full") {
				t.Errorf("day %d: %s", day, s)
			}
		}
		gone += w.forget(policy)
	}
	count := map[chain.Kind]int{}
	for _, id := range w.identities() {
		backups, err := w.job(decide.Auto, w.sql).Keep.Backups(t.Context(), id)
		w.must(err)
		for _, b := range backups {
			count[b.Kind]++
			if _, err := plan.Make(plan.Target{Point: b.Point}, backups, plan.Options{}); err != nil {
				t.Errorf("%s %s: %v", b.Kind, b.Point, err)
			}
		}
	}
	// Of three days all, of the week before the latest, with their fulls.
	t.Logf("left are %v, %d are gone", count, gone)
	if count[chain.Log] < 6 || count[chain.Log] > 10 || count[chain.Full] < 2 || count[chain.Full]+count[chain.Diff] > 9 || gone < 30 {
		t.Errorf("left are %v, %d are gone", count, gone)
	}
}
