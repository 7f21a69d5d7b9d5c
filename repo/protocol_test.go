package repo_test

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
)

// luck decides what of the unsynced a crash leaves; seed 0: nothing.
func luck(seed uint64) *mrand.Rand {
	if seed == 0 {
		return nil
	}
	return mrand.New(mrand.NewPCG(seed, 8))
}

// maintain writes the next ledger entry, as a pruner would.
func maintain(t testing.TB, r *repo.Repository, g uint32, e ledger.Entry) {
	t.Helper()
	e.Version = ledger.Version
	if err := r.WriteRecord(t.Context(), ledger.LedgerName(g), parity.Ledger, e); err != nil {
		t.Fatal(err)
	}
}

// stored begins a session and stores a point's content, all but the commit.
func stored(t testing.TB, r *repo.Repository, source string, data []byte) (*repo.Session, *recovery.Point) {
	t.Helper()
	s, err := r.Begin(t.Context(), source, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Abort)
	p, err := put(t.Context(), r, s, fixtureClock, source, data)
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// TestSessionBelowTheHorizonIsLost: a pruner passed the session by while it
// was away. Its point is void for everybody, and success is not reported.
func TestSessionBelowTheHorizonIsLost(t *testing.T) {
	r, be, secret := newRepo(t)
	data := faint(1, testChunk)
	kept := makePoint(t, r, "image/kept", data)
	s, p := stored(t, r, "image/late", data)
	keptSID, err := ledger.ParseSID(kept.SID)
	if err != nil {
		t.Fatal(err)
	}
	maintain(t, openAt(t, be, secret), 1, ledger.Entry{Horizon: 1, Points: ledger.PileOf(keptSID)})
	if err := s.Commit(t.Context(), p); !errors.Is(err, repo.ErrSessionLost) {
		t.Fatalf("commit below the horizon: %v", err)
	}
	for _, reader := range []*repo.Repository{r, openAt(t, be, secret)} {
		points, problems, err := reader.Points(t.Context())
		if err != nil || len(problems) > 0 || len(points) != 1 || points[0].ID != kept.ID {
			t.Errorf("points: %+v %v %v", points, problems, err)
		}
		if _, err := reader.Find(t.Context(), p.ID); !errors.Is(err, recovery.ErrUnknown) {
			t.Errorf("find the void point: %v", err)
		}
	}
	again := makePoint(t, r, "image/late", data)
	if !strings.HasPrefix(again.SID, "00000001-") || again.Parent != "" {
		t.Errorf("the next try: %+v", again)
	}
	wantContent(t, r, again, data)
	wantVerdict(t, check(t, r), nil)
}

// TestReaderThatKnowsAnOlderLedgerLearnsTheHorizon: Points asks for the newest
// entry, it does not trust what it read when it was opened.
func TestReaderThatKnowsAnOlderLedgerLearnsTheHorizon(t *testing.T) {
	r, be, secret := newRepo(t)
	p := makePoint(t, r, "image/a", faint(1, testChunk))
	maintain(t, openAt(t, be, secret), 1, ledger.Entry{Horizon: 1})
	if points, _, err := r.Points(t.Context()); err != nil || len(points) != 0 {
		t.Errorf("a void point %s is listed: %+v %v", p.ID, points, err)
	}
}

// TestRevokedSessionNeverReportsSuccess: a pruner's revocation stands in the slot.
func TestRevokedSessionNeverReportsSuccess(t *testing.T) {
	r, be, secret := newRepo(t)
	s, p := stored(t, r, "image/a", faint(1, testChunk))
	slot := ledger.Slot{Version: ledger.Version, Revoked: &ledger.Revocation{By: "prune"}}
	if err := openAt(t, be, secret).WriteRecord(t.Context(), ledger.CommitName(s.SID()), parity.Commit, slot); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), p); !errors.Is(err, repo.ErrSessionLost) {
		t.Fatalf("commit into a revoked slot: %v", err)
	}
	if points, problems, err := r.Points(t.Context()); err != nil || len(points)+len(problems) != 0 {
		t.Errorf("points: %v %v %v", points, problems, err)
	}
	wantVerdict(t, check(t, r), nil)
}

// TestLostAnswerOfTheSlotIsOnePoint: the slot was written, the answer was not heard.
func TestLostAnswerOfTheSlotIsOnePoint(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	be := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: "commit/", Count: 1, Err: backend.ErrUnreachable, Mode: fault.DoneButLost}}})
	r := openAt(t, be, secret)
	data := faint(1, testChunk)
	p := makePoint(t, r, "image/a", data)
	points, problems, err := r.Points(t.Context())
	if err != nil || len(problems) > 0 || len(points) != 1 || points[0].ID != p.ID {
		t.Fatalf("points: %+v %v %v", points, problems, err)
	}
	wantContent(t, r, points[0].Point, data)
}

// TestSlotThatWasNotWrittenIsNoPoint, and the error is the store's.
func TestSlotThatWasNotWrittenIsNoPoint(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	be := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: "commit/", Err: backend.ErrNoSpace}}})
	r := openAt(t, be, secret)
	if _, err := tryPoint(t.Context(), r, "image/a", faint(1, testChunk)); !errors.Is(err, backend.ErrNoSpace) {
		t.Fatalf("a full store: %v", err)
	}
	if points, _, err := r.Points(t.Context()); err != nil || len(points) != 0 {
		t.Errorf("points: %v %v", points, err)
	}
	wantVerdict(t, check(t, r), nil)
}

