package extent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ReadWriterAt is a file as the seSparse writer needs it; *os.File is one.
// Writing beyond the end grows it.
type ReadWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Delta is a writable seSparse delta over a parent. It exists to make deltas
// that readers can be tried on, so it keeps what readers look at (headers,
// directory, tables, grains) and leaves journal, free bitmap and back map
// empty: it is not meant to be handed to ESXi. Its methods may be called in
// parallel.
type Delta struct {
	mu        sync.RWMutex
	file      ReadWriterAt
	parent    io.ReaderAt // nil: zeros
	header    *seHeader
	tables    uint64 // allocated so far
	grains    uint64
	directory []uint64
}

// CreateDelta writes an empty delta for a disk of size bytes into file and
// returns it. Grains that were never written read from parent, which may be
// nil or shorter than the disk (zeros). The descriptor that makes a disk of it
// is package vmdk's business. ErrSize unless size is a multiple of 512 in range.
func CreateDelta(file ReadWriterAt, size int64, parent io.ReaderAt) (*Delta, error) {
	if size < SectorBytes || size%SectorBytes != 0 || size > MaxCapacity {
		return nil, fmt.Errorf("create sesparse: %d bytes: %w", size, ErrSize)
	}
	h, words := layoutSESparse(size)
	b := make([]byte, 2*SectorBytes)
	for i, w := range words {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	binary.LittleEndian.PutUint64(b[SectorBytes:], seVolatileMagic)
	if _, err := file.WriteAt(b, 0); err != nil {
		return nil, fmt.Errorf("create sesparse: %w", err)
	}
	// One sector before the grains gives the file its full length of metadata,
	// most of it a hole.
	if _, err := file.WriteAt(make([]byte, SectorBytes), int64(h.grains-1)*SectorBytes); err != nil {
		return nil, fmt.Errorf("create sesparse: %w", err)
	}
	return &Delta{file: file, parent: parent, header: h, directory: make([]uint64, seGroups(size))}, nil
}

// layoutSESparse gives every region the whole disk needs its place, as ESXi
// does: the regions' order and the first 2 MiB are the ones seen in its files.
func layoutSESparse(size int64) (*seHeader, [26]uint64) {
	const align = 2048 // sectors
	grains := uint64(RoundUp(size, seGrainBytes) / seGrainBytes)
	groups := uint64(seGroups(size))
	sectors := func(bytes uint64) uint64 { return uint64(RoundUp(int64(bytes), align*SectorBytes) / SectorBytes) }
	w := [26]uint64{
		0: seMagic, 1: seVersion, 2: uint64(size / SectorBytes),
		3: seGrainBytes / SectorBytes, 4: seTableBytes / SectorBytes,
		10: 1, 11: 1, // volatile header
		12: 2, 13: 2, // journal header
		14: align, 15: align, // journal
		16: 2 * align, 17: sectors(groups * 8), // directory
	}
	w[18], w[19] = w[16]+w[17], sectors(groups*seTableBytes)
	w[20], w[21] = w[18]+w[19], sectors(grains/8+1) // free bitmap
	w[22], w[23] = w[20]+w[21], sectors(grains*8)   // back map
	w[24], w[25] = w[22]+w[23], grains*seGrainBytes/SectorBytes
	return &seHeader{
		capacity: w[2], volatileAt: w[10], directory: w[16], directoryLen: w[17],
		tables: w[18], tablesLen: w[19], grains: w[24], grainsLen: w[25],
	}, w
}

// OpenDelta opens a delta that CreateDelta made, to go on writing.
// fileBytes is the file's length.
func OpenDelta(file ReadWriterAt, fileBytes int64, parent io.ReaderAt) (*Delta, error) {
	_, h, err := openSESparse(file, fileBytes)
	if err != nil {
		return nil, err
	}
	s := &Delta{file: file, parent: parent, header: h}
	b := make([]byte, seGroups(h.sizeBytes())*8)
	if err := ReadFull(file, b, int64(h.directory)*SectorBytes); err != nil {
		return nil, fmt.Errorf("open sesparse: read directory: %w", err)
	}
	for ; len(b) > 0; b = b[8:] {
		entry := binary.LittleEndian.Uint64(b)
		if _, ok, err := h.tableAt(entry); err != nil {
			return nil, fmt.Errorf("open sesparse: %w", err)
		} else if ok {
			s.tables = max(s.tables, entry&^seKindMask+1)
		}
		s.directory = append(s.directory, entry)
	}
	// Grains are only ever appended.
	s.grains = uint64(max(0, RoundUp(fileBytes-int64(h.grains)*SectorBytes, seGrainBytes)/seGrainBytes))
	return s, nil
}

// Size is the disk's size in bytes.
func (s *Delta) Size() int64 { return s.header.sizeBytes() }

// ReadAt reads the disk: the delta, and the parent below it.
func (s *Delta) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read sesparse at %d: %w", off, ErrSize)
	}
	want := min(int64(len(p)), max(0, s.Size()-off))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for done := int64(0); done < want; {
		at := off + done
		n := min(want-done, seGrainBytes-at%seGrainBytes)
		if err := s.readGrain(p[done:done+n], at); err != nil {
			return int(done), fmt.Errorf("read sesparse at %d: %w", at, err)
		}
		done += n
	}
	if want < int64(len(p)) {
		return int(want), io.EOF
	}
	return int(want), nil
}

