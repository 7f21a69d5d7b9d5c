package trial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	mrand "math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/recovery"
)

// long is set for the nightly run: more seeds, every bit.
func long() bool { return os.Getenv("HOLDFAST_LONG") == "1" }

// blow is how a command is hit at one of its storage operations.
type blow struct {
	name string
	plan fault.Plan
}

// blows: the process is gone before the operation, or after it; or it lives,
// the operation is done, and the answer never comes.
func blows(at int) []blow {
	return []blow{
		{"before", fault.Plan{At: at, Mode: fault.NotDone, Stop: true}},
		{"after", fault.Plan{At: at, Mode: fault.DoneButLost, Stop: true}},
		{"unanswered", fault.Plan{At: at, Mode: fault.DoneButLost}},
	}
}

// outcome is what a power cut, or none, makes of a store.
type outcome struct {
	name  string
	store *mem.Backend
}

// outcomes are the stores that can be found after a crash: everything that was
// done; only what was synced; and that with the unsynced objects cut short, as
// the contract of Put allows.
func outcomes(ctx context.Context, store *mem.Backend, seeds uint64) ([]outcome, error) {
	bare := store.CrashClone(mem.CrashOptions{})
	unsynced, changed, err := difference(ctx, store, bare)
	if err != nil {
		return nil, err
	}
	all := []outcome{{"kept", nil}}
	if changed {
		all = append(all, outcome{"lost", bare})
		for seed := range seeds {
			all = append(all, outcome{fmt.Sprintf("luck %d", seed), store.CrashClone(mem.CrashOptions{Rand: mrand.New(mrand.NewPCG(seed, 3)), Torn: true})})
		}
	}
	if len(unsynced) > 0 {
		for what, cut := range map[string]func(int) int{
			"torn at 0": func(int) int { return 0 }, "torn at 1": func(int) int { return 1 },
			"torn in half": func(n int) int { return n / 2 }, "torn at the end": func(n int) int { return n - 1 },
		} {
			torn := store.CrashClone(mem.CrashOptions{})
			for name, object := range unsynced {
				if err := torn.Put(ctx, name, object[:cut(len(object))]); err != nil {
					return nil, err
				}
			}
			all = append(all, outcome{what, torn})
		}
	}
	all[0].store = store
	for _, o := range all {
		if err := o.store.Sync(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// difference tells what store has beyond its durable part, and whether anything
// at all is not durable.
func difference(ctx context.Context, store, durable *mem.Backend) (fresh map[string][]byte, changed bool, err error) {
	fresh = map[string][]byte{}
	now, err := objects(ctx, store, "")
	if err != nil {
		return nil, false, err
	}
	for _, name := range now {
		object, err := backend.Whole(ctx, store, name)
		if err != nil {
			return nil, false, err
		}
		kept, err := backend.Whole(ctx, durable, name)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			fresh[name], changed = object, true
		case err != nil:
			return nil, false, err
		default:
			changed = changed || !bytes.Equal(kept, object)
		}
	}
	before, err := objects(ctx, durable, "")
	return fresh, changed || len(before) != len(now)-len(fresh), err
}

// trial is one script under fire.
type trial struct {
	script
	base *site // after before
	from *mem.Backend
	seed uint64

	digest maphash.Seed
	seen   map[uint64]bool // states that were examined
	runs   int
	bad    int
}

func newTrial(ctx context.Context, s script, seed uint64) (*trial, error) {
	store := newStore()
	base := newSite(store, seed+1)
	p := base.process(store, "")
	defer p.end()
	if err := s.before(ctx, p); err != nil {
		return nil, fmt.Errorf("before the script: %w", err)
	}
	if err := store.Sync(ctx); err != nil {
		return nil, err
	}
	return &trial{script: s, base: base, from: store, seed: seed, digest: maphash.MakeSeed(), seen: map[uint64]bool{}}, nil
}

// stride is the step from one operation to the next of those that an ordinary
// run over a sick place, or a short run, tries.
func (tr *trial) stride() int {
	if long() {
		return 1
	}
	if testing.Short() {
		return max(12, 9*tr.every)
	}
	return max(1, tr.every)
}

// step is the same for those at which it crashes: one, but in a short run.
func (tr *trial) step() int {
	if testing.Short() {
		return tr.stride()
	}
	return 1
}

// stage is a fresh copy of what before has made.
func (tr *trial) stage() (*site, *mem.Backend) {
	store := tr.from.CrashClone(mem.CrashOptions{})
	return tr.base.fork(store, tr.seed+1000), store
}

// calls are the storage operations of the script when nothing happens to it.
func (tr *trial) calls(ctx context.Context) ([]fault.Call, error) {
	s, store := tr.stage()
	count := fault.New(store, fault.Options{})
	p := s.process(count, "")
	defer p.end()
	if err := tr.act(ctx, p); err != nil {
		return nil, fmt.Errorf("undisturbed: %w", err)
	}
	calls := count.Calls()
	if err := p.keep(ctx, nil, false); err != nil {
		return nil, fmt.Errorf("undisturbed: %w", err)
	}
	return calls, nil
}

// TestCrashAtEveryOperation: T1 of the programme. Whatever operation of
// whatever command a process dies at, and whatever the power cut leaves of what
// was not synced: no promise is broken, the same command then does its work,
// the repository goes on, and two prunes leave nothing behind.
func TestCrashAtEveryOperation(t *testing.T) {
	var mu sync.Mutex
	points, runs, states := 0, 0, 0
	t.Cleanup(func() {
		t.Logf("%d scripts, %d operations, %d crashes, %d different states examined", len(scripts()), points, runs, states)
	})
	for _, s := range scripts() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for seed := range crashSeeds(t) {
				tr, err := newTrial(t.Context(), s, seed)
				must(t, err)
				calls, err := tr.calls(t.Context())
				must(t, err)
				for at := 0; at < len(calls); at += tr.step() {
					for _, b := range blows(at + 1) {
						tr.strike(t, b, calls[at])
					}
				}
				mu.Lock()
				points, runs, states = points+len(calls), runs+tr.runs, states+len(tr.seen)
				mu.Unlock()
				t.Logf("%d operations, %d crashes, %d different states examined", len(calls), tr.runs, len(tr.seen))
			}
		})
	}
}

