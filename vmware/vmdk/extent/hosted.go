package extent

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// OpenHosted opens a KDMV file as one extent and returns the header that holds
// (the footer's, if there is one) and the bytes kept for a descriptor, which may
// be nil or empty, as in the pieces of a split disk. The header's grain size
// bounds what is kept in memory: 32 grains, if they are deflated.
func OpenHosted(file io.ReaderAt, fileBytes int64) (Reader, *Header, []byte, error) {
	first := make([]byte, SectorBytes)
	if err := ReadFull(file, first, 0); err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	h, err := ParseHeader(first)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	d, err := embeddedDescriptor(file, h)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	if h.Directory == DirectoryAtEnd {
		if h, err = readFooter(file, fileBytes, h); err != nil {
			return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
		}
	}
	if h.Compressed() {
		return &deflatedExtent{grainMap: hostedMap(file, fileBytes, h)}, h, d, nil
	}
	return hostedMap(file, fileBytes, h), h, d, nil
}

func embeddedDescriptor(file io.ReaderAt, h *Header) ([]byte, error) {
	if h.Descriptor == 0 || h.DescriptorLen == 0 {
		return nil, nil
	}
	text := make([]byte, h.DescriptorLen*SectorBytes)
	if err := ReadFull(file, text, int64(h.Descriptor)*SectorBytes); err != nil {
		return nil, fmt.Errorf("read descriptor: %w", err)
	}
	return text, nil
}

// readFooter reads the last three sectors of a stream: footer marker, footer,
// end. The footer knows the directory.
func readFooter(file io.ReaderAt, fileBytes int64, head *Header) (*Header, error) {
	if fileBytes < 4*SectorBytes || fileBytes%SectorBytes != 0 {
		return nil, fmt.Errorf("read footer in a file of %d bytes: %w", fileBytes, ErrTruncated)
	}
	tail := make([]byte, 3*SectorBytes)
	if err := ReadFull(file, tail, fileBytes-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	announce, end := ParseMarker(tail), ParseMarker(tail[2*SectorBytes:])
	if announce.Size != 0 || announce.Kind != MarkerFooter || end != (Marker{}) {
		return nil, fmt.Errorf("read footer: no footer at the end: %w", ErrTruncated)
	}
	h, err := ParseHeader(tail[SectorBytes:])
	if err != nil {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	return h, head.SameDisk(h)
}

func hostedMap(file io.ReaderAt, fileBytes int64, h *Header) *grainMap {
	return &grainMap{
		file: file, fileBytes: fileBytes, capacity: h.SizeBytes(), grain: h.GrainBytes(),
		perTable: int64(h.EntriesPerTable), entry: 4, directory: int64(h.Directory) * SectorBytes,
		single: h.Compressed(),
		table: func(entry uint64) (int64, bool, error) {
			return int64(entry) * SectorBytes, entry != 0, nil
		},
		decode: func(entry uint64) (State, int64, error) {
			switch {
			case entry == 0:
				return Absent, 0, nil
			case entry == 1 && h.Flags&FlagZeroGrain != 0:
				return Zero, 0, nil
			case entry < h.Overhead:
				return Absent, 0, fmt.Errorf("lies at sector %d, among the tables: %w", entry, ErrFormat)
			}
			return Data, int64(entry) * SectorBytes, nil
		},
	}
}

// deflatedExtent reads the grains of a streamOptimized file in any order. It
// keeps the last ones inflated, since callers ask for less than a grain.
type deflatedExtent struct {
	*grainMap
	inflated blockCache
	pool     sync.Pool // of *Inflater
}

func (e *deflatedExtent) Read(p []byte, off int64, r Run) error {
	start := off / e.grain * e.grain
	grain, err := e.inflated.load(span{r.At, start}, func() ([]byte, error) { return e.inflate(start, r.At) })
	if err != nil {
		return fmt.Errorf("grain at %d: %w", start, err)
	}
	copy(p, grain[off-start:])
	return nil
}

// inflate reads the record at byte at of the file, which must say of itself
// that it is the grain at start.
func (e *deflatedExtent) inflate(start, at int64) ([]byte, error) {
	head := make([]byte, GrainHeadBytes)
	if err := ReadFull(e.file, head, at); err != nil {
		return nil, err
	}
	m := ParseMarker(append(head, 0, 0, 0, 0))
	if m.Size == 0 || int64(m.Size) > MaxDeflated(e.grain) || m.Value != uint64(start/SectorBytes) {
		return nil, fmt.Errorf("record of sector %d with %d bytes: %w", m.Value, m.Size, ErrFormat)
	}
	deflated := make([]byte, m.Size)
	if err := ReadFull(e.file, deflated, at+GrainHeadBytes); err != nil {
		return nil, err
	}
	z, _ := e.pool.Get().(*Inflater)
	if z == nil {
		z = new(Inflater)
	}
	defer e.pool.Put(z)
	grain := make([]byte, e.grain)
	return grain, z.Inflate(grain, deflated, min(e.grain, e.capacity-start))
}

// Inflater is a zlib reader that is used again and again. Its zero value works.
type Inflater struct{ z io.ReadCloser }

// Inflate fills grain from deflated data, checksum included. Less than a grain
// is enough for the disk's last one, of which only need bytes exist; the rest
// becomes zero. More than a grain is refused before it is inflated.
func (i *Inflater) Inflate(grain, deflated []byte, need int64) (err error) {
	src := bytes.NewReader(deflated)
	if i.z == nil {
		i.z, err = zlib.NewReader(src)
	} else {
		err = i.z.(zlib.Resetter).Reset(src, nil)
	}
	if err != nil {
		return fmt.Errorf("inflate: %v: %w", err, ErrFormat)
	}
	// Not io.ReadFull: it calls a clean end and a cut one by the same name.
	n := 0
	for n < len(grain) && err == nil {
		var k int
		k, err = i.z.Read(grain[n:])
		n += k
	}
	if err == nil {
		var more [1]byte
		if n, end := io.ReadFull(i.z, more[:]); n != 0 || end != io.EOF {
			return fmt.Errorf("inflate: more than a grain, or a bad sum (%v): %w", end, ErrFormat)
		}
		return nil
	}
	if err != io.EOF {
		return fmt.Errorf("inflate: %v: %w", err, ErrFormat)
	}
	if int64(n) < need {
		return fmt.Errorf("inflate: %d bytes of a grain of %d: %w", n, len(grain), ErrFormat)
	}
	clear(grain[n:])
	return nil
}
