package extent

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// memFile is a file in memory, growing as it is written.
type memFile struct{ b []byte }

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memFile) size() int64 { return int64(len(m.b)) }

func random(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// readOver reads a whole extent over the bytes below it.
func readOver(t interface{ Fatal(...any) }, e Reader, size int64, below []byte) []byte {
	out := bytes.Clone(below)
	for off := int64(0); off < size; {
		r, err := e.Locate(off, size-off)
		if err != nil {
			t.Fatal(err)
		}
		switch r.State {
		case Data:
			if err := e.Read(out[off:off+r.Length], off, r); err != nil {
				t.Fatal(err)
			}
		case Zero:
			clear(out[off : off+r.Length])
		}
		off += r.Length
	}
	return out
}

// TestSESparseModel: any sequence of writes and zeros over a parent behaves as
// a plain array, in the writer, in the reader, and after opening again.
func TestSESparseModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 70_000).Draw(t, "sectors") * SectorBytes
		base := random(1, int(rapid.Int64Range(0, size).Draw(t, "parent")))
		want := make([]byte, size)
		copy(want, base)
		mem := &memFile{}
		s, err := CreateDelta(mem, size, bytes.NewReader(base))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			at := rapid.Int64Range(0, size-1).Draw(t, "at")
			n := min(rapid.Int64Range(1, 20_000).Draw(t, "n"), size-at)
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if err := s.WriteZeroes(at, n); err != nil {
					t.Fatal(err)
				}
				clear(want[at : at+n])
			case 1:
				if s, err = OpenDelta(mem, mem.size(), bytes.NewReader(base)); err != nil {
					t.Fatal(err)
				}
			default:
				p := random(byte(at), int(n))
				if _, err := s.WriteAt(p, at); err != nil {
					t.Fatal(err)
				}
				copy(want[at:], p)
			}
		}
		got := make([]byte, size)
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("writer reads other bytes: %v", err)
		}
		e, h, err := openSESparse(mem, mem.size())
		if err != nil {
			t.Fatal(err)
		}
		below := make([]byte, size)
		copy(below, base)
		if got := readOver(t, e, h.sizeBytes(), below); !bytes.Equal(got, want) {
			t.Fatal("reader reads other bytes")
		}
	})
}

func TestSESparseLimits(t *testing.T) {
	for _, size := range []int64{0, 511, 513, MaxCapacity + 512} {
		_, err := CreateDelta(&memFile{}, size, nil)
		wantError(t, err, ErrSize)
	}
	s, err := CreateDelta(&memFile{}, 4096, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{-1, 4096, 4090, 1 << 62} {
		if n, err := s.WriteAt(make([]byte, 10), at); n != 0 || !errors.Is(err, ErrSize) {
			t.Errorf("write at %d: %d, %v", at, n, err)
		}
	}
	if n, err := s.ReadAt(make([]byte, 10), 4090); n != 6 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
}

// TestSESparseEntries: the turned grain number survives both ways.
func TestSESparseEntries(t *testing.T) {
	h := &seHeader{grainsLen: 1 << 40}
	for _, n := range []uint64{0, 1, 0xfff, 0x1000, 0x1001, 1<<36 + 5} {
		st, at, err := h.grainAt(seEntry(n))
		if st != Data || at != int64(n)*seGrainBytes || err != nil {
			t.Errorf("grain %d: %v at %d, %v", n, st, at, err)
		}
	}
	if seEntry(0x1001) != 0x3001_0000_0000_0001 {
		t.Errorf("entry of 0x1001 is %#x", seEntry(0x1001))
	}
	for _, bad := range []uint64{5, 4 << 60, seData | 1<<47} {
		_, _, err := h.grainAt(bad)
		wantError(t, err, ErrFormat)
	}
}
