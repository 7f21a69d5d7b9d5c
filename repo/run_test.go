package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

// twoRuns is a repository of which the younger run alone lists what a repack has copied:
// the older one still lists the pack that was copied, and which is gone.
type twoRuns struct {
	be     *mem.Backend
	secret seal.Secret
	data   map[string][]byte // by point
	last   []byte
	young  string
	copied string // the pack that the repack has made
}

func newTwoRuns(t *testing.T) *twoRuns {
	t.Helper()
	r, be, secret := newRepo(t)
	w := &twoRuns{be: be, secret: secret, data: map[string][]byte{}}
	add := func(source string, data []byte) *recovery.Point {
		p := makePoint(t, r, source, data)
		w.data[p.ID] = slices.Clone(data)
		return p
	}
	a := noise(1, 20*testChunk)
	first := add("image/a", a)
	copy(a, noise(2, 3*testChunk))
	add("image/a", a)
	for i := range 8 { // so many packs that the next run is not worth a merge
		add("image/b", noise(uint64(10+i), 2*testChunk))
	}
	prune(t, r, repo.PruneOptions{})
	old := newestEntry(t, be, r).Runs
	w.last = a
	forget(t, r, first.ID)
	delete(w.data, first.ID)
	none, before := 0.0, names(t, be, ledger.Data)
	prune(t, r, repo.PruneOptions{MaxUnused: &none})
	runs := newestEntry(t, be, r).Runs
	fresh := slices.DeleteFunc(names(t, be, ledger.Data), func(name string) bool { return slices.Contains(before, name) })
	if len(old) != 1 || len(runs) != 2 || !slices.Contains(runs, old[0]) || len(fresh) != 1 {
		t.Fatalf("no repacked pack that a second run alone lists: %v, %v, %v", old, runs, fresh)
	}
	w.young, w.copied = runs[1-slices.Index(runs, old[0])], fresh[0]
	return w
}

// without is the repository with its younger run changed.
func (w *twoRuns) without(t *testing.T, change func([]byte) []byte) *mem.Backend {
	t.Helper()
	be := w.be.CrashClone(mem.CrashOptions{})
	damage(t, be, w.young, change)
	return be
}

func (w *twoRuns) intact(t *testing.T, r *repo.Repository) {
	t.Helper()
	points, problems, err := r.Points(t.Context())
	if err != nil || len(problems) > 0 || len(points) != len(w.data) {
		t.Fatal(points, problems, err)
	}
	for _, p := range points {
		wantContent(t, r, p.Point, w.data[p.ID])
	}
}

// TestLostRunIsNoLostData: the index names a place that is gone for what lies in a pack
// that it does not list any more. Everything restores, check asks for a repair of the
// index and names the run, a repair of packs calls nothing lost, and prune decides nothing.
func TestLostRunIsNoLostData(t *testing.T) {
	w := newTwoRuns(t)
	for how, change := range map[string]func([]byte) []byte{"deleted": remove, "ruined": ruin, "empty": func([]byte) []byte { return []byte{} }} {
		t.Run(how, func(t *testing.T) {
			be := w.without(t, change)
			w.intact(t, openAt(t, be, w.secret))
			if err := openAt(t, be, w.secret).Presence().Look(t.Context(), blob.DiskChunk, w.chunks(t)); err != nil {
				t.Errorf("look for chunks: %v", err)
			}
			for _, readData := range []bool{false, true} {
				rep, err := openAt(t, be, w.secret).Check(t.Context(), repo.CheckOptions{ReadData: readData})
				if err != nil {
					t.Fatal(err)
				}
				wantVerdict(t, rep, repo.ErrUnlisted)
				if !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Object == w.young }) {
					t.Errorf("check does not name the run: %+v", rep.Findings)
				}
			}
			before := names(t, be, "")
			rep, err := openAt(t, be, w.secret).Prune(t.Context(), repo.PruneOptions{})
			if !errors.Is(err, repo.ErrIndexLost) || len(rep.Blocked) == 0 || !slices.Equal(before, names(t, be, "")) {
				t.Errorf("prune: %v %+v", err, rep)
			}
			r := openAt(t, be, w.secret)
			for _, dry := range []bool{true, false} {
				rep, err := r.RepairPacks(t.Context(), dry, nil)
				if err != nil || len(rep.Missing)+len(rep.Damaged)+rep.ChunksLost != 0 || rep.Unlisted == 0 || dry != (rep.Index == nil) {
					t.Fatalf("repair packs: %+v %v", rep, err)
				}
			}
			w.intact(t, r)
			wantVerdict(t, check(t, openAt(t, be, w.secret)), nil)
			prune(t, openAt(t, be, w.secret), repo.PruneOptions{})
			r = openAt(t, be, w.secret)
			w.intact(t, r)
			wantVerdict(t, check(t, r), nil)
			wantTidy(t, r, be)
			w.intact(t, openAt(t, be, w.secret))
		})
	}
}

