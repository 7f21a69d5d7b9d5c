package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/repo/check"
	"holdfast/repo/ledger"
	"holdfast/repo/record"
)

// namedAndGone finds points that the ledger names and whose slot is gone, though
// nobody has forgotten them: somebody has removed it from the place. Prune refuses to
// decide then, so check has to tell of it.
func (r *Repository) namedAndGone(ctx context.Context) ([]check.Unreadable, error) {
	slots, err := r.store.SIDs(ctx, ledger.Commits)
	if err == nil {
		err = r.catalog.LookLedger(ctx)
	}
	if err != nil {
		return nil, err
	}
	var gone []check.Unreadable
	for _, named := range r.catalog.View().Entry.Points {
		sid := named.SID()
		if slots[sid] {
			continue
		}
		lost, err := r.isLost(ctx, sid)
		if err != nil {
			return nil, err
		}
		if lost {
			why := fmt.Errorf("the ledger names the point: %w", ErrVanished)
			gone = append(gone, check.Unreadable{ID: sid.Rand, Object: ledger.CommitName(sid), Err: why})
		}
	}
	return gone, nil
}

// nameable are the objects of records whose names follow from others: the ledger, the
// roll, the slots of its sessions and of the points that the ledger names, and the
// segments of the index. The index knows the latter when this returns.
func (r *Repository) nameable(ctx context.Context) ([]string, error) {
	young, end, err := r.catalog.Young(ctx)
	if err != nil {
		return nil, err
	}
	found, err := r.catalog.Reveal(ctx, young)
	if err == nil && found > 0 {
		err = r.catalog.Refresh(ctx)
	}
	if err != nil {
		return nil, err
	}
	view := r.catalog.View()
	names := append([]string{ledger.ConfigObject, ledger.Spare(ledger.ConfigObject)}, r.catalog.Index.Missing()...)
	names = append(names, ledger.Spare(ledger.LedgerName(view.Number))) // older ones need none
	for g := range view.Number + 1 {
		names = append(names, ledger.LedgerName(g))
	}
	for n := view.Entry.Roll; n < end; n++ {
		names = append(names, ledger.RollName(n))
	}
	for _, sid := range slices.Concat(young, view.Entry.Points) {
		names = append(names, ledger.CommitName(sid.SID()))
	}
	for _, segment := range r.catalog.Index.Segments() {
		names = append(names, segment.Name)
	}
	return names, nil
}

// isLost asks for a point by name: a listing may be older than the ledger, and a
// prune may have collected the point since, once it was forgotten.
func (r *Repository) isLost(ctx context.Context, sid ledger.SID) (bool, error) {
	for _, name := range []string{ledger.CommitName(sid), ledger.ForgetName(sid)} {
		_, err := r.be.Stat(ctx, name)
		if !record.IsGone(err) {
			return false, err
		}
	}
	err := r.catalog.LookLedger(ctx)
	if err != nil || r.catalog.IsOutlived() { // what the lost entry made void is not known
		return false, err
	}
	return !r.catalog.View().IsVoid(sid), nil
}

// unlessNamed makes of unknown, the answer for an id, a PointError if it is that of
// a point that is gone and that the ledger names, this machine has seen, or later points
// tell of: it can be forgotten then, and no longer keeps prune from deciding.
func (r *Repository) unlessNamed(ctx context.Context, id string, unknown error) error {
	const shortest = 4 // digits of an id, as everywhere
	if len(id) < shortest {
		return unknown
	}
	gone, err := r.allGone(ctx)
	if err != nil {
		return errors.Join(unknown, err)
	}
	var found *PointError
	for _, p := range gone {
		if strings.HasPrefix(p.ID, strings.ToLower(id)) {
			if found != nil && found.Object != p.Object {
				return unknown // more of the id tells which
			}
			found = &PointError{ID: p.ID, Object: p.Object, Err: p.Err}
		}
	}
	if found == nil {
		return unknown
	}
	return found
}
