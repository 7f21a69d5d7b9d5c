package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// threeKinds is a repository with a point below the horizon, one above it, and a
// forgotten one that no prune has seen.
func threeKinds(t *testing.T) (*mem.Backend, seal.Secret, []string) {
	t.Helper()
	r, be, secret := newRepo(t)
	old := makePoint(t, r, "image/a", noise(1, 3*testChunk))
	prune(t, r, repo.PruneOptions{}) // a run, a horizon
	young := makePoint(t, r, "image/b", noise(2, 3*testChunk))
	dropped := makePoint(t, r, "image/c", noise(3, 3*testChunk))
	forget(t, r, dropped.ID)
	return be, secret, []string{old.ID, young.ID}
}

// TestStaleListingIsNoDamageForPrune: a segment that only its name leads to is found,
// and prune decides; that it is gone is damage still.
func TestStaleListingIsNoDamageForPrune(t *testing.T) {
	for _, hidden := range [][]string{{ledger.Indexes}, {ledger.Indexes, ledger.Data, ledger.Meta}} {
		t.Run(strings.Join(hidden, " "), func(t *testing.T) {
			be, secret, _ := threeKinds(t)
			blind := openAt(t, &hider{Backend: be, hidden: hidden}, secret)
			rep, err := blind.Prune(t.Context(), repo.PruneOptions{})
			if err != nil || rep.Points != 2 {
				t.Fatalf("prune: %v, %+v", err, rep)
			}
			wantVerdict(t, check(t, openAt(t, be, secret)), nil)
		})
	}
	be, secret, ids := threeKinds(t)
	for _, name := range names(t, be, "") {
		if strings.Contains(name, ids[1]) && !strings.HasPrefix(name, ledger.Commits) {
			damage(t, be, name, remove)
		}
	}
	blind := openAt(t, &hider{Backend: be, hidden: []string{ledger.Indexes}}, secret)
	if _, err := blind.Prune(t.Context(), repo.PruneOptions{}); !errors.Is(err, repo.ErrPruneBlocked) {
		t.Errorf("segment and packs are gone: %v", err)
	}
}

// TestCheckBelievesNoListingThatHides: it says neither that what is hidden is lost,
// nor that what is hidden is whole without having looked.
func TestCheckBelievesNoListingThatHides(t *testing.T) {
	be, secret, ids := threeKinds(t)
	each := []string{ledger.Ledgers, ledger.Commits, ledger.Indexes, ledger.Sessions, ledger.Data, ledger.Meta, ledger.Forgets}
	for _, hidden := range append(each, strings.Join(each, " ")) {
		t.Run(hidden, func(t *testing.T) {
			r := openAt(t, &hider{Backend: be, hidden: strings.Fields(hidden)}, secret)
			rep, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
			if err != nil {
				t.Fatal(err)
			}
			if wantVerdict(t, rep, nil); len(rep.Findings) > 0 {
				t.Errorf("findings: %+v", rep.Findings)
			}
			all := check(t, openAt(t, be, secret))
			if hidden == ledger.Ledgers || hidden == ledger.Commits {
				if rep.Objects < all.Objects-1 { // the forgotten point's slot
					t.Errorf("%d of %d objects were looked at", rep.Objects, all.Objects)
				}
			}
		})
	}
	for _, name := range names(t, be, ledger.Data) {
		if strings.Contains(name, sessionOf(t, be, ids[0])) || strings.Contains(name, sessionOf(t, be, ids[1])) {
			damage(t, be, name, remove)
		}
	}
	for _, hidden := range []string{ledger.Commits, ledger.Indexes, "nothing"} {
		t.Run("lost "+hidden, func(t *testing.T) {
			r := openAt(t, &hider{Backend: be, hidden: []string{hidden}}, secret)
			rep := check(t, r)
			wantVerdict(t, rep, pack.ErrDamaged)
			for _, id := range ids {
				if !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return strings.Contains(strings.Join(f.Hits, " "), id) }) {
					t.Errorf("%s is lost and nothing tells of it: %+v", id, rep.Findings)
				}
			}
		})
	}
}

// TestLedgerThatIsGoneIsLost whatever listings show.
func TestLedgerThatIsGoneIsLost(t *testing.T) {
	be, secret, _ := threeKinds(t)
	r := openAt(t, be, secret)
	for _, name := range names(t, be, "") {
		if strings.Contains(name, ledger.Ledgers) {
			damage(t, be, name, remove)
		}
	}
	wantVerdict(t, check(t, r), pack.ErrDamaged)
}

// sessionOf is the session of a point that has a slot.
func sessionOf(t *testing.T, be *mem.Backend, id string) string {
	t.Helper()
	for _, name := range names(t, be, ledger.Commits) {
		if sid, err := ledger.ParseSlot(name); err == nil && sid.Rand == id {
			return sid.String()
		}
	}
	t.Fatalf("no slot of %s", id)
	return ""
}