// crashSeeds is how many histories of each script are crashed.
func crashSeeds(t *testing.T) uint64 {
	switch text := os.Getenv("HOLDFAST_CRASH_SEEDS"); {
	case text != "":
		seeds, err := strconv.ParseUint(text, 10, 32)
		must(t, err)
		return seeds
	case long():
		return 10
	}
	return 1
}

// neighbour is a machine with an open session, over whatever the store is by now.
type neighbour struct {
	backend.Backend
	*process
	repo  *repo.Repository
	open  *repo.Session
	point *recovery.Point
}

// beside begins a session that needs the content of the point called old and
// has stored only what is new.
func (tr *trial) openBeside(ctx context.Context, s *site, store backend.Backend) (*neighbour, error) {
	if !tr.script.beside {
		return nil, nil
	}
	n := &neighbour{Backend: store}
	far := s.fork(store, tr.seed+3000)
	far.locks = (&lockTable{}).fork()
	far.locks.held = map[string]*process{}
	n.process = far.process(n, "")
	var err error
	if n.repo, err = n.process.open(ctx); err != nil {
		return nil, err
	}
	n.open, n.point, err = n.upload(ctx, n.repo, "vm/far", dayOne)
	return n, err
}

// finish commits the neighbour's session to what the store has become.
func (n *neighbour) finish(ctx context.Context, s *site, store backend.Backend) error {
	if n == nil {
		return nil
	}
	defer n.repo.Close()
	defer n.process.end()
	n.Backend = store
	if err := n.open.Commit(ctx, n.point); err != nil {
		n.open.Abort()
		return fmt.Errorf("the session beside: %w", err)
	}
	s.made[n.point.ID], s.known = dayOne, append(s.known, dayOne)
	return nil
}

// strike runs the script under one blow and examines all that it may leave. With
// a session beside, which can be continued once only, each outcome has its run.
func (tr *trial) strike(t *testing.T, b blow, call fault.Call) {
	for pick := 0; ; pick++ {
		if more := tr.strikeOnce(t, b, call, pick); !more || !tr.script.beside {
			return
		}
	}
}

