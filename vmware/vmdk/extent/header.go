package extent

import (
	"encoding/binary"
	"fmt"
)

// HostedMagic are the first bytes of a hosted sparse file.
const HostedMagic = "KDMV"

// Bits of Header.Flags, and the only compression there is.
const (
	FlagNewlines  = 1 << 0 // the bytes "\n \r\n" tell whether someone moved it as text
	FlagZeroGrain = 1 << 2 // a table entry of 1 is a grain of zeros
	FlagDeflate   = 1 << 16
	FlagMarkers   = 1 << 17

	AlgorithmDeflate = 1
)

// DirectoryAtEnd in the place of the directory's offset says that the footer
// knows it: the writer could not seek back.
const DirectoryAtEnd = ^uint64(0)

const (
	newlines = "\n \r\n"

	// These bound what a header can make us allocate.
	maxGrainBytes   = 1 << 20
	maxGrains       = 1 << 30
	maxTables       = 1 << 22
	maxTableEntries = 512
)

// Header is the first sector of a hosted sparse file, and its footer. Lengths
// and offsets are in sectors.
type Header struct {
	Version                   uint32
	Flags                     uint32
	Capacity                  uint64 // of the disk
	Grain                     uint64
	Descriptor, DescriptorLen uint64 // 0 when there is none inside
	EntriesPerTable           uint32
	Directory                 uint64 // or DirectoryAtEnd
	Overhead                  uint64 // before the first grain
	Algorithm                 uint16
}

// Encode is the header as a sector.
func (h *Header) Encode() []byte {
	b := make([]byte, SectorBytes)
	le := binary.LittleEndian
	copy(b, HostedMagic)
	le.PutUint32(b[4:], h.Version)
	le.PutUint32(b[8:], h.Flags)
	le.PutUint64(b[12:], h.Capacity)
	le.PutUint64(b[20:], h.Grain)
	le.PutUint64(b[28:], h.Descriptor)
	le.PutUint64(b[36:], h.DescriptorLen)
	le.PutUint32(b[44:], h.EntriesPerTable)
	// 48: a second directory, which nobody writes here.
	le.PutUint64(b[56:], h.Directory)
	le.PutUint64(b[64:], h.Overhead)
	// 72: the mark of an unclean shutdown.
	copy(b[73:], newlines)
	le.PutUint16(b[77:], h.Algorithm)
	return b
}

// ParseHeader reads a sector and checks it, so that later arithmetic on
// capacity, grain and table sizes cannot overflow. Errors: ErrTruncated,
// ErrFormat, ErrUnsupported.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) < SectorBytes {
		return nil, fmt.Errorf("parse header: %w", ErrTruncated)
	}
	if string(b[:4]) != HostedMagic {
		return nil, fmt.Errorf("parse header: no magic: %w", ErrFormat)
	}
	le := binary.LittleEndian
	h := &Header{
		Version: le.Uint32(b[4:]), Flags: le.Uint32(b[8:]),
		Capacity: le.Uint64(b[12:]), Grain: le.Uint64(b[20:]),
		Descriptor: le.Uint64(b[28:]), DescriptorLen: le.Uint64(b[36:]),
		EntriesPerTable: le.Uint32(b[44:]),
		Directory:       le.Uint64(b[56:]), Overhead: le.Uint64(b[64:]),
		Algorithm: le.Uint16(b[77:]),
	}
	if h.Flags&FlagNewlines != 0 && string(b[73:77]) != newlines {
		return nil, fmt.Errorf("parse header: file was transferred as text: %w", ErrFormat)
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("parse header: %w", err)
	}
	return h, nil
}

