package whole

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/pack"
	"holdfast/sqlguest/chain"
)

// lostAtOnce is how many points are looked for at once.
const lostAtOnce = 8

// Lost gives those of a database's points that the repository does not hold all of, and
// why, by what the index and the streams' nodes say. What only fails is an error.
func Lost(ctx context.Context, r *repo.Repository, identity string, points []string) (map[string]string, error) {
	entries, _, err := r.PointsOf(ctx, identity) // what cannot be read is no point of ours
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, p := range points {
		wanted[p] = true
	}
	lost := map[string]string{}
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(lostAtOnce)
	for _, e := range entries {
		if !wanted[e.ID] {
			continue
		}
		group.Go(func() error {
			err := Point(gctx, r, e.Point)
			if err == nil || !isLoss(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			lost[e.ID] = fmt.Sprintf("the repository has lost a part of it (%v)", err)
			return nil
		})
	}
	return lost, group.Wait()
}

// Mark marks those of a database's backups that the repository does not hold all of:
// of the newest full and the differentials on it, the newest first, and of the fulls before
// it, until one of each is whole.
func Mark(ctx context.Context, r *repo.Repository, identity string, backups []chain.Backup) error {
	seen := map[chain.Kind]bool{}
	for i := range slices.Backward(backups) {
		b := &backups[i]
		if !b.Usable() || b.Kind == chain.Log || seen[b.Kind] || seen[chain.Full] {
			continue
		}
		lost, err := Lost(ctx, r, identity, []string{b.Point})
		if err != nil {
			return err
		}
		b.Damage = lost[b.Point]
		seen[b.Kind] = b.Damage == "" && !b.CopyOnly
	}
	return nil
}

// isLoss tells what is lost from what merely could not be read now.
func isLoss(err error) bool {
	return errors.Is(err, repo.ErrMissing) || errors.Is(err, backend.ErrNotFound) || errors.Is(err, pack.ErrDamaged) || errors.Is(err, pack.ErrTampered)
}
