package repo

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// ErrPinned: a point that was listed as not pinned is pinned, so it was not
// forgotten. Somebody has pinned it meanwhile, or a listing did not show its label.
var ErrPinned = errors.New("the point is pinned")

// notPinned returns ErrPinned if the newest label of a point says so. Labels are
// numbered without gaps, so the newest is found by name: a listing that hides it must
// not cost the point. A label that cannot be read counts as a pin.
func (r *Repository) notPinned(ctx context.Context, sid ledger.SID) error {
	end, err := ledger.FirstFree(0, func(n uint32) (bool, error) { return r.catalog.Has(ctx, ledger.LabelName(sid, int(n))) })
	if err != nil || end == 0 {
		return err
	}
	label, err := record.ReadAs[ledger.Label](ctx, r.store, ledger.LabelName(sid, int(end-1)), parity.Label)
	switch {
	case record.IsGone(err):
		return nil // with its point
	case err != nil && !record.IsDefinite(err):
		return fmt.Errorf("forget point %s: %w", sid.Rand, err)
	case err != nil || label.Pinned:
		return fmt.Errorf("forget point %s: %w", sid.Rand, ErrPinned)
	}
	return nil
}
