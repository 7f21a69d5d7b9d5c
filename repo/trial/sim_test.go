package trial_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// seedsOf are the seeds of a run: HOLDFAST_SEED alone, else as many as
// HOLDFAST_SEEDS says, from HOLDFAST_FIRST on.
func seedsOf(t *testing.T, usual int) (first uint64, n int) {
	t.Helper()
	read := func(name string, usual int) uint64 {
		v, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		if err != nil {
			return uint64(usual)
		}
		return v
	}
	if os.Getenv("HOLDFAST_SEED") != "" {
		return read("HOLDFAST_SEED", 0), 1
	}
	if testing.Short() {
		usual = min(usual, 100)
	}
	return read("HOLDFAST_FIRST", 1), int(read("HOLDFAST_SEEDS", usual))
}

// seedsInBubble bounds the time that passes in one bubble: its clock begins in
// 2000 and ends in 2262, and a storm takes some months.
const seedsInBubble = 100

// eachSeed runs fn in bubbles with a clock that costs nothing, until it returns
// false. Encoders with channels of a bubble must not be left in pools for what
// comes after it: two collections empty every pool.
func eachSeed(t *testing.T, first uint64, n int, fn func(t *testing.T, seed uint64) bool) {
	t.Helper()
	if _, err := found(); err != nil { // outside: its pools belong to everybody
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	end, more := first+uint64(n), true
	for from := first; from < end && more; from += seedsInBubble {
		synctest.Test(t, func(t *testing.T) {
			for seed := from; seed < min(from+seedsInBubble, end) && more; seed++ {
				more = fn(t, seed)
			}
		})
		runtime.GC()
		runtime.GC()
	}
}

// mostReports is how many seeds may fail before a run ends.
const mostReports = 3

// report tells how a seed failed and how to see it again.
func report(t *testing.T, s *storm) {
	t.Helper()
	t.Errorf("seed %d: %v\nreplay: HOLDFAST_SEED=%d go test ./repo/trial -run '^%s$'\nplan: %+v\n%s",
		s.seed, s.err, s.seed, t.Name(), s.plan, strings.Join(s.w.Trace(), "\n"))
}

// count adds up what happened.
func (s *storm) count(total map[string]int) {
	for what, n := range s.model.count {
		total[what] += n
	}
	st := s.w.Stats()
	for what, n := range map[string]int{
		"calls": st.Steps, "faults": st.Faulted, "late requests": st.Late, "kills": st.Kills, "freezes": st.Freezes,
		"clock jumps": st.Jumps, "bytes rotten": st.Rots, "power cuts": st.PowerCuts,
	} {
		total["~"+what] += n
	}
}

// TestStorms is the deterministic simulation: many machines, a store that is bad
// in every way that the contract allows, and nothing promised is ever lost.
func TestStorms(t *testing.T) {
	first, n := seedsOf(t, 2000)
	total := map[string]int{}
	bad := 0
	began := time.Now()
	eachSeed(t, first, n, func(t *testing.T, seed uint64) bool {
		s := runStorm(t.Context(), seed, planOf(seed))
		if s.err != nil {
			report(t, s)
			bad++
		}
		s.count(total)
		return bad < mostReports
	})
	t.Logf("%d seeds in %s: %v", n, time.Since(began).Round(time.Millisecond), total)
	if n < 100 || bad > 0 {
		return
	}
	for _, what := range []string{
		"points committed", "points lost", "points unsure", "sessions aborted", "sessions revoked", "points restored", "points forgotten",
		"prunes done", "packs removed", "packs repacked", "checks done", "scrubs done", "objects healed", "labels set", "repairs done",
		"~faults", "~late requests", "~kills", "~freezes", "~clock jumps", "~bytes rotten", "~power cuts",
	} {
		if total[what] == 0 {
			t.Errorf("in %d storms there were no %s: the storms are too mild", n, what)
		}
	}
}

// TestAStormReplaysExactly: the same seed makes the same calls, to the last.
func TestAStormReplaysExactly(t *testing.T) {
	first, n := seedsOf(t, 40)
	eachSeed(t, first, n, func(t *testing.T, seed uint64) bool {
		plan := planOf(seed)
		plan.lines = 1 << 20
		a, b := runStorm(t.Context(), seed, plan), runStorm(t.Context(), seed, plan)
		if a.w.Hash() == b.w.Hash() {
			return true
		}
		one, other := a.w.Trace(), b.w.Trace()
		at := 0
		for at < min(len(one), len(other)) && one[at] == other[at] {
			at++
		}
		from := max(0, at-20)
		t.Errorf("seed %d: two runs differ from event %d on\n%s\n----\n%s", seed, at,
			strings.Join(one[from:min(len(one), at+3)], "\n"), strings.Join(other[from:min(len(other), at+3)], "\n"))
		return false
	})
}

// TestStormsOfListingsThatLie: a server whose listings hide whatever they like, or
// show what was at another moment, which S3 does not, keeps nobody's word: not of
// writers, not of pruners, not of readers. What it does to them they notice, or it
// costs room; no committed point is lost by it, and none of them takes wrong bytes
// for right.
func TestStormsOfListingsThatLie(t *testing.T) {
	first, n := seedsOf(t, 400)
	total := map[string]int{}
	bad := 0
	eachSeed(t, first, n, func(t *testing.T, seed uint64) bool {
		plan := planOf(seed)
		plan.stale = []int{100, 200, 300, 1000}[seed%4]
		plan.pruners = max(plan.pruners, 1)
		s := runStorm(t.Context(), seed, plan)
		if s.err != nil {
			report(t, s)
			bad++
		}
		s.count(total)
		return bad < mostReports
	})
	t.Logf("%d seeds: %v", n, total)
	if n < 100 || bad > 0 {
		return
	}
	for _, what := range []string{"points committed", "points restored at last", "packs removed", "packs repacked", "sessions revoked", "listings that lied", "lying listings that were noticed"} {
		if total[what] == 0 {
			t.Errorf("in %d storms there were no %s: the storms are too mild", n, what)
		}
	}
}
