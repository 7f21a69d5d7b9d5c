package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
	"holdfast/repo/session"
)

// prune runs a prune that must not fail.
func prune(t testing.TB, r *repo.Repository, opts repo.PruneOptions) *repo.PruneReport {
	t.Helper()
	rep, err := r.Prune(t.Context(), opts)
	if err != nil {
		t.Fatalf("prune: %v (%+v)", err, rep)
	}
	return rep
}

func forget(t testing.TB, r *repo.Repository, spec string) {
	t.Helper()
	e, err := r.Find(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), e, "test"); err != nil {
		t.Fatal(err)
	}
}

// wantTidy: after two quiet prunes nothing is left that no point needs.
func wantTidy(t testing.TB, r *repo.Repository, be backend.Backend) {
	t.Helper()
	for range 2 {
		zero := 0.0
		prune(t, r, repo.PruneOptions{MaxUnused: &zero})
	}
	points, problems, err := r.Points(t.Context())
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	alive := map[string]bool{}
	for _, p := range points {
		alive[p.SID] = true
	}
	for _, name := range names(t, be, "") {
		sid := ""
		switch {
		case strings.HasPrefix(name, ledger.Commits), strings.HasPrefix(name, ledger.Forgets), strings.HasPrefix(name, ledger.Confirms):
			sid = name[strings.LastIndex(name, "/")+1:]
		case strings.HasPrefix(name, ledger.Labels):
			sid = strings.Split(name, "/")[2]
		}
		if sid != "" && !alive[sid] {
			t.Errorf("%s is left over", name)
		}
	}
	rep, err := r.Prune(t.Context(), repo.PruneOptions{DryRun: true})
	if err != nil || rep.PacksWaiting > 0 || rep.PacksRemoved > 0 || rep.BytesUnused > 0 {
		t.Errorf("a third prune would find: %+v %v", rep, err)
	}
	known := map[string]bool{}
	for _, p := range r.Indexed() {
		known[p.Name()] = true
	}
	for _, name := range append(names(t, be, ledger.Data), names(t, be, ledger.Meta)...) {
		if !known[name] {
			t.Errorf("%s is listed by nothing", name)
		}
	}
	if left := names(t, be, ledger.Sessions); len(left) > 0 {
		t.Errorf("sessions are left over: %v", left)
	}
}

func TestPruneRemovesWhatNoPointNeedsAtOnce(t *testing.T) {
	r, be, secret := newRepo(t)
	first, second := noise(1, 40*testChunk), noise(2, 40*testChunk)
	a := makePoint(t, r, "image/a", first)
	b := makePoint(t, r, "image/b", second)
	forget(t, r, a.ID)
	dry, err := r.Prune(t.Context(), repo.PruneOptions{DryRun: true})
	if err != nil || dry.PacksRemoved == 0 {
		t.Fatalf("dry run: %+v %v", dry, err)
	}
	before := len(names(t, be, ""))
	if before != len(names(t, be, "")) {
		t.Error("a dry run changed something")
	}
	rep := prune(t, r, repo.PruneOptions{})
	if rep.PacksRemoved != dry.PacksRemoved || rep.BytesRemoved != dry.BytesRemoved || rep.Points != 1 || rep.PacksWaiting != 0 {
		t.Errorf("report %+v, the dry run said %+v", rep, dry)
	}
	wantContent(t, openAt(t, be, secret), b, second)
	wantTidy(t, r, be)
	wantContent(t, r, b, second)
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}

// TestPruneNeverTouchesWhatAnOpenSessionMayNeed: the session reused content of a
// point that is forgotten and pruned before it commits.
func TestPruneNeverTouchesWhatAnOpenSessionMayNeed(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(1, 20*testChunk)
	a := makePoint(t, r, "image/a", data)
	s, p := stored(t, openAt(t, be, secret), "image/b", data)
	forget(t, r, a.ID)
	for range 3 {
		rep := prune(t, r, repo.PruneOptions{})
		if rep.PacksRemoved != 0 || len(rep.Open) != 1 || rep.PacksWaiting == 0 {
			t.Fatalf("with an open session: %+v", rep)
		}
	}
	if err := s.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	wantTidy(t, r, be)
	wantContent(t, openAt(t, be, secret), p, data)
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}

