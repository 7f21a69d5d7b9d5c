package repo

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/check"
	"holdfast/repo/ledger"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/session"
)

// ErrVanished: a point that was there is gone, and nobody has forgotten it.
var ErrVanished = recovery.ErrVanished

// asksAtOnce bounds the lookups of remembered points.
const asksAtOnce = 8

// Vanished are points that this machine has seen as the newest of their source, with
// none made since, and that are gone without having been forgotten: of the sources of
// those names (ledger.SID.Src), or of all if there are none. Only who has seen them can
// tell. It takes one request for each source that is remembered.
func (r *Repository) Vanished(ctx context.Context, srcs ...string) ([]ledger.SID, error) {
	return r.lost(ctx, slices.DeleteFunc(r.heads.Of(""), func(sid ledger.SID) bool {
		return len(srcs) > 0 && !slices.Contains(srcs, sid.Src)
	}))
}

// lost are those of the points that are gone without having been forgotten.
func (r *Repository) lost(ctx context.Context, points []ledger.SID) ([]ledger.SID, error) {
	var (
		mu   sync.Mutex
		gone []ledger.SID
	)
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	for _, sid := range points {
		if r.catalog.View().IsVoid(sid) {
			continue
		}
		group.Go(func() error {
			lost, err := r.isLost(within, sid)
			if lost {
				mu.Lock()
				defer mu.Unlock()
				gone = append(gone, sid)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("look for newest points: %w", err)
	}
	slices.SortFunc(gone, func(a, b ledger.SID) int { return a.Pack().Compare(b.Pack()) })
	return gone, nil
}

// missed are the points that have vanished, those with newer ones since among them: a
// loss is told of until somebody acknowledges it by forgetting the point.
func (r *Repository) missed(ctx context.Context) ([]ledger.SID, error) {
	remembered := append(r.heads.Of(""), r.heads.Missed()...)
	slices.SortFunc(remembered, func(a, b ledger.SID) int { return a.Pack().Compare(b.Pack()) })
	return r.lost(ctx, slices.Compact(remembered))
}

// seenAndGone is missed for a check.
func (r *Repository) seenAndGone(ctx context.Context) ([]check.Unreadable, error) {
	sids, err := r.missed(ctx)
	var gone []check.Unreadable
	for _, sid := range sids {
		gone = append(gone, check.Unreadable{
			ID: sid.Rand, Object: ledger.CommitName(sid), Err: fmt.Errorf("this machine has seen the point: %w", ErrVanished),
		})
	}
	return gone, err
}

// acknowledge settles the session of a point that has vanished, once it is forgotten:
// nobody is to wait for it as for a backup that still runs, and this machine need not
// remember it.
func (r *Repository) acknowledge(ctx context.Context, sid ledger.SID) error {
	if sid.Gen >= r.catalog.View().Entry.Horizon {
		err := session.Revoke(ctx, r.store, sid, "its point has vanished")
		if err != nil && !record.IsTaken(err) { // taken: it is there after all, and forgotten
			return fmt.Errorf("settle session of point %s: %w", sid.Rand, err)
		}
	}
	if err := r.heads.Drop(sid); err != nil {
		r.log.Info("a point that was forgotten is still remembered here", "error", err)
	}
	return nil
}
