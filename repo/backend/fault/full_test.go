package fault

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/limit"
	"holdfast/repo/backend/mem"
)

func reserverOf(t *testing.T, b backend.Backend) backend.Reserver {
	t.Helper()
	r, ok := backend.As[backend.Reserver](b)
	if !ok {
		t.Fatal("no reserve")
	}
	return r
}

// TestFullPlaceIsRelievedByItsReserve: from FullAt on nothing fits; the reserve
// lets writes through; only what is freed meanwhile lets them through for good.
func TestFullPlaceIsRelievedByItsReserve(t *testing.T) {
	for _, frees := range []bool{false, true} {
		b := New(mem.New(), Options{FullAt: 3})
		r := reserverOf(t, limit.New(b, 0, 0))
		put := func(name string) error { return b.Put(t.Context(), name, []byte("x")) }
		if err := errors.Join(put("a"), put("b")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := put("c"); !errors.Is(err, backend.ErrNoSpace) || !errors.Is(err, ErrInjected) {
				t.Errorf("put on a full place: %v", err)
			}
		}
		if err := b.PutIfAbsent(t.Context(), "d", nil); !errors.Is(err, backend.ErrNoSpace) {
			t.Errorf("put new on a full place: %v", err)
		}
		if err := errors.Join(b.Delete(t.Context(), "a"), b.Sync(t.Context())); err != nil {
			t.Errorf("delete on a full place: %v", err)
		}
		if missing, err := r.Refill(t.Context()); missing == 0 || err != nil {
			t.Errorf("refill of what was not used: %d missing, %v", missing, err)
		}
		if err := put("c"); !errors.Is(err, backend.ErrNoSpace) {
			t.Errorf("what others take is not free: %v", err)
		}
		if err := errors.Join(r.UseReserve(t.Context()), put("c")); err != nil {
			t.Errorf("put with the reserve: %v", err)
		}
		if frees {
			if err := b.Delete(t.Context(), "b"); err != nil {
				t.Fatal(err)
			}
		}
		missing, err := r.Refill(t.Context())
		if err != nil || (missing == 0) != frees {
			t.Errorf("freed %v: refill: %d missing, %v", frees, missing, err)
		}
		if err := put("e"); (err == nil) != frees {
			t.Errorf("freed %v: put after refill: %v", frees, err)
		}
	}
}

// TestReserveIsPartOfTheCrashMatrix: its calls are numbered and fail.
func TestReserveIsPartOfTheCrashMatrix(t *testing.T) {
	play := func(b *Backend) error {
		r := reserverOf(t, b)
		err := r.UseReserve(t.Context())
		_, rerr := r.Refill(t.Context())
		return errors.Join(err, rerr)
	}
	dry := New(mem.Open(mem.Options{ReserveBytes: 5}), Options{})
	if err := play(dry); err != nil || !slices.Equal(dry.Calls(), []Call{{UseReserve, ""}, {Refill, ""}}) {
		t.Fatalf("calls %v, %v", dry.Calls(), err)
	}
	for _, mode := range Modes {
		store := mem.Open(mem.Options{ReserveBytes: 5})
		err := play(New(store, Options{Plan: Plan{At: 1, Mode: mode, Stop: true}}))
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s: %v", mode, err)
		}
		if left := store.Used(); (left == 0) != (mode == DoneButLost) {
			t.Errorf("%s: %d bytes of reserve are left", mode, left)
		}
	}
}

// network is a memory store with the abilities of a bucket.
type network struct{ backend.Backend }

func (network) Versions(context.Context, string) ([]backend.Version, error) {
	return []backend.Version{{ID: "1", Bytes: 3}}, nil
}
func (network) GetVersion(context.Context, string, string) ([]byte, error) { return []byte("abc"), nil }
func (network) ExtendRetention(context.Context, string, time.Time) error   { return nil }

// TestLentAbilitiesFail: by the rules of what they are most like.
func TestLentAbilitiesFail(t *testing.T) {
	boom := errors.New("boom")
	b := New(network{mem.New()}, Options{Rules: []Rule{
		{Op: Get, Prefix: "flip", Flip: []int64{0}}, {Op: Get, Prefix: "get", Err: boom}, {Op: List, Prefix: "list", Err: boom}, {Op: Extend, Prefix: "extend", Err: boom},
	}})
	v, ok1 := backend.As[backend.Versioned](b)
	r, ok2 := backend.As[backend.Retainer](b)
	if !ok1 || !ok2 {
		t.Fatal("abilities are hidden")
	}
	if all, err := v.Versions(t.Context(), "fine"); err != nil || len(all) != 1 {
		t.Errorf("versions: %v, %v", all, err)
	}
	if data, err := v.GetVersion(t.Context(), "flip", "1"); err != nil || string(data) != "`bc" {
		t.Errorf("flipped version: %q, %v", data, err)
	}
	if err := r.ExtendRetention(t.Context(), "fine", time.Time{}); err != nil {
		t.Errorf("extend: %v", err)
	}
	_, gerr := v.GetVersion(t.Context(), "get", "1")
	_, lerr := v.Versions(t.Context(), "list")
	for i, err := range []error{gerr, lerr, r.ExtendRetention(t.Context(), "extend", time.Time{})} {
		if !errors.Is(err, boom) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if _, ok := backend.As[backend.Reserver](New(network{mem.New()}, Options{})); ok {
		t.Error("a reserve where there is none")
	}
}
