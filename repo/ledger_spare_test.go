package repo_test

import (
	"bytes"
	"slices"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// pruned is a repository of two points whose ledger has some entries, and the name
// of the newest.
func pruned(t *testing.T) (be *mem.Backend, secret seal.Secret, newest string) {
	t.Helper()
	r, be, secret := newRepo(t)
	for day := range uint64(3) {
		makePoint(t, r, "image/a", noise(day, 200_000))
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	forgetOldest(t, r)
	if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	all := names(t, be, ledger.Ledgers)
	if len(all) < 4 {
		t.Fatalf("ledger: %v", all)
	}
	return be, secret, all[len(all)-1]
}

func forgetOldest(t *testing.T, r *repo.Repository) {
	t.Helper()
	points, _, err := r.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), points[0], "test"); err != nil {
		t.Fatal(err)
	}
}

// TestOneLostCopyOfTheNewestLedgerEntryStopsNobody, whatever befell it and
// whichever it is: backups and prunes go on, check tells, a scrub heals.
func TestOneLostCopyOfTheNewestLedgerEntryStopsNobody(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{"ruined": ruin, "missing": remove} {
		for _, spare := range []bool{false, true} {
			be, secret, newest := pruned(t)
			object, entries := newest, len(names(t, be, ledger.Ledgers))
			if spare {
				object = ledger.Spare(newest)
			}
			t.Run(what+"/"+object, func(t *testing.T) {
				damage(t, be, object, change)
				scrubbed := be.CrashClone(mem.CrashOptions{})
				want := repo.ErrHealable
				if spare && what == "missing" {
					want = nil // as if its writer had died: the next prune writes it
				}
				wantVerdict(t, check(t, openAt(t, scrubbed, secret)), want)
				wantVerdict(t, scrub(t, scrubbed, true), want)
				wantVerdict(t, check(t, openAt(t, scrubbed, secret)), nil)

				r := openAt(t, be, secret)
				wantContent(t, r, makePoint(t, r, "image/b", noise(9, 100_000)), noise(9, 100_000))
				if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
					t.Fatal(err)
				}
				for range 3 { // far beyond the two newest, of which alone whole entries keep their spares
					makePoint(t, r, "image/b", noise(10, 100_000))
					if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				if spare {
					want = nil // it went with those of other old entries
				}
				wantVerdict(t, scrub(t, be, true), want)
				wantVerdict(t, check(t, openAt(t, be, secret)), nil)
				if last := slices.Max(names(t, be, ledger.Ledgers)); last <= newest || len(names(t, be, ledger.Ledgers)) < entries {
					t.Errorf("after %s the ledger ends with %s", newest, last)
				}
			})
		}
	}
}

// TestPruneWritesTheSpareThatAKillLeftOut: byte for byte, though it has nothing else
// to say, and those of old entries go.
func TestPruneWritesTheSpareThatAKillLeftOut(t *testing.T) {
	be, secret, newest := pruned(t)
	spares := names(t, be, ledger.Spare(ledger.Ledgers))
	if len(spares) == 0 || len(spares) > 2 || spares[len(spares)-1] != ledger.Spare(newest) {
		t.Errorf("spares %v of ledger entries up to %s", spares, newest)
	}
	damage(t, be, ledger.Spare(newest), remove)
	if _, err := openAt(t, be, secret).Prune(t.Context(), repo.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	all := names(t, be, ledger.Ledgers)
	newest = all[len(all)-1]
	if !bytes.Equal(object(t, be, newest), object(t, be, ledger.Spare(newest))) {
		t.Error("the spare is not the entry")
	}
}
