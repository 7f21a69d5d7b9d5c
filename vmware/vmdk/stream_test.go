package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"
	"pgregory.net/rapid"

	"holdfast/vmware/vmdk/extent"
)

// fixtureBytes is a disk of more than one table, with an odd end.
const fixtureBytes = 40*mib + 512

// fixture writes a stream of a few grains around a table's border.
func fixture(t testing.TB) (stream []byte, disk *memFile) {
	t.Helper()
	disk = &memFile{b: make([]byte, fixtureBytes)}
	rnd := rand.NewChaCha8([32]byte{7})
	for _, at := range []int64{0, mib, 32*mib - 10, 39 * mib, fixtureBytes - 512} {
		rnd.Read(disk.b[at : at+512])
	}
	var out bytes.Buffer
	if _, err := WriteStream(context.Background(), &out, disk, fixtureBytes, StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), disk
}

func drop(int64, []byte) error { return nil }

func decode(stream []byte) (int64, error) {
	return ReadStream(context.Background(), bytes.NewReader(stream), drop)
}

// records lists the byte offset of every marker of a stream.
func records(t testing.TB, stream []byte) (starts []int) {
	t.Helper()
	for at := streamOverhead * SectorBytes; at < len(stream); {
		starts = append(starts, at)
		m := extent.ParseMarker(stream[at:])
		if m.Size != 0 {
			at += int(extent.RoundUp(int64(m.Size)+extent.GrainHeadBytes, SectorBytes))
		} else {
			at += SectorBytes * (1 + int(m.Value))
		}
	}
	return starts
}

func TestTruncatedStreamIsRefused(t *testing.T) {
	stream, _ := fixture(t)
	starts := records(t, stream)
	cuts := []int{0, 3, 4, 511, 512, 513, 21 * SectorBytes, streamOverhead*SectorBytes - 1}
	for _, at := range starts {
		cuts = append(cuts, at, at+1, at+11, at+12, at+16, at+SectorBytes-1, at+SectorBytes, at-1)
	}
	for _, cut := range append(cuts, len(stream)-1) {
		cut = min(cut, len(stream)-1)
		_, err := decode(stream[:cut])
		wantError(t, err, ErrTruncated)
		if _, err := Open(bytes.NewReader(stream[:cut]), int64(cut), nil); err == nil {
			t.Errorf("Open took the first %d of %d bytes", cut, len(stream))
		}
	}
	// The last byte is there, but the reader lies about the length.
	_, err := Open(bytes.NewReader(stream[:len(stream)-600]), int64(len(stream)), nil)
	wantError(t, err, ErrTruncated)
}

// TestStreamContradictions damages one thing at a time.
func TestStreamContradictions(t *testing.T) {
	good, _ := fixture(t)
	starts := records(t, good)
	grain0, grain1 := starts[0], starts[1]
	table := starts[slices.IndexFunc(starts, func(at int) bool { return extent.ParseMarker(good[at:]).Size == 0 })]
	directory, footer, end := starts[len(starts)-3], starts[len(starts)-2], starts[len(starts)-1]
	for name, damage := range map[string]func(b []byte) []byte{
		"no magic":             func(b []byte) []byte { b[0] = 'X'; return b },
		"moved as text":        func(b []byte) []byte { b[75] = '\n'; return b },
		"capacity of zero":     func(b []byte) []byte { clear(b[12:20]); return b },
		"capacity overflows":   func(b []byte) []byte { b[19] = 0xff; return b },
		"odd grain size":       func(b []byte) []byte { b[20] = 100; return b },
		"huge grain":           func(b []byte) []byte { b[23] = 0x40; return b },
		"no table entries":     func(b []byte) []byte { clear(b[44:48]); return b },
		"broken descriptor":    func(b []byte) []byte { copy(b[SectorBytes:], "\"\n"); return b },
		"same grain twice":     func(b []byte) []byte { return slices.Concat(b[:grain1], b[grain0:]) },
		"grain beyond end":     func(b []byte) []byte { binary.LittleEndian.PutUint64(b[grain0:], 1<<40); return b },
		"grain off its place":  func(b []byte) []byte { b[grain0] = 1; return b },
		"grain too large":      func(b []byte) []byte { binary.LittleEndian.PutUint32(b[grain0+8:], 1<<30); return b },
		"bit flip in a grain":  func(b []byte) []byte { b[grain0+60] ^= 1; return b },
		"grain is missing":     func(b []byte) []byte { return slices.Delete(b, grain0, grain1) },
		"table is missing":     func(b []byte) []byte { return slices.Delete(b, table, table+5*SectorBytes) },
		"table of wrong size":  func(b []byte) []byte { b[table] = 5; return b },
		"table forgets grain":  func(b []byte) []byte { clear(b[table+SectorBytes : table+SectorBytes+4]); return b },
		"directory too long":   func(b []byte) []byte { b[directory] = 9; return b },
		"directory lies":       func(b []byte) []byte { b[directory+SectorBytes]++; return b },
		"unknown marker":       func(b []byte) []byte { b[directory+12] = 9; return b },
		"no directory":         func(b []byte) []byte { return slices.Delete(b, directory, footer) },
		"footer of other disk": func(b []byte) []byte { b[footer+SectorBytes+13]++; return b },
		"footer misleads":      func(b []byte) []byte { b[footer+SectorBytes+56]++; return b },
		"footer without place": func(b []byte) []byte { copy(b[footer+SectorBytes:], b[:SectorBytes]); return b },
		"no footer":            func(b []byte) []byte { return slices.Delete(b, footer, end) },
		"end with a value":     func(b []byte) []byte { b[end] = 1; return b },
		"end with rubbish":     func(b []byte) []byte { b[end+300] = 1; return b },
		"data behind the end":  func(b []byte) []byte { return append(b, 'x') },
		"padding without end":  func(b []byte) []byte { return append(b, make([]byte, maxTrailing+1)...) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(damage(slices.Clone(good)))
			wantError(t, err, ErrFormat)
		})
	}
	if size, err := decode(append(slices.Clone(good), make([]byte, 4096)...)); err != nil || size != fixtureBytes {
		t.Errorf("zero padding behind the end: %d, %v", size, err)
	}
}

