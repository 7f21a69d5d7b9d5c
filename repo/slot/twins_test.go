package slot

import (
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// lay puts the bytes of one object in the place of another.
func lay(t *testing.T, be backend.Backend, from, over string) {
	t.Helper()
	if err := be.Put(t.Context(), over, object(t, be, from)); err != nil {
		t.Fatal(err)
	}
}

// Another key's slot lies where this one's was: the spare opens, and a rotation goes on
// giving it the new root.
func TestForeignSlotOverTheOriginalLeavesTheSpareItsWord(t *testing.T) {
	store, first, second := mem.New(), keyFile(t), keyFile(t)
	a := made(t, store, first, second).Slot() // of the second
	b := opened(t, store, first).Slot()
	lay(t, store, ledger.Keys+b, ledger.Keys+a)
	opened(t, store, second)
	done := rotated(t, opened(t, store, first))
	if len(done.Keys) != 2 || len(done.LeftOut) != 0 {
		t.Errorf("%+v", done)
	}
	if k := opened(t, store, second); k.Ring.Current() != 2 {
		t.Errorf("epoch %d", k.Ring.Current())
	}
	wantClosed(t, store, keyFile(t), seal.ErrWrongKey)
}
