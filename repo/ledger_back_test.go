package repo_test

import (
	"errors"
	"slices"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
	"holdfast/repo/session"
)

// snapshot is what stands at a place: what an operator mirrors.
func snapshot(t *testing.T, be *mem.Backend) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range names(t, be, "") {
		all[name] = slices.Clone(object(t, be, name))
	}
	return all
}

// setBack brings an older state back in place of what is there.
func setBack(t *testing.T, be *mem.Backend, mirror map[string][]byte) {
	t.Helper()
	for _, name := range names(t, be, "") {
		damage(t, be, name, remove)
	}
	for name, b := range mirror {
		if err := be.Put(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
	}
}

// wantGoesOn: backups and prunes are made, all restores, nothing is found.
func wantGoesOn(t *testing.T, be *mem.Backend, secret seal.Secret) {
	t.Helper()
	for day := range uint64(3) {
		r := openAt(t, be, secret)
		makePoint(t, r, "image/a", noise(90+day, 150_000))
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r := openAt(t, be, secret)
	wantVerdict(t, check(t, r), nil)
	points, _, err := r.Points(t.Context())
	if err != nil || len(points) == 0 {
		t.Fatal(len(points), err)
	}
	for _, e := range points {
		if _, err := read(t.Context(), r, e.Point); err != nil {
			t.Errorf("point %s: %v", e.ID, err)
		}
	}
}

// mirrored is a repository, an older state of it, and a machine that has seen the point
// made last.
func mirrored(t *testing.T) (be *mem.Backend, secret seal.Secret, mirror map[string][]byte, opts repo.Options, last string) {
	t.Helper()
	be, secret, _ = pruned(t)
	mirror, opts = snapshot(t, be), cached(t.TempDir())
	r, err := repo.Open(t.Context(), be, secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for day := range uint64(3) {
		last = makePoint(t, r, "image/a", noise(40+day, 200_000)).ID
		if day == 2 {
			break
		}
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return be, secret, mirror, opts, last
}

// TestForgetAfterAMirrorCameBackStopsNobody: the machine has seen a point of a later
// ledger; it drops its memory, and writes nothing.
func TestForgetAfterAMirrorCameBackStopsNobody(t *testing.T) {
	be, secret, mirror, opts, last := mirrored(t)
	setBack(t, be, mirror)
	r, err := repo.Open(t.Context(), be, secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wantVerdict(t, check(t, r), pack.ErrDamaged)
	before := names(t, be, "")
	_, err = r.Find(t.Context(), last)
	lost, ok := errors.AsType[*repo.PointError](err)
	if !ok {
		t.Fatalf("find: %v", err)
	}
	if err := r.ForgetLost(t.Context(), lost, "acknowledged"); err != nil {
		t.Fatal(err)
	}
	if after := names(t, be, ""); !slices.Equal(before, after) {
		t.Errorf("%v has become %v", before, after)
	}
	wantVerdict(t, check(t, r), nil)
	makePoint(t, r, "image/a", noise(50, 200_000))
	wantGoesOn(t, be, secret)
}

// TestWhatIsWrittenLaterOfASessionProvesNoEntry: an earlier program acknowledged the loss
// of a point of a later ledger by a tombstone and a revocation; they stop nobody.
func TestWhatIsWrittenLaterOfASessionProvesNoEntry(t *testing.T) {
	be, secret, mirror, _, last := mirrored(t)
	r := openAt(t, be, secret)
	sid := begin(t, r, "image/a")
	sid.Abort()
	e, err := r.Find(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), e, "test"); err != nil {
		t.Fatal(err)
	}
	tombstone, revocation := ledger.ForgetName(e.Session()), ledger.CommitName(sid.SID())
	mirror[tombstone], mirror[revocation] = object(t, be, tombstone), object(t, be, revocation)
	setBack(t, be, mirror)
	wantGoesOn(t, be, secret)
}

// TestBackupThatRunsWhileAMirrorIsBroughtBackFails, and leaves nothing that stops others,
// be its process an old or a new one.
func TestBackupThatRunsWhileAMirrorIsBroughtBackFails(t *testing.T) {
	be, secret, mirror, _, _ := mirrored(t)
	r := openAt(t, be, secret)
	s := begin(t, r, "image/b")
	p, err := put(t.Context(), r, s, fixtureClock, "image/b", noise(60, 300_000))
	if err != nil {
		t.Fatal(err)
	}
	setBack(t, be, mirror)
	if err := s.Commit(t.Context(), p); !errors.Is(err, session.ErrLost) {
		t.Errorf("commit: %v", err)
	}
	s.Abort()
	if _, err := tryPoint(t.Context(), r, "image/b", noise(61, 300_000)); !errors.Is(err, session.ErrLost) {
		t.Errorf("begin by what is remembered: %v", err)
	}
	points, _, err := openAt(t, be, secret).Points(t.Context())
	if err != nil || slices.ContainsFunc(points, func(e repo.Entry) bool { return e.Source == "image/b" }) {
		t.Errorf("%v %v", points, err)
	}
	wantGoesOn(t, be, secret)
}

// TestLedgerWithoutItsEndIsMended by a repair of the index, however much is lost: no
// point is, nothing is reused that is gone, and everybody goes on.
func TestLedgerWithoutItsEndIsMended(t *testing.T) {
	for lost := 1; lost <= 4; lost++ {
		be, secret, _, _, _ := mirrored(t)
		r := openAt(t, be, secret)
		forgetOldest(t, r)
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		makePoint(t, r, "image/c", noise(2, 200_000))
		running := begin(t, openAt(t, be, secret), "image/d")
		entries := names(t, be, ledger.Ledgers)
		for _, name := range entries[len(entries)-lost:] {
			damage(t, be, name, remove)
			if slices.Contains(names(t, be, ""), ledger.Spare(name)) {
				damage(t, be, ledger.Spare(name), remove)
			}
		}
		points, _, err := r.Points(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantNoWriter(t, be, secret)
		fresh := openAt(t, be, secret)
		rep, err := fresh.RepairIndex(t.Context(), nil)
		if err != nil || rep.Ledger != lost+1 {
			t.Fatalf("%+v %v", rep, err)
		}
		if now := names(t, be, ledger.Ledgers); len(now) != len(entries)+1 {
			t.Errorf("%v has become %v", entries, now)
		}
		running.Abort()
		fresh = openAt(t, be, secret)
		gone, err := fresh.Gone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sid := range gone { // forgotten and removed under the lost entries
			t.Logf("%d lost: %s is told of", lost, sid)
			_, err := fresh.Find(t.Context(), sid.Rand)
			e, ok := errors.AsType[*repo.PointError](err)
			if !ok || fresh.ForgetLost(t.Context(), e, "acknowledged") != nil {
				t.Fatal(err)
			}
		}
		makePoint(t, fresh, "image/c", noise(1, 200_000)) // what was removed, anew
		for _, e := range points {
			if _, err := read(t.Context(), fresh, e.Point); err != nil {
				t.Errorf("%d lost: point %s: %v", lost, e.ID, err)
			}
		}
		wantGoesOn(t, be, secret)
	}
}