// TestInflateBomb: a grain that inflates to more than a grain is refused, and
// one that inflates to less is taken only at the disk's end.
func TestInflateBomb(t *testing.T) {
	for _, length := range []int{streamGrainBytes + 1, 64 * mib, streamGrainBytes - 1, 0} {
		stream, _ := fixture(t)
		var packed bytes.Buffer
		packed.Write(make([]byte, extent.GrainHeadBytes))
		z := zlib.NewWriter(&packed)
		z.Write(make([]byte, length))
		z.Close()
		record := packed.Bytes()
		binary.LittleEndian.PutUint32(record[8:], uint32(len(record)-extent.GrainHeadBytes))
		record = append(record, make([]byte, extent.RoundUp(int64(len(record)), SectorBytes)-int64(len(record)))...)
		starts := records(t, stream)
		_, err := decode(slices.Concat(stream[:starts[0]], record, stream[starts[1]:]))
		wantError(t, err, ErrFormat)
	}
}

func TestStreamSizes(t *testing.T) {
	for _, size := range []int64{-512, 0, 1, 511, 513, MaxCapacity + 512} {
		_, err := WriteStream(context.Background(), io.Discard, &memFile{}, size, StreamOptions{})
		wantError(t, err, ErrSize)
	}
	for size, want := range map[int64]int64{0: 0, 1: 512, 512: 512, 513: 1024, 1<<20 + 1: 1<<20 + 512} {
		if got := CapacityFor(size); got != want {
			t.Errorf("capacity for %d is %d, want %d", size, got, want)
		}
	}
	for _, bad := range []Extent{{-1, 5}, {0, 1025}, {1025, 0}, {5, -1}, {1, 1<<63 - 1}} {
		_, err := WriteStream(context.Background(), io.Discard, &memFile{b: make([]byte, 1024)}, 1024, StreamOptions{Allocated: []Extent{bad}})
		wantError(t, err, ErrSize)
	}
}

// TestOddImageIsPadded: an image of an odd number of bytes gains zeros up to
// the sector, and only there may the source end.
func TestOddImageIsPadded(t *testing.T) {
	odd := bytes.Repeat([]byte{0xa5}, 100_001)
	var out bytes.Buffer
	if _, err := WriteStream(context.Background(), &out, bytes.NewReader(odd), CapacityFor(100_001), StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, len(odd))
	size, err := ReadStream(context.Background(), &out, func(_ int64, grain []byte) error {
		got = append(got, grain...)
		return nil
	})
	if err != nil || size != CapacityFor(100_001) {
		t.Fatalf("%d, %v", size, err)
	}
	if !bytes.Equal(got, append(odd, make([]byte, size-100_001)...)) {
		t.Fatal("bytes differ")
	}
	_, err = WriteStream(context.Background(), io.Discard, bytes.NewReader(odd), CapacityFor(100_001)+512, StreamOptions{})
	wantError(t, err, io.ErrUnexpectedEOF)
}

// TestHugeDiskStaysSmall: the stream of an empty 62 TiB disk is its directory.
func TestHugeDiskStaysSmall(t *testing.T) {
	const size = 62 << 40
	disk := sparseSource{size - 512: []byte("end")}
	var out bytes.Buffer
	n, err := WriteStream(context.Background(), &out, disk, size, StreamOptions{Allocated: []Extent{{size - 512, 512}}})
	if err != nil || n > 9*mib {
		t.Fatalf("%d bytes, %v", n, err)
	}
	var last int64
	got, err := ReadStream(context.Background(), bytes.NewReader(out.Bytes()), func(off int64, grain []byte) error {
		last = off + int64(len(grain))
		return nil
	})
	if err != nil || got != size || last != size {
		t.Fatalf("size %d, last byte %d, %v", got, last, err)
	}
	im, err := Open(bytes.NewReader(out.Bytes()), n, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 3)
	if _, err := im.ReadAt(p, size-512); err != nil || string(p) != "end" {
		t.Fatalf("%q, %v", p, err)
	}
}

