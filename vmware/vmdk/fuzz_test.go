package vmdk

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"testing"

	"holdfast/vmware/vmdk/extent"
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
	h := extent.Header{
		Version: 1, Flags: extent.FlagNewlines | extent.FlagZeroGrain, Capacity: 256, Grain: 128,
		EntriesPerTable: 512, Directory: 1, Overhead: 8,
	}
	f.Add(append(h.Encode(), make([]byte, 8192)...))
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

// smallStream is a stream without descriptor and padding: the fuzzer's bytes
// shall meet what is parsed.
func smallStream(t testing.TB) []byte {
	t.Helper()
	const size = 2*streamGrainBytes + 512
	disk := &memFile{b: make([]byte, size)}
	disk.b[5], disk.b[size-1] = 1, 2
	var out bytes.Buffer
	s := newStreamWriter(&out, size)
	s.header.Overhead, s.header.Descriptor, s.header.DescriptorLen = 1, 0, 0
	err := s.write(s.header.Encode())
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