func TestAbortedAndFailedSessionsAreCollected(t *testing.T) {
	r, be, _ := newRepo(t)
	kept := noise(1, 4*testChunk)
	k := makePoint(t, r, "image/k", kept)
	s, _ := stored(t, r, "image/a", noise(2, 10*testChunk))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Abort()
	rep := prune(t, r, repo.PruneOptions{})
	if rep.PacksRemoved == 0 {
		t.Errorf("nothing was removed: %+v", rep)
	}
	wantTidy(t, r, be)
	wantContent(t, r, k, kept)
}

// TestRepackKeepsWhatIsNeededOfWastefulPacks: half of a pack is needed by a
// younger point.
func TestRepackKeepsWhatIsNeededOfWastefulPacks(t *testing.T) {
	r, be, secret := newRepo(t)
	old := noise(1, 40*testChunk)
	a := makePoint(t, r, "image/a", old)
	young := append(append([]byte{}, old[:10*testChunk]...), noise(3, 30*testChunk)...)
	b := makePoint(t, r, "image/b", young)
	forget(t, r, a.ID)
	most := 1.0
	if rep := prune(t, r, repo.PruneOptions{MaxUnused: &most}); rep.PacksRepacked != 0 || rep.BytesUnused == 0 {
		t.Errorf("all may be unused: %+v", rep)
	}
	if rep := prune(t, r, repo.PruneOptions{MaxRepack: 1}); rep.PacksRepacked != 0 {
		t.Errorf("nothing may be copied: %+v", rep)
	}
	rep := prune(t, r, repo.PruneOptions{})
	if rep.PacksRepacked == 0 || rep.BytesRepacked < 10*testChunk || rep.PacksRemoved == 0 || rep.BytesUnused != 0 {
		t.Errorf("repack: %+v", rep)
	}
	wantContent(t, openAt(t, be, secret), b, young)
	wantTidy(t, r, be)
	wantContent(t, openAt(t, be, secret), b, young)
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
	again := makePoint(t, openAt(t, be, secret), "image/c", young)
	if again.ChunksNew > 1 { // its stream names the source
		t.Errorf("%d chunks were stored again after the repack", again.ChunksNew)
	}
}

// TestPacksBelowTheHorizonAreReused: runs list them, so a backup after many
// prunes stores nothing anew.
func TestPacksBelowTheHorizonAreReused(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(1, 10*testChunk)
	makePoint(t, r, "image/a", data)
	for i := range 4 {
		makePoint(t, r, "image/x", noise(uint64(10+i), testChunk))
		prune(t, r, repo.PruneOptions{})
	}
	view := newestEntry(t, be, r)
	if len(view.Runs) == 0 || view.Horizon == 0 {
		t.Fatalf("no runs: %+v", view)
	}
	bytesBefore := stored64(t, be, ledger.Data)
	makePoint(t, openAt(t, be, secret), "image/b", data)
	if grown := stored64(t, be, ledger.Data) - bytesBefore; grown > 8*parity.CellBytes*10 {
		t.Errorf("%d bytes of data were stored again", grown)
	}
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}

func newestEntry(t testing.TB, be *mem.Backend, r *repo.Repository) *ledger.Entry {
	t.Helper()
	all := names(t, be, ledger.Ledgers)
	return r.ReadEntry(t.Context(), all[len(all)-1])
}

func stored64(t testing.TB, be backend.Backend, prefix string) (sum int64) {
	t.Helper()
	for _, name := range names(t, be, prefix) {
		sum += int64(len(object(t, be, name)))
	}
	return sum
}

