package session

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
)

// newCatalog is an empty repository in memory, as far as a session can tell.
func newCatalog(t *testing.T, be backend.Backend, full bool) *catalog.Catalog {
	t.Helper()
	ring, err := seal.NewRing(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	store := &record.Store{
		Backend: be, Ring: ring, Keys: ring.Keys(), Profile: parity.Standard, Rand: rand.Reader,
		Now: time.Now, Log: slog.New(slog.DiscardHandler), VerifyFull: full,
	}
	if err := store.Write(t.Context(), ledger.LedgerName(0), parity.Ledger, ledger.Entry{Version: ledger.Version}); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(t.Context(), store, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestContentThatIsNotItsIDNeverLeavesMemory: what a bad memory module does to
// a chunk between hashing and sealing is found before the pack is written, and
// the session is over.
func TestContentThatIsNotItsIDNeverLeavesMemory(t *testing.T) {
	for _, full := range []bool{false, true} {
		be := mem.New()
		c := newCatalog(t, be, full)
		s, err := Begin(t.Context(), c, "00000000000000aa", Options{})
		if err != nil {
			t.Fatal(err)
		}
		right, wrong := make([]byte, 1000), make([]byte, 1000)
		wrong[500] = 1
		chunks := []pack.Chunk{{
			ID: c.Keys.ID(blob.DiskChunk, right), Kind: blob.DiskChunk, RawBytes: 1000, Data: pack.Compress("auto", blob.DiskChunk, wrong, nil),
		}}
		if full { // among many good ones
			for i := range 50 {
				good := append(make([]byte, 999), byte(i+7))
				chunks = append(chunks, pack.Chunk{ID: c.Keys.ID(blob.DiskChunk, good), Kind: blob.DiskChunk, RawBytes: 1000, Data: pack.Compress("auto", blob.DiskChunk, good, nil)})
			}
		}
		s.data.upload(chunks)
		if err := s.Flush(t.Context()); !errors.Is(err, pack.ErrVerify) {
			t.Errorf("full %v: %v", full, err)
		}
		if _, err := s.Put(t.Context(), blob.DiskChunk, []byte("more")); !errors.Is(err, pack.ErrVerify) {
			t.Errorf("full %v: the session went on: %v", full, err)
		}
		s.Abort()
		if left, err := c.List(t.Context(), ledger.Data); err != nil || len(left) != 0 {
			t.Errorf("full %v: %v was written, %v", full, left, err)
		}
		c.Close()
	}
}
