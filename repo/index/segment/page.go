package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// The layout of FORMAT.md §8, in bytes.
const (
	pageBytes    = 4096
	entryBytes   = 28
	pageEntries  = 146
	packBytes    = 96
	fenceBytes   = 16
	trailerBytes = 64
	segmentMagic = "HFINDEX1"

	countAt     = pageBytes - 8
	pageCheckAt = pageBytes - 4
)

// Row is one entry as a segment holds it.
type Row struct {
	Key    Key
	Pack   uint32 // ordinal in the segment's list of packs
	Offset uint32 // bytes from the start of the pack object
	Stored uint32 // sealed length in bytes
}

func compareKeys(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }

// compareRows is the order of entries: id, pack ordinal, offset. No two rows of
// a segment are equal in it.
func compareRows(a, b Row) int {
	return cmp.Or(compareKeys(a.Key, b.Key), cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
}

// before reports whether a sorts before b. It is the inner loop of a merge.
func before(a, b *Row) bool {
	if c := bytes.Compare(a.Key[:], b.Key[:]); c != 0 {
		return c < 0
	}
	return a.Pack < b.Pack || a.Pack == b.Pack && a.Offset < b.Offset
}

func check32(b []byte) uint32 { return uint32(xxhash.Sum64(b)) }

func putRow(b []byte, r Row) {
	copy(b[:16], r.Key[:])
	binary.LittleEndian.PutUint32(b[16:], r.Pack)
	binary.LittleEndian.PutUint32(b[20:], r.Offset)
	binary.LittleEndian.PutUint32(b[24:], r.Stored)
}

func getRow(b []byte) Row {
	b = b[:entryBytes]
	return Row{
		Key:    Key(b[:16]),
		Pack:   binary.LittleEndian.Uint32(b[16:]),
		Offset: binary.LittleEndian.Uint32(b[20:]),
		Stored: binary.LittleEndian.Uint32(b[24:]),
	}
}

// sealPage writes count and check of a page whose first count entries are set.
func sealPage(page []byte, count int) {
	clear(page[count*entryBytes : countAt])
	binary.LittleEndian.PutUint16(page[countAt:], uint16(count))
	binary.LittleEndian.PutUint16(page[countAt+2:], 0)
	binary.LittleEndian.PutUint32(page[pageCheckAt:], check32(page[:pageCheckAt]))
}

// openPage checks a page's sum and shape and returns its number of entries.
func openPage(page []byte) (int, error) {
	if binary.LittleEndian.Uint32(page[pageCheckAt:]) != check32(page[:pageCheckAt]) {
		return 0, fmt.Errorf("bad check: %w", ErrCorrupt)
	}
	count := int(binary.LittleEndian.Uint16(page[countAt:]))
	if count == 0 || count > pageEntries || binary.LittleEndian.Uint16(page[countAt+2:]) != 0 {
		return 0, fmt.Errorf("%d entries: %w", count, ErrCorrupt)
	}
	return count, nil
}

// AppendBinary appends the 96 bytes that a segment has of a pack. The error is
// always nil.
func (p Pack) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, make([]byte, packBytes)...)
	putPack(b[len(b)-packBytes:], p)
	return b, nil
}

func putPack(b []byte, p Pack) {
	clear(b[:packBytes])
	copy(b[:sidChars], p.SID)
	b[42] = p.Kind
	copy(b[44:60], p.ID[:])
	binary.LittleEndian.PutUint32(b[60:], p.Epoch)
	binary.LittleEndian.PutUint32(b[64:], p.Bytes)
	binary.LittleEndian.PutUint32(b[68:], p.Count)
	binary.LittleEndian.PutUint64(b[72:], p.Sum)
}

// getPack reads one pack. A session name equal to prev's shares its string, so
// that packs of one session cost no memory for the name.
func getPack(b []byte, prev string) (Pack, error) {
	b = b[:packBytes]
	sid := prev
	if sid == "" || !bytes.Equal(b[:sidChars], []byte(prev)) {
		sid = string(b[:sidChars])
	}
	p := Pack{
		SID:   sid,
		Kind:  b[42],
		ID:    [16]byte(b[44:60]),
		Epoch: binary.LittleEndian.Uint32(b[60:]),
		Bytes: binary.LittleEndian.Uint32(b[64:]),
		Count: binary.LittleEndian.Uint32(b[68:]),
		Sum:   binary.LittleEndian.Uint64(b[72:]),
	}
	if b[43] != 0 || !allZero(b[80:]) {
		return Pack{}, fmt.Errorf("pack %x: reserved bytes set: %w", p.ID, ErrCorrupt)
	}
	if err := p.check(); err != nil {
		return Pack{}, fmt.Errorf("%v: %w", err, ErrCorrupt)
	}
	return p, nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// segmentSize is the length in bytes of a segment.
func segmentSize(pages, packs int) int64 {
	return int64(pages)*(pageBytes+fenceBytes) + int64(packs)*packBytes + trailerBytes
}

// trailer is the last 64 bytes of a segment.
type trailer struct {
	pages   uint32
	packs   uint32
	entries uint64
	check   uint64 // xxhash64 of packs and fences
}

func (t trailer) put(b []byte) {
	clear(b[:trailerBytes])
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], t.pages)
	binary.LittleEndian.PutUint32(b[12:], t.packs)
	binary.LittleEndian.PutUint64(b[16:], t.entries)
	binary.LittleEndian.PutUint64(b[24:], t.check)
	binary.LittleEndian.PutUint32(b[60:], check32(b[:60]))
}

// getTrailer reads a trailer and refuses one that does not fit size, the
// length of the whole segment in bytes: after it, counts are bounded by size.
func getTrailer(b []byte, size int64) (trailer, error) {
	if string(b[:8]) != segmentMagic {
		return trailer{}, fmt.Errorf("magic %q: %w", b[:8], ErrCorrupt)
	}
	if binary.LittleEndian.Uint32(b[60:]) != check32(b[:60]) || !allZero(b[32:60]) {
		return trailer{}, fmt.Errorf("bad trailer check: %w", ErrCorrupt)
	}
	t := trailer{
		pages:   binary.LittleEndian.Uint32(b[8:]),
		packs:   binary.LittleEndian.Uint32(b[12:]),
		entries: binary.LittleEndian.Uint64(b[16:]),
		check:   binary.LittleEndian.Uint64(b[24:]),
	}
	if want := segmentSize(int(t.pages), int(t.packs)); want != size {
		return trailer{}, fmt.Errorf("%d bytes where the trailer tells %d: %w", size, want, ErrCorrupt)
	}
	if t.entries < uint64(t.pages) || t.entries > uint64(t.pages)*pageEntries {
		return trailer{}, fmt.Errorf("%d entries in %d pages: %w", t.entries, t.pages, ErrCorrupt)
	}
	return t, nil
}
