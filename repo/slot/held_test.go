package slot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/seal"
)

// worm refuses to delete anything until its lock has ended.
type worm struct {
	backend.Backend
	ended bool
}

func (w *worm) Delete(ctx context.Context, name string) error {
	if w.ended {
		return w.Backend.Delete(ctx, name)
	}
	return fmt.Errorf("delete %s: locked until 2027-01-01: %w", name, backend.ErrRefused)
}

// TestKeyIsRemovedThoughThePlaceHoldsItsSlot: the removal is decided, said with the
// time until which the slot stays, and a rotation keeps the key out. To ask again
// changes nothing; once the lock has ended whoever comes next deletes it.
func TestKeyIsRemovedThoughThePlaceHoldsItsSlot(t *testing.T) {
	be := &worm{Backend: mem.New()}
	stays, goes := keyFile(t), keyFile(t)
	k := made(t, be, stays, goes)
	id := k.Slot()
	k = opened(t, be, stays)
	removed, err := k.Remove(t.Context(), id[:6])
	if !errors.Is(err, ErrHeld) || removed != id || !strings.Contains(err.Error(), "locked until 2027-01-01") {
		t.Fatalf("remove: %q %v", removed, err)
	}
	keys, err := k.List(t.Context())
	if err != nil || len(keys) != 2 || keys[0].Removing == keys[1].Removing {
		t.Fatalf("keys: %+v %v", keys, err)
	}
	before := len(names(t, be, ""))
	if _, err := k.Remove(t.Context(), id); !errors.Is(err, ErrStillHeld) || !strings.Contains(err.Error(), "2027") {
		t.Errorf("removed again: %v", err)
	}
	if after := len(names(t, be, "")); after != before {
		t.Errorf("%d objects before, %d after", before, after)
	}
	if _, err := k.Remove(t.Context(), k.Slot()); !errors.Is(err, ErrLastKey) {
		t.Errorf("the last key that counts: %v", err)
	}
	done := rotated(t, k)
	if len(done.Keys) != 1 || done.Keys[0].ID != k.Slot() || len(done.LeftOut) != 0 {
		t.Errorf("rotated: %+v", done)
	}
	wantClosed(t, be, goes, ErrMissed)
	opened(t, be, stays)

	be.ended = true
	rotated(t, k)
	wantTidy(t, be, k)
	if ids, err := IDs(t.Context(), be); err != nil || len(ids) != 1 {
		t.Errorf("slots: %v %v", ids, err)
	}
	wantClosed(t, be, goes, seal.ErrWrongKey)
	if _, err := k.Remove(t.Context(), id); !errors.Is(err, ErrUnknown) {
		t.Errorf("what is gone: %v", err)
	}
}

// TestPasswordIsChangedThoughThePlaceHoldsTheOldSlot: the new one is there and said.
func TestPasswordIsChangedThoughThePlaceHoldsTheOldSlot(t *testing.T) {
	be := &worm{Backend: mem.New()}
	old, next := keyFile(t), keyFile(t)
	k := made(t, be, old)
	id, err := k.Replace(t.Context(), New{Secret: next})
	if !errors.Is(err, ErrHeld) || id == "" || id != k.Slot() {
		t.Fatalf("replace: %q %v", id, err)
	}
	rotated(t, k)
	wantClosed(t, be, old, ErrMissed)
	opened(t, be, next)
}
