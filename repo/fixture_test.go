package repo_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"
	"strings"
	"sync"
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

const testChunk = 64 << 10

// clock moves on by a second a look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

func options() repo.Options {
	return repo.Options{Now: newClock().Now, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1}
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

func initAt(t testing.TB, be backend.Backend, params repo.InitParams, opts repo.Options) *repo.Repository {
	t.Helper()
	if params.DiskChunkBytes == 0 {
		params.DiskChunkBytes = testChunk
	}
	r, err := repo.Init(t.Context(), be, params, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// newRepo is an empty repository in memory and the key file that opens it.
func newRepo(t testing.TB) (*repo.Repository, *mem.Backend, seal.Secret) {
	t.Helper()
	be, secret := mem.New(), keyFile(t)
	return initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options()), be, secret
}

func openAt(t testing.TB, be backend.Backend, secret seal.Secret) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), be, secret, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// noise is size bytes that no codec makes smaller.
func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	mrand.NewChaCha8(key).Read(data)
	return data
}

// faint is size bytes that compress to almost nothing but are all different
// chunks: for objects of the smallest shape.
func faint(seed byte, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = seed + byte(i/testChunk)
	}
	return data
}

// put stores content as one disk and one stream and returns the point to commit.
func put(ctx context.Context, r *repo.Repository, s *repo.Session, c *clock, source string, data []byte) (*recovery.Point, error) {
	b, err := image.NewBuilder(s, r, nil, int64(len(data)), r.Config().DiskChunkBytes)
	if err != nil {
		return nil, err
	}
	size := int(r.Config().DiskChunkBytes)
	for i := 0; i*size < len(data); i++ {
		piece := make([]byte, size)
		copy(piece, data[i*size:])
		id, err := s.Put(ctx, blob.DiskChunk, piece)
		if err != nil {
			return nil, err
		}
		if err := b.Set(ctx, int64(i), id); err != nil {
			return nil, err
		}
	}
	m, err := b.Finish(ctx)
	if err != nil {
		return nil, err
	}
	text := "stream of " + source
	st, err := stream.Write(ctx, s, chunk.New(strings.NewReader(text), r.CDCKey(), chunk.Files()), stream.Options{})
	if err != nil {
		return nil, err
	}
	return &recovery.Point{
		Kind: recovery.Image, Source: source, Identity: source, Time: c.Now(), Finished: c.Now(), BytesTotal: m.Bytes,
		Items: []recovery.Item{
			{Name: "disk-0", Bytes: m.Bytes, Disk: &m},
			{Name: "text", Bytes: st.Bytes, Stream: &st},
			{Name: "small", Bytes: 5, Inline: []byte("small")},
		},
	}, nil
}

var fixtureClock = newClock()

// tryPoint makes one point of source.
func tryPoint(ctx context.Context, r *repo.Repository, source string, data []byte) (*recovery.Point, error) {
	s, err := r.Begin(ctx, source, source)
	if err != nil {
		return nil, err
	}
	p, err := put(ctx, r, s, fixtureClock, source, data)
	if err == nil {
		err = s.Flush(ctx)
	}
	if err == nil {
		p.BytesAdded, p.ChunksNew = s.Stats().BytesAdded, s.Stats().ChunksNew
		err = s.Commit(ctx, p)
	}
	if err != nil {
		s.Abort()
		return nil, err
	}
	return p, nil
}

func makePoint(t testing.TB, r *repo.Repository, source string, data []byte) *recovery.Point {
	t.Helper()
	p, err := tryPoint(t.Context(), r, source, data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read brings the disk of a point back, and its stream beside it.
func read(ctx context.Context, r *repo.Repository, p *recovery.Point) ([]byte, error) {
	m := p.Items[0].Disk
	got := make([]byte, m.Bytes)
	err := image.Copy(ctx, r, *m, image.CopyOptions{}, func(off int64, data []byte) error {
		copy(got[off:], data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	text := stream.Open(ctx, r, *p.Items[1].Stream)
	defer text.Close()
	all, err := io.ReadAll(text)
	if err != nil {
		return nil, err
	}
	if want := "stream of " + p.Source; string(all) != want {
		return nil, errors.New("wrong stream: " + string(all))
	}
	return got, nil
}

func wantContent(t testing.TB, r *repo.Repository, p *recovery.Point, want []byte) {
	t.Helper()
	got, err := read(t.Context(), r, p)
	if err != nil {
		t.Fatalf("read point %s: %v", p.ID, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("point %s came back different", p.ID)
	}
}

func check(t testing.TB, r *repo.Repository) *repo.Report {
	t.Helper()
	rep, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return rep
}

func scrub(t testing.TB, be backend.Backend, heal bool) *repo.Report {
	t.Helper()
	rep, err := repo.Scrub(t.Context(), be, repo.ScrubOptions{Heal: heal})
	if err != nil {
		t.Fatalf("scrub: %v", err)
	}
	return rep
}

func wantVerdict(t testing.TB, rep *repo.Report, want error) {
	t.Helper()
	if err := rep.Verdict(); !errors.Is(err, want) || (want == nil && err != nil) {
		t.Fatalf("verdict %v, not %v: %+v", err, want, rep.Findings)
	}
}

// names lists the objects below prefix.
func names(t testing.TB, be backend.Backend, prefix string) []string {
	t.Helper()
	var all []string
	err := be.List(t.Context(), prefix, func(info backend.Info) error {
		all = append(all, info.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func object(t testing.TB, be backend.Backend, name string) []byte {
	t.Helper()
	data, err := be.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// contents are all objects of a store, byte for byte.
func contents(t testing.TB, be backend.Backend) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range names(t, be, "") {
		all[name] = object(t, be, name)
	}
	return all
}

// damage changes an object behind everybody's back.
func damage(t testing.TB, be *mem.Backend, name string, change func([]byte) []byte) {
	t.Helper()
	if err := be.Damage(name, change); err != nil {
		t.Fatal(err)
	}
}

func remove([]byte) []byte { return nil }

// ruin leaves nothing to heal from.
func ruin(b []byte) []byte {
	for i := range b {
		b[i] ^= 0xa5
	}
	return b
}