// chunks are the chunks of the disk that needs the pack that was copied.
func (w *twoRuns) chunks(t *testing.T) (ids []blob.ID) {
	t.Helper()
	r := openAt(t, w.be, w.secret)
	for at := 0; at < len(w.last); at += testChunk {
		ids = append(ids, r.IDOf(blob.DiskChunk, w.last[at:at+testChunk]))
	}
	return ids
}

// TestLostRunAndLostPackIsALoss: what neither the index nor any pack has is lost, and
// nobody takes the repair of the index for the way out.
func TestLostRunAndLostPackIsALoss(t *testing.T) {
	w := newTwoRuns(t)
	rot := func(b []byte) []byte { ruin(b[len(b)/8 : len(b)/2]); return b } // the table stays
	for how, change := range map[string]func([]byte) []byte{"deleted": remove, "ruined": ruin, "rotten": rot} {
		t.Run(how, func(t *testing.T) {
			be := w.without(t, remove)
			damage(t, be, w.copied, change)
			r := openAt(t, be, w.secret)
			hit := 0
			points, _, err := r.Points(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range points {
				if _, err := read(t.Context(), r, p.Point); err != nil {
					hit++
				}
			}
			rep := check(t, r)
			if !errors.Is(rep.Verdict(), pack.ErrDamaged) || hit == 0 {
				t.Errorf("%d points hit, verdict %v: %+v", hit, rep.Verdict(), rep.Findings)
			}
			if _, err := r.Prune(t.Context(), repo.PruneOptions{}); !errors.Is(err, repo.ErrPruneBlocked) {
				t.Errorf("prune: %v", err)
			}
		})
	}
}

// TestLostRunIsReadOnceNotForEachChunk: the packs that no segment lists are read when a
// place proves to be gone, and after that nobody goes there again.
func TestLostRunIsReadOnceNotForEachChunk(t *testing.T) {
	w := newTwoRuns(t)
	m := &meter{Backend: w.without(t, remove)}
	r, err := repo.Open(t.Context(), m, w.secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m.reset()
	for _, id := range w.chunks(t) {
		if err := r.Load(t.Context(), blob.DiskChunk, []blob.ID{id}, func(int, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if m.whole[w.copied] > 2 { // its table, and the chunk that had to be looked for
		t.Errorf("the pack that no segment lists was read whole %d times", m.whole[w.copied])
	}
}

// TestUnlistedPacksAreReadByNobodyWhoNeedsThemNot: what the index finds costs no look at
// packs that no segment lists.
func TestUnlistedPacksAreReadByNobodyWhoNeedsThemNot(t *testing.T) {
	w := newTwoRuns(t)
	m := &meter{Backend: w.without(t, remove)}
	r, err := repo.Open(t.Context(), m, w.secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	points, _, err := r.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.reset()
	for _, p := range points {
		if strings.HasSuffix(p.Source, "/b") {
			wantContent(t, r, p.Point, w.data[p.ID])
		}
	}
	if m.whole[w.copied] != 0 {
		t.Error("a pack that nothing asked for was read")
	}
}
