package repo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
)

// TestLosingOneCopyOfConfigOrKeyLosesNothing deletes or ruins each copy.
func TestLosingOneCopyOfConfigOrKeyLosesNothing(t *testing.T) {
	for _, kind := range []string{"config", "spare config", "key", "spare key"} {
		for how, change := range map[string]func([]byte) []byte{"deleted": remove, "ruined": ruin, "empty": func([]byte) []byte { return []byte{} }} {
			t.Run(kind+" "+how, func(t *testing.T) {
				m := newMuseum(t, "standard")
				name := m.pieces[kind]
				whole := object(t, m.be, name)
				damage(t, m.be, name, change)
				if err := m.visit(t); err != nil {
					t.Fatalf("with one copy left: %v", err)
				}
				for what, rep := range map[string]*repo.Report{"check": check(t, openAt(t, m.be, m.secret)), "scrub": scrub(t, m.be, false)} {
					if err := rep.Verdict(); !errors.Is(err, repo.ErrHealable) || len(rep.Findings) != 1 || rep.Findings[0].Object != name {
						t.Errorf("%s: %v %+v", what, err, rep.Findings)
					}
				}
				scrub(t, m.be, true)
				if !bytes.Equal(object(t, m.be, name), whole) {
					t.Error("scrub did not bring the copy back as it was")
				}
				wantVerdict(t, check(t, openAt(t, m.be, m.secret)), nil)
			})
		}
	}
}

// TestLosingBothCopiesIsAnErrorThatSaysSo deletes or ruins both copies.
func TestLosingBothCopiesIsAnErrorThatSaysSo(t *testing.T) {
	for _, c := range []struct {
		kind   string
		change func([]byte) []byte
		want   error
	}{
		{"config", remove, pack.ErrDamaged}, {"config", ruin, pack.ErrDamaged},
		{"key", remove, pack.ErrDamaged}, {"key", ruin, pack.ErrDamaged},
	} {
		m := newMuseum(t, "standard")
		damage(t, m.be, m.pieces[c.kind], c.change)
		damage(t, m.be, m.pieces["spare "+c.kind], c.change)
		if _, err := repo.Open(t.Context(), m.be, m.secret, options()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, not %v", c.kind, err, c.want)
		}
	}
}