// WriteAt writes p at off, both of any alignment. A grain written in part for
// the first time takes the rest from the parent. Beyond the disk's end it is
// ErrSize and nothing is written.
func (s *Delta) WriteAt(p []byte, off int64) (int, error) {
	return s.update(off, int64(len(p)), func(dst []byte, done int64) { copy(dst, p[done:]) })
}

// WriteZeroes makes length bytes at off read as zero, whatever the parent
// holds; whole grains that hold no data yet cost only
// their table entry.
func (s *Delta) WriteZeroes(off, length int64) error {
	_, err := s.update(off, length, nil)
	return err
}

// update walks the grains of a range; a nil fill writes zeros.
func (s *Delta) update(off, length int64, fill func(dst []byte, done int64)) (int, error) {
	if off < 0 || length < 0 || off > s.Size() || length > s.Size()-off {
		return 0, fmt.Errorf("write sesparse: %d bytes at %d, disk of %d: %w", length, off, s.Size(), ErrSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grain := make([]byte, seGrainBytes)
	for done := int64(0); done < length; {
		at := off + done
		n := min(length-done, seGrainBytes-at%seGrainBytes)
		if err := s.updateGrain(grain, at, n, fill, done); err != nil {
			return int(done), fmt.Errorf("write sesparse at %d: %w", at, err)
		}
		done += n
	}
	return int(length), nil
}

func (s *Delta) updateGrain(grain []byte, at, n int64, fill func([]byte, int64), done int64) error {
	start := at / seGrainBytes * seGrainBytes
	whole := n == seGrainBytes || (at == start && at+n == s.Size())
	slot, err := s.slot(at)
	if err != nil {
		return err
	}
	entry, err := s.entry(slot)
	if err != nil {
		return err
	}
	st, place, err := s.header.grainAt(entry)
	if err != nil {
		return err
	}
	if whole && fill == nil && st != Data {
		return s.putEntry(slot, seZero)
	}
	clear(grain)
	if !whole {
		// The disk may end inside the grain; what lies behind stays zero.
		if err := s.readGrain(grain[:min(seGrainBytes, s.Size()-start)], start); err != nil {
			return err
		}
	}
	dst := grain[at-start : at-start+n]
	if clear(dst); fill != nil {
		fill(dst, done)
	}
	if st == Data {
		_, err := s.file.WriteAt(grain, place)
		return err
	}
	return s.appendGrain(grain, slot)
}

// appendGrain stores a grain at the end of the file, then the entry that makes
// it valid.
func (s *Delta) appendGrain(grain []byte, slot int64) error {
	place := int64(s.header.grains)*SectorBytes + int64(s.grains)*seGrainBytes
	if s.grains >= s.header.grainsLen*SectorBytes/seGrainBytes {
		return fmt.Errorf("no grain left: %w", ErrSize)
	}
	if _, err := s.file.WriteAt(grain, place); err != nil {
		return err
	}
	s.grains++
	return s.putEntry(slot, seEntry(s.grains-1))
}

// readGrain fills p from at, both inside of one grain.
func (s *Delta) readGrain(p []byte, at int64) error {
	st, place := Absent, int64(0)
	tableAt, ok, err := s.header.tableAt(s.directory[at/seCover])
	if err != nil {
		return err
	}
	if ok {
		entry, err := s.entry(tableAt + at/seGrainBytes%seTableEntries*8)
		if err != nil {
			return err
		}
		if st, place, err = s.header.grainAt(entry); err != nil {
			return err
		}
	}
	switch {
	case st == Data:
		return ReadFull(s.file, p, place+at%seGrainBytes)
	case st == Absent && s.parent != nil:
		return readPadded(s.parent, p, at)
	}
	clear(p)
	return nil
}

// slot is where in the file the table entry of a grain lies; the table is made
// when there is none.
func (s *Delta) slot(at int64) (int64, error) {
	group := at / seCover
	tableAt, ok, err := s.header.tableAt(s.directory[group])
	if err != nil {
		return 0, err
	}
	if !ok {
		entry := seAllocated | s.tables
		tableAt = int64(s.header.tables)*SectorBytes + int64(s.tables)*seTableBytes
		if err := s.putEntry(int64(s.header.directory)*SectorBytes+group*8, entry); err != nil {
			return 0, err
		}
		s.directory[group] = entry
		s.tables++
	}
	return tableAt + at/seGrainBytes%seTableEntries*8, nil
}

func (s *Delta) entry(slot int64) (uint64, error) {
	var b [8]byte
	err := ReadFull(s.file, b[:], slot)
	return binary.LittleEndian.Uint64(b[:]), err
}

func (s *Delta) putEntry(slot int64, entry uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], entry)
	_, err := s.file.WriteAt(b[:], slot)
	return err
}

// readPadded fills p from a parent that may be shorter than its child.
func readPadded(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n < len(p) && err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(p[n:])
	return nil
}
