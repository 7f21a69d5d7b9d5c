package extent

import (
	"encoding/binary"
	"fmt"
	"io"
)

// COWDMagic are the first bytes of a COWD extent.
const COWDMagic = "COWD"

const (
	// cowdTableEntries is fixed by the format: 2 MiB of disk with the usual
	// grain of one sector.
	cowdTableEntries = 4096
)

// OpenCOWD opens the delta format of VMFS 3 and 5 (VMFSSPARSE): all numbers 32
// bits and in sectors, no mark for zeros, no second table. An entry of 0 is the
// parent's. It returns the disk bytes that the extent covers, too.
func OpenCOWD(file io.ReaderAt, fileBytes int64) (Reader, int64, error) {
	head := make([]byte, SectorBytes)
	if err := ReadFull(file, head, 0); err != nil {
		return nil, 0, fmt.Errorf("open cowd extent: %w", err)
	}
	if string(head[:4]) != COWDMagic {
		return nil, 0, fmt.Errorf("open cowd extent: no magic: %w", ErrFormat)
	}
	le := binary.LittleEndian
	version, sectors, grain := le.Uint32(head[4:]), int64(le.Uint32(head[12:])), int64(le.Uint32(head[16:]))
	directory, entries := int64(le.Uint32(head[20:])), int64(le.Uint32(head[24:]))
	switch {
	case version != 1:
		return nil, 0, fmt.Errorf("open cowd extent: version %d: %w", version, ErrUnsupported)
	case sectors == 0 || grain == 0 || grain > maxGrainBytes/SectorBytes || directory == 0:
		return nil, 0, fmt.Errorf("open cowd extent: %d sectors in grains of %d, directory at %d: %w", sectors, grain, directory, ErrFormat)
	case entries < (sectors+grain*cowdTableEntries-1)/(grain*cowdTableEntries):
		return nil, 0, fmt.Errorf("open cowd extent: directory of %d entries for %d sectors: %w", entries, sectors, ErrFormat)
	}
	m := &grainMap{
		file: file, fileBytes: fileBytes, capacity: sectors * SectorBytes, grain: grain * SectorBytes,
		perTable: cowdTableEntries, entry: 4, directory: directory * SectorBytes,
		table: func(entry uint64) (int64, bool, error) {
			return int64(entry) * SectorBytes, entry != 0, nil
		},
		decode: func(entry uint64) (State, int64, error) {
			if entry == 0 {
				return Absent, 0, nil
			}
			if entry <= uint64(directory) {
				return Absent, 0, fmt.Errorf("lies at sector %d, before the directory: %w", entry, ErrFormat)
			}
			return Data, int64(entry) * SectorBytes, nil
		},
	}
	return m, m.capacity, nil
}
