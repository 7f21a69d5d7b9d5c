package plan

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/clock"
)

// TestPlansRestoreWhatWasThere lets databases live at random, plans to random
// targets and runs the plans on a server that has seen nothing: the rows are those
// that the database held, or the plan was refused and a search that knows the truth
// finds no way either.
func TestPlansRestoreWhatWasThere(t *testing.T) {
	n := uint64(120)
	if testing.Short() {
		n = 60
	}
	if more, err := strconv.ParseUint(os.Getenv("HOLDFAST_PLAN_HISTORIES"), 10, 64); err == nil {
		n = more
	}
	count := map[string]int{}
	for seed := range n {
		live(t, seed, count)
		if t.Failed() {
			return
		}
	}
	for _, k := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%-52s %d", k, count[k])
	}
	for _, k := range []string{"time: restored", "time: refused", "point: restored", "point: refused", "lsn: restored", "mark: restored", "latest: restored", "latest: refused", "neighbour: restored"} {
		if count[k] < int(n)/30 {
			t.Errorf("%s only %d times in %d histories: the test proves little", k, count[k], n)
		}
	}
}

func live(t testing.TB, seed uint64, count map[string]int) {
	w := newWorld(t, seed, count)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 60 {
		w.step()
	}
	w.end()
	if len(w.taken) == 0 {
		return
	}
	for range 4 {
		w.tryTime()
		w.tryPoint()
		w.tryLSN()
	}
	w.tryMark()
	w.tryLatest()
}

// restored runs a plan on a fresh server.
func (w *world) restored(p Plan) rows {
	w.t.Helper()
	s := newLab(w.t, w.r.Uint64(), w.look)
	w.execute(s, p)
	return scan(w.t, s)
}

func (w *world) check(what string, p Plan, got, want rows) {
	w.t.Helper()
	if !maps.Equal(got, want) {
		w.t.Fatalf("%s: %s: rows %v, want %v\n%s", what, p.Target, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), w.show(p))
	}
	w.count[what+": restored"]++
}

func (w *world) tryTime() {
	target := w.someTime()
	p, err := Make(Target{At: target, Bare: true}, w.ours(), w.options())
	want, lived := w.heldAt(target)
	if err == nil {
		if !lived {
			w.t.Fatalf("%s: nothing was there, and a plan is made\n%s", target, w.show(p))
		}
		w.check("time", p, w.restored(p), want)
		return
	}
	u := unreachable(err)
	if u == nil {
		w.t.Fatal(err)
	}
	w.count["time: refused"]++
	if way := w.truthAt(target); way != "" {
		w.t.Fatalf("%s: refused (%v), and %s leads there\n%s", target, err, way, w.show(p))
	}
	w.neighbours(target, u)
}

// neighbours restores what a refusal offers: the one before holds nothing of later.
func (w *world) neighbours(target time.Time, u *Unreachable) {
	o := w.options()
	o.Nearest = Before
	if u.Before == nil {
		o.Nearest = After
	}
	p, err := Make(Target{At: target, Bare: true}, w.ours(), o)
	if u.Before == nil && u.After == nil {
		if unreachable(err) == nil {
			w.t.Fatalf("%s: nothing is near, and: %v", target, err)
		}
		return
	}
	if err != nil || p.Instead == nil {
		w.t.Fatalf("%s: the neighbour of %v: %v\n%s", target, u, err, w.show(p))
	}
	if u.Before != nil && clock.Wall(u.Before.Time).After(target) || u.After != nil && !clock.Wall(u.After.Time).After(target) {
		w.t.Fatalf("%s: the neighbours are on the wrong sides: %v", target, u)
	}
	want, _ := w.heldAt(clock.Wall(p.Instead.Time))
	if p.Instead.Point != "" {
		want = w.point(p.Instead.Point).rows
	}
	w.check("neighbour", p, w.restored(p), want)
}

func (w *world) tryPoint() {
	k := w.taken[w.r.IntN(len(w.taken))]
	p, err := Make(Target{Point: k.Point}, w.ours(), w.options())
	if err == nil {
		w.check("point", p, w.restored(p), k.rows)
		return
	}
	if unreachable(err) == nil {
		w.t.Fatal(err)
	}
	w.count["point: refused"]++
	if w.truths()[k] {
		w.t.Fatalf("point %s: refused (%v), and it can be reached\n%s", k.Point, err, w.show(p))
	}
}

