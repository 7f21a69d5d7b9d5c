package slot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// LeftOut is a slot that a rotation did not give the new root, and why.
type LeftOut struct {
	ID     string `json:"id"`
	Label  string `json:"label"`
	Reason string `json:"reason"`
}

// Rotated is the outcome of a rotation.
type Rotated struct {
	Epoch   uint32    `json:"epoch"`    // what is written from now on is sealed by its root
	Keys    []Key     `json:"keys"`     // that were given the root
	LeftOut []LeftOut `json:"left_out"` // that were not: they do not open the repository any more
}

// Rotate makes a new random root the one that seals what is written from now
// on. Every slot that is vouched for keeps opening the repository, whoever
// knows its secret. Errors: seal.ErrNotVouched when the slot that opened the
// repository is not, ErrRemoved, ErrBusy, seal.ErrRingFull.
// After any other error the rotation may have happened or not.
func (k *Keys) Rotate(ctx context.Context) (*Rotated, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	for range attempts {
		done, err := k.turn(ctx, 0)
		if err != nil {
			return nil, fmt.Errorf("rotate keys: %w", err)
		}
		if done != nil {
			return done, nil
		}
		// Another rotation came first. It may have begun before a removal that
		// this one is to follow, so it does not count.
	}
	return nil, fmt.Errorf("rotate keys: %w", ErrBusy)
}

// turn is one attempt at a rotation; nil when another one was decided. With an
// epoch it does nothing if that one is there already.
func (k *Keys) turn(ctx context.Context, epoch uint32) (*Rotated, error) {
	if _, err := Follow(ctx, k.Backend, k.Ring, k.slot); err != nil {
		return nil, err
	}
	if epoch != 0 && epoch <= k.Ring.Current() {
		return nil, nil
	}
	t := &turning{k: k, out: &Rotated{Keys: []Key{}, LeftOut: []LeftOut{}}}
	var err error
	if t.rotation, err = k.Ring.NewRotation(k.Rand); err != nil {
		return nil, err
	}
	t.out.Epoch = t.rotation.Epoch()
	if err := t.boxes(ctx); err != nil {
		return nil, err
	}
	name := ledger.DecisionName(t.out.Epoch)
	payload, err := t.rotation.Decision(name)
	if err != nil {
		return nil, err
	}
	err = put(ctx, k.Backend, name, payload)
	if errors.Is(err, backend.ErrExists) {
		for _, box := range t.written {
			if err := unlessHeld(remove(ctx, k.Backend, box)); err != nil {
				return nil, err
			}
		}
		_, err := Follow(ctx, k.Backend, k.Ring, k.slot)
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("decide epoch %d: %w", t.out.Epoch, err)
	}
	if err := k.Ring.Adopt(t.rotation); err != nil {
		return nil, err
	}
	if err := k.tidy(ctx); err != nil && k.Log != nil {
		k.Log.Warn("keys are rotated, but boxes that nobody needs remain", "error", err)
	}
	return t.out, nil
}

// turning is a rotation that is not yet decided.
type turning struct {
	k        *Keys
	rotation *seal.Rotation
	written  []string // names of its boxes
	out      *Rotated
}

// boxes seals the new root to every slot that may have it. The mark comes first:
// who adds a slot and sees no mark knows that the roll of slots is yet to be read.
func (t *turning) boxes(ctx context.Context) error {
	own, err := t.k.stand(ctx, t.k.slot)
	switch {
	case err != nil:
		return err
	case own.gone:
		return fmt.Errorf("key %s, which opened the repository: %w", t.k.slot, ErrRemoved)
	case own.why != nil:
		return fmt.Errorf("key %s, which opened the repository: %w", t.k.slot, own.why)
	}
	if err := t.k.mark(ctx, t.rotation.Epoch()); err != nil {
		return err
	}
	if err := t.box(ctx, t.k.slot, own); err != nil {
		return err
	}
	_, ids, err := t.k.unclaimed(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(ids, t.k.slot) {
		return fmt.Errorf("key %s, which opened the repository: %w", t.k.slot, ErrRemoved)
	}
	for _, id := range ids {
		if id == t.k.slot {
			continue
		}
		s, err := t.k.stand(ctx, id)
		switch {
		case err != nil:
			return err
		case s.gone:
		case errors.Is(s.why, seal.ErrUnknownEpoch):
			// Added after a rotation that we have not seen: this one will lose.
		case s.why != nil:
			t.out.LeftOut = append(t.out.LeftOut, LeftOut{id, s.info.Label, s.why.Error()})
		default:
			if err := t.box(ctx, id, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *turning) box(ctx context.Context, id string, s standing) error {
	name := ledger.BoxName(t.rotation.Epoch(), t.rotation.ID(), id)
	payload, err := t.rotation.Box(name, s.member)
	if err != nil {
		return err
	}
	t.written = append(t.written, name)
	if err := put(ctx, t.k.Backend, name, payload); err != nil {
		return err
	}
	kdf := "argon2id"
	if s.info.KeyFile {
		kdf = "keyfile"
	}
	t.out.Keys = append(t.out.Keys, Key{ID: id, KDF: kdf, Created: s.info.Created, Label: s.info.Label, Epoch: t.rotation.Epoch(), Current: id == t.k.slot})
	return nil
}

// tidy removes the boxes of rotations that were not decided, and those of slots
// that are gone.
func (k *Keys) tidy(ctx context.Context) error {
	_, ids, err := k.unclaimed(ctx)
	if err != nil {
		return err
	}
	decided := map[uint32]string{}
	err = k.sweep(ctx, func(epoch uint32, rotation, slot string) (bool, error) {
		if epoch < 2 || epoch > k.Ring.Current() {
			return true, nil // not yet decided
		}
		if decided[epoch] == "" {
			d, err := decision(ctx, k.Backend, k.Ring, epoch)
			if err != nil {
				return true, err
			}
			decided[epoch] = d.Rotation
		}
		return rotation == decided[epoch] && slices.Contains(ids, slot), nil
	})
	if err := unlessHeld(err); err != nil {
		return err
	}
	return k.Backend.Sync(ctx)
}
