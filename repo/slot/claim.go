package slot

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// standing is what one slot is worth now.
type standing struct {
	info    seal.SlotInfo
	member  seal.Member // zero for a slot that no rotation can reach
	opens   bool        // it can be read and opens the current epoch
	why     error       // why no rotation can reach it
	damaged error       // why it cannot be read
	gone    bool        // removed meanwhile
}

// stand examines a slot. What is wrong with the slot is in the standing; the
// error tells only that no answer could be had. Of two copies that differ the one that
// is vouched for counts.
func (k *Keys) stand(ctx context.Context, id string) (s standing, err error) {
	found := false
	var failed error // no answer, whatever is said of the slot
	err = read(ctx, k.Backend, ledger.Keys+id, func(payload []byte) error {
		next, err := k.weigh(ctx, payload, id)
		switch {
		case isDamage(next.damaged):
			return next.damaged
		case err != nil:
			failed = err
			return nil
		case !found || next.why == nil:
			s, found = next, true
		}
		return next.why
	})
	switch {
	case failed != nil:
		return s, failed
	case errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil:
		return s, fmt.Errorf("examine key %s: %w", id, err)
	case found:
		return s, nil
	case errors.Is(err, backend.ErrNotFound):
		s.gone = true
		return s, nil
	case isDamage(err):
		s.damaged, s.why = err, err
		return s, nil
	case err != nil:
		return s, fmt.Errorf("examine key %s: %w", id, err)
	}
	return s, nil
}

// weigh is stand for the bytes of one copy.
func (k *Keys) weigh(ctx context.Context, payload []byte, id string) (s standing, err error) {
	name := ledger.Keys + id
	if s.info, s.damaged = seal.ReadSlotInfo(payload); s.damaged != nil {
		return s, nil
	}
	current := k.Ring.Current()
	if s.info.Epoch == 0 {
		s.opens, s.why = current == 1, fmt.Errorf("made by a version without key rotation: %w", seal.ErrNotVouched)
		return s, nil
	}
	if s.info.Epoch >= current {
		s.member, s.why = k.Ring.Vouched(payload, name)
	} else if s.member, s.why, err = k.vouchedByBox(ctx, payload, name, id); err != nil {
		return s, err
	}
	s.opens = s.why == nil
	return s, nil
}

// vouchedByBox examines a slot that an earlier rotation carried over.
func (k *Keys) vouchedByBox(ctx context.Context, payload []byte, name, id string) (m seal.Member, why, err error) {
	current := k.Ring.Current()
	d, err := decision(ctx, k.Backend, k.Ring, current)
	if err != nil {
		return m, nil, err // what made this ring must be there
	}
	why = read(ctx, k.Backend, ledger.BoxName(current, d.Rotation, id), func(box []byte) (err error) {
		m, err = k.Ring.VouchedBy(payload, name, box)
		return err
	})
	switch {
	case errors.Is(why, backend.ErrNotFound):
		why = fmt.Errorf("it missed the rotation to epoch %d: %w", current, seal.ErrNotVouched)
	case why != nil && !isDamage(why) && !errors.Is(why, seal.ErrNotVouched):
		return m, nil, fmt.Errorf("examine key %s: %w", id, why)
	}
	return m, why, nil
}

// isDamage reports whether an error says what an object's bytes are, and not
// only that they could not be had.
func isDamage(err error) bool {
	for _, target := range []error{pack.ErrDamaged, pack.ErrFormat, parity.ErrUnsupported, seal.ErrSlotDamaged, seal.ErrUnsupported} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// claims are the removals that were claimed so far.
type claims struct {
	of   map[string]bool // slot ids
	next uint32          // the number of the next claim
}

// claims asks for the removals by name, one number after the other: they have no gaps.
func (k *Keys) claims(ctx context.Context) (claims, error) {
	all := claims{of: map[string]bool{}}
	for ; ; all.next++ {
		name := ledger.RemovalName(all.next)
		err := read(ctx, k.Backend, name, func(payload []byte) error {
			id, err := k.Ring.ReadRemoval(payload, name)
			if err == nil {
				all.of[id] = true
			}
			return err
		})
		if errors.Is(err, backend.ErrNotFound) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("read removals of keys: %w", err)
		}
	}
}

// claim decides the removal of the slot that pick chooses among those that no
// claim names, and completes removals that others did not. Claims stand in one
// order, and each leaves a slot that none names and no rotation overlooks: so the
// last key stays, whoever else removes or rotates.
func (k *Keys) claim(ctx context.Context, pick func(ids []string) (string, error)) (string, error) {
	for range attempts {
		if _, err := Follow(ctx, k.Backend, k.Ring, k.slot); err != nil {
			return "", err
		}
		claimed, ids, err := k.unclaimed(ctx)
		if err != nil {
			return "", err
		}
		id, err := pick(ids)
		if err != nil {
			return "", err
		}
		if err := k.leaves(ctx, ids, id); err != nil {
			return "", err
		}
		begun, err := k.begun(ctx, k.Ring.Current()+1)
		if err != nil {
			return "", err
		}
		if begun { // it may have overlooked the slot that is to stay
			if _, err := k.turn(ctx, k.Ring.Current()+1); err != nil {
				return "", err
			}
			continue
		}
		name := ledger.RemovalName(claimed.next)
		payload, err := k.Ring.Removal(name, id)
		if err != nil {
			return "", err
		}
		if err = put(ctx, k.Backend, name, payload); err == nil {
			return id, nil
		}
		if !errors.Is(err, backend.ErrExists) {
			return "", fmt.Errorf("claim removal of key %s: %w", id, err)
		}
	}
	return "", ErrBusy
}

// unclaimed erases what claims name, as far as it is listed, and finds the slots that none names.
func (k *Keys) unclaimed(ctx context.Context) (claims, []string, error) {
	claimed, err := k.claims(ctx)
	if err != nil {
		return claimed, nil, err
	}
	all, err := k.known(ctx, claimed)
	if err != nil {
		return claimed, nil, err
	}
	var ids []string
	for _, id := range all {
		if !claimed.of[id] {
			ids = append(ids, id)
		} else if err := unlessHeld(k.erase(ctx, id)); err != nil {
			return claimed, nil, err
		}
	}
	return claimed, ids, nil
}

// leaves returns ErrLastKey if without id no slot of ids opens the repository.
func (k *Keys) leaves(ctx context.Context, ids []string, id string) error {
	for _, other := range ids {
		if other == id {
			continue
		}
		s, err := k.stand(ctx, other)
		if err != nil {
			return err
		}
		if s.opens {
			return nil
		}
	}
	return fmt.Errorf("key %s: %w", id, ErrLastKey)
}

// sweep deletes the boxes that keep does not want, each with its spare. That some are
// held is the error when all others are gone.
func (k *Keys) sweep(ctx context.Context, keep func(epoch uint32, rotation, slot string) (bool, error)) error {
	names, err := below(ctx, k.Backend, ledger.Epochs)
	if err != nil {
		return err
	}
	var held error
	for _, name := range names {
		epoch, rotation, slot, err := ledger.ParseBox(name)
		if err != nil {
			continue // a decision, or nobody's
		}
		wanted, err := keep(epoch, rotation, slot)
		if err != nil {
			return err
		}
		if wanted {
			continue
		}
		if err := remove(ctx, k.Backend, name); isHeld(err) {
			held = err
		} else if err != nil {
			return err
		}
	}
	return held
}