func (w *world) tryLSN() {
	m := w.life[w.r.IntN(len(w.life))]
	if m.at.IsZero() {
		return
	}
	before := w.r.IntN(3) == 0
	p, err := Make(Target{LSN: m.at, Before: before}, w.ours(), w.options())
	var a *Ambiguous
	if errors.As(err, &a) {
		w.count["lsn: ambiguous"]++
		return
	}
	if err != nil {
		w.count["lsn: refused"]++
		if way := w.truthThrough(m.at, m.fork); way != "" && unreachable(err) != nil && !before {
			w.t.Fatalf("LSN %s of fork %s: refused (%v), and %s leads there\n%s", short(m.at), m.fork, err, way, w.show(p))
		}
		return
	}
	s := newLab(w.t, w.r.Uint64(), w.look)
	w.execute(s, p)
	got := scan(w.t, s)
	db, err := s.Database("sales")
	w.must(err)
	forks := db.Info().Forks
	// What was committed last on the way, by the database's own path of forks. Reverts
	// give LSNs out twice on one fork: there, one of those is it.
	var best lsn.LSN
	var want []rows
	for _, v := range w.life {
		c := v.at.Compare(m.at)
		if v.at.IsZero() || c > 0 || c == 0 && before || storage.ForkAt(forks, v.at) != v.fork {
			continue
		}
		if best.Less(v.at) && w.count["revert"] == w.reverts {
			best, want = v.at, nil
		}
		want = append(want, v.rows)
	}
	if best.IsZero() {
		want = append(want, rows{})
	}
	if !slices.ContainsFunc(want, func(r rows) bool { return maps.Equal(r, got) }) {
		w.t.Fatalf("%s: rows %v, want %v\n%s", p.Target, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want[len(want)-1])), w.show(p))
	}
	w.count["lsn: restored"]++
}

func (w *world) tryMark() {
	for range 4 {
		m := w.life[w.r.IntN(len(w.life))]
		if m.mark == "" {
			continue
		}
		t := Target{Mark: m.mark, Before: w.r.IntN(2) == 0, Bare: true}
		twice := 0
		for _, v := range w.life {
			if v.mark == m.mark {
				twice++
			}
		}
		if twice > 1 {
			t.After = m.from
		}
		p, err := Make(t, w.ours(), w.options())
		if err != nil {
			w.count["mark: refused"]++
			continue
		}
		want := m.rows
		if t.Before {
			want = m.was
		}
		if twice > 1 {
			w.count["mark: one of several"]++
			if p.At.Equal(m.from) {
				w.check("mark", p, w.restored(p), want)
			}
			continue
		}
		w.check("mark", p, w.restored(p), want)
	}
}

func (w *world) tryLatest() {
	newest := w.taken[len(w.taken)-1]
	p, err := Make(Target{}, w.ours(), w.options())
	if err == nil {
		w.check("latest", p, w.restored(p), newest.rows)
		return
	}
	w.count["latest: refused"]++
	if u := unreachable(err); u == nil || w.truths()[newest] {
		w.t.Fatalf("latest: refused (%v), and it can be reached\n%s", err, w.show(p))
	}
	for _, f := range chain.Histories(w.ours(), newest.Family)[:1] {
		if r := f.Reach(nil); !r.Broken {
			w.t.Fatalf("latest is refused, and the newest window is not broken\n%s", w.show(p))
		}
	}
}

// The search that knows the truth: whole paths of forks, which headers do not tell.

func usable(k *kept) bool { return k.Damage == "" }

func forkAt(k *kept, at lsn.LSN) (before, there value.GUID) {
	return storage.ForkBefore(k.h.Boot.Forks, at), storage.ForkAt(k.h.Boot.Forks, at)
}

// truths are the backups whose ends can be reached: found by trying, from the
// beginning, which log a database at the end of which backup takes.
func (w *world) truths() map[*kept]bool {
	reached := map[*kept]bool{}
	for again := true; again; {
		again = false
		for _, k := range w.taken {
			if !reached[k] && usable(k) && w.truth(k, reached) {
				reached[k], again = true, true
			}
		}
	}
	for _, k := range w.taken { // an empty log ends where something else did
		if k.Kind == chain.Log && k.First == k.Last {
			for _, o := range w.taken {
				if reached[o] && o.Last == k.Last && o.Fork == k.Fork && o.gone == k.gone {
					reached[k] = true
				}
			}
		}
	}
	return reached
}

