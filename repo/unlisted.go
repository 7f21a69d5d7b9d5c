package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// ErrIndexLost: segments of the index are gone, so that nobody can tell what points
// need. The packs are there, and a repair of the index lists them again.
var ErrIndexLost = errors.New("the index is lost, wholly or in part")

// tellUnlisted looks, as a session begins, for signs that the index is lost, and
// tells of the packs that it does not list: what they hold is stored again. The
// signs cost next to nothing: runs that the ledger names are not there, the roots
// of the parent are not found, or nothing is listed where there are points. Only
// then are the packs counted.
func (r *Repository) tellUnlisted(ctx context.Context, parent *recovery.Point) error {
	if r.opts.Unlisted == nil {
		return nil
	}
	lost := len(r.catalog.Index.Lacks(r.catalog.View().Runs())) > 0
	var err error
	switch {
	case lost:
	case parent != nil:
		lost, err = r.lacksRoot(ctx, parent)
	default:
		lost = r.catalog.Index.IsEmpty()
	}
	if err != nil || !lost {
		return err
	}
	packs, err := r.unlisted(ctx)
	if err == nil && packs > 0 {
		r.opts.Unlisted(packs)
	}
	return err
}

// lacksRoot reports whether the index does not know the root of a point's item.
func (r *Repository) lacksRoot(ctx context.Context, p *recovery.Point) (bool, error) {
	for _, it := range p.Items {
		var root blob.ID
		switch {
		case it.Disk != nil:
			root = it.Disk.Root
		case it.Stream != nil:
			root = it.Stream.Root
		}
		if root.IsZero() {
			continue
		}
		found, err := r.catalog.Load.Lookup(ctx, root)
		if err != nil || len(found) == 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// unlisted counts the packs that the index lacks.
func (r *Repository) unlisted(ctx context.Context) (int, error) {
	packs, err := r.catalog.NotListed(ctx)
	return len(packs), err
}

// blamesIndex makes of a blocked prune an ErrIndexLost, if that is all that keeps
// it from deciding and nothing was changed before it was found.
func (r *Repository) blamesIndex(ctx context.Context, rep *PruneReport, blocked error) error {
	for _, b := range rep.Blocked {
		if !strings.HasPrefix(b.Object, ledger.Indexes) {
			return blocked
		}
	}
	if rep.ObjectsRemoved > 0 || rep.PacksRepacked > 0 {
		return blocked
	}
	packs, err := r.unlisted(ctx)
	if err != nil {
		return errors.Join(blocked, err)
	}
	if packs == 0 {
		return blocked // it is packs that are missing
	}
	return fmt.Errorf("%d packs are in no index: %w: %w", packs, ErrIndexLost, blocked)
}
