package extent

import (
	"encoding/binary"
	"fmt"
	"io"
)

// SESparseMagic are the first bytes of a seSparse extent.
const SESparseMagic = "\xbe\xba\xfe\xca\x00\x00\x00\x00"

const (
	seMagic         = 0xcafebabe
	seVolatileMagic = 0xcafecafe
	seVersion       = 0x2_0000_0001

	seGrainBytes   = 4096
	seTableEntries = 4096
	seTableBytes   = seTableEntries * 8
	seCover        = seGrainBytes * seTableEntries // bytes of disk behind one table

	// Kinds in the top four bits of an entry.
	seAllocated = 0x1 << 60 // of a directory entry: there is a table
	seUnmapped  = 0x1 << 60 // of a table entry: freed by the guest, reads as zero
	seZero      = 0x2 << 60
	seData      = 0x3 << 60
	seKindMask  = 0xf << 60
)

// seHeader is the constant header of a seSparse file. It is 64 bits throughout;
// places are in sectors, each a pair of offset and length.
type seHeader struct {
	capacity                             uint64
	volatileAt                           uint64
	directory, directoryLen              uint64
	tables, tablesLen, grains, grainsLen uint64
}

// parseSESparse reads the header as strictly as qemu does, for the format is
// known from files alone: whatever is not understood is refused.
func parseSESparse(b []byte) (*seHeader, error) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if word(0) != seMagic {
		return nil, fmt.Errorf("parse sesparse header: no magic: %w", ErrFormat)
	}
	if word(1) != seVersion || word(3) != seGrainBytes/SectorBytes || word(4) != seTableBytes/SectorBytes || word(5) != 0 {
		return nil, fmt.Errorf("parse sesparse header: version %#x, grain %d, table %d, flags %#x: %w", word(1), word(3), word(4), word(5), ErrUnsupported)
	}
	if !IsZero(b[6*8:10*8]) || !IsZero(b[26*8:SectorBytes]) {
		return nil, fmt.Errorf("parse sesparse header: reserved fields are set: %w", ErrUnsupported)
	}
	h := &seHeader{
		capacity: word(2), volatileAt: word(10),
		directory: word(16), directoryLen: word(17),
		tables: word(18), tablesLen: word(19), grains: word(24), grainsLen: word(25),
	}
	for _, place := range []uint64{h.volatileAt, h.directory, h.directoryLen, h.tables, h.tablesLen, h.grains, h.grainsLen} {
		if place == 0 || place > 1<<40 {
			return nil, fmt.Errorf("parse sesparse header: place %d: %w", place, ErrFormat)
		}
	}
	if h.capacity == 0 || h.capacity > uint64(MaxCapacity)/SectorBytes {
		return nil, fmt.Errorf("parse sesparse header: capacity of %d sectors: %w", h.capacity, ErrFormat)
	}
	if h.directoryLen*SectorBytes/8 < uint64(seGroups(h.sizeBytes())) {
		return nil, fmt.Errorf("parse sesparse header: directory of %d sectors: %w", h.directoryLen, ErrFormat)
	}
	return h, nil
}

func (h *seHeader) sizeBytes() int64 { return int64(h.capacity) * SectorBytes }

// seGroups is the number of tables that a disk of size bytes can have.
func seGroups(size int64) int64 { return RoundUp(size, seCover) / seCover }

// OpenSESparse opens the delta format of VMFS 6 for reading, and returns the
// disk bytes that the extent covers.
func OpenSESparse(file io.ReaderAt, fileBytes int64) (Reader, int64, error) {
	m, h, err := openSESparse(file, fileBytes)
	if err != nil {
		return nil, 0, err
	}
	return m, h.sizeBytes(), nil
}

func openSESparse(file io.ReaderAt, fileBytes int64) (*grainMap, *seHeader, error) {
	b := make([]byte, SectorBytes)
	if err := ReadFull(file, b, 0); err != nil {
		return nil, nil, fmt.Errorf("open sesparse extent: %w", err)
	}
	h, err := parseSESparse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("open sesparse extent: %w", err)
	}
	if err := checkVolatile(file, h); err != nil {
		return nil, nil, fmt.Errorf("open sesparse extent: %w", err)
	}
	return seMap(file, fileBytes, h), h, nil
}

// checkVolatile refuses a file whose journal must be replayed first: its tables
// are not true.
func checkVolatile(file io.ReaderAt, h *seHeader) error {
	b := make([]byte, SectorBytes)
	if err := ReadFull(file, b, int64(h.volatileAt)*SectorBytes); err != nil {
		return fmt.Errorf("read volatile header: %w", err)
	}
	if binary.LittleEndian.Uint64(b) != seVolatileMagic {
		return fmt.Errorf("read volatile header: no magic: %w", ErrFormat)
	}
	if binary.LittleEndian.Uint64(b[24:]) != 0 {
		return fmt.Errorf("journal was not replayed: %w", ErrUnsupported)
	}
	return nil
}

func seMap(file io.ReaderAt, fileBytes int64, h *seHeader) *grainMap {
	return &grainMap{
		file: file, fileBytes: fileBytes, capacity: h.sizeBytes(), grain: seGrainBytes,
		perTable: seTableEntries, entry: 8, directory: int64(h.directory) * SectorBytes,
		table:  h.tableAt,
		decode: h.grainAt,
	}
}

// tableAt reads a directory entry: kind 1 and the table's number.
func (h *seHeader) tableAt(entry uint64) (int64, bool, error) {
	if entry == 0 {
		return 0, false, nil
	}
	number := entry &^ seKindMask
	if entry&seKindMask != seAllocated || number >= h.tablesLen*SectorBytes/seTableBytes {
		return 0, false, fmt.Errorf("directory entry %#x: %w", entry, ErrFormat)
	}
	return int64(h.tables)*SectorBytes + int64(number)*seTableBytes, true, nil
}

// grainAt reads a table entry. The grain's number is turned: its low 12 bits
// are the bits 48 to 59, the higher ones begin at bit 0.
func (h *seHeader) grainAt(entry uint64) (State, int64, error) {
	switch entry & seKindMask {
	case 0:
		if entry == 0 {
			return Absent, 0, nil
		}
	case seUnmapped, seZero:
		return Zero, 0, nil
	case seData:
		number := entry>>48&0xfff | entry&(1<<48-1)<<12
		if number < h.grainsLen*SectorBytes/seGrainBytes {
			return Data, int64(h.grains)*SectorBytes + int64(number)*seGrainBytes, nil
		}
	}
	return Absent, 0, fmt.Errorf("table entry %#x: %w", entry, ErrFormat)
}

// seEntry is the inverse of grainAt for data.
func seEntry(number uint64) uint64 { return seData | number&0xfff<<48 | number>>12 }