func (w *world) truth(k *kept, reached map[*kept]bool) bool {
	switch k.Kind {
	case chain.Full:
		return true
	case chain.Diff:
		return slices.ContainsFunc(w.taken, func(f *kept) bool { return usable(f) && f.h.BackupSetGUID == k.h.DifferentialBaseGUID })
	}
	return slices.ContainsFunc(w.taken, func(o *kept) bool { return reached[o] && w.takes(k, o) })
}

// takes tells whether the log goes on from the end of another backup. A revert makes
// two worlds of the same LSNs; what was abandoned never leads to what came later.
func (w *world) takes(l, o *kept) bool {
	if l.Kind != chain.Log || o.Last.Less(l.First) || !o.Last.Less(l.Last) || o.gone && w.behind(l, o) || l.gone && w.behind(o, l) {
		return false
	}
	before, there := forkAt(l, o.Last)
	return (before == o.h.RecoveryForkID || there == o.h.RecoveryForkID) && !w.withheld(l, o)
}

// withheld tells whether nobody who sees headers alone can know that the log goes on
// from that backup: LSNs were given out twice on the fork that the log has left, by a
// revert; or another fork leaves it between the log's beginning and the backup.
func (w *world) withheld(l, o *kept) bool {
	if l.FirstFork == l.Fork || o.Fork == l.Fork {
		return false
	}
	for _, k := range w.taken {
		if k.gone && k.Fork == o.Fork && !k.Last.Less(l.First) && w.behind(o, k) {
			w.count["(two worlds of the same LSNs before a fork)"]++
			return true
		}
		if k.FirstFork == o.Fork && k.Fork != l.Fork && k.Fork != o.Fork && !k.ForkPoint.Less(l.First) && k.ForkPoint.Less(o.Last) {
			w.count["(forks between that no header tells)"]++
			return true
		}
	}
	return false
}

// behind tells whether l was made after the full that abandons o.
func (w *world) behind(l, o *kept) bool {
	for _, k := range w.taken {
		if slices.Contains(k.Abandons, o.Set) {
			return true
		}
		if k == l {
			return false
		}
	}
	return false
}

// truthAt finds a log that was begun at or after a time, by the same life of the
// database, and that can be reached from a backup that surely ended before it.
func (w *world) truthAt(target time.Time) string {
	second := target.Truncate(time.Second)
	var first, previous *kept
	for _, k := range w.taken {
		if !k.h.StartDate.Before(target) {
			first = k
			break
		}
		previous = k
	}
	if first == nil || previous == nil || previous.Fork != first.Fork || len(first.Abandons) > 0 {
		return "" // nobody knows on which history the database was
	}
	reached := w.truths()
	for _, l := range w.taken {
		if l.Kind != chain.Log || !usable(l) || l.h.StartDate.Before(target) || l.BulkLogged || w.behind(l, first) {
			continue
		}
		if there := forkOf(l, first); !there {
			continue
		}
		for _, o := range w.taken {
			ended := o.h.FinishDate.Add(time.Second)
			if reached[o] && w.takes(l, o) && !ended.After(second) && !w.behind(first, o) {
				return o.Point + " and " + l.Point
			}
		}
	}
	return ""
}

// truthThrough finds a log that holds a record and can be reached from a backup that
// ends before it.
func (w *world) truthThrough(at lsn.LSN, fork value.GUID) string {
	reached := w.truths()
	for _, l := range w.taken {
		if l.Kind != chain.Log || !usable(l) || l.BulkLogged || at.Less(l.First) || !at.Less(l.Last) || storage.ForkAt(l.h.Boot.Forks, at) != fork {
			continue
		}
		for _, o := range w.taken {
			if reached[o] && o.Last.Compare(at) <= 0 && w.takes(l, o) {
				return o.Point + " and " + l.Point
			}
		}
	}
	return ""
}

// forkOf tells whether a log's path of forks goes through the end of a backup.
func forkOf(l, k *kept) bool {
	before, there := forkAt(l, k.Last)
	return k.Last.Compare(l.Last) <= 0 && (before == k.h.RecoveryForkID || there == k.h.RecoveryForkID)
}
