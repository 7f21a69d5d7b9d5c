package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

// Sizes around the edges of a node, of one-byte chunks, in every way of reading.
func TestStreamReadsBackAsWritten(t *testing.T) {
	for _, c := range []struct{ bytes, level int }{
		{0, 0}, {1, 0}, {2, 0}, {1023, 0}, {1024, 0}, {1025, 1}, {2048, 1}, {2049, 1}, {5000, 1},
	} {
		s, data := newMemStore(), noise(c.bytes)
		got := write(t, s, data, Options{}, 1)
		if got.Bytes != int64(c.bytes) || got.Level != c.level || got.Root.IsZero() != (c.bytes == 0) || got.Validate() != nil {
			t.Errorf("%d bytes: %+v, %v", c.bytes, got, got.Validate())
		}
		if again := write(t, s, data, Options{Parallel: 4}, 1); again != got {
			t.Errorf("%d bytes in parallel: %+v, not %+v", c.bytes, again, got)
		}
		checkReads(t, s, got, data)
	}
}

func checkReads(t *testing.T, s *memStore, m Stream, data []byte) {
	t.Helper()
	r := Open(t.Context(), s, m)
	if err := iotest.TestReader(struct{ io.Reader }{r}, data); err != nil {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	w := Open(t.Context(), s, m)
	var out bytes.Buffer
	if n, err := w.WriteTo(&out); err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("write to: %d of %d bytes, %v", n, len(data), err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	at, err := NewReaderAt(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(at, 0, at.Size()), data); err != nil {
		t.Errorf("%d bytes at: %v", len(data), err)
	}
}

// Three levels need a million chunks: 1,024² and one.
func TestLargeStreamHasThreeLevels(t *testing.T) {
	s := newMemStore()
	data := noise(NodeEntries*NodeEntries + 1)
	for i := range data {
		data[i] &= 3 // few chunks, so that the store stays small
	}
	m := write(t, s, data, Options{}, 1)
	if m.Level != 2 {
		t.Errorf("level %d", m.Level)
	}
	r := Open(t.Context(), s, m)
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if s.widest > windowChunks {
		t.Errorf("%d asked for at once", s.widest)
	}
	at, err := NewReaderAt(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	s.loads = 0
	p := make([]byte, 10)
	if _, err := at.ReadAt(p, 700_000); err != nil || !bytes.Equal(p, data[700_000:][:10]) || s.loads > 3+10 {
		t.Errorf("read in the middle: %d loads, %v", s.loads, err)
	}
	if _, err := at.ReadAt(p, 700_010); err != nil || s.loads > 3+20 {
		t.Errorf("read next to it: %d loads, %v", s.loads, err)
	}
}

func TestReadsMatchModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newMemStore()
		data := noise(rapid.IntRange(0, 20_000).Draw(t, "bytes"))
		each := rapid.SliceOfN(rapid.IntRange(1, 900), 1, 5).Draw(t, "chunks")
		parallel := rapid.IntRange(0, 4).Draw(t, "parallel")
		m := write(t, s, data, Options{Parallel: parallel}, each...)
		at, err := NewReaderAt(context.Background(), s, m)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.NewReader(data)
		for range 10 {
			off := rapid.Int64Range(0, m.Bytes+5).Draw(t, "off")
			p := make([]byte, rapid.IntRange(0, 3000).Draw(t, "length"))
			q := make([]byte, len(p))
			n, err := at.ReadAt(p, off)
			wantN, wantErr := want.ReadAt(q, off)
			if n != wantN || !errors.Is(err, wantErr) || !bytes.Equal(p[:n], q[:n]) {
				t.Fatalf("read %d at %d: %d, %v; not %d, %v", len(p), off, n, err, wantN, wantErr)
			}
		}
	})
}

func TestReaderAtRefusesNegativeOffsets(t *testing.T) {
	s := newMemStore()
	at, err := NewReaderAt(t.Context(), s, write(t, s, noise(10), Options{}, 4))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at.ReadAt(make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("offset -1: %v", err)
	}
}