func (h *Header) check() error {
	switch {
	case h.Version < 1 || h.Version > 3:
		return fmt.Errorf("version %d: %w", h.Version, ErrUnsupported)
	case h.Grain == 0 || h.Grain&(h.Grain-1) != 0 || h.Grain > maxGrainBytes/SectorBytes:
		return fmt.Errorf("grain of %d sectors: %w", h.Grain, ErrFormat)
	case h.EntriesPerTable == 0 || h.EntriesPerTable > maxTableEntries:
		return fmt.Errorf("%d entries in a table: %w", h.EntriesPerTable, ErrFormat)
	case h.Capacity == 0 || h.Capacity > uint64(MaxCapacity)/SectorBytes || h.Capacity/h.Grain > maxGrains:
		return fmt.Errorf("capacity of %d sectors: %w", h.Capacity, ErrFormat)
	case h.Tables() > maxTables:
		return fmt.Errorf("directory of %d tables: %w", h.Tables(), ErrFormat)
	case h.Overhead > 1<<32 || (h.Directory > 1<<32 && h.Directory != DirectoryAtEnd):
		return fmt.Errorf("offset beyond the format: %w", ErrFormat)
	case h.Descriptor > 1<<32 || h.DescriptorLen > MaxDescriptorBytes/SectorBytes:
		return fmt.Errorf("descriptor of %d sectors at %d: %w", h.DescriptorLen, h.Descriptor, ErrFormat)
	case h.Compressed() != (h.Algorithm == AlgorithmDeflate) || h.Algorithm > AlgorithmDeflate:
		return fmt.Errorf("compression %d: %w", h.Algorithm, ErrUnsupported)
	case h.Compressed() && h.Flags&FlagMarkers == 0:
		return fmt.Errorf("compressed without markers: %w", ErrUnsupported)
	}
	return nil
}

// SameDisk checks that a footer speaks of the header's disk and knows where
// the directory is, else ErrFormat.
func (h *Header) SameDisk(footer *Header) error {
	switch {
	case footer.Directory == DirectoryAtEnd:
		return fmt.Errorf("footer does not know the directory: %w", ErrFormat)
	case footer.Capacity != h.Capacity || footer.Grain != h.Grain ||
		footer.EntriesPerTable != h.EntriesPerTable || footer.Compressed() != h.Compressed():
		return fmt.Errorf("footer and header differ: %w", ErrFormat)
	}
	return nil
}

// Compressed reports whether grains are deflated.
func (h *Header) Compressed() bool { return h.Flags&FlagDeflate != 0 }

// SizeBytes is the disk's size in bytes.
func (h *Header) SizeBytes() int64 { return int64(h.Capacity) * SectorBytes }

// GrainBytes is a grain's size in bytes.
func (h *Header) GrainBytes() int64 { return int64(h.Grain) * SectorBytes }

// Tables is the number of grain tables, and of entries in the directory.
func (h *Header) Tables() int64 {
	cover := int64(h.Grain) * int64(h.EntriesPerTable)
	return (int64(h.Capacity) + cover - 1) / cover
}

// TableBytes is the length of one grain table in bytes.
func (h *Header) TableBytes() int64 { return int64(h.EntriesPerTable) * 4 }

// Kinds of a marker whose size is 0.
const (
	MarkerEnd = iota
	MarkerTable
	MarkerDirectory
	MarkerFooter
)

// GrainHeadBytes is the length of a marker before a grain's deflated data.
const GrainHeadBytes = 12

// Marker is the head of every record of a stream: a grain when Size is not 0,
// else metadata of the given kind.
type Marker struct {
	Value uint64 // place of a grain, or length of metadata, in sectors
	Size  uint32 // deflated bytes of a grain; 0 for metadata
	Kind  uint32 // of metadata; a grain has its data here
}

// ParseMarker reads the first 16 bytes of a record.
func ParseMarker(b []byte) Marker {
	le := binary.LittleEndian
	return Marker{Value: le.Uint64(b), Size: le.Uint32(b[8:]), Kind: le.Uint32(b[12:])}
}

// Metadata is the sector that announces metadata of the given length in
// sectors.
func Metadata(kind uint32, sectors uint64) []byte {
	b := make([]byte, SectorBytes)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// MaxDeflated bounds the deflated bytes of one grain: what deflate adds to data
// that it cannot shorten is far below the grain again (qemu has the same rule).
func MaxDeflated(grainBytes int64) int64 { return 2*grainBytes + 2*SectorBytes }
