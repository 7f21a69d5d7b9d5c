package vmdk

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"holdfast/vmware/vmdk/extent"
)

// maxTrailing is how many bytes of zero padding may follow the end of a stream.
const maxTrailing = 64 << 10

// ReadStream decodes a streamOptimized VMDK in one pass and calls fn for every
// grain in the order of the stream (ascending from all known writers, but not
// promised). grain is cut to the disk's end, and valid only during the call.
// What fn was not called for reads as zero. The size returned is the disk's in
// bytes; it is valid only without an error, when the stream was whole.
//
// Whole means: every record in its place, every grain once and inside of the
// disk, every checksum right, every grain in the tables and no more, and the
// end announced. Two layouts exist: VMware's, with tables behind the grains and
// a footer, and qemu's, with tables in front and no end; there the tables tell
// how many grains must come. A stream that ends early is ErrTruncated, one that
// contradicts itself ErrFormat, another kind of VMDK ErrUnsupported, a delta
// ErrHasParent. Errors of r, fn and ctx come back wrapped.
func ReadStream(ctx context.Context, r io.Reader, fn func(off int64, grain []byte) error) (size int64, err error) {
	s := &streamReader{r: bufio.NewReaderSize(r, 256<<10), fn: fn, tables: map[uint32]int{}}
	if err := s.open(); err != nil {
		return 0, fmt.Errorf("read vmdk stream: %w", err)
	}
	for done := false; !done; {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("read vmdk stream: %w", context.Cause(ctx))
		}
		if done, err = s.record(); err != nil {
			return 0, fmt.Errorf("read vmdk stream: at byte %d: %w", s.at, err)
		}
	}
	if err := s.finish(); err != nil {
		return 0, fmt.Errorf("read vmdk stream: %w", err)
	}
	return s.header.SizeBytes(), nil
}

// phase is how far a stream has come: metadata arrives in this order.
type phase int

const (
	inGrains phase = iota
	afterDirectory
	afterFooter
)

type streamReader struct {
	r      *bufio.Reader
	at     int64 // bytes consumed
	fn     func(int64, []byte) error
	header *extent.Header
	phase  phase

	seen   grainSet
	grains int64 // grains that came
	// listed is the number of grains in tables that the directory names;
	// tables counts each table's, by the sector it lies at.
	listed    int64
	tables    map[uint32]int
	directory uint64

	inflater extent.Inflater
	deflated []byte
	raw      []byte
}

// fill reads exactly len(p) bytes.
func (s *streamReader) fill(p []byte) error {
	n, err := io.ReadFull(s.r, p)
	s.at += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrTruncated
	}
	return err
}

func (s *streamReader) skip(n int64) error {
	k, err := io.CopyN(io.Discard, s.r, n)
	s.at += k
	if err == io.EOF {
		return ErrTruncated
	}
	return err
}

// open reads all that stands before the first grain.
func (s *streamReader) open() (err error) {
	first := make([]byte, SectorBytes)
	if err := s.fill(first[:4]); err != nil {
		return err
	}
	if string(first[:4]) != extent.HostedMagic {
		return fmt.Errorf("no magic: %w", ErrFormat)
	}
	if err := s.fill(first[4:]); err != nil {
		return err
	}
	if s.header, err = extent.ParseHeader(first); err != nil {
		return err
	}
	h := s.header
	if !h.Compressed() {
		return fmt.Errorf("sparse file is not stream-optimized: %w", ErrUnsupported)
	}
	s.raw = make([]byte, h.GrainBytes())
	if err := s.readDescriptor(); err != nil {
		return err
	}
	if h.Directory != extent.DirectoryAtEnd {
		if err := s.readFrontTables(); err != nil {
			return fmt.Errorf("tables: %w", err)
		}
	}
	return s.skipTo(int64(h.Overhead))
}

// skipTo moves on to a sector, which must not lie behind.
func (s *streamReader) skipTo(sector int64) error {
	if sector*SectorBytes < s.at {
		return fmt.Errorf("sector %d is part of what stands before it: %w", sector, ErrFormat)
	}
	return s.skip(sector*SectorBytes - s.at)
}

