package trial_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/backend/sim"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
	"holdfast/repo/session"
)

// stormPlan is what a seed decides before anything happens.
type stormPlan struct {
	faults   sim.Faults
	sticky   int
	parity   string
	volatile bool // the place is a disk, and the power may fail
	retry    bool
	sources  int
	forget   int // per cent of the points, each time
	pool     int // chunks that points are made of: the fewer, the more is reused
	follow   int // per cent of the backups that keep what the parent has
	dawdle   int // per cent of the chunks after which a backup takes its time
	freezes  int // steps that a frozen process stands still, at most
	writers  int
	pruners  int
	others   int
	jobs     int
	stale    int  // chance in a thousand that a listing lies
	lines    int  // of the trace to keep
	lost     bool // index/ is lost at last, and repaired
}

// lies: reads may bring wrong bytes, so that anything may look damaged.
func (p stormPlan) lies() bool { return p.faults.Wrong > 0 }

// planOf draws a plan. Of all the faults each seed has some: those that hide
// others do not hide them always.
func planOf(seed uint64) stormPlan {
	rng := rand.New(rand.NewPCG(seed, 0x91a4))
	some := func(oneIn, perMille int) int {
		if rng.IntN(oneIn) > 0 {
			return 0
		}
		return 1 + rng.IntN(perMille)
	}
	p := stormPlan{
		faults: sim.Faults{
			Error: some(3, 15), Busy: some(4, 15), Lost: some(2, 20), Late: some(3, 15), Duplicate: some(2, 40),
			Short: some(4, 10), Wrong: some(10, 15), Hold: some(2, 300), Page: some(2, 300), Stall: some(3, 150),
			Freeze: some(2, 12), Kill: some(2, 6), Jump: some(2, 10), Pause: some(2, 20),
		},
		sticky: []int{0, 500, 900}[rng.IntN(3)], parity: "off", retry: rng.IntN(2) == 0, sources: 1 + rng.IntN(3), forget: 20 + rng.IntN(80),
		writers: 1 + rng.IntN(4), pruners: []int{0, 1, 1, 2, 2, 2}[rng.IntN(6)], others: rng.IntN(2), jobs: 1 + rng.IntN(2), lost: rng.IntN(8) == 0,
	}
	p.pool, p.follow, p.dawdle, p.freezes = 3+rng.IntN(stormPool-3), rng.IntN(101), rng.IntN(40), []int{50, 400, 2000}[rng.IntN(3)]
	if rng.IntN(3) == 0 { // everybody needs the same, and nothing is kept for long
		p.pool, p.follow, p.forget, p.sources, p.pruners, p.jobs = 2+rng.IntN(5), 60+rng.IntN(41), 70+rng.IntN(31), 1, 2, 2
		p.writers, p.dawdle = 2+rng.IntN(3), 10+rng.IntN(40)
	}
	if rng.IntN(4) == 0 {
		p.parity, p.faults.Rot = "standard", some(2, 15)
	}
	if rng.IntN(4) == 0 {
		p.volatile, p.faults.Power = true, some(2, 4)
	}
	return p
}

// storm is one run: actors at work in a world.
type storm struct {
	seed   uint64
	plan   stormPlan
	w      *sim.World
	model  *stormModel
	secret seal.Secret
	hosts  []*stormLocks

	mu  sync.Mutex
	err error // the first promise that was broken
}

func (s *storm) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *storm) options(c *sim.Client, stream uint64, locks *stormLocks) repo.Options {
	opts := repo.Options{Now: c.Now, Rand: &sim.Source{Seed: s.seed, Stream: stream}, Host: "host", Program: "storm", PID: 1}
	if locks != nil {
		opts.Locks = func(string) session.Locks { return holder{locks, c} }
	}
	return opts
}

// founding is an empty repository, made once: every storm begins with a copy.
type founding struct {
	secret  seal.Secret
	objects map[string]*sim.Snapshot // by parity
}

