package slot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// RollName is the n-th name of the roll of keys: it names a slot that was to be
// added. A listing may be behind; the roll is without gaps and asked for by name.
func RollName(n uint32) string { return fmt.Sprintf("%sroll/%08d", ledger.Keys, n) }

// IsSlotName reports whether name is that of a slot or of an entry of the roll.
func IsSlotName(name string) bool {
	id, ours := strings.CutPrefix(name, ledger.Keys)
	var n uint32
	if _, err := fmt.Sscanf(id, "roll/%08d", &n); err == nil {
		return name == RollName(n)
	}
	raw, err := hex.DecodeString(id)
	return ours && err == nil && len(raw) == idBytes
}

// markName is the object that says that a rotation to an epoch has begun.
func markName(epoch uint32) string { return ledger.EpochPrefix(epoch) + "begun" }

// roll reads the ids of all slots that were ever to be added, and the first number
// that is free. An entry that is damaged, or not ours, is passed over (why): its
// slot is known by what is listed, as is one made before there was a roll.
func (k *Keys) roll(ctx context.Context) (ids []string, next uint32, why, err error) {
	for n := uint32(0); ; n++ {
		name := RollName(n)
		err := read(ctx, k.Backend, name, func(payload []byte) error {
			id, err := k.Ring.ReadRemoval(payload, name)
			if err == nil {
				ids = append(ids, id)
			}
			return err
		})
		switch {
		case errors.Is(err, backend.ErrNotFound):
			return ids, n, why, nil
		case isDamage(err) || errors.Is(err, seal.ErrForged):
			why = fmt.Errorf("read roll of keys: %w", err)
		case err != nil:
			return nil, 0, why, fmt.Errorf("read roll of keys: %w", err)
		}
	}
}

// enroll gives a slot that is about to be written the next number of the roll. With
// alone nobody else may be making keys: two that make a repository at one place at
// once would each take the other's for damage.
func (k *Keys) enroll(ctx context.Context, id string, alone bool) error {
	_, n, why, err := k.roll(ctx)
	if err != nil {
		return err
	}
	if alone && why != nil {
		return fmt.Errorf("enroll key %s: somebody else's key is there: %w: %w", id, backend.ErrExists, why)
	}
	for ; ; n++ {
		payload, err := k.Ring.Removal(RollName(n), id) // the same bytes as a claim's, under another name
		if err != nil {
			return err
		}
		err = put(ctx, k.Backend, RollName(n), payload)
		if err == nil || alone || !errors.Is(err, backend.ErrExists) {
			return err
		}
	}
}

// known is the ids of all slots that are there: those that are listed, and those
// of the roll that no claim names and no listing shows.
func (k *Keys) known(ctx context.Context, claimed claims) (ids []string, err error) {
	if ids, err = IDs(ctx, k.Backend); err != nil {
		return nil, err
	}
	enrolled, _, why, err := k.roll(ctx)
	if err != nil {
		return nil, err
	}
	if why != nil && k.Log != nil {
		k.Log.Warn("an entry in the roll of keys cannot be read; its key is found by listings alone", "error", why)
	}
	for _, id := range enrolled {
		if claimed.of[id] || slices.Contains(ids, id) {
			continue
		}
		there, err := k.exists(ctx, ledger.Keys+id)
		if err != nil {
			return nil, err
		}
		if there {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// mark says, where all can ask for it by name, that a rotation to an epoch has
// begun. It stays: one that died is ended by whoever meets its mark.
func (k *Keys) mark(ctx context.Context, epoch uint32) error {
	payload, err := k.Ring.Removal(markName(epoch), k.slot)
	if err != nil {
		return err
	}
	err = put(ctx, k.Backend, markName(epoch), payload)
	if errors.Is(err, backend.ErrExists) {
		return nil // another's to the same epoch says the same
	}
	return err
}

// begun reports whether any rotation to an epoch has begun.
func (k *Keys) begun(ctx context.Context, epoch uint32) (bool, error) {
	return k.exists(ctx, markName(epoch))
}

// exists asks by name for an object and its spare: each says that it is there.
func (k *Keys) exists(ctx context.Context, name string) (bool, error) {
	for _, place := range []string{ledger.Spare(name), name} {
		_, err := k.Backend.Stat(ctx, place)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, backend.ErrNotFound) {
			return false, fmt.Errorf("look for %s: %w", name, err)
		}
	}
	return false, nil
}
