package trial_test

import (
	"context"
	"fmt"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
)

// TestLostIndexLosesNothing: I8. After histories with prunes, runs and repacks
// the whole of index/ goes, or one segment of it, or one is ruined, and with it
// every cache: a repair of the index brings all back, prune works, and after it
// a backup stores nothing anew. (Before it one may: of a pack that the horizon
// has passed only a run of the ledger proves that it was not deleted long ago,
// and it is prune that writes runs.)
func TestLostIndexLosesNothing(t *testing.T) {
	runs := 0
	for _, s := range maintaining() {
		t.Run(s.name, func(t *testing.T) {
			ctx := t.Context()
			tr, err := newTrial(ctx, s, 7)
			must(t, err)
			p := tr.base.process(tr.from, "")
			must(t, s.act(ctx, p))
			p.end()
			must(t, tr.from.Sync(ctx))
			segments, err := objects(ctx, tr.from, ledger.Indexes)
			must(t, err)
			losses := [][]string{segments}
			for _, one := range segments {
				losses = append(losses, []string{one})
			}
			for _, names := range losses {
				for how, change := range map[string]func([]byte) []byte{"gone": vanish, "ruined": ruin} {
					runs++
					s, store := tr.stage()
					for _, name := range names {
						must(t, store.Damage(name, change))
					}
					if err := reindexed(ctx, s, store); err != nil {
						t.Errorf("%d of %d segments %s: %v", len(names), len(segments), how, err)
					}
				}
			}
		})
	}
	t.Logf("%d losses", runs)
}

func vanish([]byte) []byte { return nil }

// ruin leaves nothing to heal from.
func ruin(object []byte) []byte {
	for i := range object {
		object[i] ^= 0xa5
	}
	return object
}

// reindexed repairs the index of a site and holds it against what was promised.
func reindexed(ctx context.Context, s *site, store *mem.Backend) error {
	next := func(what string, do func(p *process) error) func() error {
		return func() error {
			p := s.process(store, "")
			defer p.end()
			if err := do(p); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		}
	}
	return steps(
		next("repair", func(p *process) error { return repaired(ctx, p) }),
		next("repaired", func(p *process) error { return p.keep(ctx, nil, false) }),
		next("prune", func(p *process) error { return p.prune(ctx) }),
		next("backup", func(p *process) error { return p.again(ctx) }),
		next("second prune", func(p *process) error { return p.prune(ctx) }),
		next("pruned", func(p *process) error { return p.keep(ctx, nil, false) }),
		next("pruned", func(p *process) error { return p.audit(ctx) }),
	)
}

// again backs up what some point holds. Its chunks and its map are there, so not
// one pack may be written.
func (p *process) again(ctx context.Context) error {
	count := func() (n int, err error) {
		for _, prefix := range []string{ledger.Data, ledger.Meta} {
			names, err := objects(ctx, p.be, prefix)
			if err != nil {
				return 0, err
			}
			n += len(names)
		}
		return n, nil
	}
	before, err := count()
	if err != nil {
		return err
	}
	var held []byte
	err = p.with(ctx, func(r *repo.Repository) error {
		e, err := r.Find(ctx, "latest:"+vmA)
		held = p.made[e.ID]
		return err
	})
	if err == nil {
		err = p.backup(ctx, vmA, held)
	}
	if err != nil {
		return err
	}
	after, err := count()
	if err == nil && after != before {
		err = fmt.Errorf("%d packs were written for what was there", after-before)
	}
	return err
}
