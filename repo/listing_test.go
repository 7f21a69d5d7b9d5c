package repo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
)

// hider is a store whose listings hide what begins with any of some prefixes.
type hider struct {
	backend.Backend
	hidden []string
}

func (h *hider) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	return h.Backend.List(ctx, prefix, func(info backend.Info) error {
		for _, hidden := range h.hidden {
			if strings.HasPrefix(info.Name, hidden) {
				return nil
			}
		}
		return fn(info)
	})
}

// TestPinThatNoListingShowsStillHolds: the point is not forgotten.
func TestPinThatNoListingShowsStillHolds(t *testing.T) {
	r, be, secret := newRepo(t)
	p := makePoint(t, r, "image/a", faint(1, testChunk))
	e, err := r.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, pinned := range []bool{false, true} { // the second label counts
		if err := r.SetLabel(t.Context(), e, func(l *ledger.Label) { l.Pinned = pinned }); err != nil {
			t.Fatal(err)
		}
		if e, err = r.Find(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	blind := openAt(t, &hider{Backend: be, hidden: []string{ledger.Labels}}, secret)
	if e, err = blind.Find(t.Context(), p.ID); err != nil || e.Pinned {
		t.Fatalf("the label is hidden: %+v %v", e, err)
	}
	if err := blind.Forget(t.Context(), e, "test"); !errors.Is(err, repo.ErrPinned) {
		t.Errorf("forget: %v", err)
	}
	if left := names(t, be, ledger.Forgets); len(left) > 0 {
		t.Errorf("%v was written", left)
	}
}

// TestForgottenPointIsNoParentThoughNoListingShowsItsTombstone: the one before it is.
func TestForgottenPointIsNoParentThoughNoListingShowsItsTombstone(t *testing.T) {
	r, be, secret := newRepo(t)
	first := makePoint(t, r, "image/a", faint(1, testChunk))
	second := makePoint(t, r, "image/a", faint(2, testChunk))
	e, err := r.Find(t.Context(), second.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), e, "test"); err != nil {
		t.Fatal(err)
	}
	blind := openAt(t, &hider{Backend: be, hidden: []string{ledger.Forgets}}, secret)
	s, err := blind.Begin(t.Context(), "image/a", "image/a")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	if got := s.Parent(); got == nil || got.ID != first.ID {
		t.Errorf("the parent is %+v", got)
	}
	if err := s.Expect(t.Context(), second); err == nil {
		t.Error("the forgotten point counts")
	}
}

// TestPruneFindsEverythingThatNoListingShows: whatever is hidden of sessions, points,
// the ledger, the index and packs, no point is lost, and an open session stays open.
func TestPruneFindsEverythingThatNoListingShows(t *testing.T) {
	for _, hidden := range [][]string{
		{ledger.Sessions, ledger.Commits}, {ledger.Sessions, ledger.Commits, ledger.Data, ledger.Meta}, {ledger.Ledgers, ledger.Sessions}, {ledger.Indexes}, {ledger.Data},
		{ledger.Sessions, ledger.Commits, ledger.Forgets, ledger.Labels, ledger.Ledgers, ledger.Indexes, ledger.Data, ledger.Meta},
	} {
		t.Run(strings.Join(hidden, " "), func(t *testing.T) {
			r, be, secret := newRepo(t)
			data, more := noise(1, 3*testChunk), noise(2, 3*testChunk)
			old := makePoint(t, r, "image/a", data)
			if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil { // a run, a horizon
				t.Fatal(err)
			}
			young := makePoint(t, r, "image/b", more)
			open, late := stored(t, r, "image/c", noise(3, testChunk))

			blind := openAt(t, &hider{Backend: be, hidden: hidden}, secret)
			for range 3 {
				rep, err := blind.Prune(t.Context(), repo.PruneOptions{})
				if err != nil && !errors.Is(err, repo.ErrPruneBlocked) {
					t.Fatal(err)
				}
				if rep.Points != 2 || len(rep.Open) != 1 {
					t.Errorf("it sees %d points, open %+v", rep.Points, rep.Open)
				}
			}
			if err := open.Commit(t.Context(), late); err != nil {
				t.Errorf("commit: %v", err)
			}
			fresh := openAt(t, be, secret)
			wantContent(t, fresh, old, data)
			wantContent(t, fresh, young, more)
			wantContent(t, fresh, late, noise(3, testChunk))
			wantVerdict(t, check(t, fresh), nil)
		})
	}
}
