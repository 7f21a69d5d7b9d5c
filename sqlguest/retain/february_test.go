package retain_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/retain"
)

// february is what R1 to R12 are about, on a server that gives out LSNs: fulls on each
// Wednesday (1 February 2017 at 16:00, the next at 15:00), differentials daily at 21:00,
// logs every 30 minutes from 16:30 on, none at 21:00. Ids are f, d or l with day, hour
// and minute.
func february(t *testing.T, until time.Time) *world {
	w := &world{t: t, rows: rows{}, count: map[string]int{}}
	pst := until.Location()
	w.now = time.Date(2017, 2, 1, 15, 0, 0, 0, pst)
	w.s = newServer(t, 1, func() time.Time { return w.now })
	w.create()
	for at := time.Date(2017, 2, 1, 16, 0, 0, 0, pst); !at.After(until); at = at.Add(30 * time.Minute) {
		kind, name := backups.Log, "l"
		switch of := at.Format("15:04"); {
		case at.Day() == 1 && of == "16:00" || at.Day() != 1 && at.Weekday() == time.Wednesday && of == "15:00":
			kind, name = backups.Full, "f"
		case of == "21:00":
			kind, name = backups.Differential, "d"
		}
		w.now = at
		w.insert(at.Unix())
		k := w.take(kind, false, false)
		k.Point = name + at.Format("021504")
		k.point.ID, k.State, k.Header = k.Point, chain.Confirmed, k.header
	}
	return w
}

// insert commits a row.
func (w *world) insert(id int64) {
	tx, err := w.db().Begin(context.Background(), "")
	w.must(err)
	_, err = tx.Insert("t", []any{id, "x"})
	w.must(err)
	_, err = tx.Commit()
	w.must(err)
}

// keeps are the ids that a policy keeps, by their first letter.
func keeps(t *testing.T, w *world, policy recovery.Policy, at time.Time) (ids map[string][]string, why map[string]string) {
	t.Helper()
	f := &forgetting{world: w, pins: map[string]bool{}}
	there := func(k *kept) bool { return !k.point.Time.After(at) }
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return w.backups(there), nil })
	judged, err := policy.Judge(f.short(there), at, nil, chains)
	w.must(err)
	ids, why = map[string][]string{}, map[string]string{}
	for _, j := range judged {
		id := j.Point.ID()
		why[id] = strings.Join(j.Reasons, ", ")
		if j.Keep {
			ids[id[:1]] = append(ids[id[:1]], id)
		}
	}
	return ids, why
}

func diffs(from, to int) (list []string) {
	for day := from; day <= to; day++ {
		list = append(list, fmt.Sprintf("d%02d2100", day))
	}
	return list
}

// TestFebruaryByLSNs: R4, R5, R6, R9, R10 and R12 hold where nobody names a parent.
func TestFebruaryByLSNs(t *testing.T) {
	pst, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	at := func(day, hour, minute, second int) time.Time {
		return time.Date(2017, 2, day, hour, minute, second, 0, pst)
	}
	w := february(t, at(18, 0, 0, 0))
	policy := recovery.Policy{Daily: 10, Zone: pst}
	for _, tt := range []struct {
		at        time.Time
		fulls     string
		diffs     []string
		firstFull string // why it stays
		firstLog  string
	}{
		{at(11, 5, 0, 0), "f011600 f081500", diffs(1, 10), "keep-daily 10", "l011630"},
		{at(11, 23, 59, 59), "f011600 f081500", diffs(1, 11), "keep-daily 10", "l011630"},
		{at(12, 0, 0, 0), "f011600 f081500", diffs(2, 11), "needed by d072100", "l022130"},
		{at(13, 11, 0, 0), "f011600 f081500", diffs(3, 12), "needed by d072100", "l032130"},
		{at(17, 23, 59, 59), "f011600 f081500 f151500", diffs(7, 17), "needed by d072100", "l072130"},
		{at(18, 0, 0, 0), "f081500 f151500", diffs(8, 17), "older than 10 days", "l081530"},
	} {
		ids, why := keeps(t, w, policy, tt.at)
		if got := strings.Join(ids["f"], " "); got != tt.fulls || !slices.Equal(ids["d"], tt.diffs) || why["f011600"] != tt.firstFull || ids["l"][0] != tt.firstLog {
			t.Errorf("%s: %s, %v, %q, logs from %s", tt.at, got, ids["d"], why["f011600"], ids["l"][0])
		}
	}
}

// TestR10EarliestMomentIsThatOfTheFirstDifferential that is kept: the planner reaches
// nothing before it, and everything since.
func TestR10EarliestMomentIsThatOfTheFirstDifferential(t *testing.T) {
	pst, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2017, 2, 13, 11, 0, 0, 0, pst)
	w := february(t, now)
	ids, _ := keeps(t, w, recovery.Policy{Daily: 10, Zone: pst}, now)
	stay := slices.Concat(slices.Collect(maps.Values(ids))...)
	left := w.backups(func(k *kept) bool { return slices.Contains(stay, k.Point) })
	first := time.Date(2017, 2, 3, 21, 0, 0, 0, pst)
	for _, tt := range []struct {
		at      time.Time
		reached bool
	}{
		{first.Add(-time.Minute), false}, {first.AddDate(0, 0, -1), false}, {first.Add(time.Second), true}, {first.Add(5 * time.Hour), true},
		{time.Date(2017, 2, 8, 15, 0, 0, 0, pst), true}, {now.Add(-time.Second), true},
	} {
		if _, err := plan.Make(plan.Target{At: tt.at}, left, plan.Options{}); (err == nil) != tt.reached {
			t.Errorf("%s: %v", tt.at, err)
		}
	}
	if _, err := plan.Make(plan.Target{At: first.Add(-time.Minute)}, w.backups(all), plan.Options{}); err != nil {
		t.Errorf("before anything was forgotten: %v", err)
	}
}
