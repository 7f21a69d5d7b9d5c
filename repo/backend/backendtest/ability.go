package backendtest

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"holdfast/repo/backend"
)

// abilities are what not every backend has, by the test that belongs to them.
var abilities = map[string]func(backend.Backend) bool{
	"ReserveIsNoObject": func(b backend.Backend) bool {
		_, ok := backend.As[backend.Reserver](b)
		return ok
	},
	"VersionsOldestFirst": func(b backend.Backend) bool {
		_, ok := backend.As[backend.Versioned](b)
		return ok
	},
}

// claims asks a backend that open makes.
func claims(t *testing.T, open Open, able func(backend.Backend) bool) bool {
	t.Helper()
	b := open(t)
	defer func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	return able(b)
}

// reserve: where there is one, using and refilling it, in any order, touches no
// object, and it is none itself.
func reserve(t *testing.T, b backend.Backend) {
	r, _ := backend.As[backend.Reserver](b)
	refill := func() {
		t.Helper()
		if missing, err := r.Refill(t.Context()); missing != 0 || err != nil {
			t.Errorf("refill: %d bytes missing, %v", missing, err)
		}
	}
	use := func() {
		t.Helper()
		if err := r.UseReserve(t.Context()); err != nil {
			t.Errorf("use reserve: %v", err)
		}
	}
	use()
	refill()
	refill()
	data := Bytes(1, 1000)
	put(t, b, "data/s/1", data)
	use()
	use()
	put(t, b, "data/s/2", data)
	if err := b.PutIfAbsent(t.Context(), "ledger/1", data); err != nil {
		t.Errorf("put new: %v", err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
	refill()
	put(t, b, "data/s/3", data)
	names := []string{"data/s/1", "data/s/2", "data/s/3", "ledger/1"}
	if got := list(t, b, ""); !slices.Equal(got, names) {
		t.Errorf("list: %q, want %q", got, names)
	}
	for _, name := range names {
		want(t, b, name, data)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "use reserve", r.UseReserve(ctx), context.Canceled)
	_, err := r.Refill(ctx)
	wantErr(t, "refill", err, context.Canceled)
}

// versions: where a place may keep them, an object that was put once has one,
// or one that is the oldest and holds its bytes.
func versions(t *testing.T, b backend.Backend) {
	v, _ := backend.As[backend.Versioned](b)
	data := Bytes(2, 1000)
	put(t, b, "a/b", data)
	put(t, b, "a/b-c", Bytes(3, 10)) // its name begins like the other's
	all, err := v.Versions(t.Context(), "a/b")
	if err != nil || len(all) != 1 || all[0].Bytes != 1000 || all[0].Modified.IsZero() {
		t.Fatalf("versions: %+v, %v", all, err)
	}
	if got, err := v.GetVersion(t.Context(), "a/b", all[0].ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("get version: %d bytes, %v", len(got), err)
	}
	_, err = v.Versions(t.Context(), "a")
	wantErr(t, "versions of nothing", err, backend.ErrNotFound)
}
