package vmdk

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"testing"
)

// touch reads a little of everything an image offers, within bounds of time.
func touch(im *Image) {
	p := make([]byte, 70_000)
	for _, off := range []int64{0, im.Size() / 2, max(0, im.Size()-int64(len(p)))} {
		_, _ = im.ReadAt(p, off)
		_, _ = im.Allocated(off, 64*mib)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(smallStream(f))
	f.Add([]byte(esxiDescriptor))
	f.Add([]byte(NewFlatDescriptor("x", 4096).String()))
	f.Add(cowdFile(64<<10, map[int64][]byte{8: make([]byte, 512)}))
	h := hostedHeader{version: 1, flags: flagNewlines | flagZeroGrain, capacity: 256, grain: 128, entriesPerTable: 512, directory: 1, overhead: 8}
	f.Add(append(h.encode(), make([]byte, 8192)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		self := func(string) (io.ReaderAt, int64, error) { return bytes.NewReader(b), int64(len(b)), nil }
		if im, err := OpenChain(bytes.NewReader(b), int64(len(b)), self); err == nil {
			touch(im)
		}
		// The same bytes behind a descriptor, as each kind of extent.
		for _, kind := range []string{"SPARSE", "VMFSSPARSE", "SESPARSE"} {
			if e, capacity, err := openSparse(kind, bytes.NewReader(b), int64(len(b)), false); err == nil {
				touch(&Image{size: capacity, parts: []part{{0, capacity, e}}})
			}
		}
	})
}

func FuzzReadStream(f *testing.F) {
	stream := smallStream(f)
	f.Add(stream)
	f.Add(stream[:len(stream)-512])
	f.Add(stream[:SectorBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := map[int64]bool{}
		var last int64
		size, err := ReadStream(context.Background(), bytes.NewReader(b), func(off int64, grain []byte) error {
			if seen[off] || off < 0 || len(grain) == 0 {
				t.Fatalf("grain of %d bytes at %d", len(grain), off)
			}
			seen[off] = true
			last = max(last, off+int64(len(grain)))
			return nil
		})
		if err == nil && (size <= 0 || last > size) {
			t.Fatalf("size %d, grains to %d", size, last)
		}
	})
}

func FuzzDescriptor(f *testing.F) {
	f.Add([]byte(esxiDescriptor))
	f.Add([]byte("version=1\nCID=1\ncreateType=\"x\"\nRW 5 ZERO\nRDONLY 7 FLAT \"a\" 3 dev\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDescriptor(b)
		if err != nil {
			return
		}
		again, err := ParseDescriptor([]byte(d.String()))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("text does not come back: %v\n%q\n%+v\n%+v", err, d.String(), d, again)
		}
	})
}

// patches is a large file of zeros with a few pieces of content, so that the
// fuzzer need not carry the holes of a seSparse file.
type patches struct {
	size int64
	at   []int64
	b    [][]byte
}

func (p *patches) ReadAt(dst []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(dst)), p.size-off)))
	clear(dst[:n])
	for i, at := range p.at {
		if skip := off - at; skip >= 0 && skip < int64(len(p.b[i])) {
			copy(dst[:n], p.b[i][skip:])
		} else if skip < 0 && -skip < int64(n) {
			copy(dst[-skip:n], p.b[i])
		}
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}

func (p *patches) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

func FuzzSESparse(f *testing.F) {
	mem := &memFile{}
	s, err := CreateSESparse(mem, mib, nil)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := s.WriteAt(make([]byte, 5000), 4000); err != nil {
		f.Fatal(err)
	}
	directory, tables := int64(s.header.directory)*SectorBytes, int64(s.header.tables)*SectorBytes
	f.Add(mem.b[:2*SectorBytes], mem.b[directory:][:8], mem.b[tables:][:64])
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		file := &patches{mem.size(), []int64{0, directory, tables}, [][]byte{a, b, c}}
		e, header, err := openSESparse(file, file.size)
		if err != nil {
			return
		}
		touch(&Image{size: header.sizeBytes(), parts: []part{{0, header.sizeBytes(), e}}})
		if s, err := OpenSESparse(file, file.size, nil); err == nil {
			_, _ = s.ReadAt(make([]byte, 9000), 4000)
			_, _ = s.WriteAt(make([]byte, 9000), 4000)
		}
	})
}

// smallStream is a stream without descriptor and padding: the fuzzer's bytes
// shall meet what is parsed.
func smallStream(t testing.TB) []byte {
	t.Helper()
	const size = 2*streamGrainBytes + 512
	disk := &memFile{b: make([]byte, size)}
	disk.b[5], disk.b[size-1] = 1, 2
	var out bytes.Buffer
	s := newStreamWriter(&out, size)
	s.header.overhead, s.header.descriptor, s.header.descriptorLen = 1, 0, 0
	err := s.write(s.header.encode())
	if err == nil {
		err = deflateAll(context.Background(), disk, size, []Extent{{0, 3}}, StreamOptions{}, s.grain)
	}
	if err == nil {
		err = s.end()
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, err := decode(out.Bytes()); err != nil || n != size {
		t.Fatalf("%d, %v", n, err)
	}
	return out.Bytes()
}