// sparseSource is an endless disk with a few bytes in it.
type sparseSource map[int64][]byte

func (s sparseSource) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, b := range s {
		if at >= off && at < off+int64(len(p)) {
			copy(p[at-off:], b)
		}
	}
	return len(p), nil
}

func TestStreamDoesNotDependOnWorkers(t *testing.T) {
	_, disk := fixture(t)
	var want []byte
	for _, workers := range []int{1, 2, 7} {
		var out bytes.Buffer
		if _, err := WriteStream(context.Background(), &out, disk, fixtureBytes, StreamOptions{Workers: workers, Name: "a b.vmdk", CID: 0x1234}); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = out.Bytes()
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%d workers write other bytes", workers)
		}
	}
	im, err := Open(bytes.NewReader(want), int64(len(want)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := im.Descriptor(); d.CID != 0x1234 || d.Extents[0].Name != "a b.vmdk" {
		t.Errorf("descriptor says %v", d)
	}
}

var errBroken = errors.New("broken")

// brokenPipe fails after n bytes, or sectors for the reader.
type brokenPipe struct{ n int64 }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.n -= int64(len(p)); b.n < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func (b *brokenPipe) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.n {
		return 0, errBroken
	}
	return len(p), nil
}

func (b *brokenPipe) Read([]byte) (int, error) { return 0, errBroken }

// TestStreamPassesErrors: neither end may swallow the other's failure, and
// nothing hangs.
func TestStreamPassesErrors(t *testing.T) {
	ctx := context.Background()
	stream, disk := fixture(t)
	for _, n := range []int64{0, 70 << 10, int64(len(stream)) - 1} {
		_, err := WriteStream(ctx, &brokenPipe{n}, disk, fixtureBytes, StreamOptions{})
		wantError(t, err, errBroken)
	}
	_, err := WriteStream(ctx, io.Discard, &brokenPipe{8 * mib}, fixtureBytes, StreamOptions{})
	wantError(t, err, errBroken)
	_, err = ReadStream(ctx, io.MultiReader(bytes.NewReader(stream[:100_000]), &brokenPipe{}), drop)
	wantError(t, err, errBroken)
	_, err = ReadStream(ctx, bytes.NewReader(stream), func(int64, []byte) error { return errBroken })
	wantError(t, err, errBroken)
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(errBroken)
	_, err = WriteStream(cancelled, io.Discard, disk, fixtureBytes, StreamOptions{})
	wantError(t, err, errBroken)
	_, err = ReadStream(cancelled, bytes.NewReader(stream), drop)
	wantError(t, err, errBroken)
	for _, name := range []string{"../x.vmdk", "a\"b", "a\nb", strings.Repeat("x", 300)} {
		if _, err := WriteStream(ctx, io.Discard, disk, fixtureBytes, StreamOptions{Name: name}); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
}

// TestStreamProperty: any disk, any list of ranges that covers its data, comes
// back equal by both readers.
func TestStreamProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 9000).Draw(t, "sectors") * SectorBytes
		disk := &memFile{b: make([]byte, size)}
		var ranges []Extent
		for range rapid.IntRange(0, 6).Draw(t, "writes") {
			start := rapid.Int64Range(0, size-1).Draw(t, "start")
			e := Extent{start, min(rapid.Int64Range(1, 200_000).Draw(t, "length"), size-start)}
			for i := range e.Length {
				disk.b[e.Start+i] = byte(i*7 + start)
			}
			ranges = append(ranges, e)
		}
		if len(ranges) == 0 {
			ranges = []Extent{}
		}
		var out bytes.Buffer
		if _, err := WriteStream(context.Background(), &out, disk, size, StreamOptions{Allocated: ranges, Level: 1}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		n, err := ReadStream(context.Background(), bytes.NewReader(out.Bytes()), func(off int64, grain []byte) error {
			copy(got[off:], grain)
			return nil
		})
		if err != nil || n != size || !bytes.Equal(got, disk.b) {
			t.Fatalf("stream of %d bytes: %d, %v", size, n, err)
		}
		im, err := Open(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk.b) {
			t.Fatalf("image of %d bytes differs: %v", size, err)
		}
	})
}

func BenchmarkWriteStream(b *testing.B) {
	disk := &memFile{b: make([]byte, 64*mib)}
	rnd := rand.NewChaCha8([32]byte{1})
	for at := 0; at < len(disk.b); at += 8192 {
		rnd.Read(disk.b[at : at+4096])
	}
	b.SetBytes(int64(len(disk.b)))
	for b.Loop() {
		if _, err := WriteStream(context.Background(), io.Discard, disk, 64*mib, StreamOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
