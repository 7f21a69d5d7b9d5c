package mem

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return New() })
}

// do fails the test on an error of the setup.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, b *Backend, name string) string {
	t.Helper()
	data, err := b.Get(t.Context(), name, 0, -1)
	if errors.Is(err, backend.ErrNotFound) {
		return "(none)"
	}
	do(t, err)
	return string(data)
}

// crashed is a store with every kind of change after its last sync.
func crashed(t *testing.T) *Backend {
	b := New()
	do(t, b.Put(t.Context(), "data/old", []byte("old")))
	do(t, b.Put(t.Context(), "data/deleted", []byte("deleted")))
	do(t, b.Put(t.Context(), "data/same", []byte("same")))
	do(t, b.Sync(t.Context()))
	do(t, b.Put(t.Context(), "data/old", []byte("new")))
	do(t, b.Put(t.Context(), "data/fresh", []byte("fresh")))
	do(t, b.Delete(t.Context(), "data/deleted"))
	do(t, b.PutIfAbsent(t.Context(), "commit/x", []byte("slot")))
	return b
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	b := crashed(t)
	after := b.CrashClone(CrashOptions{})
	for name, want := range map[string]string{
		"data/old": "old", "data/deleted": "deleted", "data/same": "same", "data/fresh": "(none)", "commit/x": "slot",
	} {
		if got := content(t, after, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := content(t, b, "data/old"); got != "new" {
		t.Errorf("the store that did not crash has %s", got)
	}
}

func TestCrashAfterSyncLosesNothing(t *testing.T) {
	b := crashed(t)
	do(t, b.Sync(t.Context()))
	after := b.CrashClone(CrashOptions{Rand: rand.New(rand.NewPCG(1, 2)), Torn: true})
	for name, want := range map[string]string{
		"data/old": "new", "data/deleted": "(none)", "data/same": "same", "data/fresh": "fresh", "commit/x": "slot",
	} {
		if got := content(t, after, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestCrashOutcomesCoverEveryChoiceAndRepeatBySeed(t *testing.T) {
	b := crashed(t)
	outcome := func(seed uint64, torn bool) string {
		after := b.CrashClone(CrashOptions{Rand: rand.New(rand.NewPCG(seed, 0)), Torn: torn})
		if got := content(t, after, "commit/x"); got != "slot" {
			t.Fatalf("seed %d lost an object that was durable: %s", seed, got)
		}
		return fmt.Sprint(content(t, after, "data/old"), " ", content(t, after, "data/deleted"), " ", content(t, after, "data/fresh"))
	}
	whole, torn := map[string]bool{}, map[string]bool{}
	for seed := range uint64(200) {
		whole[outcome(seed, false)] = true
		torn[outcome(seed, true)] = true
		if again := outcome(seed, true); again != outcome(seed, true) {
			t.Fatalf("seed %d does not repeat", seed)
		}
	}
	if len(whole) != 8 {
		t.Errorf("%d outcomes of three changes, want 8: %v", len(whole), whole)
	}
	if len(torn) <= 8 {
		t.Errorf("no torn outcomes: %v", torn)
	}
}

func TestStrictRefusesWhatADiskWouldSwallow(t *testing.T) {
	setup := func(t *testing.T) *Backend {
		b := Open(Options{Strict: true})
		do(t, b.PutIfAbsent(t.Context(), "config", []byte("c")))
		do(t, b.PutIfAbsent(t.Context(), "commit/s/1", []byte("slot")))
		do(t, b.Put(t.Context(), "data/s/p", []byte("pack")))
		do(t, b.Put(t.Context(), "label/x", []byte("label")))
		return b
	}
	for _, c := range []struct {
		what string
		call func(*Backend) error
	}{
		{"config by Put", func(b *Backend) error { return b.Put(t.Context(), "spare/config", nil) }},
		{"slot by Put", func(b *Backend) error { return b.Put(t.Context(), "commit/s/2", nil) }},
		{"ledger by Put", func(b *Backend) error { return b.Put(t.Context(), "ledger/00000000", nil) }},
		{"changed pack", func(b *Backend) error { return b.Put(t.Context(), "data/s/p", []byte("other")) }},
		{"changed slot", func(b *Backend) error { return b.Put(t.Context(), "commit/s/1", []byte("other")) }},
		{"changed label", func(b *Backend) error { return b.Put(t.Context(), "label/x", []byte("other")) }},
		{"object below an object", func(b *Backend) error { return b.Put(t.Context(), "data/s/p/q", nil) }},
		{"object over a folder", func(b *Backend) error { return b.PutIfAbsent(t.Context(), "commit/s", nil) }},
		{"quarantine of other bytes", func(b *Backend) error {
			do(t, b.Put(t.Context(), "quarantine/data/s/p", []byte("not the damaged ones")))
			return b.Put(t.Context(), "data/s/p", []byte("other"))
		}},
	} {
		if err := c.call(setup(t)); !errors.Is(err, ErrStrict) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestStrictAllowsHealing(t *testing.T) {
	b := Open(Options{Strict: true})
	good := []byte("good bytes")
	do(t, b.PutIfAbsent(t.Context(), "config", good))
	do(t, b.Damage("config", func(data []byte) []byte { data[3] ^= 4; return data }))
	bad := content(t, b, "config")
	if bad == string(good) {
		t.Fatal("no damage done")
	}
	do(t, b.Put(t.Context(), "quarantine/config", []byte(bad)))
	do(t, b.Put(t.Context(), "config", good))
	do(t, b.Put(t.Context(), "config", good)) // the same bytes again change nothing
	if got := content(t, b, "config"); !bytes.Equal([]byte(got), good) {
		t.Errorf("healed to %q", got)
	}
}

func TestDamageRemovesAndReportsMissing(t *testing.T) {
	b := New()
	do(t, b.PutIfAbsent(t.Context(), "a", nil))
	do(t, b.Damage("a", func(data []byte) []byte { return append(data, 'x') }))
	if got := content(t, b.CrashClone(CrashOptions{}), "a"); got != "x" {
		t.Errorf("damage is not on the disk: %s", got)
	}
	do(t, b.Damage("a", func([]byte) []byte { return nil }))
	if got := content(t, b, "a"); got != "(none)" {
		t.Errorf("still there: %s", got)
	}
	if err := b.Damage("a", bytes.Clone); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("damage of nothing: %v", err)
	}
}
