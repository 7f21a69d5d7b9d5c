package vmdk

import (
	"encoding/binary"
	"fmt"
)

const (
	hostedMagic = "KDMV"

	flagNewlines  = 1 << 0
	flagRedundant = 1 << 1 // a second copy of directory and tables exists
	flagZeroGrain = 1 << 2 // a table entry of 1 is a grain of zeros
	flagDeflate   = 1 << 16
	flagMarkers   = 1 << 17

	deflateAlgorithm = 1

	// directoryAtEnd in the place of the directory's offset says that the
	// footer knows it: the writer could not seek back.
	directoryAtEnd = ^uint64(0)

	// streamGrainBytes and the table size are the only ones that ESXi writes.
	streamGrainBytes   = 128 * SectorBytes
	streamTableEntries = 512
	streamOverhead     = 128 // sectors before the first grain
	descriptorSectors  = 20

	// maxGrainBytes and maxGrains bound what a header can make us allocate.
	maxGrainBytes = 1 << 20
	maxGrains     = 1 << 30
	maxTables     = 1 << 22
)

// Kinds of a marker whose size is 0.
const (
	markerEnd = iota
	markerTable
	markerDirectory
	markerFooter
)

// hostedHeader is the first sector of a hosted sparse file (KDMV), and its
// footer. Offsets and lengths are in sectors.
type hostedHeader struct {
	version         uint32
	flags           uint32
	capacity        uint64
	grain           uint64
	descriptor      uint64
	descriptorLen   uint64
	entriesPerTable uint32
	redundant       uint64
	directory       uint64
	overhead        uint64
	algorithm       uint16
}

func (h *hostedHeader) encode() []byte {
	b := make([]byte, SectorBytes)
	le := binary.LittleEndian
	copy(b, hostedMagic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], h.grain)
	le.PutUint64(b[28:], h.descriptor)
	le.PutUint64(b[36:], h.descriptorLen)
	le.PutUint32(b[44:], h.entriesPerTable)
	le.PutUint64(b[48:], h.redundant)
	le.PutUint64(b[56:], h.directory)
	le.PutUint64(b[64:], h.overhead)
	// Byte 72 is the mark of an unclean shutdown. The four that follow tell
	// whether someone moved the file as text.
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.algorithm)
	return b
}

// parseHosted reads and checks a header, so that later arithmetic on capacity,
// grain and table sizes cannot overflow.
func parseHosted(b []byte) (*hostedHeader, error) {
	if len(b) < SectorBytes {
		return nil, fmt.Errorf("parse header: %w", ErrTruncated)
	}
	if string(b[:4]) != hostedMagic {
		return nil, fmt.Errorf("parse header: no magic: %w", ErrFormat)
	}
	le := binary.LittleEndian
	h := &hostedHeader{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]),
		capacity: le.Uint64(b[12:]), grain: le.Uint64(b[20:]),
		descriptor: le.Uint64(b[28:]), descriptorLen: le.Uint64(b[36:]),
		entriesPerTable: le.Uint32(b[44:]), redundant: le.Uint64(b[48:]),
		directory: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]),
		algorithm: le.Uint16(b[77:]),
	}
	return h, h.check(string(b[73:77]))
}

func (h *hostedHeader) check(newlines string) error {
	switch {
	case h.version < 1 || h.version > 3:
		return fmt.Errorf("parse header: version %d: %w", h.version, ErrUnsupported)
	case h.flags&flagNewlines != 0 && newlines != "\n \r\n":
		return fmt.Errorf("parse header: file was transferred as text: %w", ErrFormat)
	case h.grain == 0 || h.grain&(h.grain-1) != 0 || h.grain > maxGrainBytes/SectorBytes:
		return fmt.Errorf("parse header: grain of %d sectors: %w", h.grain, ErrFormat)
	case h.entriesPerTable == 0 || h.entriesPerTable > streamTableEntries:
		return fmt.Errorf("parse header: %d entries in a table: %w", h.entriesPerTable, ErrFormat)
	case h.capacity == 0 || h.capacity > uint64(MaxCapacity)/SectorBytes || h.capacity/h.grain > maxGrains:
		return fmt.Errorf("parse header: capacity of %d sectors: %w", h.capacity, ErrFormat)
	case h.tables() > maxTables:
		return fmt.Errorf("parse header: directory of %d tables: %w", h.tables(), ErrFormat)
	case h.overhead > 1<<32 || (h.directory > 1<<32 && h.directory != directoryAtEnd):
		return fmt.Errorf("parse header: offset beyond the format: %w", ErrFormat)
	case h.descriptor > 1<<32 || h.descriptorLen > maxDescriptorBytes/SectorBytes:
		return fmt.Errorf("parse header: descriptor of %d sectors at %d: %w", h.descriptorLen, h.descriptor, ErrFormat)
	case h.compressed() != (h.algorithm == deflateAlgorithm) || h.algorithm > deflateAlgorithm:
		return fmt.Errorf("parse header: compression %d: %w", h.algorithm, ErrUnsupported)
	case h.compressed() && h.flags&flagMarkers == 0:
		return fmt.Errorf("parse header: compressed without markers: %w", ErrUnsupported)
	}
	return nil
}

func (h *hostedHeader) compressed() bool { return h.flags&flagDeflate != 0 }

func (h *hostedHeader) sizeBytes() int64  { return int64(h.capacity) * SectorBytes }
func (h *hostedHeader) grainBytes() int64 { return int64(h.grain) * SectorBytes }

// tables is the number of grain tables, and of entries in the directory.
func (h *hostedHeader) tables() int64 {
	cover := int64(h.grain) * int64(h.entriesPerTable)
	return (int64(h.capacity) + cover - 1) / cover
}

// tableBytes is the length of one grain table, whole sectors in a stream.
func (h *hostedHeader) tableBytes() int64 { return int64(h.entriesPerTable) * 4 }

// marker is the head of every record of a stream: a grain when size is not 0,
// else metadata of the given kind.
type marker struct {
	value uint64 // lba of a grain in sectors; length of metadata in sectors
	size  uint32 // deflated bytes of a grain; 0 for metadata
	kind  uint32 // of metadata; a grain has its data here
}

// grainHeadBytes is the length of a marker before a grain's deflated data.
const grainHeadBytes = 12

func parseMarker(b []byte) marker {
	le := binary.LittleEndian
	return marker{value: le.Uint64(b), size: le.Uint32(b[8:]), kind: le.Uint32(b[12:])}
}

// metadata is the sector that announces sectors of metadata.
func metadata(kind uint32, sectors uint64) []byte {
	b := make([]byte, SectorBytes)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// maxDeflated bounds the deflated bytes of one grain: what deflate adds to data
// that it cannot shorten is far below the grain again (qemu has the same rule).
func maxDeflated(grainBytes int64) int64 { return 2*grainBytes + 2*SectorBytes }

// roundUp is n to the next multiple of unit.
func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
