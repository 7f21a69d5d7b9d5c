package repo_test

import (
	"strings"
	"sync"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// TestRepairPacksBesideARotationTouchesNothingHealthy: packs that another process
// has sealed with a newer key are not damaged.
func TestRepairPacksBesideARotationTouchesNothingHealthy(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	old := openAt(t, store, secret)
	makePoint(t, old, "image/a", noise(1, 3*testChunk))
	other := openAt(t, store, secret)
	if _, err := other.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	data := noise(2, 3*testChunk)
	p := makePoint(t, other, "image/b", data)
	rep, err := old.RepairPacks(t.Context(), false, nil)
	if err != nil || len(rep.Damaged) != 0 {
		t.Errorf("repair beside a rotation: %+v %v", rep, err)
	}
	fresh := openAt(t, store, secret)
	wantContent(t, fresh, p, data)
	wantVerdict(t, check(t, fresh), nil)
	wantVerdict(t, check(t, old), nil)
}

// TestPruneBesideARepairOfPacksKeepsWhatWasSaved: the repair is still putting the
// damaged pack aside; its copy must not be taken for superfluous meanwhile.
func TestPruneBesideARepairOfPacksKeepsWhatWasSaved(t *testing.T) {
	for source := range 6 { // whose names sort before and after the repair's
		store, secret := mem.New(), keyFile(t)
		initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
		name := "image/" + string(rune('a'+source))
		makePoint(t, openAt(t, store, secret), name, noise(1, 40*testChunk))
		for _, pack := range names(t, store, ledger.Data) {
			damage(t, store, pack, func(b []byte) []byte { clear(b[len(b)/3 : len(b)*2/3]); return b })
		}
		be, pruned := &hooked{Backend: store}, sync.Once{}
		be.before = func(op fault.Op, object string) {
			if op == fault.Put && strings.HasPrefix(object, ledger.Quarantine) {
				pruned.Do(func() {
					if _, err := openAt(t, store, secret).Prune(t.Context(), repo.PruneOptions{}); err != nil {
						t.Errorf("prune: %v", err)
					}
				})
			}
		}
		rep, err := openAt(t, be, secret).RepairPacks(t.Context(), false, nil)
		if err != nil || rep.ChunksSalvaged == 0 {
			t.Fatalf("repair: %+v %v", rep, err)
		}
		again := makePoint(t, openAt(t, store, secret), name, noise(1, 40*testChunk))
		if int(again.ChunksNew) > rep.ChunksLost {
			t.Errorf("%s: %d chunks had to be stored again, %d were said to be lost", name, again.ChunksNew, rep.ChunksLost)
		}
		wantVerdict(t, check(t, openAt(t, store, secret)), nil)
	}
}

// TestRepairPacksTakesPacksThatAreGoneOutOfTheIndex: a backup after it stores anew
// what they held, instead of believing it stored.
func TestRepairPacksTakesPacksThatAreGoneOutOfTheIndex(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	data := noise(1, 3*testChunk)
	makePoint(t, openAt(t, store, secret), "image/a", data)
	gone := names(t, store, ledger.Data)
	for _, pack := range gone {
		if err := store.Delete(t.Context(), pack); err != nil {
			t.Fatal(err)
		}
	}
	r := openAt(t, store, secret)
	rep, err := r.RepairPacks(t.Context(), true, nil)
	if err != nil || len(rep.Missing) != len(gone) || rep.Index != nil {
		t.Errorf("dry run: %+v %v", rep, err)
	}
	if rep, err = r.RepairPacks(t.Context(), false, nil); err != nil || len(rep.Missing) != len(gone) || rep.Index == nil {
		t.Fatalf("repair: %+v %v", rep, err)
	}
	fresh := openAt(t, store, secret)
	wantContent(t, fresh, makePoint(t, fresh, "image/b", data), data)
	if rep, err = fresh.RepairPacks(t.Context(), false, nil); err != nil || len(rep.Missing) != 0 {
		t.Errorf("once more: %+v %v", rep, err)
	}
}

// TestChunkThatAnotherPackHoldsIsNotCalledLost: two backups at once have stored the same;
// of a pack that nothing opens any more only what no other holds is lost, whether the
// index lists that other one or not.
func TestChunkThatAnotherPackHoldsIsNotCalledLost(t *testing.T) {
	for what, unlist := range map[string]bool{"listed": false, "unlisted": true} {
		t.Run(what, func(t *testing.T) {
			one, store, secret := newRepo(t)
			data := noise(1, 5*testChunk)
			s, p := stored(t, one, "image/a", data)
			other, q := stored(t, openAt(t, store, secret), "image/b", data)
			for s, p := range map[*repo.Session]*recovery.Point{s: p, other: q} {
				if err := s.Commit(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			damage(t, store, names(t, store, ledger.Data+p.SID)[0], ruin)
			if unlist {
				damage(t, store, names(t, store, ledger.Indexes+q.SID)[0], remove)
			}
			rep, err := openAt(t, store, secret).RepairPacks(t.Context(), false, nil)
			if err != nil || len(rep.Damaged) != 1 || rep.ChunksLost != 1 || rep.Damaged[0].Lost != 1 { // its stream names the source
				t.Errorf("repair packs: %+v %v", rep, err)
			}
			wantContent(t, openAt(t, store, secret), q, data)
		})
	}
}