// TestPruneDecidesNothingWhileSomethingIsUnreadable: a lost segment, a lost
// manifest, a lost map. Nothing is removed; what is named can be repaired.
func TestPruneDecidesNothingWhileSomethingIsUnreadable(t *testing.T) {
	for _, prefix := range []string{ledger.Commits, ledger.Meta, ledger.Data} {
		t.Run(prefix, func(t *testing.T) {
			r, be, secret := newRepo(t)
			data := noise(1, 10*testChunk)
			makePoint(t, r, "image/a", data)
			b := makePoint(t, r, "image/b", noise(2, 10*testChunk))
			forget(t, r, b.ID)
			kept := r.SlotOf(t.Context(), "image/a")
			for _, name := range names(t, be, prefix) {
				if strings.Contains(name, kept) {
					damage(t, be, name, map[bool]func([]byte) []byte{true: ruin, false: remove}[prefix == ledger.Commits])
				}
			}
			before := len(names(t, be, ""))
			rep, err := openAt(t, be, secret).Prune(t.Context(), repo.PruneOptions{})
			if !errors.Is(err, repo.ErrPruneBlocked) || len(rep.Blocked) == 0 {
				t.Fatalf("prune: %v %+v", err, rep)
			}
			if after := len(names(t, be, "")); after != before {
				t.Errorf("%d objects before, %d after", before, after)
			}
		})
	}
}

// TestNewestPointThatVanishedIsMissedByWhoHasSeenIt: nobody else can.
func TestNewestPointThatVanishedIsMissedByWhoHasSeenIt(t *testing.T) {
	be, secret, dir := mem.New(), keyFile(t), t.TempDir()
	var told []string
	opts := cached(dir)
	opts.Vanished = func(point string) { told = append(told, point) }
	r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, opts)
	makePoint(t, r, "image/a", noise(1, testChunk))
	other := makePoint(t, r, "image/b", noise(3, testChunk))
	forget(t, r, other.ID)
	prune(t, r, repo.PruneOptions{})                        // forgotten and collected: that is no loss
	last := makePoint(t, r, "image/a", noise(2, testChunk)) // which no ledger entry names yet
	wantVerdict(t, check(t, r), nil)
	makePoint(t, r, "image/b", noise(3, testChunk))
	for _, name := range names(t, be, ledger.Commits) {
		if strings.HasSuffix(name, last.SID) {
			damage(t, be, name, remove)
		}
	}
	wantVerdict(t, check(t, openAt(t, be, secret)), nil) // a fresh machine cannot know
	again, err := repo.Open(t.Context(), be, secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	rep := check(t, again)
	if len(rep.Findings) != 1 || !rep.Findings[0].Lost {
		t.Errorf("findings: %+v", rep.Findings)
	}
	if len(told) != 0 {
		t.Fatalf("told of %v before anything was gone", told)
	}
	makePoint(t, again, "image/a", noise(4, testChunk))
	if len(told) != 1 || told[0] != last.ID {
		t.Errorf("told: %v", told)
	}
	// Once the next one is made a run is whole again, and the loss is still a loss.
	makePoint(t, again, "image/a", noise(5, testChunk))
	if len(told) != 1 {
		t.Errorf("told: %v", told)
	}
	if rep := check(t, again); len(rep.Findings) != 1 || !rep.Findings[0].Vanished {
		t.Errorf("findings: %+v", rep.Findings)
	}
	prune(t, again, repo.PruneOptions{DeadAfter: 1})
	if len(told) != 2 {
		t.Errorf("told by a prune: %v", told)
	}
	_, err = again.Find(t.Context(), last.ID)
	lost, ok := errors.AsType[*repo.PointError](err)
	if !ok || again.ForgetLost(t.Context(), lost, "acknowledged") != nil {
		t.Fatalf("find: %v", err)
	}
	wantVerdict(t, check(t, again), nil)
	prune(t, again, repo.PruneOptions{})
	if len(told) != 2 {
		t.Errorf("told once it is acknowledged: %v", told)
	}
}

