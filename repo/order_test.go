package repo_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

// asMade are the points of a source in their order, by the ids that they had first.
func asMade(t *testing.T, r *repo.Repository, source string) (ids []string) {
	t.Helper()
	entries, problems, err := r.PointsOf(t.Context(), source)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	slices.Reverse(entries) // the order that it is given says nothing
	repo.InOrder(entries)
	for _, e := range entries {
		id := e.ID
		if e.Origin != "" {
			id = e.Origin[len(e.Origin)-len(id):]
		}
		ids = append(ids, id)
	}
	return ids
}

// TestOrderOfAnUnreadableNewestPoint is known once it can be read again, though the machine
// that made it is half an hour ahead of the one that wrote beside it; and so it is in a
// copy that begins with the newest.
func TestOrderOfAnUnreadableNewestPoint(t *testing.T) {
	r, be, secret := newRepo(t)
	early := options()
	early.Now = func() time.Time { return time.Date(2026, 3, 1, 11, 30, 0, 0, time.UTC) }
	behind, err := repo.Open(t.Context(), be, secret, early)
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	a, b := makePoint(t, r, "image/a", noise(1, testChunk)), makePoint(t, r, "image/a", noise(2, testChunk))
	sid, err := ledger.ParseSID(b.SID)
	if err != nil {
		t.Fatal(err)
	}
	whole := object(t, be, ledger.CommitName(sid))
	damage(t, be, ledger.CommitName(sid), ruin)
	c, d := makePoint(t, behind, "image/a", noise(3, testChunk)), makePoint(t, r, "image/a", noise(4, testChunk))
	damage(t, be, ledger.CommitName(sid), func([]byte) []byte { return whole })
	forget(t, r, a.ID)
	want := []string{b.ID, c.ID, d.ID}
	if got := asMade(t, r, "image/a"); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if c.Made <= a.Made || c.Turn <= b.Turn || d.Made <= c.Made {
		t.Errorf("numbers %d %d %d %d, turns %d %d", a.Made, b.Made, c.Made, d.Made, b.Turn, c.Turn)
	}

	to, _, _ := newRepo(t)
	copier := to.CopierFrom(r, nil)
	for _, id := range []string{d.ID, b.ID, c.ID} {
		e, err := r.Find(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		p, err := copier.Copy(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if p.Made != e.Made || p.Turn != e.Turn {
			t.Errorf("copy has number %d and turn %d, its original %d and %d", p.Made, p.Turn, e.Made, e.Turn)
		}
	}
	own := makePoint(t, to, "image/a", noise(5, testChunk))
	if got := asMade(t, to, "image/a"); !slices.Equal(got, append(want, own.ID)) {
		t.Errorf("order of copies %v, want %v", got, append(want, own.ID))
	}
}

// TestOrderInACopyAfterAClockThatRanAhead: a point by a clock that was a week ahead is
// copied and then forgotten where it was made. What is made there later comes later in the
// copy, too, whether the slot of what was forgotten is still there or not.
func TestOrderInACopyAfterAClockThatRanAhead(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		prunes int
	}{{"forgotten", 0}, {"pruned", 1}, {"pruned again", 3}} {
		t.Run(c.name, func(t *testing.T) {
			r, be, secret := newRepo(t)
			to, _, _ := newRepo(t)
			at := func(clock time.Time, source string, seed uint64) *recovery.Point {
				t.Helper()
				opts := options()
				opts.Now = func() time.Time { return clock }
				machine, err := repo.Open(t.Context(), be, secret, opts)
				if err != nil {
					t.Fatal(err)
				}
				defer machine.Close()
				return makePoint(t, machine, source, noise(seed, testChunk))
			}
			copied := func(want ...*recovery.Point) {
				t.Helper()
				e, err := r.Find(t.Context(), want[len(want)-1].ID)
				if err == nil {
					_, err = to.CopierFrom(r, nil).Copy(t.Context(), e)
				}
				if err != nil {
					t.Fatal(err)
				}
				var ids []string
				for _, p := range want {
					ids = append(ids, p.ID)
				}
				if got := asMade(t, to, "image/a"); !slices.Equal(got, ids) {
					t.Errorf("order in the copy %v, want %v", got, ids)
				}
			}
			first := at(now, "image/a", 1)
			copied(first)
			ahead := at(now.Add(7*24*time.Hour), "image/a", 2)
			copied(first, ahead)
			forget(t, r, ahead.ID)
			for range c.prunes {
				prune(t, r, repo.PruneOptions{})
				at(now, "image/b", 9) // and entries follow that have nothing to do with it
			}
			second := at(now.Add(time.Hour), "image/a", 3)
			copied(first, ahead, second)
			forget(t, r, second.ID)
			for range c.prunes {
				prune(t, r, repo.PruneOptions{})
			}
			third := at(now.Add(2*time.Hour), "image/a", 4)
			copied(first, ahead, second, third)
		})
	}
}

// TestCopyGetsTheWordThatCameLater, and keeps one that it has got by itself.
func TestCopyGetsTheWordThatCameLater(t *testing.T) {
	from, _, _ := newRepo(t)
	to, _, _ := newRepo(t)
	var there []repo.Entry
	var here []*recovery.Point
	for i := range uint64(3) {
		e, err := from.Find(t.Context(), makePoint(t, from, "image/a", noise(i, testChunk)).ID)
		if err != nil {
			t.Fatal(err)
		}
		p, err := to.CopierFrom(from, nil).Copy(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		there, here = append(there, e), append(here, p)
	}
	word, own := json.RawMessage(`{"state":"confirmed"}`), json.RawMessage(`{"state":"denied"}`)
	for _, e := range there[:2] {
		if err := from.Confirm(t.Context(), e.Point, word); err != nil {
			t.Fatal(err)
		}
	}
	stale := to.CopierFrom(from, nil) // has looked before the copy got its own
	if said, err := stale.Said(t.Context(), there[1], here[1]); !said || err != nil {
		t.Fatal(said, err)
	}
	if err := to.Confirm(t.Context(), here[1], own); err != nil {
		t.Fatal(err)
	}
	if err := stale.Confirm(t.Context(), there[1], here[1]); err != nil {
		t.Errorf("a copy that has its own word: %v", err)
	}
	c := to.CopierFrom(from, nil)
	for i, want := range []bool{true, false, false} {
		said, err := c.Said(t.Context(), there[i], here[i])
		if said != want || err != nil {
			t.Errorf("copy %d: %v %v, want %v", i, said, err, want)
		}
	}
	if err := c.Confirm(t.Context(), there[0], here[0]); err != nil {
		t.Fatal(err)
	}
	for i, want := range []json.RawMessage{word, own, nil} {
		if got, err := to.Confirmation(t.Context(), here[i]); string(got) != string(want) || err != nil {
			t.Errorf("copy %d: %s %v, want %s", i, got, err, want)
		}
	}
}

// hardly is a case of TestForgottenPointsAreHardlyRead.
type hardly struct {
	name           string
	prunes         int  // between each two points
	idle           int  // prunes after the last one
	left, others   int  // points that are not forgotten, of the last ones; sessions of another source after them
	lost           bool // the last one's number in the roll cannot be read
	begin, pruning int  // reads of forgotten points; those of this generation any prune reads once
}

// TestForgottenPointsAreHardlyRead: that a later point comes later in a copy that still has
// them takes the last of them, however many there are, and none where a live one tells.
func TestForgottenPointsAreHardlyRead(t *testing.T) {
	const many = 20
	for _, c := range []hardly{
		{"the newest is there", 0, 0, 1, 0, false, 0, many - 1},
		{"the newest is there, behind others", 0, 0, 1, 3, false, 0, many - 1},
		{"all", 0, 0, 0, 0, false, 1, many},
		{"all, behind others", 0, 0, 0, 9, false, 1, many},
		{"all, and the roll is damaged", 0, 0, 0, 0, true, many, 2 * many},
		{"all, of many generations", 1, 0, 0, 0, false, 1, 2},
		{"all, of generations below the horizon", 1, 2, 0, 0, false, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) { c.try(t, many) })
	}
}

func (c hardly) try(t *testing.T, many int) {
	_, be, secret := newRepo(t)
	m := &meter{Backend: be}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := openMetered(t, m, secret, now)
	made := c.make(t, openMetered(t, m, secret, now.Add(7*24*time.Hour)), many)
	last, highest := made[many-1], int64(0)
	var forgotten []string // their slots
	for _, p := range made[:many-c.left] {
		forgotten = append(forgotten, ledger.CommitName(sidOf(t, p.SID)))
		forget(t, r, p.ID)
	}
	for _, p := range made {
		highest = max(highest, p.Made)
	}
	for range c.others {
		makePoint(t, r, "image/b", noise(1, testChunk))
	}
	read := func() (n int) {
		for _, name := range m.gets {
			if slices.Contains(forgotten, name) {
				n++
			}
		}
		m.reset()
		return n
	}
	if c.lost {
		damage(t, be, ledger.RollName(uint32(last.Turn-1)), ruin)
	}
	m.reset()
	p := makePoint(t, r, "image/a", noise(1, testChunk))
	if n := read(); n != c.begin || p.Made <= highest {
		t.Errorf("a backup read %d of the forgotten points, wanted %d; its number is %d above theirs", n, c.begin, p.Made-highest)
	}
	forget(t, r, p.ID)
	highest = p.Made
	m.reset()
	prune(t, r, repo.PruneOptions{})
	if n := read(); n != c.pruning {
		t.Errorf("a prune read %d of the forgotten points, wanted %d", n, c.pruning)
	}
	if p := makePoint(t, r, "image/a", noise(1, testChunk)); p.Made <= highest {
		t.Errorf("after a prune the number is %d above theirs", p.Made-highest)
	}
}

// make makes the points, with the prunes between and behind them.
func (c hardly) make(t *testing.T, r *repo.Repository, many int) (made []*recovery.Point) {
	for i := range many {
		made = append(made, makePoint(t, r, "image/a", noise(1, testChunk)))
		prunes := c.prunes
		if i == many-1 {
			prunes = c.idle
		}
		for range prunes {
			prune(t, r, repo.PruneOptions{})
		}
	}
	return made
}

// openMetered opens a repository with a clock that stands.
func openMetered(t *testing.T, be *meter, secret seal.Secret, clock time.Time) *repo.Repository {
	t.Helper()
	opts := options()
	opts.Now = func() time.Time { return clock }
	r, err := repo.Open(t.Context(), be, secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
