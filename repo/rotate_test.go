package repo_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// epochs counts the objects below prefix by the epoch of their header.
func epochs(t *testing.T, be backend.Backend, prefix string) map[uint32]int {
	t.Helper()
	count := map[uint32]int{}
	for _, name := range names(t, be, prefix) {
		h, err := parity.FindHeader(object(t, be, name))
		if err != nil {
			t.Fatal(err)
		}
		count[h.Epoch]++
	}
	return count
}

// Old points restore, new ones are sealed by the new root, unchanged content is
// not stored again, and whoever was removed before reads nothing new.
func TestRotationKeepsOldPointsAndSealsNewOnesAnew(t *testing.T) {
	r, be, first := newRepo(t)
	second, gone := keyFile(t), keyFile(t)
	if _, err := r.AddKey(t.Context(), repo.NewKey{Secret: second}); err != nil {
		t.Fatal(err)
	}
	removed, err := r.AddKey(t.Context(), repo.NewKey{Secret: gone})
	if err != nil {
		t.Fatal(err)
	}
	old, late := noise(1, 3*testChunk), noise(2, 3*testChunk)
	before := makePoint(t, r, "image/a", old)
	reader := openAt(t, be, second) // runs on across the rotation
	stale := openAt(t, be, gone)
	if _, err := r.RemoveKey(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	done, err := r.RotateKeys(t.Context())
	if err != nil || done.Epoch != 2 || r.Epoch() != 2 || len(done.Keys) != 2 || len(done.LeftOut) != 0 {
		t.Fatalf("%+v %v", done, err)
	}
	packs := epochs(t, be, "data/")
	same := makePoint(t, r, "image/a", old)
	if same.ChunksNew != 0 || len(epochs(t, be, "data/")) != len(packs) {
		t.Errorf("unchanged content is stored again: %d chunks", same.ChunksNew)
	}
	after := makePoint(t, r, "image/a", late)
	if got := epochs(t, be, "data/"); got[1] != packs[1] || got[2] == 0 {
		t.Errorf("packs by epoch: %v, before %v", got, packs)
	}
	if got := epochs(t, be, "commit/"); got[1] != 1 || got[2] != 2 {
		t.Errorf("points by epoch: %v", got)
	}
	for _, one := range []*repo.Repository{reader, openAt(t, be, first), openAt(t, be, second), r} {
		list, _, err := one.Points(t.Context())
		if err != nil || len(list) != 3 {
			t.Fatalf("%d points, %v", len(list), err)
		}
		wantContent(t, one, before, old)
		wantContent(t, one, after, late)
		if one.Epoch() != 2 {
			t.Errorf("epoch %d", one.Epoch())
		}
	}
	if list, problems, err := stale.Points(t.Context()); err != nil || len(list) != 1 || len(problems) != 2 || !errors.Is(problems[0], slot.ErrMissed) {
		t.Errorf("a removed key that was open reads %d points, not %d: %v", len(list), len(problems), err)
	}
	if _, err := tryPoint(t.Context(), stale, "image/a", old); !errors.Is(err, slot.ErrMissed) {
		t.Errorf("a removed key that was open writes: %v", err)
	}
	wantContent(t, stale, before, old)
	if _, err := repo.Open(t.Context(), be, gone, options()); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("the removed key: %v", err)
	}
	wantVerdict(t, check(t, r), nil)
	wantVerdict(t, scrub(t, be, true), nil)
}

// A process that is open while another rotates writes its next point under the
// new root.
func TestLongProcessFollowsARotation(t *testing.T) {
	r, be, secret := newRepo(t)
	long := openAt(t, be, secret)
	data := noise(1, 2*testChunk)
	makePoint(t, long, "image/a", data)
	if _, err := r.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePoint(t, long, "image/b", noise(2, testChunk))
	if got := epochs(t, be, ledger.CommitName(sidOf(t, p.SID))); got[2] != 1 {
		t.Errorf("sealed in %v", got)
	}
	wantContent(t, r, p, noise(2, testChunk))
}

func sidOf(t *testing.T, text string) ledger.SID {
	t.Helper()
	sid, err := ledger.ParseSID(text)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

// The place of storage withholds the decision of a rotation: its clients would
// write what old keys open. What is sealed by the new root gives it away.
func TestWithheldRotationIsALoudError(t *testing.T) {
	r, be, secret := newRepo(t)
	makePoint(t, r, "image/a", noise(1, testChunk))
	if _, err := r.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	makePoint(t, r, "image/a", noise(1, testChunk)) // stores no chunk: the manifest alone is of epoch 2
	for _, name := range names(t, be, "") {
		if strings.Contains(name, ledger.Epochs) {
			damage(t, be, name, remove)
		}
	}
	back := openAt(t, be, secret)
	if _, problems, err := back.Points(t.Context()); err != nil || len(problems) != 1 || !errors.Is(problems[0], seal.ErrUnknownEpoch) {
		t.Errorf("points: %v %v", problems, err)
	}
	if _, err := tryPoint(t.Context(), back, "image/a", noise(3, testChunk)); !errors.Is(err, seal.ErrUnknownEpoch) {
		t.Errorf("set back without a word: %v", err)
	}
}

// Damage of what rotation wrote is found, and healed from its spare.
func TestScrubHealsWhatRotationWrote(t *testing.T) {
	r, be, secret := newRepo(t)
	other := keyFile(t)
	id, err := r.AddKey(t.Context(), repo.NewKey{Secret: other})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	before := contents(t, be)
	hit := 0
	for _, name := range names(t, be, "") {
		if ledger.IsKeyObject(name) {
			change := ruin
			if hit%2 == 0 {
				change = remove
			}
			damage(t, be, name, change)
			hit++
		}
	}
	if hit != 7 { // slot, two of the roll, mark, box, decision, removal
		t.Fatalf("%d objects", hit)
	}
	wantVerdict(t, check(t, openAt(t, be, secret)), repo.ErrHealable)
	wantVerdict(t, scrub(t, be, true), repo.ErrHealable)
	wantVerdict(t, scrub(t, be, true), nil)
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
	for name, was := range contents(t, be) {
		if string(before[name]) != string(was) {
			t.Errorf("%s is not what it was", name)
		}
	}
}