// TestVanishedPointIsNotGivenUpUntilItIsForgotten: an operator may bring it back for
// as long as he has not acknowledged the loss.
func TestVanishedPointIsNotGivenUpUntilItIsForgotten(t *testing.T) {
	be, secret := mem.New(), keyFile(t)
	r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, cached(t.TempDir()))
	last := makePoint(t, r, "image/a", noise(1, 4*testChunk))
	commit := names(t, be, ledger.Commits)[0]
	object, err := backend.Whole(t.Context(), be, commit)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, be, commit, remove)
	for range 3 {
		rep := prune(t, r, repo.PruneOptions{DeadAfter: 1})
		if len(rep.Revoked) != 0 || len(rep.Open) != 1 || !rep.Open[0].Vanished || len(rep.Warnings) != 1 || rep.PacksRemoved != 0 {
			t.Fatalf("of a point that has vanished: %+v", rep)
		}
	}
	if err := be.Put(t.Context(), commit, object); err != nil {
		t.Fatal(err)
	}
	if gone, err := r.Vanished(t.Context()); err != nil || len(gone) != 0 {
		t.Fatalf("brought back: %v, %v", gone, err)
	}
	wantVerdict(t, check(t, r), nil)
	damage(t, be, commit, remove)
	_, err = r.Find(t.Context(), last.ID[:6])
	lost, ok := errors.AsType[*repo.PointError](err)
	if !ok || !errors.Is(err, repo.ErrVanished) || lost.ID != last.ID {
		t.Fatalf("find: %v", err)
	}
	if err := r.ForgetLost(t.Context(), lost, "acknowledged"); err != nil {
		t.Fatal(err)
	}
	rep := prune(t, r, repo.PruneOptions{})
	if len(rep.Open) != 0 || len(rep.Warnings) != 0 || rep.PacksRemoved == 0 {
		t.Errorf("acknowledged: %+v", rep)
	}
	wantVerdict(t, check(t, r), nil)
	if _, err := r.Find(t.Context(), last.ID[:6]); errors.Is(err, repo.ErrVanished) || !errors.Is(err, recovery.ErrUnknown) {
		t.Errorf("find once it is acknowledged: %v", err)
	}
}

// TestLostIndexAfterPrune: index/ and all local state go; repair brings it back
// and prune goes on.
func TestLostIndexAfterPrune(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(1, 10*testChunk)
	makePoint(t, r, "image/a", data)
	for i := range 3 {
		makePoint(t, r, "image/x", noise(uint64(10+i), testChunk))
		prune(t, r, repo.PruneOptions{})
	}
	for _, name := range names(t, be, ledger.Indexes) {
		damage(t, be, name, remove)
	}
	r = openAt(t, be, secret)
	if _, err := r.Prune(t.Context(), repo.PruneOptions{}); !errors.Is(err, repo.ErrPruneBlocked) {
		t.Fatalf("prune without an index: %v", err)
	}
	if _, err := r.RepairIndex(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	points, _, err := r.Points(t.Context())
	if err != nil || len(points) != 4 {
		t.Fatal(points, err)
	}
	wantContent(t, r, points[0].Point, data)
	wantTidy(t, r, be)
	wantContent(t, openAt(t, be, secret), points[0].Point, data)
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}

// lockTable is the locks of one host: who is in it lives.
type lockTable map[string]bool

func (l lockTable) Hold(sid string) (func(), error) {
	l[sid] = true
	return func() { delete(l, sid) }, nil
}

func (l lockTable) Settled(sid string) { delete(l, sid) }

func (l lockTable) State(sid string) ledger.Lock {
	alive, known := l[sid]
	switch {
	case !known:
		return ledger.LockUnknown
	case alive:
		return ledger.LockHeld
	}
	return ledger.LockFree
}

// TestDeadSessionOfThisHostIsRevokedAtOnce, and a living one is not, however
// long it is silent.
func TestDeadSessionOfThisHostIsRevokedAtOnce(t *testing.T) {
	be, secret, locks := mem.New(), keyFile(t), lockTable{}
	opts := options()
	opts.Locks = func(string) session.Locks { return locks }
	r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, opts)
	s, p := stored(t, r, "image/a", noise(1, 10*testChunk))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if rep := prune(t, r, repo.PruneOptions{DeadAfter: 1}); len(rep.Revoked) != 0 || rep.PacksRemoved != 0 {
			t.Fatalf("a living session was revoked: %+v", rep)
		}
	}
	for sid := range locks {
		locks[sid] = false // kill -9
	}
	before := names(t, be, "")
	would := prune(t, r, repo.PruneOptions{DryRun: true})
	if len(would.Revoked) != 1 || len(would.Open) != 0 {
		t.Errorf("dead session in a dry run: %+v", would)
	}
	if after := names(t, be, ""); !slices.Equal(after, before) {
		t.Errorf("a dry run made of %v: %v", before, after)
	}
	rep := prune(t, r, repo.PruneOptions{})
	if len(rep.Revoked) != 1 || rep.PacksRemoved == 0 || rep.PacksRemoved != would.PacksRemoved || rep.BytesRemoved != would.BytesRemoved {
		t.Errorf("dead session: %+v, and a dry run said %+v", rep, would)
	}
	if err := s.Commit(t.Context(), p); !errors.Is(err, repo.ErrSessionLost) {
		t.Errorf("the zombie's commit: %v", err)
	}
}

