package repo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/pack"
)

// TestCheckOfAShareReadsThatShare by bytes and by percent, in shuffled order.
func TestCheckOfAShareReadsThatShare(t *testing.T) {
	_, be, secret := newRepo(t)
	for i := range 6 {
		makePoint(t, openAt(t, be, secret), "image/a", noise(uint64(i), 30*testChunk))
	}
	m := &meter{Backend: be}
	r, err := repo.Open(t.Context(), m, secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := func(opts repo.CheckOptions) int {
		m.reset()
		shuffled := false
		opts.ReadData, opts.Shuffle = true, func(n int, swap func(i, j int)) { shuffled = true; slices.Reverse(make([]int, n)) }
		var last int64
		opts.Progress = func(done, total int64) {
			if done < last || done > total {
				t.Errorf("progress went from %d to %d of %d", last, done, total)
			}
			last = done
		}
		rep, err := r.Check(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, rep, nil)
		whole := 0
		for name := range m.whole {
			if strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "meta/") {
				whole++
			}
		}
		if shuffled != (whole < 12) {
			t.Errorf("%d packs read, shuffled %v", whole, shuffled)
		}
		return whole
	}
	if got := read(repo.CheckOptions{}); got != 12 {
		t.Errorf("all: %d packs", got)
	}
	if got := read(repo.CheckOptions{ReadPercent: 50}); got < 3 || got > 9 {
		t.Errorf("half: %d packs", got)
	}
	if got := read(repo.CheckOptions{ReadBytes: 1}); got != 1 {
		t.Errorf("one byte: %d packs", got)
	}
	if got := read(repo.CheckOptions{ReadPercent: 100, ReadBytes: 1 << 40}); got != 12 {
		t.Errorf("all and more: %d packs", got)
	}
}

// busy is a store in which another program makes points between two listings.
type busy struct {
	backend.Backend
	between func()
}

func (b *busy) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	err := b.Backend.List(ctx, prefix, fn)
	b.between()
	return err
}

// TestCheckBesideARunningBackupRaisesNoFalseAlarm: what was written after one
// listing and before the next is not missing.
func TestCheckBesideARunningBackupRaisesNoFalseAlarm(t *testing.T) {
	writer, be, secret := newRepo(t)
	makePoint(t, writer, "image/a", noise(0, 3*testChunk))
	b := &busy{Backend: be, between: func() {}}
	r := openAt(t, b, secret)
	listings := 0
	b.between = func() {
		listings++
		makePoint(t, writer, "image/a", noise(uint64(listings), 3*testChunk))
	}
	wantVerdict(t, check(t, r), nil)
	if listings < 5 {
		t.Errorf("only %d listings", listings)
	}
	b.between = func() {}
	wantVerdict(t, check(t, r), nil)
}

// TestForeignFilesDisturbNobody: a note or a copy that somebody left at the place.
func TestForeignFilesDisturbNobody(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(1, 3*testChunk)
	p := makePoint(t, r, "image/a", data)
	for _, name := range []string{"readme.txt", "ledger/00000000.bak", "ledger/zz", "commit/note", "index/note", "sessions.txt", "spare/note"} {
		if err := be.Put(t.Context(), name, []byte("do not delete")); err != nil {
			t.Fatal(err)
		}
	}
	fresh := openAt(t, be, secret)
	wantContent(t, fresh, p, data)
	if points, problems, err := fresh.Points(t.Context()); err != nil || len(points) != 1 || len(problems) != 0 {
		t.Errorf("points: %v %v %v", points, problems, err)
	}
	makePoint(t, fresh, "image/a", data)
	for _, f := range scrub(t, be, true).Findings {
		if !strings.HasPrefix(f.Object, "ledger/") && !strings.HasPrefix(f.Object, "commit/") && !strings.HasPrefix(f.Object, "index/") {
			t.Errorf("scrub: %+v", f)
		}
	}
	if string(object(t, be, "readme.txt")) != "do not delete" {
		t.Error("the note was changed")
	}
}

// TestLedgerThatIsGoneIsSaid by check, and a writer refuses to guess.
func TestLedgerThatIsGoneIsSaid(t *testing.T) {
	_, be, secret := newRepo(t)
	damage(t, be, "ledger/00000000", remove)
	damage(t, be, "spare/ledger/00000000", remove)
	r := openAt(t, be, secret)
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	if len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].Object, "ledger") {
		t.Errorf("check: %+v", rep.Findings)
	}
	if _, err := r.Begin(t.Context(), "image/a", "a"); !errors.Is(err, pack.ErrDamaged) || !errors.Is(err, repo.ErrLedger) {
		t.Errorf("begin: %v", err)
	}
}

// TestScrubNeedsNoKeyAndARepository and tells of progress and findings.
func TestScrubNeedsNoKeyAndARepository(t *testing.T) {
	m := newMuseum(t, "strong")
	damage(t, m.be, m.pieces["data"], func(b []byte) []byte { b[9000] ^= 1; return b })
	damage(t, m.be, m.pieces["session"], ruin)
	var done, total int64
	var told []string
	rep, err := repo.Scrub(t.Context(), m.be, repo.ScrubOptions{
		Progress: func(d, all int64) { done, total = d, all },
		Found:    func(name, what string) { told = append(told, name) },
	})
	if err != nil || done != total || rep.Bytes != total || rep.Damaged != 2 || rep.Errors != 1 || rep.Healed != 0 || len(told) != 2 {
		t.Errorf("scrub: %+v %v, %d of %d, told %v", rep, err, done, total, told)
	}
	if _, err := repo.Scrub(t.Context(), mem.New(), repo.ScrubOptions{}); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("scrub of nothing: %v", err)
	}
	away := fault.New(m.be, fault.Options{Rules: []fault.Rule{{Op: fault.Get, Err: backend.ErrUnreachable}}})
	if rep, err := repo.Scrub(t.Context(), away, repo.ScrubOptions{Heal: true}); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("scrub without a way: %+v %v", rep, err)
	}
	dying := fault.New(m.be, fault.Options{Rules: []fault.Rule{{Op: fault.Put, Err: backend.ErrNoSpace}}})
	before := object(t, m.be, m.pieces["data"])
	if rep, err := repo.Scrub(t.Context(), dying, repo.ScrubOptions{Heal: true}); err != nil || rep.Healed != 0 || rep.Damaged != 2 || !strings.Contains(rep.Findings[0].What+rep.Findings[1].What, "no space") {
		t.Errorf("heal on a full store: %+v %v", rep, err)
	}
	if !slices.Equal(before, object(t, m.be, m.pieces["data"])) {
		t.Error("a heal that failed changed the object")
	}
}
