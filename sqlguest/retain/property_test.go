package retain_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of policies

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/retain"
)

// TestWhatIsKeptStaysRestorable lets databases live at random, applies policies and
// forgets by name, and asks the planner of restores, on what is left alone: whatever
// stays can be restored to its end as before, for a reason that is true.
func TestWhatIsKeptStaysRestorable(t *testing.T) {
	n := uint64(120)
	if testing.Short() {
		n = 50
	}
	if more, err := strconv.ParseUint(os.Getenv("HOLDFAST_RETENTION_HISTORIES"), 10, 64); err == nil {
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
	for _, k := range []string{"kept", "forgotten", "unreachable", "needed", "confirmed", "denied", "unconfirmed", "revert", "restore over it", "foreign", "named: refused", "named: done", "moments", "restored", "witness"} {
		if count[k] < int(n)/30 {
			t.Errorf("%s only %d times in %d histories: the test proves little", k, count[k], n)
		}
	}
}

func live(t *testing.T, seed uint64, count map[string]int) {
	w := newWorld(t, seed, count)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d\n%s", seed, w.show())
		}
	}()
	for range 20 + w.r.IntN(50) {
		w.step()
	}
	f := newForgetting(w)
	for range 2 {
		f.policy()
		f.named()
	}
}

// forgetting is a world whose backups are to be forgotten.
type forgetting struct {
	*world
	whole  map[string]bool // the planner restores it from all that there is
	pins   map[string]bool
	asked  func(*recovery.Brief) bool
	p      recovery.Policy
	at     time.Time // by which the policy judges
	kept   map[string]bool
	why    map[string][]string
	briefs []recovery.Brief
}

func newForgetting(w *world) *forgetting {
	f := &forgetting{world: w, pins: map[string]bool{}}
	f.whole = f.restorable(all)
	for _, k := range w.taken {
		f.pins[k.Point] = w.r.IntN(15) == 0
	}
	f.briefs = f.short(all)
	return f
}

// restorable are the points that the planner restores from those that are there.
func (f *forgetting) restorable(there func(*kept) bool) map[string]bool {
	list, can := f.backups(there), map[string]bool{}
	for _, b := range list {
		_, err := plan.Make(plan.Target{Point: b.Point}, list, plan.Options{})
		can[b.Point] = err == nil
	}
	return can
}

func (f *forgetting) short(there func(*kept) bool) []recovery.Brief {
	var briefer recovery.Briefer
	var list []recovery.Brief
	for _, k := range f.taken {
		if there(k) {
			list = append(list, briefer.Brief(k.point, f.pins[k.Point]))
		}
	}
	recovery.SortBriefs(list)
	return list
}

func (f *forgetting) chains() recovery.Chains {
	return retain.Chains(func(string) ([]chain.Backup, error) { return f.backups(all), nil })
}

// judge tells what the policy keeps of the points that are there, and why.
func (f *forgetting) judge(at time.Time, there func(*kept) bool) (keeps map[string]bool, why map[string][]string) {
	f.t.Helper()
	judged, err := f.p.Judge(f.short(there), at, f.asked, f.chains())
	f.must(err)
	keeps, why = map[string]bool{}, map[string][]string{}
	for _, k := range f.taken {
		keeps[k.Point] = there(k)
	}
	for _, j := range judged {
		keeps[j.Point.ID()], why[j.Point.ID()] = j.Keep, j.Reasons
	}
	return keeps, why
}

func draw(r *rand.Rand) recovery.Policy {
	n := func(values ...int) int { return values[r.IntN(len(values))] }
	hours := func(values ...int) time.Duration { return time.Duration(n(values...)) * time.Hour }
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err) // the zones are built in
	}
	p := recovery.Policy{
		Last: n(0, 0, 1, 3), Daily: n(0, 0, 1, 3, 9), Weekly: n(0, 0, 1, 3), Monthly: n(0, 0, 2), Yearly: n(0, 0, 0, 1),
		Within: hours(0, 0, 0, 30, 100), PIT: hours(0, 0, 0, 20, 90, 400), Zone: []*time.Location{nil, berlin}[r.IntN(2)],
	}
	if p.IsEmpty() {
		p.Daily = 2
	}
	return p
}

