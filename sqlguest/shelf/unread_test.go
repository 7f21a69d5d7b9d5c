package shelf_test

import (
	"crypto/rand"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/sqlguest/shelf"
)

func newRepository(t *testing.T) (*repo.Repository, *mem.Backend) {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC) }
	be := mem.New()
	r, err := repo.Init(t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: now, Rand: rand.Reader, Host: "test", PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, be
}

func makePoint(t *testing.T, r *repo.Repository) repo.Entry {
	t.Helper()
	s, err := r.Begin(t.Context(), "sql/a/b", "sql:a:b")
	if err != nil {
		t.Fatal(err)
	}
	p := &recovery.Point{Kind: recovery.SQLLog, Source: "sql/a/b", Identity: "sql:a:b", Items: []recovery.Item{{Name: "stream-0", Inline: []byte("log")}}}
	if err := s.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	e, err := r.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestUnreadCopyMayBeTheNewestPoint, whenever it was copied (SQL-143): here it came before
// an older one and a prune lies between. A point that was made here since is newer.
func TestUnreadCopyMayBeTheNewestPoint(t *testing.T) {
	from, _ := newRepository(t)
	to, be := newRepository(t)
	older, newer := makePoint(t, from), makePoint(t, from)
	copier := to.CopierFrom(from, nil)
	first, err := copier.Copy(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Prune(t.Context(), repo.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := copier.Copy(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	sid, err := ledger.ParseSID(first.SID)
	if err != nil {
		t.Fatal(err)
	}
	if err := be.Damage(ledger.CommitName(sid), func([]byte) []byte { return []byte("ruined") }); err != nil {
		t.Fatal(err)
	}
	list, err := shelf.Unread(t.Context(), to, "sql:a:b")
	if err != nil || len(list) != 1 || list[0].Point != first.ID {
		t.Errorf("unread: %+v %v, want the newest", list, err)
	}
	makePoint(t, to)
	if list, err = shelf.Unread(t.Context(), to, "sql:a:b"); err != nil || len(list) != 0 {
		t.Errorf("unread beside a newer one: %+v %v", list, err)
	}
}
