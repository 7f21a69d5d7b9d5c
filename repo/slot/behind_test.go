package slot

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// behind is a place whose listings do not show some names yet. It answers for each
// of them by name.
type behind struct {
	backend.Backend
	hides []string // parts of names
}

func (b *behind) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	return b.Backend.List(ctx, prefix, func(info backend.Info) error {
		for _, part := range b.hides {
			if strings.Contains(info.Name, part) {
				return nil
			}
		}
		return fn(info)
	})
}

// TestRotationThroughAListingThatIsBehindForgetsNoKey: the key that was added is in
// the roll, and opens what comes after.
func TestRotationThroughAListingThatIsBehindForgetsNoKey(t *testing.T) {
	store, first, added := mem.New(), keyFile(t), keyFile(t)
	k := made(t, store, first)
	id, err := k.Add(t.Context(), New{Secret: added})
	if err != nil {
		t.Fatal(err)
	}
	lie := &behind{store, []string{id}}
	over := opened(t, lie, first)
	if keys, err := over.List(t.Context()); err != nil || len(keys) != 2 {
		t.Errorf("listed: %+v %v", keys, err)
	}
	if done := rotated(t, over); len(done.Keys) != 2 || len(done.LeftOut) != 0 {
		t.Errorf("%+v", done)
	}
	if k := opened(t, store, added); k.Ring.Current() != 2 {
		t.Errorf("epoch %d", k.Ring.Current())
	}
	if _, err := over.Remove(t.Context(), id); err != nil {
		t.Errorf("a key that no listing shows: %v", err)
	}
	wantClosed(t, store, added, seal.ErrWrongKey)
}

// TestKeyAddedThroughAListingThatIsBehindMissesNoRotation: the rotation that has
// begun is seen although no listing shows a trace of it.
func TestKeyAddedThroughAListingThatIsBehindMissesNoRotation(t *testing.T) {
	store, first, added := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.DecisionName(2)), do: func() {
		if _, err := opened(t, &behind{store, []string{ledger.Epochs}}, first).Add(t.Context(), New{Secret: added}); err != nil {
			t.Error(err)
		}
	}}
	done := rotated(t, opened(t, be, first))
	if k := opened(t, store, added); k.Ring.Current() != done.Epoch || len(done.Keys) != 2 {
		t.Errorf("epoch %d of %d, %+v", k.Ring.Current(), done.Epoch, done.Keys)
	}
}

// TestRemovedKeyIsGivenNothingByAListingThatIsBehind: the claim is asked for by name,
// and the last key that counts stays.
func TestRemovedKeyIsGivenNothingByAListingThatIsBehind(t *testing.T) {
	store, first, goes := mem.New(), keyFile(t), keyFile(t)
	k := made(t, store, goes, first)
	gone := opened(t, store, goes)
	copied := object(t, store, ledger.Keys+gone.Slot())
	if _, err := k.Remove(t.Context(), gone.Slot()); err != nil {
		t.Fatal(err)
	}
	plant(t, store, ledger.Keys+gone.Slot(), copied) // as a deletion that is not seen everywhere
	lie := opened(t, &behind{store, []string{ledger.Removals}}, first)
	if _, err := lie.Remove(t.Context(), lie.Slot()); !errors.Is(err, ErrLastKey) {
		t.Errorf("the last key: %v", err)
	}
	if done := rotated(t, lie); len(done.Keys) != 1 {
		t.Errorf("%+v", done)
	}
	opened(t, store, first)
}

// TestRollHasNoGapsAndPassesDamageOver: a damaged entry hides none that comes after
// it, and the next number is the next free one.
func TestRollHasNoGapsAndPassesDamageOver(t *testing.T) {
	store, first := mem.New(), keyFile(t)
	k := made(t, store, first, keyFile(t), keyFile(t))
	id := k.Slot()
	plant(t, store, RollName(1), make([]byte, 20480))
	ids, next, why, err := k.roll(t.Context())
	if err != nil || why == nil || next != 3 || len(ids) != 2 || ids[1] != id {
		t.Fatalf("%v %d %v %v", ids, next, why, err)
	}
	lie := opened(t, &behind{store, []string{id}}, first)
	if done := rotated(t, lie); len(done.Keys) != 3 {
		t.Errorf("%+v", done)
	}
	if _, err := k.Add(t.Context(), New{Secret: keyFile(t)}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Stat(t.Context(), RollName(3)); err != nil {
		t.Error(err)
	}
	if err := over(store, k.Ring).enroll(t.Context(), id, true); !errors.Is(err, backend.ErrExists) {
		t.Errorf("alone with what is not readable: %v", err)
	}
}

// TestNoSlotListedIsNoWrongSecret: where the place shows no key, or has lost them all,
// nobody knows whether the secret is right, and nobody is told that it is wrong.
func TestNoSlotListedIsNoWrongSecret(t *testing.T) {
	be, secret := mem.New(), keyFile(t)
	made(t, be, secret)
	for _, s := range []seal.Secret{secret, keyFile(t)} {
		_, err := open(t.Context(), &behind{Backend: be, hides: []string{ledger.Keys}}, s)
		if !errors.Is(err, ErrNoSlots) || !errors.Is(err, pack.ErrDamaged) || errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("no key is listed: %v", err)
		}
	}
	wantClosed(t, be, keyFile(t), seal.ErrWrongKey)
}