func (tr *trial) strikeOnce(t *testing.T, b blow, call fault.Call, pick int) (more bool) {
	ctx := t.Context()
	s, store := tr.stage()
	far, err := tr.openBeside(ctx, s, store)
	must(t, err)
	must(t, store.Sync(ctx))
	broken := fault.New(store, fault.Options{Plan: b.plan})
	cache := ""
	if b.name == "after" {
		cache = t.TempDir() // the next process finds it as the dead one left it
	}
	p := s.process(broken, cache)
	p.dead = broken.Stopped
	err = tr.act(ctx, p)
	p.end()
	if err != nil && !errors.Is(err, fault.ErrInjected) {
		t.Errorf("%s %s: ended with %v", b.name, call, err)
	}
	luck := uint64(0)
	if long() {
		luck = 3
	}
	found, err := outcomes(ctx, store, luck)
	must(t, err)
	if tr.script.beside {
		more, found = pick+1 < len(found), found[pick:min(pick+1, len(found))]
	}
	for _, o := range found {
		tr.runs++
		key := tr.state(ctx, s, o.store, cache)
		if tr.seen[key] && far == nil {
			continue
		}
		tr.seen[key] = true
		killed := b.plan.Stop && (o.name == "kept" || o.name == "lost")
		if err := tr.aftermath(ctx, s.fork(o.store, tr.seed+2000), o.store, cache, far, killed); err != nil {
			t.Errorf("%s %s (operation %d, seed %d), %s: %v", b.name, call, b.plan.At, tr.seed, o.name, err)
			if tr.bad++; tr.bad > 4 {
				t.FailNow()
			}
		}
		cache = "" // the others find none
	}
	return more
}

// state is a digest of all that the aftermath depends on.
func (tr *trial) state(ctx context.Context, s *site, store backend.Backend, cache string) uint64 {
	var h maphash.Hash
	h.SetSeed(tr.digest)
	names, _ := objects(ctx, store, "")
	for _, name := range names {
		object, _ := backend.Whole(ctx, store, name)
		_, _ = h.WriteString(name)
		_, _ = h.Write(object)
	}
	fmt.Fprint(&h, len(s.made), len(s.secrets), len(s.barred), len(s.gone), s.pinned, s.notes, cache != "")
	return h.Sum64()
}

// aftermath is what the next processes find, and do.
func (tr *trial) aftermath(ctx context.Context, s *site, store backend.Backend, cache string, far *neighbour, killed bool) error {
	run := func(what, cache string, do func(p *process) error) error {
		p := s.process(store, cache)
		defer p.end()
		if err := do(p); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	tolerate := func(rep *repo.Report) bool { return onlyCopies(rep) || tr.tolerate != nil && tr.tolerate(rep) }
	return steps(
		func() error {
			return run("next", cache, func(p *process) error { return p.keep(ctx, tolerate, tr.blind) })
		},
		func() error { return run("again", cache, func(p *process) error { return tr.act(ctx, p) }) },
		func() error { return far.finish(ctx, s, store) },
		func() error { return run("mend", "", func(p *process) error { return scrubbed(ctx, p) }) },
		func() error {
			return run("resumed", "", func(p *process) error { return tr.noneTwice(ctx, p, killed) })
		},
		func() error { return run("further backup", cache, backupLater(ctx)) },
		func() error { return run("first prune", "", func(p *process) error { return p.prune(ctx) }) },
		func() error { return run("second prune", cache, func(p *process) error { return p.prune(ctx) }) },
		func() error { return run("last scrub", "", func(p *process) error { return scrubbed(ctx, p) }) },
		func() error { return run("at last", "", func(p *process) error { return p.keep(ctx, nil, false) }) },
		func() error { return run("at last", cache, func(p *process) error { return p.audit(ctx) }) },
	)
}

func backupLater(ctx context.Context) func(p *process) error {
	return func(p *process) error { return p.backup(ctx, vmA, repaint(dayThree, 77, 0)) }
}

// noneTwice: I5. What an interrupted run had published was not stored again;
// nor, if it was killed, what it had stored and not come to publish.
func (tr *trial) noneTwice(ctx context.Context, p *process, killed bool) error {
	if !tr.resumes {
		return nil
	}
	return p.with(ctx, func(r *repo.Repository) error {
		a, err := p.newAudit(ctx, r)
		if err != nil {
			return err
		}
		packs, err := a.published(ctx)
		if killed && err == nil {
			packs, err = a.all(ctx)
		}
		if err != nil {
			return err
		}
		where := map[blob.ID]string{}
		for _, name := range packs {
			table, err := a.table(ctx, name)
			if err != nil {
				return err
			}
			for _, e := range table {
				if other, twice := where[e.ID]; twice && other != name {
					return fmt.Errorf("chunk %.8s was stored again: in %s and in %s", e.ID, other, name)
				}
				where[e.ID] = name
			}
		}
		return nil
	})
}
