package restore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/chunk"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/stream"
)

const chunkBytes = 64 << 10

// clock stands still: a restore only measures how long it took.
func clock() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func options() repo.Options {
	return repo.Options{Now: clock, Rand: rand.Reader, Host: "test", Program: "holdfast test"}
}

func keyFile(t testing.TB) seal.Secret {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// vault is a repository with one point of a disk and two streams.
type vault struct {
	be     *mem.Backend
	secret seal.Secret
	r      *repo.Repository
	point  *recovery.Point
	data   []byte
	text   []byte
}

// newVault stores a disk of size bytes: a run of noise, a run of zeros, by turns.
func newVault(t testing.TB, size int) *vault {
	t.Helper()
	v := &vault{be: mem.New(), secret: keyFile(t), data: make([]byte, size), text: make([]byte, 3<<20)}
	r, err := repo.Init(t.Context(), v.be, repo.InitParams{DiskChunkBytes: chunkBytes, Compression: "none", Keys: []repo.NewKey{{Secret: v.secret}}}, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	v.r = r
	noise := mrand.NewChaCha8([32]byte{3})
	noise.Read(v.text)
	for off := 0; off < size; off += 3 * chunkBytes {
		noise.Read(v.data[off:min(size, off+chunkBytes+off%1000)])
	}
	s, err := r.Begin(t.Context(), "vm/web01", "uuid")
	if err != nil {
		t.Fatal(err)
	}
	m := v.storeDisk(t, s)
	st, err := stream.Write(t.Context(), s, chunk.New(bytes.NewReader(v.text), r.CDCKey(), chunk.Files()), stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v.point = &recovery.Point{Kind: recovery.VM, Source: "vm/web01", Identity: "uuid", Time: clock(), Items: []recovery.Item{
		{Name: "disk-2000", Label: "Hard disk 1", Key: 2000, Bytes: m.Bytes, Disk: &m},
		{Name: "nvram", Bytes: st.Bytes, Stream: &st}, {Name: "vmx", Bytes: 5, Inline: []byte("small")},
	}}
	if err := s.Commit(t.Context(), v.point); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vault) storeDisk(t testing.TB, s *repo.Session) image.Map {
	t.Helper()
	b, err := image.NewBuilder(s, v.r, nil, int64(len(v.data)), chunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i*chunkBytes < len(v.data); i++ {
		piece := make([]byte, chunkBytes)
		copy(piece, v.data[i*chunkBytes:])
		if bytes.Equal(piece, make([]byte, chunkBytes)) {
			continue
		}
		id, err := s.Put(t.Context(), blob.DiskChunk, piece)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Set(t.Context(), int64(i), id); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (v *vault) disk() []recovery.Item { return v.point.Items[:1] }

// open opens the repository over another backend.
func (v *vault) open(t testing.TB, be backend.Backend) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), be, v.secret, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// packs are the packs of disk and stream chunks.
func (v *vault) packs(t testing.TB) []string {
	t.Helper()
	var names []string
	err := v.be.List(context.Background(), "data/", func(i backend.Info) error {
		names = append(names, i.Name)
		return nil
	})
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names
}

// files lists what lies in a folder.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantFile(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes that differ from the point", filepath.Base(path), len(got))
	}
}