func (s *streamReader) readDescriptor() error {
	h := s.header
	if h.Descriptor == 0 || h.DescriptorLen == 0 {
		return nil
	}
	if h.Descriptor+h.DescriptorLen > h.Overhead {
		return fmt.Errorf("descriptor reaches into the grains: %w", ErrFormat)
	}
	if err := s.skipTo(int64(h.Descriptor)); err != nil {
		return err
	}
	text := make([]byte, h.DescriptorLen*SectorBytes)
	if err := s.fill(text); err != nil {
		return err
	}
	d, err := parseEmbedded(text)
	if err == nil && d != nil && d.HasParent() {
		err = ErrHasParent
	}
	return err
}

// readFrontTables counts the entries of qemu's tables, which lie in ascending
// order behind their directory.
func (s *streamReader) readFrontTables() error {
	h := s.header
	if err := s.skipTo(int64(h.Directory)); err != nil {
		return err
	}
	sectors := make([]uint32, 0, min(h.Tables(), 4096))
	var entry [4]byte
	for range h.Tables() {
		if err := s.fill(entry[:]); err != nil {
			return err
		}
		sectors = append(sectors, binary.LittleEndian.Uint32(entry[:]))
	}
	for _, sector := range sectors {
		if sector == 0 {
			continue
		}
		if err := s.skipTo(int64(sector)); err != nil {
			return err
		}
		n, err := s.countTable()
		if err != nil {
			return err
		}
		s.listed += int64(n)
	}
	return nil
}

// countTable reads one table and counts its grains.
func (s *streamReader) countTable() (int, error) {
	table := make([]byte, s.header.TableBytes())
	if err := s.fill(table); err != nil {
		return 0, err
	}
	n := 0
	for ; len(table) > 0; table = table[4:] {
		entry := binary.LittleEndian.Uint32(table)
		if entry != 0 && (entry != 1 || s.header.Flags&extent.FlagZeroGrain == 0) {
			n++
		}
	}
	return n, nil
}

// record reads one marker and what it announces; done is true at the end.
func (s *streamReader) record() (done bool, err error) {
	sector := make([]byte, SectorBytes)
	if s.header.Directory != extent.DirectoryAtEnd {
		// No end is announced in this layout: the file stops, or is padded
		// with zeros up to a grain, which look like the end marker.
		if _, err := s.r.Peek(1); err == io.EOF {
			return true, nil
		}
	}
	if err := s.fill(sector); err != nil {
		return false, err
	}
	m := extent.ParseMarker(sector)
	if m.Size != 0 {
		return false, s.grain(m, sector[extent.GrainHeadBytes:])
	}
	if !extent.IsZero(sector[16:]) {
		return false, fmt.Errorf("metadata marker with rubbish behind it: %w", ErrFormat)
	}
	switch {
	case m.Kind == extent.MarkerTable && s.phase == inGrains:
		return false, s.tableRecord(m)
	case m.Kind == extent.MarkerDirectory && s.phase == inGrains:
		s.phase = afterDirectory
		return false, s.directoryRecord(m)
	case m.Kind == extent.MarkerFooter && s.phase == afterDirectory:
		s.phase = afterFooter
		return false, s.footerRecord(m)
	case m.Kind == extent.MarkerEnd && m.Value == 0 && (s.phase == afterFooter || s.header.Directory != extent.DirectoryAtEnd):
		return true, nil
	}
	return false, fmt.Errorf("metadata marker of kind %d out of place: %w", m.Kind, ErrFormat)
}

// grain inflates one grain. first is what its first sector holds of the data.
func (s *streamReader) grain(m extent.Marker, first []byte) error {
	h := s.header
	if s.phase != inGrains {
		return fmt.Errorf("grain behind the directory: %w", ErrFormat)
	}
	if int64(m.Size) > extent.MaxDeflated(h.GrainBytes()) {
		return fmt.Errorf("grain of %d deflated bytes: %w", m.Size, ErrFormat)
	}
	if m.Value >= h.Capacity || m.Value%h.Grain != 0 {
		return fmt.Errorf("grain at sector %d, disk of %d: %w", m.Value, h.Capacity, ErrFormat)
	}
	if !s.seen.add(int64(m.Value / h.Grain)) {
		return fmt.Errorf("grain at sector %d comes twice: %w", m.Value, ErrFormat)
	}
	s.grains++
	total := extent.RoundUp(int64(m.Size)+extent.GrainHeadBytes, SectorBytes) - extent.GrainHeadBytes
	if int64(cap(s.deflated)) < total {
		s.deflated = make([]byte, extent.MaxDeflated(h.GrainBytes())+SectorBytes)
	}
	s.deflated = s.deflated[:total]
	if err := s.fill(s.deflated[copy(s.deflated, first):]); err != nil {
		return err
	}
	off := int64(m.Value) * SectorBytes
	length := min(h.GrainBytes(), h.SizeBytes()-off)
	if err := s.inflater.Inflate(s.raw, s.deflated[:m.Size], length); err != nil {
		return fmt.Errorf("grain at sector %d: %w", m.Value, err)
	}
	return s.fn(off, s.raw[:length])
}

