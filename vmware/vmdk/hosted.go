package vmdk

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// openHosted opens a KDMV file as one extent and reads the descriptor inside of
// it; the descriptor is nil when there is none, as in the pieces of a split
// disk.
func openHosted(file io.ReaderAt, fileBytes int64) (extent, *hostedHeader, *Descriptor, error) {
	first := make([]byte, SectorBytes)
	if err := readFull(file, first, 0); err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	h, err := parseHosted(first)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	d, err := embeddedDescriptor(file, h)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
	}
	if h.directory == directoryAtEnd {
		if h, err = readFooter(file, fileBytes, h); err != nil {
			return nil, nil, nil, fmt.Errorf("open sparse extent: %w", err)
		}
	}
	if h.compressed() {
		return &deflatedExtent{grainMap: hostedMap(file, fileBytes, h)}, h, d, nil
	}
	return hostedMap(file, fileBytes, h), h, d, nil
}

func embeddedDescriptor(file io.ReaderAt, h *hostedHeader) (*Descriptor, error) {
	if h.descriptor == 0 || h.descriptorLen == 0 {
		return nil, nil
	}
	text := make([]byte, h.descriptorLen*SectorBytes)
	if err := readFull(file, text, int64(h.descriptor)*SectorBytes); err != nil {
		return nil, fmt.Errorf("read descriptor: %w", err)
	}
	return parseEmbedded(text)
}

// parseEmbedded is ParseDescriptor for the place inside of a sparse file, which
// may be left empty, as in a piece of a split disk: then there is no descriptor.
func parseEmbedded(text []byte) (*Descriptor, error) {
	if text[0] == 0 {
		return nil, nil
	}
	return ParseDescriptor(text)
}

// readFooter reads the last three sectors of a stream: footer marker, footer,
// end. The footer knows the directory.
func readFooter(file io.ReaderAt, fileBytes int64, head *hostedHeader) (*hostedHeader, error) {
	if fileBytes < 4*SectorBytes || fileBytes%SectorBytes != 0 {
		return nil, fmt.Errorf("read footer in a file of %d bytes: %w", fileBytes, ErrTruncated)
	}
	tail := make([]byte, 3*SectorBytes)
	if err := readFull(file, tail, fileBytes-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	announce, end := parseMarker(tail), parseMarker(tail[2*SectorBytes:])
	if announce.size != 0 || announce.kind != markerFooter || end != (marker{}) {
		return nil, fmt.Errorf("read footer: no footer at the end: %w", ErrTruncated)
	}
	h, err := parseHosted(tail[SectorBytes:])
	if err != nil {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	return h, head.sameDisk(h)
}

// sameDisk checks that a footer speaks of the header's disk.
func (h *hostedHeader) sameDisk(footer *hostedHeader) error {
	switch {
	case footer.directory == directoryAtEnd:
		return fmt.Errorf("footer does not know the directory: %w", ErrFormat)
	case footer.capacity != h.capacity || footer.grain != h.grain ||
		footer.entriesPerTable != h.entriesPerTable || footer.compressed() != h.compressed():
		return fmt.Errorf("footer and header differ: %w", ErrFormat)
	}
	return nil
}

func hostedMap(file io.ReaderAt, fileBytes int64, h *hostedHeader) *grainMap {
	return &grainMap{
		file: file, fileBytes: fileBytes, capacity: h.sizeBytes(), grain: h.grainBytes(),
		perTable: int64(h.entriesPerTable), entry: 4, directory: int64(h.directory) * SectorBytes,
		single: h.compressed(),
		table: func(entry uint64) (int64, bool, error) {
			return int64(entry) * SectorBytes, entry != 0, nil
		},
		decode: func(entry uint64) (state, int64, error) {
			switch {
			case entry == 0:
				return absent, 0, nil
			case entry == 1 && h.flags&flagZeroGrain != 0:
				return zero, 0, nil
			case entry < h.overhead:
				return absent, 0, fmt.Errorf("lies at sector %d, among the tables: %w", entry, ErrFormat)
			}
			return data, int64(entry) * SectorBytes, nil
		},
	}
}

// deflatedExtent reads the grains of a streamOptimized file in any order. It
// keeps the last ones inflated, since callers ask for less than a grain.
type deflatedExtent struct {
	*grainMap
	inflated blockCache
	pool     sync.Pool // of *inflater
}

func (e *deflatedExtent) read(p []byte, off int64, r run) error {
	start := off / e.grain * e.grain
	grain, err := e.inflated.load(span{r.at, start}, func() ([]byte, error) { return e.inflate(start, r.at) })
	if err != nil {
		return fmt.Errorf("grain at %d: %w", start, err)
	}
	copy(p, grain[off-start:])
	return nil
}

// inflate reads the record at byte at of the file, which must say of itself
// that it is the grain at start.
func (e *deflatedExtent) inflate(start, at int64) ([]byte, error) {
	head := make([]byte, grainHeadBytes)
	if err := readFull(e.file, head, at); err != nil {
		return nil, err
	}
	m := parseMarker(append(head, 0, 0, 0, 0))
	if m.size == 0 || int64(m.size) > maxDeflated(e.grain) || m.value != uint64(start/SectorBytes) {
		return nil, fmt.Errorf("record of sector %d with %d bytes: %w", m.value, m.size, ErrFormat)
	}
	deflated := make([]byte, m.size)
	if err := readFull(e.file, deflated, at+grainHeadBytes); err != nil {
		return nil, err
	}
	z, _ := e.pool.Get().(*inflater)
	if z == nil {
		z = new(inflater)
	}
	defer e.pool.Put(z)
	grain := make([]byte, e.grain)
	return grain, z.inflate(grain, deflated, min(e.grain, e.capacity-start))
}

// inflater is a zlib reader that is used again and again. Its zero value works.
type inflater struct{ z io.ReadCloser }

// inflate fills grain from deflated data, checksum included. Less than a grain
// is enough for the disk's last one, of which only need bytes exist; the rest
// becomes zero. More than a grain is refused before it is inflated.
func (i *inflater) inflate(grain, deflated []byte, need int64) (err error) {
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
