package repo_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
)

// lay puts the bytes of one object in the place of another.
func lay(t *testing.T, be backend.Backend, object []byte, over string) {
	t.Helper()
	if err := be.Put(t.Context(), over, object); err != nil {
		t.Fatal(err)
	}
}

// forEachTwin runs fn with a repository of two keys and two epochs in which the bytes
// of another object, whole in themselves, lie in the place of one copy of wrong.
func forEachTwin(t *testing.T, fn func(t *testing.T, r *repo.Repository, be *mem.Backend, wrong string)) {
	r, be, secret := newRepo(t)
	if _, err := r.AddKey(t.Context(), repo.NewKey{Secret: keyFile(t)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	makePoint(t, r, "image/a", faint(1, testChunk))
	prune(t, r, repo.PruneOptions{})
	wantVerdict(t, check(t, r), nil)
	_, other, _ := newRepo(t)
	entries := names(t, be, "ledger/")
	keys, boxes := names(t, be, "keys/"), names(t, be, "epochs/00000002/")
	alien := map[string][]byte{
		"config": object(t, other, "config"), entries[len(entries)-1]: object(t, other, "ledger/00000000"),
		keys[0]: object(t, be, keys[1]), "keys/roll/00000001": object(t, be, "keys/roll/00000000"),
		boxes[0]: object(t, be, boxes[1]), ledger.DecisionName(2): object(t, be, "epochs/00000002/begun"),
	}
	if strings.Contains(keys[0]+keys[1], "roll") || len(boxes) != 4 {
		t.Fatalf("keys %v, boxes %v", keys, boxes)
	}
	for name, bytes := range alien {
		for _, wrong := range []string{name, ledger.Spare(name)} {
			t.Run(wrong, func(t *testing.T) {
				be := be.CrashClone(mem.CrashOptions{})
				lay(t, be, bytes, wrong)
				fn(t, openAt(t, be, secret), be, wrong)
			})
		}
	}
}

// Scrub has no key: it says that two copies differ, and lays neither over the other.
func TestScrubFindsCopiesThatDifferAndLeavesThem(t *testing.T) {
	forEachTwin(t, func(t *testing.T, _ *repo.Repository, be *mem.Backend, wrong string) {
		before := contents(t, be)
		for _, heal := range []bool{false, true} {
			rep := scrub(t, be, heal)
			wantVerdict(t, rep, repo.ErrHealable)
			if f := rep.Findings[0]; len(rep.Findings) != 1 || f.Object != ledger.TrueName(wrong) || !f.Differs || f.Right != "" || f.Healed || f.Lost {
				t.Errorf("heal %v: %+v", heal, rep.Findings)
			}
		}
		if !maps.EqualFunc(before, contents(t, be), bytes.Equal) {
			t.Error("scrub changed something")
		}
	})
}

// Check has the keys: it says which copy belongs in the other's place.
func TestCheckTellsWhichOfTwoCopiesIsRight(t *testing.T) {
	forEachTwin(t, func(t *testing.T, r *repo.Repository, be *mem.Backend, wrong string) {
		rep := check(t, r)
		wantVerdict(t, rep, repo.ErrHealable)
		if f := rep.Findings[0]; len(rep.Findings) != 1 || f.Object != wrong || !f.Differs || f.Right != ledger.Twin(wrong) || f.Lost {
			t.Fatalf("%+v", rep.Findings)
		}
		lay(t, be, object(t, be, rep.Findings[0].Right), wrong)
		wantVerdict(t, check(t, r), nil)
		wantVerdict(t, scrub(t, be, true), nil)
	})
}
