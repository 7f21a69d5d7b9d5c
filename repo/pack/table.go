package pack

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// Sum is the conservation sum of entries: Σ mod 2^64 of xxhash64(id[:16] ‖
// offset ‖ stored). The footer carries it, every index segment that lists the
// pack carries it, and no merge may change it (FORMAT.md §8).
func Sum(entries []Entry) uint64 {
	var sum uint64
	var b [24]byte
	for i := range entries {
		e := &entries[i]
		copy(b[:16], e.ID[:16])
		binary.LittleEndian.PutUint32(b[16:], e.Offset)
		binary.LittleEndian.PutUint32(b[20:], e.Stored)
		sum += xxhash.Sum64(b[:])
	}
	return sum
}

// appendTable writes the table plaintext.
func appendTable(b []byte, entries []Entry) []byte {
	for i := range entries {
		e := &entries[i]
		b = append(b, e.ID[:]...)
		b = append(b, byte(e.Kind))
		b = binary.LittleEndian.AppendUint32(b, e.Raw)
		b = binary.LittleEndian.AppendUint32(b, e.Stored)
	}
	return b
}

// parseTable reads a table plaintext whose chunks begin at offset and end
// before limit, and returns the entries and where the padding begins.
func parseTable(table []byte, offset, limit uint32) ([]Entry, uint32, error) {
	entries := make([]Entry, 0, len(table)/entryBytes)
	for ; len(table) >= entryBytes; table = table[entryBytes:] {
		e := Entry{
			ID:     blob.ID(table[:32]),
			Kind:   blob.Kind(table[32]),
			Raw:    binary.LittleEndian.Uint32(table[33:]),
			Offset: offset,
			Stored: binary.LittleEndian.Uint32(table[37:]),
		}
		if e.ID.IsZero() || !knownContent(e.Kind) || e.Raw > MaxRawBytes || e.Stored < minStoredBytes || e.Stored > limit-offset {
			return nil, 0, fmt.Errorf("read table: entry %d: %w", len(entries), ErrFormat)
		}
		offset += e.Stored
		entries = append(entries, e)
	}
	if len(table) != 0 || len(entries) == 0 {
		return nil, 0, fmt.Errorf("read table: length: %w", ErrFormat)
	}
	return entries, offset, nil
}

// footer is the plaintext of an object's last seal.
type footer struct {
	table uint32 // offset of the sealed table in the object
	count uint32
	sum   uint64
}

func (f footer) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, f.table)
	b = binary.LittleEndian.AppendUint32(b, f.count)
	return binary.LittleEndian.AppendUint64(b, f.sum)
}

// parseFooter reads a footer and holds it to the bounds of the object.
func parseFooter(b []byte, h parity.Header) (footer, error) {
	if len(b) != footerPlain {
		return footer{}, fmt.Errorf("read footer of %d bytes: %w", len(b), ErrFormat)
	}
	f := footer{
		table: binary.LittleEndian.Uint32(b),
		count: binary.LittleEndian.Uint32(b[4:]),
		sum:   binary.LittleEndian.Uint64(b[8:]),
	}
	if f.count < 1 || f.count > MaxChunks || (!h.Kind.IsPack() && f.count != 1) {
		return footer{}, fmt.Errorf("read footer: %d chunks: %w", f.count, ErrFormat)
	}
	end := uint64(h.Shape.DataOffset() + h.Shape.DataBytes() - footerBytes)
	if uint64(f.table)+uint64(f.count)*entryBytes+seal.TagBytes != end ||
		int(f.table) < h.Shape.DataOffset()+minStoredBytes+seal.TagBytes {
		return footer{}, fmt.Errorf("read footer: table at %d: %w", f.table, ErrFormat)
	}
	return f, nil
}
