package repo

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

func newInternal(t *testing.T, be backend.Backend, full bool) *Repository {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Init(t.Context(), be, InitParams{Keys: []NewKey{{Secret: secret}}}, Options{Now: time.Now, Rand: rand.Reader, VerifyFull: full})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestContentThatIsNotItsIDNeverLeavesMemory: what a bad memory module does to
// a chunk between hashing and sealing is found before the pack is written, and
// the session is over.
func TestContentThatIsNotItsIDNeverLeavesMemory(t *testing.T) {
	for _, full := range []bool{false, true} {
		be := mem.New()
		r := newInternal(t, be, full)
		s, err := r.Begin(t.Context(), "image/a", "a")
		if err != nil {
			t.Fatal(err)
		}
		right, wrong := make([]byte, 1000), make([]byte, 1000)
		wrong[500] = 1
		chunks := []pack.Chunk{{
			ID: r.IDOf(blob.DiskChunk, right), Kind: blob.DiskChunk, RawBytes: 1000, Data: pack.Compress("auto", blob.DiskChunk, wrong, nil),
		}}
		if full { // among many good ones
			for i := range 50 {
				good := append(make([]byte, 999), byte(i+7))
				chunks = append(chunks, pack.Chunk{ID: r.IDOf(blob.DiskChunk, good), Kind: blob.DiskChunk, RawBytes: 1000, Data: pack.Compress("auto", blob.DiskChunk, good, nil)})
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
		if left, err := r.list(t.Context(), ledger.Data); err != nil || len(left) != 0 {
			t.Errorf("full %v: %v was written, %v", full, left, err)
		}
		r.Close()
	}
}
