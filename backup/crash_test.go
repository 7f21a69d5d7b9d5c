package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// story is everything that changes a repository, told step by step. It notes
// what it was told is done, so that afterwards no promise is forgotten.
type story struct {
	secret, second seal.Secret
	committed      map[string][]byte // point id → content, once Run has returned
	contents       [][]byte          // of all points that may exist
	tagged         string
}

const crashChunk = 64 << 10

func (s *story) tell(ctx context.Context, be backend.Backend) error {
	c := newClock()
	r, err := repo.Init(ctx, be, repo.InitParams{DiskChunkBytes: crashChunk, Keys: []repo.NewKey{{Secret: s.secret}}}, options(c))
	if err != nil {
		return err
	}
	defer r.Close()
	for day, data := range s.contents {
		src := source(c, "web01", data)
		if day > 0 {
			src.UseChanged, src.Changed = true, []image.Extent{{Start: int64(day) * 100_000, Length: 50_000}}
		}
		res, err := backup.Run(ctx, r, src, backup.Options{Now: c.Now, Reads: 1})
		if err != nil {
			return err
		}
		s.committed[res.Point.ID] = data
	}
	if _, err := r.AddKey(ctx, repo.NewKey{Secret: s.second}); err != nil {
		return err
	}
	newest, err := r.Find(ctx, "latest:web01")
	if err != nil {
		return err
	}
	if err := r.SetLabel(ctx, newest, func(l *ledger.Label) { l.Pinned = true; l.Tags = []string{"gold"} }); err != nil {
		return err
	}
	s.tagged = newest.ID
	_, err = repo.Scrub(ctx, be, repo.ScrubOptions{Heal: true})
	return err
}

func newStory(secret, second seal.Secret) *story {
	s := &story{secret: secret, second: second, committed: map[string][]byte{}}
	data := content(21, 600_000)
	for day := range 3 {
		data = bytes.Clone(data)
		if day > 0 {
			copy(data[day*100_000:], content(uint64(30+day), 50_000))
		}
		s.contents = append(s.contents, data)
	}
	return s
}

// aftermath opens what a crash has left and holds it against what was promised.
func (s *story) aftermath(t *testing.T, be backend.Backend) {
	t.Helper()
	ctx := t.Context()
	r, err := repo.Open(ctx, be, s.secret, options(newClock()))
	if errors.Is(err, repo.ErrNoRepository) && len(s.committed) == 0 {
		return
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer r.Close()
	rep, err := r.Check(ctx, repo.CheckOptions{ReadData: true})
	if err == nil && onlyMissingCopies(rep) {
		// It was cut off between the two copies of the config or of a key.
		if _, err := repo.Scrub(ctx, be, repo.ScrubOptions{Heal: true}); err != nil {
			t.Fatalf("scrub: %v", err)
		}
		rep, err = r.Check(ctx, repo.CheckOptions{ReadData: true})
	}
	if err != nil || rep.Verdict() != nil {
		t.Fatalf("check: %v %+v", err, rep)
	}
	points, problems, err := r.Points(ctx)
	if err != nil || len(problems) > 0 {
		t.Fatalf("points: %v %v", problems, err)
	}
	found := map[string]bool{}
	for _, p := range points {
		found[p.ID] = true
		got := readBack(t, r, p.Point)
		if want, ok := s.committed[p.ID]; ok && !bytes.Equal(got, want) {
			t.Fatalf("point %s came back different", p.ID)
		}
		known := false
		for _, data := range s.contents {
			known = known || bytes.Equal(got, data)
		}
		if !known {
			t.Fatalf("point %s holds what no source ever held", p.ID)
		}
		if p.ID == s.tagged && (!p.Pinned || len(p.Tags) != 1) {
			t.Fatalf("the label of %s is lost", p.ID)
		}
	}
	for id := range s.committed {
		if !found[id] {
			t.Fatalf("point %s was committed and is gone", id)
		}
	}
	// And the repository goes on working.
	res, err := backup.Run(ctx, r, source(newClock(), "web01", s.contents[0]), backup.Options{Now: newClock().Now})
	if err != nil {
		t.Fatalf("backup after the crash: %v", err)
	}
	if !bytes.Equal(readBack(t, r, res.Point), s.contents[0]) {
		t.Fatal("the backup after the crash came back different")
	}
}

// onlyMissingCopies reports whether all that is wrong is that a precious object
// lies there once, not twice.
func onlyMissingCopies(rep *repo.Report) bool {
	for _, f := range rep.Findings {
		if f.Lost || !strings.HasPrefix(f.What, "missing; its copy") {
			return false
		}
	}
	return len(rep.Findings) > 0
}

// losses decides what of the unsynced survives; seed 0: nothing.
func losses(seed uint64) *mrand.Rand {
	if seed == 0 {
		return nil
	}
	return mrand.New(mrand.NewPCG(seed, 5))
}

// TestCrashAtEveryWrite stops the program at each call that changes the store,
// once with the change not made and once with it made but unanswered, and lets
// everything that was not synced be lost, or survive, or half of it.
func TestCrashAtEveryWrite(t *testing.T) {
	secret, second := keyFile(t), keyFile(t)
	count := fault.New(mem.Open(mem.Options{Strict: true}), fault.Options{})
	if err := newStory(secret, second).tell(t.Context(), count); err != nil {
		t.Fatal(err)
	}
	calls := count.Calls()
	if len(calls) < 20 {
		t.Fatalf("only %d calls: the story is not told", len(calls))
	}
	for at := range calls {
		for _, mode := range fault.Modes {
			t.Run(fmt.Sprintf("%03d-%s-%s", at+1, calls[at].Op, mode), func(t *testing.T) {
				store := mem.Open(mem.Options{Strict: true})
				broken := fault.New(store, fault.Options{Plan: fault.Plan{At: at + 1, Mode: mode, Stop: true}})
				s := newStory(secret, second)
				if err := s.tell(t.Context(), broken); err == nil && at+1 < len(calls) {
					t.Fatal("the story ended well although its store had failed")
				}
				for seed := range uint64(3) {
					s.aftermath(t, store.CrashClone(mem.CrashOptions{Rand: losses(seed), Torn: seed == 2}))
				}
			})
		}
	}
	t.Logf("%d calls, each failed in %d ways, 3 losses each", len(calls), len(fault.Modes))
}
