package trial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	mrand "math/rand/v2"
	"os"
	"slices"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
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
	return count.Calls(), nil
}

// TestCrashAtEveryOperation: T1 of the programme. Whatever operation of
// whatever command a process dies at, and whatever the power cut leaves of what
// was not synced: no promise is broken, the same command then does its work,
// the repository goes on, and two prunes leave nothing behind.
func TestCrashAtEveryOperation(t *testing.T) {
	seeds := uint64(1)
	if long() {
		seeds = 10
	}
	points, runs, states := 0, 0, 0
	for _, s := range scripts() {
		t.Run(s.name, func(t *testing.T) {
			for seed := range seeds {
				tr, err := newTrial(t.Context(), s, seed)
				must(t, err)
				calls, err := tr.calls(t.Context())
				must(t, err)
				for at := range calls {
					for _, b := range blows(at + 1) {
						tr.strike(t, b, calls[at])
					}
				}
				points, runs, states = points+len(calls), runs+tr.runs, states+len(tr.seen)
			}
		})
	}
	t.Logf("%d scripts, %d operations, %d crashes, %d different states examined", len(scripts()), points, runs, states)
}

// strike runs the script under one blow and examines all that it may leave.
func (tr *trial) strike(t *testing.T, b blow, call fault.Call) {
	ctx := t.Context()
	s, store := tr.stage()
	broken := fault.New(store, fault.Options{Plan: b.plan})
	cache := ""
	if b.name == "after" {
		cache = t.TempDir() // the next process finds it as the dead one left it
	}
	p := s.process(broken, cache)
	p.dead = broken.Stopped
	err := tr.act(ctx, p)
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
	for _, o := range found {
		tr.runs++
		key := tr.state(ctx, s, o.store, cache)
		if tr.seen[key] {
			continue
		}
		tr.seen[key] = true
		if err := tr.aftermath(ctx, s.fork(o.store, tr.seed+2000), o.store, cache); err != nil {
			t.Errorf("%s %s (operation %d, seed %d), %s: %v", b.name, call, b.plan.At, tr.seed, o.name, err)
			if tr.bad++; tr.bad > 4 {
				t.FailNow()
			}
		}
		cache = "" // the others find none
	}
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
	fmt.Fprint(&h, len(s.made), len(s.secrets), s.pinned, s.notes, cache != "")
	return h.Sum64()
}

// aftermath is what the next processes find, and do.
func (tr *trial) aftermath(ctx context.Context, s *site, store backend.Backend, cache string) error {
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
		func() error { return run("next", cache, func(p *process) error { return p.keep(ctx, tolerate) }) },
		func() error { return run("again", cache, func(p *process) error { return tr.act(ctx, p) }) },
		func() error { return run("mend", "", func(p *process) error { return scrubbed(ctx, p) }) },
		func() error { return run("resumed", "", func(p *process) error { return tr.noneTwice(ctx, p) }) },
		func() error { return run("further backup", cache, backupLater(ctx)) },
		func() error { return run("first prune", "", func(p *process) error { return p.prune(ctx) }) },
		func() error { return run("second prune", cache, func(p *process) error { return p.prune(ctx) }) },
		func() error { return run("at last", "", func(p *process) error { return p.keep(ctx, nil) }) },
		func() error { return run("at last", cache, func(p *process) error { return p.audit(ctx) }) },
	)
}

func backupLater(ctx context.Context) func(p *process) error {
	return func(p *process) error { return p.backup(ctx, vmA, repaint(dayThree, 77, 0)) }
}

// noneTwice: I5. What an interrupted run had published was not stored again.
func (tr *trial) noneTwice(ctx context.Context, p *process) error {
	if !tr.resumes {
		return nil
	}
	return p.with(ctx, func(r *repo.Repository) error {
		a, err := p.newAudit(ctx, r)
		if err != nil {
			return err
		}
		names, err := objects(ctx, p.be, ledger.Indexes)
		if err != nil {
			return err
		}
		type place struct{ pack, chunk string }
		known := map[string]place{}
		for _, name := range names {
			packs, err := a.segment(ctx, name)
			if err != nil {
				return err
			}
			for _, listed := range packs {
				table, err := a.table(ctx, listed)
				if err != nil {
					return err
				}
				for _, e := range table {
					id := fmt.Sprintf("%x", e.ID[:])
					if was, twice := known[id]; twice && was.pack != listed {
						return fmt.Errorf("chunk %.8s was stored again: in %s and in %s", id, was.pack, listed)
					}
					known[id] = place{listed, id}
				}
			}
		}
		return nil
	})
}

var _ = slices.Sorted[string]
var _ = parity.Index
