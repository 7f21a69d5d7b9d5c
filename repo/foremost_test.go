package repo_test

import (
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// loseSlot removes a point's slot, as somebody does who has the place.
func loseSlot(t *testing.T, be *mem.Backend, p *recovery.Point) {
	t.Helper()
	for _, name := range names(t, be, ledger.Commits) {
		if strings.HasSuffix(name, p.SID) {
			damage(t, be, name, remove)
			return
		}
	}
	t.Fatalf("point %s has no slot", p.ID)
}

func wantVanished(t *testing.T, r *repo.Repository, want ...string) {
	t.Helper()
	gone, err := r.Vanished(t.Context())
	var ids []string
	for _, sid := range gone {
		ids = append(ids, sid.Rand)
	}
	if err != nil || strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("vanished: %v %v, want %v", ids, err, want)
	}
}

// TestNewestPointThatTheLedgerNamesIsMissedByAFreshMachine: it needs no memory of its own,
// until a later point is there or somebody acknowledges the loss.
func TestNewestPointThatTheLedgerNamesIsMissedByAFreshMachine(t *testing.T) {
	be, secret := mem.New(), keyFile(t)
	r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	makePoint(t, r, "image/a", noise(1, testChunk))
	last := makePoint(t, r, "image/a", noise(2, testChunk))
	other := makePoint(t, r, "image/b", noise(3, testChunk))
	prune(t, r, repo.PruneOptions{})
	wantVanished(t, openAt(t, be, secret))
	forget(t, openAt(t, be, secret), other.ID) // and the ledger names it still: that is no loss
	loseSlot(t, be, last)
	wantVanished(t, openAt(t, be, secret), last.ID)

	var told []string
	opts := options()
	opts.Vanished = func(point string) { told = append(told, point) }
	fresh, err := repo.Open(t.Context(), be, secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	makePoint(t, fresh, "image/b", noise(3, testChunk))
	if len(told) != 0 {
		t.Errorf("a backup of another source was told of %v", told)
	}
	next := makePoint(t, fresh, "image/a", noise(4, testChunk))
	if len(told) != 1 || told[0] != last.ID {
		t.Errorf("the next backup was told of %v", told)
	}
	makePoint(t, fresh, "image/a", noise(5, testChunk))
	if len(told) != 1 {
		t.Errorf("one after it was told of %v", told)
	}
	wantVanished(t, openAt(t, be, secret)) // the newest is there

	for _, e := range []string{next.ID} { // and is not once those after it are forgotten
		forget(t, fresh, e)
	}
	points, _, err := fresh.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range points {
		if e.Session().Gen > 0 && e.Source == "image/a" {
			forget(t, fresh, e.ID)
		}
	}
	wantVanished(t, openAt(t, be, secret), last.ID)
	_, err = fresh.Find(t.Context(), last.ID)
	lost := &repo.PointError{ID: last.ID, Object: ledger.CommitName(mustSID(t, last)), Err: err}
	if err := fresh.ForgetLost(t.Context(), lost, "acknowledged"); err != nil {
		t.Fatal(err)
	}
	wantVanished(t, openAt(t, be, secret))
}

// TestVanishedPointThatALaterOneWasReadAgainstIsNotTheNewest, though both are of one
// generation of the ledger; without that nobody can tell, and it counts as the newest.
func TestVanishedPointThatALaterOneWasReadAgainstIsNotTheNewest(t *testing.T) {
	for _, against := range []bool{true, false} {
		be, secret := mem.New(), keyFile(t)
		r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
		middle := makePoint(t, r, "image/a", noise(1, testChunk))
		s, err := r.Begin(t.Context(), "image/a", "image/a")
		if err != nil {
			t.Fatal(err)
		}
		p, err := put(t.Context(), r, s, fixtureClock, "image/a", noise(2, testChunk))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{middle.ID}
		if against {
			p.Parent, want = middle.ID, nil
		}
		if err := s.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		prune(t, r, repo.PruneOptions{})
		loseSlot(t, be, middle)
		wantVanished(t, openAt(t, be, secret), want...)
	}
}

func mustSID(t *testing.T, p *recovery.Point) ledger.SID {
	t.Helper()
	sid, err := ledger.ParseSID(p.SID)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}
