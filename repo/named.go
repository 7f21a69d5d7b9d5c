package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/repo/check"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
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
			why := fmt.Errorf("the ledger names the point; it is gone, and nobody has forgotten it: %w", pack.ErrDamaged)
			gone = append(gone, check.Unreadable{ID: sid.Rand, Object: ledger.CommitName(sid), Err: why})
		}
	}
	return gone, nil
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
	return err == nil && !r.catalog.View().IsVoid(sid), err
}

// unlessNamed makes of unknown, the answer for an id, a PointError if it is that of
// a point which the ledger names and which is gone: it can be forgotten then, and no
// longer keeps prune from deciding.
func (r *Repository) unlessNamed(ctx context.Context, id string, unknown error) error {
	const shortest = 4 // digits of an id, as everywhere
	if len(id) < shortest {
		return unknown
	}
	gone, err := r.namedAndGone(ctx)
	if err != nil {
		return errors.Join(unknown, err)
	}
	var found *PointError
	for _, p := range gone {
		if strings.HasPrefix(p.ID, strings.ToLower(id)) {
			if found != nil {
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