// TestBothCopiesOfOneKeyRuinedIsNoHealableDamage: another key opens the
// repository still, but the ruined one will not come back.
func TestBothCopiesOfOneKeyRuinedIsNoHealableDamage(t *testing.T) {
	r, be, _ := newRepo(t)
	id, err := r.AddKey(t.Context(), repo.NewKey{Secret: keyFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	damage(t, be, "keys/"+id, ruin)
	damage(t, be, "spare/keys/"+id, ruin)
	wantVerdict(t, check(t, r), pack.ErrDamaged)
	wantVerdict(t, scrub(t, be, true), pack.ErrDamaged)
}

// fullPack is a repository whose one data pack is full, and an older, small
// point of another source in packs of its own.
type fullPack struct {
	be    *mem.Backend
	r     *repo.Repository
	small *recovery.Point
	big   *recovery.Point
	few   []byte
	data  []byte
	name  string
}

func newFullPack(t *testing.T) *fullPack {
	t.Helper()
	f := &fullPack{few: noise(1, 3*testChunk), data: noise(2, 31<<20)}
	f.r, f.be, _ = newRepo(t)
	f.small = makePoint(t, f.r, "image/small", f.few)
	f.big = makePoint(t, f.r, "image/big", f.data)
	for _, name := range names(t, f.be, "data/"+f.big.SID) {
		if len(object(t, f.be, name)) == 35_725_312 {
			f.name = name
		}
	}
	if f.name == "" {
		t.Fatalf("no full pack among %v", names(t, f.be, "data/"))
	}
	return f
}

const burst = 3 << 19 // 1.5 MiB, what FORMAT.md promises for a full pack

// TestAnyBurstInAFullPackHealsAndReads puts bursts at its ends, at the edges
// of headers and parity, and between.
func TestAnyBurstInAFullPackHealsAndReads(t *testing.T) {
	f := newFullPack(t)
	whole := object(t, f.be, f.name)
	end := len(whole) - burst
	for i, at := range []int{0, 1, 9*4096 - 7, 5_000_001, 17 << 20, end - 9*4096 + 11, end} {
		damage(t, f.be, f.name, func(b []byte) []byte { ruin(b[at : at+burst]); return b })
		wantContent(t, f.r, f.big, f.data)
		if i%3 == 0 {
			wantVerdict(t, check(t, f.r), repo.ErrHealable)
			scrub(t, f.be, true)
			if !bytes.Equal(object(t, f.be, f.name), whole) {
				t.Errorf("burst at %d: healed to other bytes than before", at)
			}
		}
		damage(t, f.be, f.name, func([]byte) []byte { return bytes.Clone(whole) })
	}
}

// TestDamagedPackIsFetchedOnceForManyChunks: a burst that hits many chunks
// costs about one read of the pack, not one for each chunk.
func TestDamagedPackIsFetchedOnceForManyChunks(t *testing.T) {
	f := newFullPack(t)
	damage(t, f.be, f.name, func(b []byte) []byte { ruin(b[9<<20 : 9<<20+burst]); return b })
	m := &meter{Backend: f.be}
	r, err := repo.Open(t.Context(), m, keyOf(t, f), options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m.reset()
	wantContent(t, r, f.big, f.data)
	if got := m.whole[f.name]; got < 1 || got > 8 {
		t.Errorf("the pack was fetched whole %d times for %d damaged chunks", got, burst/testChunk)
	}
}

// keyOf adds a key that the caller knows.
func keyOf(t *testing.T, f *fullPack) (secret secretOf) {
	t.Helper()
	secret = keyFile(t)
	if _, err := f.r.AddKey(t.Context(), repo.NewKey{Secret: secret}); err != nil {
		t.Fatal(err)
	}
	return secret
}

// TestBeyondParityNamesThePointsAndItemsHit: what is lost is said, with the
// points that need it; everything else restores.
func TestBeyondParityNamesThePointsAndItemsHit(t *testing.T) {
	f := newFullPack(t)
	damage(t, f.be, f.name, func(b []byte) []byte { ruin(b[4<<20 : 9<<20]); return b })
	var hurt *repo.DamageError
	if _, err := read(t.Context(), f.r, f.big); !errors.As(err, &hurt) || hurt.Object != f.name || !errors.Is(err, pack.ErrDamaged) {
		t.Fatalf("reading what is lost: %v", err)
	}
	wantContent(t, f.r, f.small, f.few)
	rep := check(t, f.r)
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || rep.Findings[0].Object != f.name || !slices.Equal(rep.Findings[0].Hits, []string{f.big.ID + "/disk-0"}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
	before := object(t, f.be, f.name)
	wantVerdict(t, scrub(t, f.be, true), pack.ErrDamaged)
	if !bytes.Equal(before, object(t, f.be, f.name)) {
		t.Error("scrub wrote over what it could not heal")
	}
}

// TestPointBesideTheLossIsNotSaidToBeHit: two points share a pack of which one
// chunk is lost; only the point that needs that chunk is hit.
func TestPointBesideTheLossIsNotSaidToBeHit(t *testing.T) {
	r, be, _ := newRepo(t)
	s, err := r.Begin(t.Context(), "image/a", "a")
	if err != nil {
		t.Fatal(err)
	}
	// One session stores two disks into one pack; a second point uses the first alone.
	one, two := noise(1, 4*testChunk), noise(2, 60*testChunk)
	if _, err := put(t.Context(), r, s, fixtureClock, "image/b", one); err != nil {
		t.Fatal(err)
	}
	a, err := put(t.Context(), r, s, fixtureClock, "image/a", two)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	b := makePoint(t, r, "image/b", one)
	name := names(t, be, "data/"+a.SID)[0]
	damage(t, be, name, func(o []byte) []byte { ruin(o[len(o)/2 : len(o)*3/4]); return o })
	wantContent(t, r, b, one)
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || !slices.Equal(rep.Findings[0].Hits, []string{a.ID + "/disk-0"}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestMissingPackNamesThePointsAndItemsHit deletes packs of both sorts.
func TestMissingPackNamesThePointsAndItemsHit(t *testing.T) {
	for _, prefix := range []string{"data/", "meta/"} {
		r, be, _ := newRepo(t)
		a := makePoint(t, r, "image/a", noise(1, 3*testChunk))
		data := noise(2, 3*testChunk)
		b := makePoint(t, r, "image/b", data)
		name := names(t, be, prefix+a.SID)[0]
		damage(t, be, name, remove)
		rep := check(t, r)
		wantVerdict(t, rep, pack.ErrDamaged)
		if len(rep.Findings) != 1 || rep.Findings[0].Object != name || !slices.Equal(rep.Findings[0].Hits, []string{a.ID + "/disk-0", a.ID + "/text"}) {
			t.Errorf("findings: %+v", rep.Findings)
		}
		if _, err := read(t.Context(), r, a); !errors.Is(err, backend.ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("reading a missing pack: %v", err)
		}
		wantContent(t, r, b, data)
	}
}

// TestTruncatedPackIsReportedOnce: its length and its bytes are both looked at.
func TestTruncatedPackIsReportedOnce(t *testing.T) {
	r, be, _ := newRepo(t)
	data := noise(1, 3*testChunk)
	p := makePoint(t, r, "image/a", data)
	damage(t, be, names(t, be, "data/")[0], func(b []byte) []byte { return b[:len(b)-5000] })
	wantContent(t, r, p, data)
	if rep := check(t, r); len(rep.Findings) != 1 || !errors.Is(rep.Verdict(), repo.ErrHealable) {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestDamagedManifestIsNamedAndOthersRestore: the damaged point stays in every
// listing, by its id, and under the name of its object.
func TestDamagedManifestIsNamedAndOthersRestore(t *testing.T) {
	r, be, _ := newRepo(t)
	data := noise(1, 3*testChunk)
	a, b := makePoint(t, r, "image/a", data), makePoint(t, r, "image/b", data)
	name := names(t, be, "commit/")[slices.IndexFunc(names(t, be, "commit/"), func(n string) bool { return strings.HasSuffix(n, a.SID) })]
	damage(t, be, name, ruin)
	points, problems, err := r.Points(t.Context())
	if err != nil || len(points) != 1 || len(problems) != 1 || problems[0].ID != a.ID || !errors.Is(problems[0], pack.ErrDamaged) {
		t.Fatalf("points: %v %v %v", points, problems, err)
	}
	for _, spec := range []string{a.ID, a.ID[:6], strings.ToUpper(a.ID[:8])} {
		if _, err := r.Find(t.Context(), spec); !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("find %s: %v", spec, err)
		}
	}
	wantContent(t, r, b, data)
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || rep.Findings[0].Object != name || !slices.Equal(rep.Findings[0].Hits, []string{a.ID}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestDamagedLabelDoesNotHideItsPoint: tags are no reason to keep somebody
// from his data. Unknown, the pin counts as set.
func TestDamagedLabelDoesNotHideItsPoint(t *testing.T) {
	m := newMuseum(t, "standard")
	damage(t, m.be, m.pieces["label"], ruin)
	r := openAt(t, m.be, m.secret)
	e, err := r.Find(t.Context(), m.point.ID)
	if err != nil || !e.Pinned {
		t.Fatalf("find: %+v %v", e, err)
	}
	wantContent(t, r, e.Point, m.data)
	_, problems, err := r.Points(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), m.pieces["label"]) {
		t.Errorf("problems: %v %v", problems, err)
	}
	wantVerdict(t, check(t, r), pack.ErrDamaged)
}

// TestLostWayIsNotTakenForLostData: a store that does not answer is an error of
// that kind, never a finding about points or packs.
func TestLostWayIsNotTakenForLostData(t *testing.T) {
	m := newMuseum(t, "standard")
	for _, prefix := range []string{"commit/", "label/", "meta/"} {
		be := fault.New(m.be, fault.Options{Rules: []fault.Rule{{Op: fault.Get, Prefix: prefix, Err: backend.ErrUnreachable}}})
		r := openAt(t, be, m.secret)
		if rep, err := r.Check(context.Background(), repo.CheckOptions{}); !errors.Is(err, backend.ErrUnreachable) {
			t.Errorf("check without a way to %s: %v %+v", prefix, err, rep)
		}
		_, problems, err := r.Points(t.Context())
		if (prefix == "commit/" || prefix == "label/") != errors.Is(err, backend.ErrUnreachable) {
			t.Errorf("points without a way to %s: %v %v", prefix, problems, err)
		}
	}
}

// TestLostLedgerStopsWritersOnly: what was saved comes back although the record
// of maintenance is gone, and its spare with it; a writer must not guess what it said.
func TestLostLedgerStopsWritersOnly(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{"ruined": ruin, "missing": remove} {
		t.Run(what, func(t *testing.T) {
			r, be, secret := newRepo(t)
			data := noise(3, 300_000)
			makePoint(t, r, "image/a", data)
			damage(t, be, "ledger/00000000", change)
			damage(t, be, "spare/ledger/00000000", change)
			again := openAt(t, be, secret)
			points, problems, err := again.Points(t.Context())
			if err != nil || len(problems) != 0 || len(points) != 1 {
				t.Fatalf("points %v, %v, %v", points, problems, err)
			}
			wantContent(t, again, points[0].Point, data)
			if _, err := tryPoint(t.Context(), again, "image/a", data); !errors.Is(err, pack.ErrDamaged) {
				t.Errorf("a backup without a ledger: %v", err)
			}
			if what == "ruined" {
				wantVerdict(t, check(t, again), pack.ErrDamaged)
			}
		})
	}
}

// TestDeletedManifestIsMissed: nothing lists it any more, but the one after it
// remembers.
func TestDeletedManifestIsMissed(t *testing.T) {
	r, be, secret := newRepo(t)
	for day := range uint64(3) {
		makePoint(t, r, "image/a", noise(day, 200_000))
	}
	wantVerdict(t, check(t, r), nil)
	points, _, err := r.Points(t.Context())
	if err != nil || len(points) != 3 {
		t.Fatal(points, err)
	}
	for _, name := range names(t, be, "commit/") {
		if strings.HasSuffix(name, points[1].ID) {
			damage(t, be, name, remove)
		}
	}
	rep := check(t, openAt(t, be, secret))
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || !slices.Equal(rep.Findings[0].Hits, []string{points[1].ID}) || !rep.Findings[0].Vanished {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestPointThatOnlyTheLedgerNamesIsMissed: a prune has gone over it, so that the links
// between manifests tell nothing; prune refuses, and check says why.
func TestPointThatOnlyTheLedgerNamesIsMissed(t *testing.T) {
	r, be, secret := newRepo(t)
	for day := range uint64(3) {
		makePoint(t, r, "image/a", noise(day, 200_000))
	}
	prune(t, r, repo.PruneOptions{})
	wantVerdict(t, check(t, r), nil)
	points, _, err := r.Points(t.Context())
	if err != nil || len(points) != 3 {
		t.Fatal(points, err)
	}
	name := names(t, be, "commit/")[slices.IndexFunc(names(t, be, "commit/"), func(n string) bool { return strings.HasSuffix(n, points[1].ID) })]
	damage(t, be, name, remove)
	r = openAt(t, be, secret)
	if _, err := r.Prune(t.Context(), repo.PruneOptions{}); !errors.Is(err, repo.ErrPruneBlocked) || errors.Is(err, repo.ErrIndexLost) {
		t.Errorf("prune: %v", err)
	}
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || rep.Findings[0].Object != name || !slices.Equal(rep.Findings[0].Hits, []string{points[1].ID}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
	_, err = r.Find(t.Context(), points[1].ID[:8])
	lost, ok := errors.AsType[*repo.PointError](err)
	if !ok || lost.ID != points[1].ID {
		t.Fatalf("find: %v", err)
	}
	if err := r.ForgetLost(t.Context(), lost, "gone"); err != nil { // the way out
		t.Fatal(err)
	}
	prune(t, r, repo.PruneOptions{})
	wantVerdict(t, check(t, r), nil)
}

// TestOnlyWhatCameBackIsCalledHealed: a read that fails must not say that parity
// brought the bytes back, and a pack that is gone is damage beyond repair.
func TestOnlyWhatCameBackIsCalledHealed(t *testing.T) {
	for what, c := range map[string]struct {
		change func([]byte) []byte
		healed int
		want   error
	}{
		"one bit":   {func(b []byte) []byte { b[9000] ^= 1; return b }, 1, nil},
		"too much":  {ruin, 0, pack.ErrDamaged},
		"gone":      {remove, 0, pack.ErrDamaged},
		"untouched": {func(b []byte) []byte { return b }, 0, nil},
	} {
		t.Run(what, func(t *testing.T) {
			r, be, secret := newRepo(t)
			p := makePoint(t, r, "image/a", noise(4, 200_000))
			damage(t, be, names(t, be, "data/")[0], c.change)
			var told []string
			opts := options()
			opts.Healed = func(name string) { told = append(told, name) }
			again, err := repo.Open(t.Context(), be, secret, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if _, err := read(t.Context(), again, p); !errors.Is(err, c.want) {
				t.Errorf("read: %v", err)
			}
			if len(told) != c.healed {
				t.Errorf("called healed: %v", told)
			}
		})
	}
}

// TestDamagedSlotOfAForgottenPointHindersNothing: nobody reads it, and the next prune
// takes it away; there is nothing to acknowledge.
func TestDamagedSlotOfAForgottenPointHindersNothing(t *testing.T) {
	r, be, secret := newRepo(t)
	p := makePoint(t, r, "image/a", noise(1, testChunk))
	e, err := r.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetLabel(t.Context(), e, func(l *ledger.Label) { l.Tags = []string{"x"} }); err != nil {
		t.Fatal(err)
	}
	forget(t, r, p.ID)
	for _, prefix := range []string{ledger.Commits, ledger.Labels} {
		damage(t, be, names(t, be, prefix)[0], ruin)
	}
	rep := check(t, openAt(t, be, secret))
	if wantVerdict(t, rep, repo.ErrHarmless); len(rep.Findings) != 2 || rep.Errors != 0 {
		t.Errorf("findings: %+v", rep.Findings)
	}
	prune(t, openAt(t, be, secret), repo.PruneOptions{})
	wantVerdict(t, check(t, openAt(t, be, secret)), nil)
}