func (s *streamReader) tableRecord(m extent.Marker) error {
	if s.header.Directory != extent.DirectoryAtEnd {
		return fmt.Errorf("table behind grains, though tables are in front: %w", ErrFormat)
	}
	length := extent.RoundUp(s.header.TableBytes(), SectorBytes)
	if int64(m.Value) != length/SectorBytes {
		return fmt.Errorf("table of %d sectors: %w", m.Value, ErrFormat)
	}
	at := s.at / SectorBytes
	n, err := s.countTable()
	if err != nil {
		return err
	}
	if at < 1<<32 {
		s.tables[uint32(at)] = n
	}
	return s.skip(length - s.header.TableBytes())
}

// directoryRecord adds up the tables that the directory names; each of them
// must have come.
func (s *streamReader) directoryRecord(m extent.Marker) error {
	length := extent.RoundUp(s.header.Tables()*4, SectorBytes)
	if s.header.Directory != extent.DirectoryAtEnd || int64(m.Value) != length/SectorBytes {
		return fmt.Errorf("directory of %d sectors: %w", m.Value, ErrFormat)
	}
	s.directory = uint64(s.at / SectorBytes)
	sector := make([]byte, SectorBytes)
	left := s.header.Tables()
	for range m.Value {
		if err := s.fill(sector); err != nil {
			return err
		}
		for b := sector; len(b) > 0 && left > 0; b, left = b[4:], left-1 {
			entry := binary.LittleEndian.Uint32(b)
			if entry == 0 {
				continue
			}
			n, ok := s.tables[entry]
			if !ok {
				return fmt.Errorf("directory names a table at sector %d, where none is: %w", entry, ErrFormat)
			}
			delete(s.tables, entry)
			s.listed += int64(n)
		}
	}
	return nil
}

func (s *streamReader) footerRecord(m extent.Marker) error {
	if m.Value != 1 {
		return fmt.Errorf("footer of %d sectors: %w", m.Value, ErrFormat)
	}
	sector := make([]byte, SectorBytes)
	if err := s.fill(sector); err != nil {
		return err
	}
	footer, err := extent.ParseHeader(sector)
	if err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	if err := s.header.SameDisk(footer); err != nil {
		return err
	}
	if footer.Directory != s.directory {
		return fmt.Errorf("footer says directory at sector %d, it came at %d: %w", footer.Directory, s.directory, ErrFormat)
	}
	return nil
}

// finish checks the sum of it, and that only padding follows.
func (s *streamReader) finish() error {
	switch {
	case s.grains < s.listed && s.header.Directory != extent.DirectoryAtEnd:
		return fmt.Errorf("%d grains of %d came: %w", s.grains, s.listed, ErrTruncated)
	case s.grains != s.listed:
		return fmt.Errorf("%d grains came, the tables list %d: %w", s.grains, s.listed, ErrFormat)
	}
	rest, err := io.ReadAll(io.LimitReader(s.r, maxTrailing+1))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if len(rest) > maxTrailing || !extent.IsZero(rest) {
		return fmt.Errorf("data behind the end of the stream: %w", ErrFormat)
	}
	return nil
}

// grainSet remembers grain numbers, in pages that exist only where grains came:
// memory follows the stream, not the capacity that its header claims.
type grainSet map[int64]*[grainPage / 64]uint64

const grainPage = 4096

// add puts a number in and reports whether it is new.
func (g *grainSet) add(n int64) bool {
	if *g == nil {
		*g = grainSet{}
	}
	page := (*g)[n/grainPage]
	if page == nil {
		page = new([grainPage / 64]uint64)
		(*g)[n/grainPage] = page
	}
	word, bit := &page[n%grainPage/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