func TestSmallReadsInARowLoadEachChunkOnce(t *testing.T) {
	s, data := newMemStore(), noise(10_000)
	m := write(t, s, data, Options{}, 500)
	at, err := NewReaderAt(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	for off := 0; off < len(data); off += 70 {
		if _, err := at.ReadAt(got[off:min(len(got), off+70)], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) || s.loads != 20+1 {
		t.Errorf("%d loads", s.loads)
	}
}

// A reading error is never taken for the end, however it is wrapped.
func TestReadErrorAbortsWrite(t *testing.T) {
	broken := errors.New("pipe broke")
	for _, c := range []struct{ end, want error }{
		{broken, broken},
		{io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		{fmt.Errorf("read pipe: %w", io.EOF), io.ErrUnexpectedEOF},
	} {
		for _, parallel := range []int{1, 3} {
			m, err := Write(t.Context(), newMemStore(), &lengths{data: noise(5000), each: []int{2}, end: c.end}, Options{Parallel: parallel})
			if !errors.Is(err, c.want) || m != (Stream{}) {
				t.Errorf("%v, parallel %d: %+v, %v", c.end, parallel, m, err)
			}
		}
	}
}

func TestFailedPutAbortsWrite(t *testing.T) {
	for _, parallel := range []int{1, 3} {
		for failAt := range 12 {
			s := newMemStore()
			s.fail, s.failAt = errors.New("store is full"), failAt
			m, err := Write(t.Context(), s, &lengths{data: noise(22), each: []int{2}}, Options{Parallel: parallel})
			if !errors.Is(err, s.fail) || m != (Stream{}) {
				t.Errorf("parallel %d, at %d: %+v, %v", parallel, failAt, m, err)
			}
		}
	}
}

func TestCancelledWriteStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, parallel := range []int{1, 3} {
		_, err := Write(ctx, newMemStore(), &lengths{data: noise(50), each: []int{2}}, Options{Parallel: parallel})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("parallel %d: %v", parallel, err)
		}
	}
}

type fixed []byte

func (f fixed) Next() ([]byte, error) { return f, nil }

func TestImpossibleChunksAreRefused(t *testing.T) {
	for _, length := range []int{0, MaxChunkBytes + 1} {
		for _, parallel := range []int{1, 3} {
			if _, err := Write(t.Context(), newMemStore(), fixed(make([]byte, length)), Options{Parallel: parallel}); !errors.Is(err, ErrStream) {
				t.Errorf("%d bytes: %v", length, err)
			}
		}
	}
}

func TestReaderStopsEarly(t *testing.T) {
	s := newMemStore()
	m := write(t, s, noise(50_000), Options{}, 3)
	r := Open(t.Context(), s, m)
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Open(ctx, s, m)
	if _, err := io.ReadAll(c); !errors.Is(err, context.Canceled) {
		t.Errorf("read when cancelled: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestWriteToReportsTheWriter(t *testing.T) {
	s := newMemStore()
	m := write(t, s, noise(50), Options{}, 3)
	full := errors.New("disk is full")
	r := Open(t.Context(), s, m)
	if n, err := r.WriteTo(&limited{7, full}); n != 7 || !errors.Is(err, full) {
		t.Errorf("%d bytes, %v", n, err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(rest, noise(50)[7:]) {
		t.Errorf("the rest: %d bytes, %v", len(rest), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// limited takes some bytes and then fails.
type limited struct {
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.left -= n
	if n < len(p) {
		return n, l.err
	}
	return n, nil
}

func TestNodesSkipsWhatWasSeen(t *testing.T) {
	s, data := newMemStore(), noise(3000)
	a := write(t, s, data, Options{}, 2)
	b := write(t, s, append(data, noise(5000)[4000:]...), Options{}, 2)
	seen, kinds := blob.Set{}, map[blob.Kind]int{}
	note := func(kind blob.Kind, id blob.ID) error {
		if s.kinds[id] != kind {
			t.Errorf("%s is of kind %#x, not %#x", id, s.kinds[id], kind)
		}
		kinds[kind]++
		seen.Add(id)
		return nil
	}
	if err := Nodes(t.Context(), s, a, note, nil); err != nil {
		t.Fatal(err)
	}
	want := map[blob.Kind]int{blob.StreamNode + 1: 1, blob.StreamNode: 2, blob.StreamChunk: 1500}
	if !maps.Equal(kinds, want) {
		t.Errorf("%v, not %v", kinds, want)
	}
	clear(kinds)
	s.loads = 0
	if err := Nodes(t.Context(), s, b, note, seen.Has); err != nil {
		t.Fatal(err)
	}
	if s.loads != 2 || kinds[blob.StreamNode+1] != 1 || kinds[blob.StreamNode] != 1 || kinds[blob.StreamChunk] > 500 {
		t.Errorf("%v in %d loads", kinds, s.loads)
	}
}

func TestStreamAsJSON(t *testing.T) {
	for _, m := range []Stream{{}, {Bytes: 5, Level: 1, Root: blob.ID{3}}} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got Stream
		if err := json.Unmarshal(text, &got); err != nil || got != m {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