var found = sync.OnceValues(func() (*founding, error) {
	ctx := context.Background()
	f := &founding{objects: map[string]*sim.Snapshot{}}
	text, err := seal.NewKeyFile(&sim.Source{Seed: 1})
	if err != nil {
		return nil, err
	}
	if f.secret, err = seal.ParseKeyFile(text); err != nil {
		return nil, err
	}
	now := func() time.Time { return time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC) }
	for _, parity := range []string{"off", "standard"} {
		be := mem.Open(mem.Options{Now: now})
		r, err := repo.Init(ctx, be, repo.InitParams{
			Parity: parity, DiskChunkBytes: stormChunk, Compression: "fast", Keys: []repo.NewKey{{Secret: f.secret}},
		}, repo.Options{Now: now, Rand: &sim.Source{Seed: 2, Counted: 32}})
		if err != nil {
			return nil, err
		}
		if f.objects[parity], err = sim.Copy(ctx, be); err != nil {
			return nil, err
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return f, nil
})

// runStorm runs one seed inside a synctest bubble.
func runStorm(ctx context.Context, seed uint64, plan stormPlan) *storm {
	s := &storm{seed: seed, plan: plan, model: newStormModel(), hosts: []*stormLocks{{held: map[string]*sim.Client{}}, {held: map[string]*sim.Client{}}}}
	f, err := found()
	if err != nil {
		s.err = err
		return s
	}
	s.secret = f.secret
	s.w = sim.New(sim.Options{
		Seed: seed, Quiet: synctest.Wait, Faults: plan.faults, Sticky: plan.sticky, Volatile: plan.volatile, Objects: f.objects[plan.parity], Lines: plan.lines, Freezes: plan.freezes,
	})
	s.begin(ctx)
	if err := s.w.Run(); err != nil {
		s.fail(err)
		return s
	}
	if s.err != nil {
		return s
	}
	s.w.Calm()
	s.w.Settle()
	s.w.Go(func() {
		if err := s.aftermath(ctx); err != nil {
			s.fail(fmt.Errorf("after the storm: %w", err))
		}
	})
	if err := s.w.Run(); err != nil {
		s.fail(err)
	}
	return s
}

// begin sets the actors to work.
func (s *storm) begin(ctx context.Context) {
	number := uint64(0)
	add := func(name string, choices map[string]int) {
		number++
		a := &actor{storm: s, ctx: ctx, name: fmt.Sprintf("%s%d", name, number), number: number, rng: rand.New(rand.NewPCG(s.seed, 1000+number))}
		if host := a.rng.IntN(3); host < len(s.hosts) {
			a.locks = s.hosts[host]
		}
		s.w.Go(func() { a.work(choices) })
	}
	for range s.plan.writers {
		add("writer", map[string]int{"backup": 8, "restore": 1, "label": 1})
	}
	for range s.plan.pruners {
		add("pruner", map[string]int{"thin": 6, "prune": 3, "forget": 1})
	}
	for range s.plan.others {
		add("other", map[string]int{"restore": 4, "check": 2, "scrub": 3, "label": 1, "forget": 2, "repair": 1})
	}
}

// work is one process after the other, each of which does some things.
func (a *actor) work(choices map[string]int) {
	for range a.plan.jobs {
		a.nap()
		a.process(func() error {
			for range 1 + a.rng.IntN(3) { // a process that goes on knows what was
				err := a.anyOf(choices)
				if err != nil && !a.excused(err) || a.client.Dead() {
					return err
				}
				a.nap()
			}
			return nil
		})
	}
}

// aftermath: the storm is over. Everything promised is there, everything else
// can be tidied away, and nobody needs an unlock.
func (s *storm) aftermath(ctx context.Context) error {
	time.Sleep(60 * 24 * time.Hour) // whatever the clocks were
	calm := &storm{seed: s.seed, plan: stormPlan{sources: 2, pool: stormPool, volatile: s.plan.volatile}, w: s.w, model: s.model, secret: s.secret}
	quiet := &actor{storm: calm, ctx: ctx, name: "last", number: 99, rng: rand.New(rand.NewPCG(s.seed, 99))}
	steps := []func() error{quiet.all, quiet.pruneNow, quiet.backup, quiet.tidy, quiet.all, quiet.whole, quiet.wantTidy}
	if s.plan.faults.Rot > 0 {
		steps = append([]func() error{quiet.heal}, steps...)
	}
	if s.plan.lost {
		steps = append(steps, quiet.loseIndex, quiet.all, quiet.backup, quiet.tidy, quiet.all, quiet.whole)
	}
	for i, step := range steps {
		var failed error
		quiet.process(func() error { failed = step(); return nil })
		if err := errors.Join(failed, quiet.err); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// all restores every point.
func (a *actor) all() error {
	points, err := a.list()
	if err != nil {
		return err
	}
	for _, p := range points {
		want, _ := a.model.get(p.ID)
		if err := readStorm(a.ctx, a.r, p.Point, want.stormDisk); err != nil {
			return fmt.Errorf("restore %s: %w", p.SID, err)
		}
		a.model.note("points restored at last")
	}
	return nil
}

func (a *actor) pruneNow() error {
	unused := 0.0
	_, err := a.r.Prune(a.ctx, repo.PruneOptions{MaxUnused: &unused, DeadAfter: 1})
	return err
}

// tidy is two prunes. One before has noted the sessions that are silent.
func (a *actor) tidy() error { return errors.Join(a.pruneNow(), a.pruneNow()) }

// whole: nothing is wrong with anything.
func (a *actor) whole() error {
	rep, err := a.r.Check(a.ctx, repo.CheckOptions{ReadData: true})
	if err != nil {
		return err
	}
	return rep.Verdict()
}

// heal mends what has rotted, until nothing is left to mend.
func (a *actor) heal() error {
	for range 3 {
		rep, err := repo.Scrub(a.ctx, a.be, repo.ScrubOptions{Heal: true})
		if err != nil {
			return err
		}
		if rep.Errors > 0 && !a.plan.volatile {
			return rep.Verdict()
		}
	}
	return nil
}

// wantTidy: nothing is left that no point needs.
func (a *actor) wantTidy() error {
	points, err := a.list()
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, p := range points {
		alive[p.SID] = true
	}
	for _, prefix := range []string{ledger.Commits, ledger.Forgets, ledger.Confirms, ledger.Labels} {
		for _, name := range a.w.Names(prefix) {
			if sid := strings.Split(name, "/")[2]; !alive[sid] {
				return fmt.Errorf("%s is left over", name)
			}
		}
	}
	if left := a.w.Names(ledger.Sessions); len(left) > 0 {
		return fmt.Errorf("sessions are left over: %v", left)
	}
	rep, err := a.r.Prune(a.ctx, repo.PruneOptions{DryRun: true})
	if err != nil {
		return err
	}
	packs := slices.Concat(a.w.Names(ledger.Data), a.w.Names(ledger.Meta))
	if rep.PacksWaiting > 0 || rep.PacksRemoved > 0 || rep.BytesUnused > 0 || rep.PacksLive != len(packs) {
		return fmt.Errorf("a further prune would find, of %d packs: %+v", len(packs), rep)
	}
	return nil
}

// loseIndex: everything that can be rebuilt is gone, and is rebuilt.
func (a *actor) loseIndex() error {
	a.w.Remove(ledger.Indexes)
	if err := a.r.Close(); err != nil {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	_, err := a.r.RepairIndex(a.ctx, nil)
	return err
}
