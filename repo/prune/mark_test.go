package prune

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/session"
)

// TestDataThatNoSegmentListsBlocksPrune: all nodes of the map are there, but a
// segment that lists data below them is gone without a trace. Such chunks are
// marked many at once, long after their node; they are missed all the same.
func TestDataThatNoSegmentListsBlocksPrune(t *testing.T) {
	be := mem.New()
	ring, err := seal.NewRing(rand.Reader)
	must(t, err)
	store := &record.Store{
		Backend: be, Ring: ring, Keys: ring.Keys(), Profile: parity.Standard, Rand: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	must(t, store.Write(t.Context(), ledger.LedgerName(0), parity.Ledger, ledger.Entry{Version: ledger.Version}))
	c, err := catalog.Open(t.Context(), store, "")
	must(t, err)
	s, err := session.Begin(t.Context(), c, "00000000000000aa", session.Options{})
	must(t, err)
	b, err := image.NewBuilder(s, c.Load, nil, 300*512, 512)
	must(t, err)
	for n := range int64(300) {
		plain := append(make([]byte, 510), byte(n), byte(n>>8)+1)
		id, err := s.Put(t.Context(), blob.DiskChunk, plain)
		must(t, err)
		must(t, b.Set(t.Context(), n, id))
	}
	must(t, s.Flush(t.Context())) // a segment of its own for the data
	data := s.Segments()
	m, err := b.Finish(t.Context())
	must(t, err)
	manifest, err := json.Marshal(recovery.Point{
		ID: s.SID().Rand, SID: s.SID().String(), Items: []recovery.Item{{Name: "disk", Disk: &m}},
	})
	must(t, err)
	must(t, s.Commit(t.Context(), manifest))
	must(t, c.Close())
	if len(data) != 1 {
		t.Fatalf("segments %v", data)
	}

	for _, gone := range []bool{false, true} {
		if gone {
			must(t, be.Delete(t.Context(), data[0]))
		}
		c, err := catalog.Open(t.Context(), store, "")
		must(t, err)
		rep, err := Run(t.Context(), c, Options{DryRun: true})
		if errors.Is(err, ErrBlocked) != gone {
			t.Errorf("gone %v: %v", gone, err)
		}
		if gone && (len(rep.Blocked) == 0 || !strings.Contains(rep.Blocked[0].Why, "300 chunks")) {
			t.Errorf("a point misses data; blocked by %+v", rep.Blocked)
		}
		must(t, c.Close())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
