package slot

import (
	"errors"
	"testing"

	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// Two rotate at once: the decision of one comes just before that of the other,
// which then makes the next epoch.
func TestRotationThatComesSecondRotatesAgain(t *testing.T) {
	store, first, second := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first, second)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.DecisionName(2)), do: func() {
		if done := rotated(t, opened(t, store, second)); done.Epoch != 2 {
			t.Errorf("the one that came first made epoch %d", done.Epoch)
		}
	}}
	k := opened(t, be, first)
	if done := rotated(t, k); done.Epoch != 3 || len(done.Keys) != 2 {
		t.Errorf("%+v", done)
	}
	for _, secret := range []seal.Secret{first, second} {
		if k := opened(t, store, secret); k.Ring.Current() != 3 {
			t.Errorf("epoch %d", k.Ring.Current())
		}
	}
	wantTidy(t, store, k)
}

// Two remove each other's key at once: the second sees the claim of the first.
func TestTwoRemovalsAtOnceLeaveAKey(t *testing.T) {
	store, first, second := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first, second)
	other := opened(t, store, second)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.Removals)}
	k := opened(t, be, first)
	be.do = func() {
		if _, err := other.Remove(t.Context(), k.Slot()); err != nil {
			t.Error(err)
		}
	}
	if _, err := k.Remove(t.Context(), other.Slot()); !errors.Is(err, ErrLastKey) {
		t.Errorf("the key that is left: %v", err)
	}
	opened(t, store, second)
	wantClosed(t, store, first, seal.ErrWrongKey)
}

// A key is added while a rotation has listed the slots and not yet decided: when
// the addition is reported, the key opens what the rotation begins.
func TestKeyAddedDuringARotationMissesNothing(t *testing.T) {
	store, first, added := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.DecisionName(2)), do: func() {
		if _, err := opened(t, store, first).Add(t.Context(), New{Secret: added}); err != nil {
			t.Error(err)
		}
	}}
	done := rotated(t, opened(t, be, first))
	if k := opened(t, store, added); k.Ring.Current() != done.Epoch || len(done.Keys) != 2 {
		t.Errorf("epoch %d of %d, %+v", k.Ring.Current(), done.Epoch, done.Keys)
	}
}

// The survivor of a removal is a slot that a rotation, begun before, has not
// listed: the removal ends that rotation first, or no key would be left.
func TestRemovalCountsOnNoKeyThatARotationOverlooks(t *testing.T) {
	store, first, survivor := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.DecisionName(2)), do: func() {
		k := opened(t, store, first)
		if _, err := k.write(t.Context(), "00000000000000aa", New{Secret: survivor}); err != nil { // whoever added it died here
			t.Error(err)
		}
		if _, err := k.Remove(t.Context(), k.Slot()); err != nil {
			t.Error(err)
		}
	}}
	if done, err := opened(t, be, first).Rotate(t.Context()); err == nil {
		t.Errorf("a removed key rotates: %+v", done)
	}
	wantClosed(t, store, first, seal.ErrWrongKey)
	if k := opened(t, store, survivor); rotated(t, k).Epoch != 3 {
		t.Errorf("epoch %d", k.Ring.Current())
	}
}

// An addition finds that all other keys were removed since its own is there: it
// is the last key, so it stays and is reported.
func TestAddedKeyOnWhichARemovalCountsStays(t *testing.T) {
	store, first, added := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first)
	rotating := opened(t, store, first)
	removing := opened(t, store, first)
	be := &whenStat{Backend: store, name: ledger.Spare(markName(2)), do: func() {
		if _, err := removing.Remove(t.Context(), removing.Slot()); err != nil {
			t.Error(err)
		}
		if err := rotating.mark(t.Context(), 2); err != nil {
			t.Error(err)
		}
	}}
	id, err := opened(t, be, first).Add(t.Context(), New{Secret: added})
	if id == "" || err != nil {
		t.Fatalf("%q %v", id, err)
	}
	if k := opened(t, store, added); k.Slot() != id {
		t.Errorf("opened by %s, not %s", k.Slot(), id)
	}
}
