package extent

import (
	"io"
	"testing"
)

// touch walks a little of what an extent offers, within bounds of time.
func touch(e Reader, size int64) {
	p := make([]byte, 70_000)
	for _, off := range []int64{0, size / 2, size - 512} {
		for range 50 {
			if off < 0 || off >= size {
				break
			}
			r, err := e.Locate(off, min(int64(len(p)), size-off))
			if err != nil {
				break
			}
			if r.Length <= 0 {
				panic("empty run")
			}
			if r.State == Data {
				_ = e.Read(p[:r.Length], off, r)
			}
			off += r.Length
		}
	}
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
	s, err := CreateDelta(mem, 1<<20, nil)
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
		touch(e, header.sizeBytes())
		if s, err := OpenDelta(file, file.size, nil); err == nil {
			_, _ = s.ReadAt(make([]byte, 9000), 4000)
			_, _ = s.WriteAt(make([]byte, 9000), 4000)
		}
	})
}
