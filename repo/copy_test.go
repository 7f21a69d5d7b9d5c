package repo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// TestCopiesRestoreAndShareWhatBackupsThereStore: ids differ, content does not;
// a copy of an unchanged point costs next to nothing, and a backup of the same
// disk made there stores nothing anew.
func TestCopiesRestoreAndShareWhatBackupsThereStore(t *testing.T) {
	for name, chunkBytes := range map[string]int64{"same chunk": testChunk, "other chunk": 2 * testChunk} {
		t.Run(name, func(t *testing.T) {
			from, _, _ := newRepo(t)
			be, secret := mem.New(), keyFile(t)
			to := initAt(t, be, repo.InitParams{DiskChunkBytes: chunkBytes, Keys: []repo.NewKey{{Secret: secret}}}, options())
			first := noise(1, 21*testChunk+512)
			second := append([]byte{}, first...)
			copy(second[3*testChunk:], noise(2, testChunk))
			contents := [][]byte{first, second, second[:12*testChunk]}
			c := to.CopierFrom(from, nil)
			for i, data := range contents {
				made := makePoint(t, from, "image/a", data)
				e, err := from.Find(t.Context(), made.ID)
				if err != nil {
					t.Fatal(err)
				}
				p, err := c.Copy(t.Context(), e)
				if err != nil {
					t.Fatal(err)
				}
				if p.ID == e.ID || p.Origin != from.Config().ID+"/"+e.ID || !p.Time.Equal(e.Time) || p.Identity != e.Identity {
					t.Errorf("copy %d: %+v", i, p)
				}
				if i == 1 && chunkBytes == testChunk && p.ChunksNew > 1 {
					t.Errorf("%d chunks were stored for one that changed: %+v", p.ChunksNew, *p)
				}
				wantContent(t, openAt(t, be, secret), p, data)
				wantContent(t, from, e.Point, data)
			}
			if chunkBytes == testChunk {
				if p := makePoint(t, to, "image/b", first); p.ChunksNew > 1 {
					t.Errorf("a backup there stored %d chunks again", p.ChunksNew)
				}
			}
			wantVerdict(t, check(t, openAt(t, be, secret)), nil)
			wantTidy(t, to, be)
		})
	}
}

// TestCopyAfterItsForerunnerWasForgottenThere carries everything anew.
func TestCopyAfterItsForerunnerWasForgottenThere(t *testing.T) {
	from, _, _ := newRepo(t)
	to, be, secret := newRepo(t)
	data := noise(1, 10*testChunk)
	a := makePoint(t, from, "image/a", data)
	c := to.CopierFrom(from, nil)
	first, err := from.Find(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Copy(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	forget(t, to, made.ID)
	wantTidy(t, to, be)
	again := makePoint(t, from, "image/a", data)
	e, err := from.Find(t.Context(), again.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := from.SetLabel(t.Context(), e, func(l *ledger.Label) { l.Pinned, l.Tags = true, []string{"x"} }); err != nil {
		t.Fatal(err)
	}
	if e, err = from.Find(t.Context(), again.ID); err != nil {
		t.Fatal(err)
	}
	p, err := c.Copy(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, openAt(t, be, secret), p, data)
	found, err := to.Find(t.Context(), p.ID)
	if err != nil || !found.Pinned || len(found.Tags) != 1 {
		t.Errorf("label: %+v %v", found, err)
	}
}

// TestParentThatWasForgottenBeforeTheSessionIsRefused: a prune may be about to
// take what it needs.
func TestParentThatWasForgottenBeforeTheSessionIsRefused(t *testing.T) {
	r, _, _ := newRepo(t)
	a := makePoint(t, r, "image/a", noise(1, testChunk))
	b := makePoint(t, r, "image/b", noise(2, testChunk))
	forget(t, r, a.ID)
	s, err := r.Begin(t.Context(), "image/c", "image/c")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	if err := s.Expect(t.Context(), a); !errors.Is(err, recovery.ErrUnknown) {
		t.Errorf("forgotten parent: %v", err)
	}
	if err := s.Expect(t.Context(), b); err != nil {
		t.Errorf("parent: %v", err)
	}
}

// TestCopyAfterOneThatFailedBuildsOnNothingOfIt: its maps are garbage that the next
// prune takes.
func TestCopyAfterOneThatFailedBuildsOnNothingOfIt(t *testing.T) {
	from, _, _ := newRepo(t)
	store, secret := mem.New(), keyFile(t)
	full := false
	be := &refusing{Backend: store, refuses: func(name string) (now bool) {
		if now = full && strings.HasPrefix(name, ledger.Commits); now {
			full = false // the session can be given up
		}
		return now
	}}
	to := initAt(t, be, repo.InitParams{DiskChunkBytes: testChunk, Keys: []repo.NewKey{{Secret: secret}}}, options())
	data := noise(1, 300*testChunk)
	c := to.CopierFrom(from, nil)
	copied := func() (*recovery.Point, error) {
		e, err := from.Find(t.Context(), makePoint(t, from, "image/a", data).ID)
		if err != nil {
			t.Fatal(err)
		}
		return c.Copy(t.Context(), e)
	}
	if _, err := copied(); err != nil {
		t.Fatal(err)
	}
	copy(data[3*testChunk:], noise(2, testChunk)) // a node that only the failed copy has
	full = true
	if _, err := copied(); !errors.Is(err, backend.ErrNoSpace) {
		t.Fatalf("the copy that fails: %v", err)
	}
	wantTidy(t, to, store)
	copy(data[200*testChunk:], noise(3, testChunk))
	p, err := copied()
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, openAt(t, store, secret), p, data)
	wantTidy(t, to, store)
	wantContent(t, openAt(t, store, secret), p, data)
	wantVerdict(t, check(t, openAt(t, store, secret)), nil)
}

// refusing has no space for some names.
type refusing struct {
	backend.Backend
	refuses func(name string) bool
}

func (f *refusing) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if f.refuses(name) {
		return fmt.Errorf("write %s: %w", name, backend.ErrNoSpace)
	}
	return f.Backend.PutIfAbsent(ctx, name, data)
}