// policy judges by one and holds the judgement against what the planner says.
func (f *forgetting) policy() {
	f.p, f.asked = draw(f.r), nil
	if f.r.IntN(6) == 0 {
		kind := []recovery.Kind{recovery.SQLFull, recovery.SQLDiff, recovery.SQLLog}[f.r.IntN(3)]
		f.asked = func(b *recovery.Brief) bool { return b.Kind() == kind }
	}
	f.at = f.now.Add(time.Duration(f.r.IntN([]int{2, 40, 20 * 24}[f.r.IntN(3)])) * time.Hour)
	f.kept, f.why = f.judge(f.at, all)
	stays := func(k *kept) bool { return f.kept[k.Point] }
	f.staysRestorable(stays)
	for id := range f.why {
		f.reasons(f.point(id))
	}
	again, _ := f.judge(f.at, stays)
	f.same("the same policy once more", f.kept, again)
	later := f.at.Add(time.Duration(f.r.IntN(10*24)) * time.Hour)
	atOnce, _ := f.judge(later, all)
	for id := range atOnce {
		if atOnce[id] && !f.kept[id] {
			f.t.Fatalf("%+v forgets %s at %s (%v) and not at %s", f.p, id, f.at, f.why[id], later)
		}
	}
	inTurn, _ := f.judge(later, stays)
	f.same("first then and then", atOnce, inTurn)
	f.moments(stays)
	f.settles(stays)
	f.halfWay(stays)
}

// halfWay: forgetting ends before its end. What is to stay is restorable then, too, and
// stays when the policy is applied again.
func (f *forgetting) halfWay(stays func(*kept) bool) {
	f.t.Helper()
	judged, err := f.p.Judge(f.short(all), f.at, f.asked, f.chains())
	f.must(err)
	going := recovery.Going(judged)
	if len(going) == 0 {
		return
	}
	gone := map[string]bool{}
	for _, b := range going[:f.r.IntN(len(going))] {
		gone[b.ID()] = true
	}
	there := func(k *kept) bool { return !gone[k.Point] }
	left := f.restorable(there)
	for _, k := range f.taken {
		if stays(k) && f.whole[k.Point] && !left[k.Point] {
			f.t.Fatalf("%+v at %s: %s is to stay and is lost when these alone are gone: %v", f.p, f.at, k.Point, gone)
		}
	}
	ended, _ := f.judge(f.at, there)
	for id := range f.kept {
		if f.kept[id] && !ended[id] {
			f.t.Fatalf("%+v at %s: %s is to stay and goes when these are gone: %v", f.p, f.at, id, gone)
		}
	}
}

func (f *forgetting) same(what string, a, b map[string]bool) {
	f.t.Helper()
	for id := range a {
		if a[id] != b[id] {
			f.t.Fatalf("%+v at %s: %s: %s is kept %v, %v", f.p, f.at, what, id, a[id], b[id])
		}
	}
}

// staysRestorable: what could be restored and stays still can be, and holds the rows
// that it held; of each source its newest such point stays.
func (f *forgetting) staysRestorable(stays func(*kept) bool) {
	f.t.Helper()
	left := f.restorable(stays)
	var newest *kept
	var some []*kept
	for _, k := range f.taken {
		switch {
		case !f.whole[k.Point]:
			continue
		case stays(k) && !left[k.Point]:
			f.t.Fatalf("%+v at %s: %s stays (%v) and can no longer be restored", f.p, f.at, k.Point, f.why[k.Point])
		case stays(k):
			some = append(some, k)
		}
		if f.why[k.Point] != nil && (newest == nil || !k.point.Time.Before(newest.point.Time)) {
			newest = k
		}
	}
	if newest != nil && !stays(newest) {
		f.t.Fatalf("%+v at %s: %s is the newest, and goes: %v", f.p, f.at, newest.Point, f.why[newest.Point])
	}
	if len(some) > 0 {
		k := some[f.r.IntN(len(some))]
		f.restores(plan.Target{Point: k.Point}, stays, k.rows)
	}
}

