package repo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
)

// TestOneChunkCostsOneRangedRead and its length is the chunk's own.
func TestOneChunkCostsOneRangedRead(t *testing.T) {
	_, be, secret := newRepo(t)
	data := noise(1, 40*testChunk)
	makePoint(t, openAt(t, be, secret), "image/a", data)
	m := &meter{Backend: be}
	r, err := repo.Open(t.Context(), m, secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, i := range []int{0, 17, 39} {
		m.reset()
		want := data[i*testChunk : (i+1)*testChunk]
		got, err := r.Get(t.Context(), blob.DiskChunk, r.IDOf(blob.DiskChunk, want))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if len(m.gets) != 1 || len(m.whole) != 0 || m.bytes > testChunk+64 {
			t.Errorf("chunk %d cost %d reads of %d bytes: %v", i, len(m.gets), m.bytes, m.gets)
		}
	}
	if _, err := r.Get(t.Context(), blob.DiskChunk, blob.ID{1}); !errors.Is(err, repo.ErrMissing) {
		t.Errorf("a chunk that is nowhere: %v", err)
	}
	// The content is there, but as another kind: no reader takes it for this one.
	if got, err := r.Get(t.Context(), blob.StreamChunk, r.IDOf(blob.DiskChunk, data[:testChunk])); err == nil {
		t.Errorf("a disk chunk came back as a stream chunk of %d bytes", len(got))
	}
}

// TestNeighboursAreReadTogether: a whole disk does not cost a read a chunk.
func TestNeighboursAreReadTogether(t *testing.T) {
	_, be, secret := newRepo(t)
	data := noise(1, 200*testChunk)
	p := makePoint(t, openAt(t, be, secret), "image/a", data)
	m := &meter{Backend: be}
	r, err := repo.Open(t.Context(), m, secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m.reset()
	wantContent(t, r, p, data)
	if len(m.gets) > 20 || m.bytes > int64(len(data))*11/10 {
		t.Errorf("%d reads of %d bytes for %d bytes of disk", len(m.gets), m.bytes, len(data))
	}
}

// TestUnchangedSourceCostsOneManifest: no pack, no segment, and three small
// objects' writes at the most.
func TestUnchangedSourceCostsOneManifest(t *testing.T) {
	_, be, secret := newRepo(t)
	data := noise(1, 20*testChunk)
	makePoint(t, openAt(t, be, secret), "image/a", data)
	m := &meter{Backend: be}
	r, err := repo.Open(t.Context(), m, secret, options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m.reset()
	p := makePoint(t, r, "image/a", data)
	if m.written("sessions/") != 1 || m.written("commit/") != 1 || len(m.writes) != 2 || p.ChunksNew != 0 {
		t.Errorf("wrote %v", m.writes)
	}
	if m.bytes > 1<<20 {
		t.Errorf("read %d bytes", m.bytes)
	}
}

// TestManyTinyChunks: more chunks than a pack takes, each found again.
func TestManyTinyChunks(t *testing.T) {
	const chunks = 40_000
	r, be, secret := newRepo(t)
	s, err := r.Begin(t.Context(), "image/tiny", "tiny")
	if err != nil {
		t.Fatal(err)
	}
	tiny := func(i int) []byte {
		return binary.LittleEndian.AppendUint64(bytes.Repeat([]byte("x"), 52), uint64(i))
	}
	ids := make([]blob.ID, chunks)
	for i := range ids {
		if ids[i], err = s.Put(t.Context(), blob.DiskChunk, tiny(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().ChunksNew; got != chunks || len(names(t, be, "data/")) != 3 {
		t.Errorf("%d chunks stored in %v", got, names(t, be, "data/"))
	}
	s.Abort()
	fresh := openAt(t, be, secret)
	seen := 0
	err = fresh.Load(t.Context(), blob.DiskChunk, ids, func(i int, plain []byte) error {
		if !bytes.Equal(plain, tiny(i)) {
			return fmt.Errorf("chunk %d came back different", i)
		}
		seen++
		return nil
	})
	if err != nil || seen != chunks {
		t.Errorf("%d of %d chunks: %v", seen, chunks, err)
	}
	totals, err := fresh.Stats(t.Context())
	if err != nil || totals.Chunks != chunks || totals.Points != 0 || totals.Objects != len(names(t, be, "")) {
		t.Errorf("stats: %+v %v", totals, err)
	}
}

// stuck gives the same bytes to every repository that is opened with it: a
// virtual machine set back to an old state, or a broken source of randomness.
func stuck() io.Reader { return mrand.NewChaCha8([32]byte{42}) }

// TestSameRandomnessTwiceOverwritesNothing: two sessions draw the same bytes.
// Names that decide by put-if-absent refuse the second; packs get other ids
// with other content; nothing that was committed is harmed.
func TestSameRandomnessTwiceOverwritesNothing(t *testing.T) {
	be, secret := mem.Open(mem.Options{Strict: true}), keyFile(t)
	initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	open := func() *repo.Repository {
		opts := options()
		opts.Rand = stuck()
		r, err := repo.Open(t.Context(), be, secret, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	one, two := noise(1, 3*testChunk), noise(2, 3*testChunk)
	first := makePoint(t, open(), "image/a", one)
	before := contents(t, be)
	// The same source: its session has the same name, and loses.
	if p, err := tryPoint(t.Context(), open(), "image/a", two); err == nil && p.SID == first.SID {
		t.Errorf("two points have one name: %s", p.SID)
	}
	// Another source: other names by themselves.
	other := makePoint(t, open(), "image/b", two)
	if other.SID == first.SID {
		t.Errorf("two sources have one session: %s", other.SID)
	}
	after := contents(t, be)
	ids := map[string]string{}
	for name, was := range before {
		if !bytes.Equal(after[name], was) {
			t.Errorf("%s was overwritten", name)
		}
	}
	for name := range after {
		if strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "meta/") {
			id := name[strings.LastIndexByte(name, '/'):]
			if ids[id] != "" {
				t.Errorf("one pack id, so one key, for %s and %s", ids[id], name)
			}
			ids[id] = name
		}
	}
	r := openAt(t, be, secret)
	wantContent(t, r, first, one)
	wantContent(t, r, other, two)
	wantVerdict(t, check(t, r), nil)
}
