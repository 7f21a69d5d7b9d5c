package mem

import (
	"errors"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
)

func TestConformanceWithinQuota(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend {
		return Open(Options{QuotaBytes: 3 * backendtest.LargeBytes, ReserveBytes: 1000})
	})
}

// TestFullStoreHasItsReserve: what does not fit is not written, replacing and
// deleting still go, and the reserve makes room once.
func TestFullStoreHasItsReserve(t *testing.T) {
	ctx := t.Context()
	b := Open(Options{QuotaBytes: 100, ReserveBytes: 30})
	do(t, b.Put(ctx, "data/a", make([]byte, 60)))
	for _, err := range []error{b.Put(ctx, "data/b", make([]byte, 11)), b.PutIfAbsent(ctx, "ledger/1", make([]byte, 11)), b.Put(ctx, "data/a", make([]byte, 71))} {
		if !errors.Is(err, backend.ErrNoSpace) {
			t.Errorf("beyond the quota: %v", err)
		}
	}
	if got := content(t, b, "ledger/1"); got != "(none)" {
		t.Errorf("written all the same: %q", got)
	}
	do(t, b.Put(ctx, "data/a", make([]byte, 70))) // full to the byte
	do(t, b.PutIfAbsent(ctx, "data/a", make([]byte, 70)))
	if err := b.Put(ctx, "data/b", []byte{0}); !errors.Is(err, backend.ErrNoSpace) {
		t.Errorf("a byte more: %v", err)
	}
	do(t, b.UseReserve(ctx))
	do(t, b.PutIfAbsent(ctx, "ledger/1", make([]byte, 20)))
	if missing, err := b.Refill(ctx); missing != 30 || err != nil {
		t.Errorf("refill without room: %d missing, %v", missing, err)
	}
	if after := b.CrashClone(CrashOptions{}); after.Used() != 90 || !errors.Is(after.Put(ctx, "data/b", make([]byte, 11)), backend.ErrNoSpace) {
		t.Errorf("a crash changed quota or reserve: %d used", after.Used())
	}
	do(t, b.Delete(ctx, "data/a"))
	if missing, err := b.Refill(ctx); missing != 0 || err != nil || b.Used() != 50 {
		t.Errorf("refill: %d missing, %v, %d used", missing, err, b.Used())
	}
	b.SetQuota(b.Used())
	if err := b.Put(ctx, "data/b", []byte{0}); !errors.Is(err, backend.ErrNoSpace) {
		t.Errorf("filled by SetQuota: %v", err)
	}
	b.SetQuota(0)
	do(t, b.Put(ctx, "data/b", make([]byte, 1000)))
}