// restores restores from what stays alone and asks for the rows.
func (f *forgetting) restores(target plan.Target, stays func(*kept) bool, want rows) {
	f.t.Helper()
	p, err := plan.Make(target, f.backups(stays), plan.Options{Replace: true})
	f.must(err)
	s := newServer(f.t, f.r.Uint64(), f.look)
	f.execute(s, p)
	if got := scan(f.t, s); !maps.Equal(got, want) {
		f.t.Fatalf("%+v at %s: %s has rows %v, want %v", f.p, f.at, target, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	f.count["restored"]++
}

// reasons are true, and whatever goes, goes because none would be.
func (f *forgetting) reasons(k *kept) {
	f.t.Helper()
	id := k.Point
	speak := f.rules(k)
	if !f.kept[id] {
		f.count["forgotten"]++
		fits := len(speak) == 0 || k.Kind == chain.Log && !slices.Contains(speak, "pinned")
		if f.why[id][0] == "unreachable" {
			f.count["unreachable"]++
			with := func(o *kept) bool { return f.kept[o.Point] || o == k }
			_, err := plan.Make(plan.Target{Point: id}, f.backups(with), plan.Options{})
			fits = err != nil || !f.whole[id] || f.witnessed(k)
		} else if len(speak) > 0 {
			fits = false
		}
		if !fits {
			f.t.Fatalf("%+v at %s: %s goes, %v, and %v speak for it", f.p, f.at, id, f.why[id], speak)
		}
		return
	}
	f.count["kept"]++
	for _, reason := range f.why[id] {
		word, of, _ := strings.Cut(reason, " ")
		switch {
		case word == "needed":
			f.count["needed"]++
			if len(speak) > 0 || !f.needs(f.point(strings.TrimPrefix(of, "by ")), k) {
				f.t.Fatalf("%+v at %s: %s stays, %s, and %v speak for it", f.p, f.at, id, reason, speak)
			}
		case word == "last":
			for _, o := range f.taken {
				if f.why[o.Point] != nil && f.whole[o.Point] && (!f.whole[id] || o.point.Time.After(k.point.Time)) {
					f.t.Fatalf("%+v at %s: %s stays as the newest, and %s is newer", f.p, f.at, id, o.Point)
				}
			}
		case !slices.Contains(speak, word):
			f.t.Fatalf("%+v at %s: %s stays, %s, and only %v speak for it", f.p, f.at, id, reason, speak)
		}
	}
}

// witnessed: the backup that saw it abandoned is not kept, or none of those that show
// where its fork may lie.
func (f *forgetting) witnessed(k *kept) bool {
	for _, o := range f.taken {
		if slices.Contains(o.Abandons, k.Set) && !f.kept[o.Point] || doubts(o, k) && !f.kept[o.Point] {
			return true
		}
	}
	return false
}

// doubts: where the log leaves the fork of an abandoned backup, LSNs were given out twice.
func doubts(o, log *kept) bool {
	return log.Kind == chain.Log && log.FirstFork != log.Fork && o.Fork == log.FirstFork && !o.Last.Less(log.First)
}

// left: a later backup saw it abandoned.
func (f *forgetting) left(k *kept) bool {
	return slices.ContainsFunc(f.taken, func(o *kept) bool { return slices.Contains(o.Abandons, k.Set) })
}

// needs tells whether the planner restores one by the other, or would if it were
// confirmed, or cannot tell one's history without the other.
func (f *forgetting) needs(k, base *kept) bool {
	named := func(o *kept) bool { return chain.Bases(&o.Header, &base.Header) && f.left(o) } // an abandoned full that it names
	if slices.Contains(base.Abandons, k.Set) || doubts(base, k) || slices.ContainsFunc(f.taken, named) {
		f.count["witness"]++
		return true
	}
	if k.State == chain.Unconfirmed || f.p.PIT > 0 && k.Takes(base.Last, base.Fork) {
		return true // settles and moments look closer
	}
	// By the log itself, or by a data backup that ends at the same place.
	itself := f.backups(all)
	for i := range itself {
		if b := &itself[i]; b.Kind != chain.Log && b.Last == k.Last && b.Point != k.Point {
			b.Damage = "not this way"
		}
	}
	return slices.ContainsFunc([][]chain.Backup{f.backups(all), itself}, func(list []chain.Backup) bool {
		p, err := plan.Make(plan.Target{Point: k.Point}, list, plan.Options{})
		return err == nil && slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Point == base.Point })
	})
}

// rules are the words of the rules that speak for a point, from the calendar itself.
func (f *forgetting) rules(k *kept) (words []string) {
	zone := f.p.Zone
	if zone == nil {
		zone = time.UTC
	}
	at := k.point.Time.In(zone)
	year, month, day := at.Date()
	date := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, zone) }
	say := func(word string, is bool) {
		if is {
			words = append(words, word)
		}
	}
	say("pinned", f.pins[k.Point])
	say("unconfirmed", k.State == chain.Unconfirmed)
	say("keep-pit", f.p.PIT > 0 && k.State == chain.Confirmed && !f.covered(k))
	if !f.whole[k.Point] {
		return words
	}
	monday := day - (int(at.Weekday())+6)%7
	say("keep-daily", f.p.Daily > 0 && f.at.Before(date(year, month, day+f.p.Daily+1)))
	say("keep-within", f.p.Within > 0 && f.at.Sub(at) <= f.p.Within)
	say("keep-weekly", f.p.Weekly > 0 && f.at.Before(date(year, month, monday+7*f.p.Weekly)) && f.latest(k, date(year, month, monday+7)))
	say("keep-monthly", f.p.Monthly > 0 && f.at.Before(date(year, month+time.Month(f.p.Monthly), 1)) && f.latest(k, date(year, month+1, 1)))
	say("keep-yearly", f.p.Yearly > 0 && f.at.Before(date(year+f.p.Yearly, 1, 1)) && f.latest(k, date(year+1, 1, 1)))
	say("keep-last", f.newer(k) < f.p.Last)
	return words
}

// asks tells whether the policy is asked about the point.
func (f *forgetting) asks(k *kept) bool { return f.why[k.Point] != nil }

