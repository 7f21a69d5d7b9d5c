package record_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"holdfast/repo/backend/mem"
	"holdfast/repo/record"
)

// TestReserveIsTakenAgainOnceThereIsRoom: a forget spends it on a full place, where
// it cannot be had back; the prune after it finds room and never needs it, and
// keeps it for the next full place.
func TestReserveIsTakenAgainOnceThereIsRoom(t *testing.T) {
	be := mem.Open(mem.Options{ReserveBytes: 1000})
	store := &record.Store{Backend: be, Log: slog.New(slog.DiscardHandler)}
	for i := range 5 {
		if err := be.Put(t.Context(), fmt.Sprintf("data/%d", i), make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	be.SetQuota(be.Used())
	before := be.Used()
	if err := store.WithReserve(t.Context(), func(ctx context.Context) error { return be.Put(ctx, "forget/1", make([]byte, 20)) }); err != nil {
		t.Fatal(err)
	}
	if be.Used() != before-1000+20 {
		t.Fatalf("%d bytes in use after the forget", be.Used())
	}
	if err := store.WithReserve(t.Context(), func(ctx context.Context) error { return be.Delete(ctx, "data/0") }); err != nil {
		t.Fatal(err)
	}
	if want := before + 20 - 500; be.Used() != want {
		t.Errorf("%d bytes in use after the prune, want %d: the reserve is missing", be.Used(), want)
	}
}