// TestSilentSessionElsewhereNeedsTwoPrunes: silence by the store's clock, and
// the same heartbeat in an earlier entry.
func TestSilentSessionElsewhereNeedsTwoPrunes(t *testing.T) {
	r, be, secret := newRepo(t)
	s, p := stored(t, openAt(t, be, secret), "image/a", noise(1, 10*testChunk))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rep := prune(t, r, repo.PruneOptions{DeadAfter: 1}); len(rep.Revoked) != 0 {
		t.Fatalf("revoked at first sight: %+v", rep)
	}
	if rep := prune(t, r, repo.PruneOptions{}); len(rep.Revoked) != 0 {
		t.Fatalf("revoked before its time: %+v", rep)
	}
	rep := prune(t, r, repo.PruneOptions{DeadAfter: 1})
	if len(rep.Revoked) != 1 || rep.PacksRemoved == 0 {
		t.Fatalf("not revoked: %+v", rep)
	}
	if err := s.Commit(t.Context(), p); !errors.Is(err, repo.ErrSessionLost) {
		t.Errorf("the zombie's commit: %v", err)
	}
	wantTidy(t, r, be)
}

// TestIdlePruneWritesNoLedgerEntry: entries stay for ever, so a night without news costs
// none. What there is to do later is done all the same.
func TestIdlePruneWritesNoLedgerEntry(t *testing.T) {
	be, secret, _ := pruned(t)
	r := openAt(t, be, secret)
	prune := func() *repo.PruneReport {
		t.Helper()
		rep, err := r.Prune(t.Context(), repo.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	prune() // the last one's removals may be news
	before := names(t, be, "")
	for range 3 {
		prune()
	}
	if after := names(t, be, ""); !slices.Equal(before, after) {
		t.Errorf("%d objects have become %d: %v", len(before), len(after), after)
	}
	p := makePoint(t, r, "image/b", noise(9, 300_000))
	e, err := r.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), e, "test"); err != nil {
		t.Fatal(err)
	}
	if rep := prune(); rep.PacksRemoved == 0 {
		t.Errorf("%+v", rep)
	}
	prune()
	for _, prefix := range []string{ledger.Data, ledger.Meta, ledger.Commits, ledger.Forgets, ledger.Sessions} {
		for _, name := range names(t, be, prefix) {
			if !slices.Contains(before, name) {
				t.Errorf("%s stays", name)
			}
		}
	}
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}

// TestIdlePruneAfterTheNewestPointWasForgotten: the number that it had is carried on from
// entry to entry, and that is no news.
func TestIdlePruneAfterTheNewestPointWasForgotten(t *testing.T) {
	r, be, _ := newRepo(t)
	var newest string
	for i := range uint64(3) {
		newest = makePoint(t, r, "image/a", noise(i, testChunk)).ID
	}
	for range 2 {
		prune(t, r, repo.PruneOptions{})
	}
	forget(t, r, newest)
	for range 2 { // the first one's removals may be news
		prune(t, r, repo.PruneOptions{})
	}
	before := names(t, be, ledger.Ledgers)
	for range 3 {
		prune(t, r, repo.PruneOptions{})
	}
	if after := names(t, be, ledger.Ledgers); !slices.Equal(before, after) {
		t.Errorf("%v have become %v", before, after)
	}
}