// TestLedgerThatMovesWhileASessionBeginsStartsItOver: the sid that was given up
// is revoked, so that nobody waits for it.
func TestLedgerThatMovesWhileASessionBeginsStartsItOver(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	writer := initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	for _, moves := range []int{1, 100} {
		be := &hooked{Backend: store}
		left := moves
		be.before = func(_ fault.Op, name string) {
			if strings.HasPrefix(name, "sessions/") && left > 0 {
				left--
				maintain(t, writer, uint32(len(names(t, store, "ledger/"))), ledger.Entry{})
			}
		}
		r := openAt(t, be, secret)
		p, err := tryPoint(t.Context(), r, "image/a", faint(1, testChunk))
		if moves > 16 {
			if !errors.Is(err, repo.ErrSessionLost) {
				t.Errorf("a ledger that never rests: %v", err)
			}
			break
		}
		if err != nil || !strings.HasPrefix(p.SID, fmt.Sprintf("%08x-", moves)) {
			t.Errorf("after %d moves: %+v %v", moves, p, err)
		}
	}
	sessions, slots := names(t, store, "sessions/"), names(t, store, "commit/")
	if len(sessions) != len(slots) {
		t.Errorf("%d sessions, %d slots: somebody will wait", len(sessions), len(slots))
	}
	if points, problems, err := writer.Points(t.Context()); err != nil || len(problems) > 0 || len(points) != 1 {
		t.Errorf("points: %v %v %v", points, problems, err)
	}
}

// TestCondemnedPacksAreNotReused: what they hold is stored again.
func TestCondemnedPacksAreNotReused(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(1, 3*testChunk)
	makePoint(t, r, "image/a", data)
	packs := append(names(t, be, "data/"), names(t, be, "meta/")...)
	maintain(t, openAt(t, be, secret), 1, ledger.Entry{Condemned: []ledger.Condemned{{Since: 1, Packs: packs}}})
	p := makePoint(t, r, "image/b", data)
	for _, name := range packs {
		damage(t, be, name, remove)
	}
	wantContent(t, openAt(t, be, secret), p, data)
}

// TestManifestsOfOtherProgramsAreListedOrRefusedByName: unknown fields and
// kinds are no reason to hide a point; another version is an error that names it.
func TestManifestsOfOtherProgramsAreListedOrRefusedByName(t *testing.T) {
	r, _, _ := newRepo(t)
	known := makePoint(t, r, "image/a", faint(1, testChunk))
	manifest := func(rand string, version int) {
		sid := ledger.SID{Src: strings.Repeat("ab", 8), Rand: rand}
		slot := map[string]any{"version": version, "hint": 7, "point": map[string]any{
			"id": rand, "sid": sid.String(), "kind": "hologram", "source": "hologram/x", "identity": "x", "time": "2027-01-01T00:00:00Z",
			"future": map[string]int{"a": 1}, "items": []map[string]any{{"name": "cube", "tree": "?"}},
		}}
		if err := r.WriteRecord(t.Context(), ledger.CommitName(sid), parity.Commit, slot); err != nil {
			t.Fatal(err)
		}
	}
	manifest("1111111111111111", 1)
	manifest("2222222222222222", 2)
	points, problems, err := r.Points(t.Context())
	if err != nil || len(points) != 2 || points[0].ID != known.ID || points[1].Kind != "hologram" {
		t.Errorf("points: %+v %v", points, err)
	}
	if len(problems) != 1 || problems[0].ID != "2222222222222222" || !errors.Is(problems[0], ledger.ErrVersion) {
		t.Errorf("problems: %v", problems)
	}
	if _, err := r.Find(t.Context(), "2222"); !errors.Is(err, ledger.ErrVersion) {
		t.Errorf("find: %v", err)
	}
	rep := check(t, r)
	if len(rep.Findings) != 1 || !slices.Equal(rep.Findings[0].Hits, []string{"2222222222222222"}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestPointsOfOneSourceHoldTheHashOfTheOneBefore: the chain by which a client
// notices that a store was set back.
func TestPointsOfOneSourceHoldTheHashOfTheOneBefore(t *testing.T) {
	r, _, _ := newRepo(t)
	var last string
	for range 3 {
		p := makePoint(t, r, "image/a", faint(1, testChunk))
		if p.Previous != last {
			t.Errorf("previous %q, not %q", p.Previous, last)
		}
		e, err := r.Find(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		last = e.Hash()
	}
}

// TestTagsFromTwoWritersAtOnceAreBothKept: the slower one applies its change to
// what the faster one wrote.
func TestTagsFromTwoWritersAtOnceAreBothKept(t *testing.T) {
	r, _, _ := newRepo(t)
	p := makePoint(t, r, "image/a", faint(1, testChunk))
	stale, err := r.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"one", "two", "three"} {
		if err := r.SetLabel(t.Context(), stale, func(l *ledger.Label) { l.Tags = append(l.Tags, tag) }); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := r.Find(t.Context(), "latest:a"); err != nil || !slices.Equal(e.Tags, []string{"one", "two", "three"}) {
		t.Errorf("tags: %v %v", e.Tags, err)
	}
}

// TestAbortedSessionLeavesOnlyGarbage: nothing of it is a point, all is clean,
// and the next session may reuse or ignore it.
func TestAbortedSessionLeavesOnlyGarbage(t *testing.T) {
	r, be, _ := newRepo(t)
	s, _ := stored(t, r, "image/a", faint(1, testChunk))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Abort()
	if points, problems, err := r.Points(t.Context()); err != nil || len(points)+len(problems) != 0 {
		t.Errorf("points: %v %v %v", points, problems, err)
	}
	wantVerdict(t, check(t, r), nil)
	wantVerdict(t, scrub(t, be, true), nil)
	if p := makePoint(t, r, "image/a", faint(1, testChunk)); p.ChunksNew != 0 {
		t.Errorf("%d chunks were stored again", p.ChunksNew)
	}
}
