package whole_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/stream"
	"holdfast/sqlguest/whole"
)

// cut gives so many chunks, each another one.
type cut struct{ left uint64 }

func (c *cut) Next() ([]byte, error) {
	if c.left == 0 {
		return nil, io.EOF
	}
	c.left--
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, c.left), 8), nil
}

// point is one with a stream of so many chunks.
func point(t testing.TB, be *mem.Backend, chunks uint64) (*repo.Repository, *recovery.Point) {
	t.Helper()
	file, err := seal.NewKeyFile(rand.Reader)
	must(t, err)
	secret, err := seal.ParseKeyFile(file)
	must(t, err)
	r, err := repo.Init(context.Background(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: time.Now, Rand: rand.Reader, Host: "test", Program: "test", PID: 1})
	must(t, err)
	s, err := r.Begin(context.Background(), "sql/SQL01/sales", "sales")
	must(t, err)
	written, err := stream.Write(context.Background(), s, &cut{chunks}, stream.Options{})
	must(t, err)
	must(t, s.Flush(context.Background()))
	p := &recovery.Point{Kind: recovery.SQLFull, Source: "sql/SQL01/sales", Identity: "sales", Time: time.Now(), Finished: time.Now(), Consistency: recovery.Application,
		ReadMode: recovery.ReadStream, Items: []recovery.Item{{Name: "stream-0", Bytes: written.Bytes, Stream: &written, ReadMode: recovery.ReadStream}, {Name: "small", Inline: []byte("x"), Bytes: 1, ReadMode: recovery.ReadStream}}}
	must(t, s.Commit(context.Background(), p))
	return r, p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// packs are the names of those that hold data.
func packs(t testing.TB, be *mem.Backend) (names []string) {
	t.Helper()
	must(t, be.List(context.Background(), ledger.Data, func(i backend.Info) error { names = append(names, i.Name); return nil }))
	return names
}

// TestOnePackThatIsGoneIsMissed: as soon as the index knows that it is.
func TestOnePackThatIsGoneIsMissed(t *testing.T) {
	be := mem.New()
	r, p := point(t, be, 10_000)
	must(t, whole.Point(t.Context(), r, p))
	must(t, be.Delete(t.Context(), packs(t, be)[0]))
	must(t, whole.Point(t.Context(), r, p)) // nothing of the data itself is read
	_, err := r.RepairPacks(t.Context(), false, nil)
	must(t, err)
	if err := whole.Point(t.Context(), r, p); !errors.Is(err, repo.ErrMissing) {
		t.Errorf("got %v", err)
	}
}

// TestLookFindsAPackThatIsGoneOrCutOff before the index knows; one that parity mends is
// there.
func TestLookFindsAPackThatIsGoneOrCutOff(t *testing.T) {
	damage := map[string]func(be *mem.Backend, name string) error{
		"gone": func(be *mem.Backend, name string) error { return be.Delete(context.Background(), name) },
		"cut off": func(be *mem.Backend, name string) error {
			return be.Damage(name, func(b []byte) []byte { return b[:len(b)/10] })
		},
		"mended": func(be *mem.Backend, name string) error {
			return be.Damage(name, func(b []byte) []byte { return b[:len(b)-100] })
		},
	}
	for what, do := range damage {
		t.Run(what, func(t *testing.T) {
			be := mem.New()
			r, p := point(t, be, 10_000)
			look := func(ctx context.Context, ids []blob.ID) error {
				return r.Presence().Look(ctx, blob.StreamChunk, ids)
			}
			must(t, whole.Item(t.Context(), r, p.Items[0], look))
			must(t, do(be, packs(t, be)[0]))
			err := whole.Item(t.Context(), r, p.Items[0], look)
			if what == "mended" {
				must(t, err)
			} else if !errors.Is(err, pack.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// BenchmarkPoint is what a look costs; 10,000 chunks are some 2.5 GiB of a database.
func BenchmarkPoint(b *testing.B) {
	r, p := point(b, mem.New(), 10_000)
	for b.Loop() {
		must(b, whole.Point(b.Context(), r, p))
	}
}
