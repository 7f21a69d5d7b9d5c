package place

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/mem"
	"holdfast/repo/backend/s3"
	"holdfast/repo/seal"
)

// TestStyleOfABucketIsTheSettings: what is not said is left to the host.
func TestStyleOfABucketIsTheSettings(t *testing.T) {
	for word, want := range map[string]s3.Style{"": s3.StyleAuto, "auto": s3.StyleAuto, "path": s3.StylePath, "virtual": s3.StyleVirtual} {
		if got := styles[word]; got != want {
			t.Errorf("%q: %v, want %v", word, got, want)
		}
	}
}

// cut makes what an init leaves that dies before it has written config.
func cut(t *testing.T, be backend.Backend) {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Init(t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{r.Close(), be.Delete(t.Context(), "config"), be.Delete(t.Context(), "spare/config")} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, be backend.Backend) (objects int) {
	t.Helper()
	if err := be.List(t.Context(), "", func(backend.Info) error { objects++; return nil }); err != nil {
		t.Fatal(err)
	}
	return objects
}

// What a killed init has left in a directory goes when the next one has it for itself.
func TestInitClearsAwayWhatAKilledOneLeft(t *testing.T) {
	be, err := local.Open(t.Context(), t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	cut(t, be)
	first, second := &Place{Backend: be, lockWriter: be.LockWriter}, &Place{Backend: be, lockWriter: be.LockWriter}
	cleared, release, err := first.Reserve(t.Context())
	if err != nil || !cleared || count(t, be) != 0 {
		t.Fatalf("cleared %v, %v, %d objects", cleared, err, count(t, be))
	}
	cut(t, be) // as far as the first has come by now
	before := count(t, be)
	if _, _, err := second.Reserve(t.Context()); !errors.Is(err, local.ErrLocked) || count(t, be) != before {
		t.Errorf("beside an init that is at work: %v, %d objects of %d", err, count(t, be), before)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := be.PutIfAbsent(t.Context(), "sessions/00000000", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.Reserve(t.Context()); !errors.Is(err, repo.ErrNotEmpty) || errors.Is(err, repo.ErrCutOff) || count(t, be) != before+1 {
		t.Errorf("where a session has begun: %v, %d objects of %d", err, count(t, be), before+1)
	}
}

// A bucket has no lock that would tell a killed init from one that is at work.
func TestInitLeavesTheRestOfAnotherInABucket(t *testing.T) {
	be := mem.New()
	cut(t, be)
	before := count(t, be)
	if _, _, err := (&Place{Backend: be}).Reserve(t.Context()); !errors.Is(err, repo.ErrCutOff) || count(t, be) != before {
		t.Errorf("%v, %d objects of %d", err, count(t, be), before)
	}
}
