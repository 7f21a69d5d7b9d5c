package siege_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"holdfast/repo/backend"
	"holdfast/sqlguest"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
)

// Faults that happen.
const (
	agentKilled = "agent killed"
	cableCut    = "connection cut"
	repoFull    = "repository full"
	sqlStopped  = "SQL Server stopped"
	interrupted = "program interrupted"
)

var faults = []string{agentKilled, cableCut, repoFull, sqlStopped, interrupted}

// schedules is how many random histories are played: HOLDFAST_SIEGE_SCHEDULES, or few.
func schedules(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("HOLDFAST_SIEGE_SCHEDULES")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("HOLDFAST_SIEGE_SCHEDULES is %q, no number", text)
	}
	return n
}

// seed of the first schedule: HOLDFAST_SIEGE_SEED, or 1. The others follow.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("HOLDFAST_SIEGE_SEED")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("HOLDFAST_SIEGE_SEED is %q, no number", text)
	}
	return n
}

// strike plays one run of a kind with a fault at a phase, and returns its error.
func (w *world) strike(want decide.Want, fault, phase string) (err error, did bool) {
	w.t.Helper()
	r := w.connect()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &trap{Server: r.client, phase: phase}
	g := &gate{open: make(chan struct{})}
	if phase == streaming {
		w.gate.Store(g)
	}
	s.happen = func() {
		if fault == sqlStopped {
			g.unlock() // it waits for its sessions
		}
		defer g.unlock()
		switch fault {
		case agentKilled:
			r.cut()
			r.stop()
			g.unlock()
			<-r.ended
		case cableCut:
			r.cut()
		case repoFull:
			w.full.Store(true)
		case sqlStopped:
			w.must(w.lab.StopService())
		case interrupted:
			cancel()
		}
	}
	steps, err := w.job(want, s).All(ctx)
	for _, step := range steps {
		err = errors.Join(err, step.Err)
	}
	// What a later run finds.
	g.unlock()
	w.gate.Store(nil)
	w.kill()
	w.full.Store(false)
	w.must(w.lab.StartService())
	return err, s.did.Load()
}

// clean runs without faults and fails if anything went wrong.
func (w *world) clean(want decide.Want) []sqlguest.Step {
	w.t.Helper()
	steps, err := w.job(want, w.connect().client).All(context.Background())
	w.must(err)
	for _, s := range steps {
		w.must(s.Err)
	}
	w.kill()
	return steps
}

// audit holds the repository against SQL Server: every log that was truncated is
// committed and confirmed, without a gap, from the first log to where the next begins.
func (w *world) audit() error {
	var last *chain.Backup
	list := w.backups()
	for i, b := range list {
		if b.State == chain.Unconfirmed {
			return fmt.Errorf("%s %s is unconfirmed after a clean run", b.Kind, b.Point)
		}
		if b.Kind != chain.Log || b.State != chain.Confirmed || b.By == chain.ByItself {
			continue // given up: the next one has its log once more
		}
		if last != nil && b.First != last.Last {
			return fmt.Errorf("a gap in the committed logs: one ends at %s, the next begins at %s", last.Last, b.First)
		}
		last = &list[i]
	}
	if last == nil {
		return errors.New("no log was committed")
	}
	if next := w.start(); last.Last.String() != next {
		return fmt.Errorf("SQL Server's log begins at %s, the committed logs end at %s", next, last.Last)
	}
	return nil
}

// enough schedules let every fault strike at every phase.
const enough = 200

// TestLogIsTruncatedOnlyIfItsBytesAreCommitted: whatever is taken away at whatever
// phase, in random schedules: at once afterwards SQL Server's log begins where it did,
// unless a new point is there; and a clean run goes on without a gap.
func TestLogIsTruncatedOnlyIfItsBytesAreCommitted(t *testing.T) {
	count, first := schedules(t, 8), seed(t)
	struck := map[string]int{}
	for n := range count {
		rng := rand.New(rand.NewPCG(first+uint64(n), 0))
		t.Run(fmt.Sprintf("seed %d", first+uint64(n)), func(t *testing.T) {
			w := newWorld(t)
			w.clean(decide.Auto)
			for range 3 {
				w.siege(rng, struck)
			}
		})
	}
	for _, fault := range faults {
		for _, phase := range phases {
			t.Logf("%-20s %-40s %d", fault, phase, struck[fault+phase])
			if count >= enough && struck[fault+phase] == 0 {
				t.Errorf("%s, %s: never in %d schedules", fault, phase, count)
			}
		}
	}
}

// siege is one strike of a schedule, and what must be true after it.
func (w *world) siege(rng *rand.Rand, struck map[string]int) {
	w.t.Helper()
	w.write(1 + rng.IntN(8))
	want := []decide.Want{decide.Log, decide.Log, decide.Log, decide.Full, decide.Diff}[rng.IntN(5)]
	fault, phase := faults[rng.IntN(len(faults))], phases[rng.IntN(len(phases))]
	w.attack(want, fault, phase)
	struck[fault+phase]++
}

// attack strikes once and judges.
func (w *world) attack(want decide.Want, fault, phase string) {
	w.t.Helper()
	before, points := w.start(), len(w.backups())
	err, did := w.strike(want, fault, phase)
	where := fmt.Sprintf("%s, %s, %s", want, fault, phase)
	after := w.start()
	if after != before && len(w.backups()) == points {
		w.t.Fatalf("%s: the log began at %s and begins at %s, and no point was made", where, before, after)
	}
	isCut := fault == agentKilled || fault == cableCut
	if did && isCut && (phase == beforeBackup || phase == streaming) && len(w.backups()) != points {
		w.t.Fatalf("%s: a point was made of a stream that was cut", where)
	}
	w.judge(where, fault, phase, did, err)
	w.write(1)
	// Of a differential that was given up after its commit no row of msdb tells, as if the
	// machine had been set back behind it: a full may follow.
	unseen := want == decide.Diff && phase == beforeWord
	for _, s := range w.clean(decide.Log) {
		if s.Decision.Exit != decide.ExitDone && !(unseen && s.Decision.Rule == decide.RuleReverted) {
			w.t.Fatalf("%s: the run after it: %s (%s)", where, s.Decision.Reason, s.Decision.Rule)
		}
	}
	if err := w.audit(); err != nil {
		w.t.Fatalf("%s: %v", where, err)
	}
}

// judge looks at what the run itself said: one that lost a part before SQL Server's word
// was given has failed, and says of what. After the word the point is whole, and all
// that can fail is keeping what SQL Server said.
func (w *world) judge(where, fault, phase string, did bool, err error) {
	w.t.Helper()
	late := phase == afterWord || phase == beforeWord && (fault == repoFull || fault == interrupted)
	if !did {
		w.t.Fatalf("%s: it never came to that", where)
	}
	if err == nil && did && !late && (fault != repoFull || phase != lastByte) {
		w.t.Fatalf("%s: the run says that all is well", where)
	}
	if err == nil {
		return
	}
	var want error
	switch fault {
	case agentKilled, cableCut:
		want = agent.ErrCut
	case repoFull:
		want = backend.ErrNoSpace
	case interrupted:
		want = context.Canceled
	default:
		return // SQL Server's own words differ
	}
	if !errors.Is(err, want) {
		w.t.Fatalf("%s: the run says %v", where, err)
	}
}

// TestEveryFaultAtEveryPhase of a log backup, one by one.
func TestEveryFaultAtEveryPhase(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.clean(decide.Auto)
			for _, phase := range phases {
				w.write(3)
				w.attack(decide.Log, fault, phase)
			}
		})
	}
}
