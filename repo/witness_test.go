package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// on makes a point that was read against another.
func on(t *testing.T, r *repo.Repository, parent *recovery.Point) *recovery.Point {
	t.Helper()
	s, p := stored(t, r, parent.Source, noise(9, testChunk))
	p.Parent = parent.ID
	if err := s.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPointThatLaterOnesNameIsMissedByAnybody: no memory of this machine's and no ledger
// entry tells of it, and sessions beside it have no point either. What is forgotten by its
// own id, and that alone, is missed no more.
func TestPointThatLaterOnesNameIsMissedByAnybody(t *testing.T) {
	r, be, secret := newRepo(t)
	full := makePoint(t, r, "image/a", noise(1, testChunk))
	stored(t, r, "image/a", noise(2, testChunk)) // and is never heard of again
	next := on(t, r, full)
	other := on(t, r, next)
	commit := ledger.CommitName(sidOf(t, full.SID))
	object, err := backend.Whole(t.Context(), be, commit)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, be, commit, remove)

	fresh := openAt(t, be, secret)
	wantGone := func(ids ...string) {
		t.Helper()
		gone, err := fresh.Gone(t.Context())
		var found []string
		for _, sid := range gone {
			found = append(found, sid.Rand)
		}
		if err != nil || !slices.Equal(found, ids) {
			t.Errorf("gone: %v, %v, want %v", found, err, ids)
		}
	}
	wantGone(full.ID)
	forget(t, fresh, other.ID)
	wantGone(full.ID)
	rep := prune(t, fresh, repo.PruneOptions{DeadAfter: 1})
	if slices.ContainsFunc(rep.Revoked, func(sid string) bool { return strings.HasSuffix(sid, full.ID) }) || len(rep.Warnings) == 0 {
		t.Errorf("prune of what may be brought back: %+v", rep)
	}
	if err := be.Put(t.Context(), commit, object); err != nil {
		t.Fatal(err)
	}
	wantGone()
	wantVerdict(t, check(t, fresh), nil)
	damage(t, be, commit, remove)
	_, err = fresh.Find(t.Context(), full.ID)
	lost, ok := errors.AsType[*repo.PointError](err)
	if !ok || !errors.Is(err, repo.ErrVanished) || fresh.ForgetLost(t.Context(), lost, "acknowledged") != nil {
		t.Fatalf("find: %v", err)
	}
	wantGone()
	wantVerdict(t, check(t, fresh), nil)
}

// TestForgottenAndKilledAreNotMissed, pruned or not, though later points name what is
// forgotten and a session without a point lies beside them.
func TestForgottenAndKilledAreNotMissed(t *testing.T) {
	r, _, _ := newRepo(t)
	wantNone := func(when string) {
		t.Helper()
		if gone, err := r.Gone(t.Context()); err != nil || len(gone) != 0 {
			t.Errorf("%s: gone: %v, %v", when, gone, err)
		}
		wantVerdict(t, check(t, r), nil)
	}
	first := makePoint(t, r, "image/a", noise(1, testChunk))
	prune(t, r, repo.PruneOptions{})
	stored(t, r, "image/a", noise(2, testChunk)) // and is never heard of again
	second := on(t, r, first)
	forget(t, r, first.ID)
	wantNone("forgotten")
	prune(t, r, repo.PruneOptions{})
	wantNone("and pruned")
	third := on(t, r, second)
	on(t, r, third)
	forget(t, r, third.ID)
	wantNone("forgotten between others")
}

// TestBackupsThatOverlapAccuseNobody: both name the point before them, which is forgotten and
// pruned then, and a third backup that has no point yet is under way.
func TestBackupsThatOverlapAccuseNobody(t *testing.T) {
	r, _, _ := newRepo(t)
	first := makePoint(t, r, "image/a", noise(1, testChunk))
	prune(t, r, repo.PruneOptions{})
	one, p := stored(t, r, "image/a", noise(2, testChunk))
	two, q := stored(t, r, "image/a", noise(3, testChunk))
	for s, p := range map[*repo.Session]*recovery.Point{one: p, two: q} {
		if err := s.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	under, last := stored(t, r, "image/a", noise(4, testChunk))
	forget(t, r, first.ID)
	prune(t, r, repo.PruneOptions{})
	if gone, err := r.Gone(t.Context()); err != nil || len(gone) != 0 {
		t.Errorf("gone: %v, %v", gone, err)
	}
	wantVerdict(t, check(t, r), nil)
	if err := under.Commit(t.Context(), last); err != nil {
		t.Error(err)
	}
}
