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

// Vanished are points that were the newest of their source, as far as is known, and that
// are gone without having been forgotten: this machine has seen none made since, or the
// ledger names them and no later one is there (foremost). Of the sources of those names
// (ledger.SID.Src), or of all if there are none. It takes a listing, and a request for each
// source that is remembered.
func (r *Repository) Vanished(ctx context.Context, srcs ...string) ([]ledger.SID, error) {
	seen, err := r.seenNewest(ctx, srcs)
	if err != nil {
		return nil, err
	}
	named, err := r.foremost(ctx, srcs)
	return distinct(append(seen, named...)), err
}

// seenNewest are those of Vanished that this machine remembers.
func (r *Repository) seenNewest(ctx context.Context, srcs []string) ([]ledger.SID, error) {
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
	gone, err := r.lost(ctx, append(r.heads.Of(""), r.heads.Missed()...))
	if err != nil {
		return nil, err
	}
	told, err := r.toldAndGone(ctx)
	return distinct(append(gone, sessionsOf(told)...)), err
}

// Gone are all points that are known to have vanished: because the ledger names them,
// because this machine has seen them, or because later points tell of them.
func (r *Repository) Gone(ctx context.Context) ([]ledger.SID, error) {
	named, err := r.namedAndGone(ctx)
	if err != nil {
		return nil, err
	}
	missed, err := r.missed(ctx)
	return distinct(append(missed, sessionsOf(named)...)), err
}

func sessionsOf(points []check.Unreadable) (sids []ledger.SID) {
	for _, p := range points {
		if sid, err := ledger.ParseSlot(p.Object); err == nil {
			sids = append(sids, sid)
		}
	}
	return sids
}

func distinct(sids []ledger.SID) []ledger.SID {
	slices.SortFunc(sids, func(a, b ledger.SID) int { return a.Pack().Compare(b.Pack()) })
	return slices.Compact(sids)
}

// allGone is Gone with what tells of each, once.
func (r *Repository) allGone(ctx context.Context) (gone []check.Unreadable, err error) {
	for _, find := range []func(context.Context) ([]check.Unreadable, error){r.namedAndGone, r.seenAndGone, r.toldAndGone} {
		found, err := find(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if !slices.ContainsFunc(gone, func(u check.Unreadable) bool { return u.Object == p.Object }) {
				gone = append(gone, p)
			}
		}
	}
	return gone, nil
}

// seenAndGone are the points that vanished and that this machine remembers.
func (r *Repository) seenAndGone(ctx context.Context) (gone []check.Unreadable, err error) {
	sids, err := r.lost(ctx, append(r.heads.Of(""), r.heads.Missed()...))
	for _, sid := range distinct(sids) {
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
	r.unremember(sid)
	return nil
}

func (r *Repository) unremember(sid ledger.SID) {
	if err := r.heads.Drop(sid); err != nil {
		r.log.Info("a point that was forgotten is still remembered here", "error", err)
	}
}
