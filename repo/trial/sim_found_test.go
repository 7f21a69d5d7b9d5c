package trial_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
)

// What the storms have found, each made small.

// gate is a backend that does something before the first call of a kind.
type gate struct {
	backend.Backend
	op, prefix string
	before     func()
	done       atomic.Bool
}

func (g *gate) pass(op, name string) {
	if g.op == op && strings.HasPrefix(name, g.prefix) && g.done.CompareAndSwap(false, true) {
		g.before()
	}
}

func (g *gate) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	g.pass("get", name)
	return g.Backend.Get(ctx, name, offset, length)
}

func (g *gate) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	g.pass("list", prefix)
	return g.Backend.List(ctx, prefix, fn)
}

func (g *gate) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	g.pass("put-if-absent", name)
	return g.Backend.PutIfAbsent(ctx, name, data)
}

// twoPoints is a place with two points that have nothing in common.
func twoPoints(t *testing.T) *site {
	t.Helper()
	s := newSite(newStore(), 7)
	p := s.process(s.store, "")
	defer p.end()
	must(t, p.init(t.Context()))
	for i, source := range []string{"image/a", "image/b"} {
		must(t, p.backup(t.Context(), source, picture(uint32(i+1), 4)))
	}
	return s
}

// elsewhere is the site as another machine sees it: it knows nothing of locks here.
func (s *site) elsewhere(seed uint64) *site {
	c := s.fork(s.store, seed)
	c.locks = &lockTable{held: map[string]*process{}}
	return c
}

// forgetAndPrune is what another machine does to the newest points of sources.
func forgetAndPrune(ctx context.Context, s *site, sources ...string) error {
	p := s.elsewhere(8).process(s.store, "")
	defer p.end()
	return p.with(ctx, func(r *repo.Repository) error {
		for _, source := range sources {
			e, err := r.Find(ctx, "latest:"+source)
			if err == nil {
				err = r.Forget(ctx, e, "test")
			}
			if err != nil {
				return err
			}
		}
		for range 2 {
			if _, err := r.Prune(ctx, repo.PruneOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestPruneThatWasOvertakenIsNotBlocked: a point is forgotten and pruned by
// another machine while this one has it for live. What it cannot find is no
// damage that an operator has to repair, and no reason to panic.
func TestPruneThatWasOvertakenIsNotBlocked(t *testing.T) {
	for _, at := range []struct{ op, prefix string }{{"get", ledger.Meta}, {"get", ledger.Indexes}, {"list", ledger.Data}, {"put-if-absent", ledger.Sessions}} {
		t.Run(at.op+" "+at.prefix, func(t *testing.T) {
			s := twoPoints(t)
			g := &gate{Backend: s.store, op: at.op, prefix: at.prefix, before: func() {
				must(t, forgetAndPrune(t.Context(), s, "image/a", "image/c"))
			}}
			g.done.Store(true)
			slow := s.process(g, "")
			defer slow.end()
			must(t, slow.with(t.Context(), func(r *repo.Repository) error {
				// Its index has yet to learn of this point.
				must(t, s.elsewhere(11).process(s.store, "").backup(t.Context(), "image/c", picture(3, 4)))
				g.done.Store(false)
				rep, err := r.Prune(t.Context(), repo.PruneOptions{})
				if err == nil && (rep.Points != 1 || !g.done.Load()) {
					t.Errorf("%d points are left, overtaken: %v", rep.Points, g.done.Load())
				}
				return err
			}))
		})
	}
}

// TestCommitIntoASlotThatWasRevokedAndPrunedIsLost: the revocation is gone before
// the writer can read it. He is told that his session was lost, not that some
// object exists.
func TestCommitIntoASlotThatWasRevokedAndPrunedIsLost(t *testing.T) {
	ctx := t.Context()
	s := twoPoints(t)
	g := &gate{Backend: s.store}
	p := s.process(g, "")
	defer p.end()
	other := s.elsewhere(9).process(s.store, "")
	defer other.end()
	must(t, p.with(ctx, func(r *repo.Repository) error {
		return other.with(ctx, func(o *repo.Repository) error {
			keeper, err := o.Begin(ctx, "image/d", "image/d") // while it is open no slot goes
			must(t, err)
			session, point, err := p.upload(ctx, r, "image/c", picture(9, 2))
			must(t, err)
			for range 3 {
				_, err := o.Prune(ctx, repo.PruneOptions{DeadAfter: 1})
				must(t, err)
			}
			g.op, g.prefix = "get", ledger.CommitName(session.SID())
			g.before = func() {
				keeper.Abort()
				_, err := o.Prune(ctx, repo.PruneOptions{})
				must(t, err)
			}
			if _, err := s.store.Stat(ctx, g.prefix); err != nil {
				t.Errorf("the silent session was not revoked: %v", err)
			}
			if err := session.Commit(ctx, point); !errors.Is(err, repo.ErrSessionLost) {
				t.Errorf("commit: %v", err)
			}
			if _, err := s.store.Stat(ctx, g.prefix); !g.done.Load() || !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("the revocation was not removed in time: %v", err)
			}
			return nil
		})
	}))
}

// TestCheckThatAPruneOvertakesLooksAgain: a prune on another machine folds the segment
// of a fresh point into its own between our listing of the index and our reading it.
// What the point needs is listed as before, elsewhere: nothing is to be repaired. (Seed
// 40371.)
func TestCheckThatAPruneOvertakesLooksAgain(t *testing.T) {
	s := twoPoints(t)
	fold := &gate{Backend: s.store, op: "get", prefix: ledger.Indexes, before: func() {
		must(t, forgetAndPrune(t.Context(), s))
	}}
	fold.done.Store(true)
	fresh := &gate{Backend: fold, op: "get", prefix: ledger.Data, before: func() {
		must(t, s.elsewhere(11).process(s.store, "").backup(t.Context(), "image/c", picture(3, 4)))
		fold.done.Store(false)
	}}
	p := s.process(fresh, "")
	defer p.end()
	must(t, p.with(t.Context(), func(r *repo.Repository) error {
		rep, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
		if err == nil && (len(rep.Findings) > 0 || !fold.done.Load()) {
			t.Errorf("overtaken: %v, and found %+v", fold.done.Load(), rep.Findings)
		}
		return err
	}))
}