// latest: no other data backup that can be restored is newer, before the end.
func (f *forgetting) latest(k *kept, end time.Time) bool {
	return k.Kind != chain.Log && !slices.ContainsFunc(f.after(k), func(o *kept) bool { return o.Kind != chain.Log && o.point.Time.Before(end) })
}

// after are the restorable points behind one, in the order of times.
func (f *forgetting) after(k *kept) (list []*kept) {
	for i, o := range f.taken {
		later := o.point.Time.After(k.point.Time) || o.point.Time.Equal(k.point.Time) && i > slices.Index(f.taken, k)
		if later && f.whole[o.Point] && f.asks(o) {
			list = append(list, o)
		}
	}
	return list
}

// newer counts the restorable points after one: data backups, if there are any.
func (f *forgetting) newer(k *kept) (n int) {
	data := slices.ContainsFunc(f.taken, func(o *kept) bool { return f.asks(o) && f.whole[o.Point] && o.Kind != chain.Log })
	for _, o := range f.after(k) {
		if o.Kind != chain.Log || !data {
			n++
		}
	}
	return n
}

// covered: a data backup behind it is early enough to begin with.
func (f *forgetting) covered(k *kept) bool {
	return slices.ContainsFunc(f.after(k), func(o *kept) bool {
		return o.Kind != chain.Log && !o.SurelyAfter().After(f.at.Add(-f.p.PIT)) && !o.point.Time.After(f.at.Add(-f.p.PIT))
	})
}

// moments: whatever moment of the last so long could be reached still can be.
func (f *forgetting) moments(stays func(*kept) bool) {
	f.t.Helper()
	if f.p.PIT == 0 || f.asked != nil {
		return
	}
	for range 8 {
		at := f.at.Add(-time.Duration(f.r.Int64N(int64(f.p.PIT))))
		if k := f.taken[f.r.IntN(len(f.taken))]; f.r.IntN(2) == 0 && !k.point.Time.Before(f.at.Add(-f.p.PIT)) {
			at = k.point.Time.Add(time.Duration(f.r.IntN(4000)-2000) * time.Millisecond)
		}
		if at.Before(f.at.Add(-f.p.PIT)) {
			continue
		}
		target := plan.Target{At: at}
		if _, err := plan.Make(target, f.backups(all), plan.Options{}); err != nil {
			continue
		}
		if _, err := plan.Make(target, f.backups(stays), plan.Options{}); err != nil {
			f.t.Fatalf("%+v at %s: %s could be reached: %v", f.p, f.at, target, err)
		}
		f.count["moments"]++
	}
}

// settles: points that are confirmed after all are restorable if they were before.
func (f *forgetting) settles(stays func(*kept) bool) {
	f.t.Helper()
	if !slices.ContainsFunc(f.taken, func(k *kept) bool { return k.State == chain.Unconfirmed }) {
		return
	}
	was := make([]chain.Backup, len(f.taken))
	for i, k := range f.taken {
		if was[i] = k.Backup; k.State == chain.Unconfirmed {
			k.Backup = k.settled()
		}
	}
	before, after := f.restorable(all), f.restorable(stays)
	for i, k := range f.taken {
		if was[i].State == chain.Unconfirmed {
			f.count["unconfirmed"]++
			if before[k.Point] && !after[k.Point] {
				f.t.Fatalf("%+v at %s: %s stays as unconfirmed, and when it is confirmed it cannot be restored", f.p, f.at, k.Point)
			}
		}
	}
	for i, k := range f.taken {
		k.Backup = was[i]
	}
}

// named forgets some points by name: that is refused exactly if another would be lost.
func (f *forgetting) named() {
	f.t.Helper()
	going, share := map[string]bool{}, f.r.IntN(8)
	for _, k := range f.taken {
		going[k.Point] = f.r.IntN(20) <= share
	}
	f.at, f.p, f.why = f.now, recovery.Policy{}, nil
	stays := func(k *kept) bool { return !going[k.Point] }
	err := recovery.NeededBy(f.briefs, func(id string) bool { return going[id] }, f.chains())
	left, lost := f.restorable(stays), false
	for _, k := range f.taken {
		witness := slices.ContainsFunc(f.taken, func(o *kept) bool { return going[o.Point] && (slices.Contains(o.Abandons, k.Set) || doubts(o, k)) })
		lost = lost || stays(k) && (f.whole[k.Point] && (!left[k.Point] || witness) || k.State == chain.Unconfirmed)
		if err == nil && stays(k) && f.whole[k.Point] && !left[k.Point] {
			f.t.Fatalf("forget %v: %s is lost", going, k.Point)
		}
	}
	if err != nil && !lost {
		f.t.Fatalf("forget %v: %v, and nothing is lost", going, err)
	}
	f.count[map[bool]string{true: "named: done", false: "named: refused"}[err == nil]]++
}
