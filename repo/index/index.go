// Package index answers one question: in which pack, and where in it, does a
// chunk lie? Packs are the truth; an index is a cache of their tables that can
// always be built again (FORMAT.md §8). Its bytes, and the law that lets nothing
// be lost among them, are package segment's.
//
// # The local index
//
// [Local] keeps the segments of a repository in a cache directory, merged into
// few files. Segment names are immutable, so keeping up is: list, fetch what is
// new, drop what is gone.
//
// # Marks
//
// What prune asks is not where one chunk is, but which chunks nobody needs. A
// map of ten million ids would take a gigabyte. [Marks] takes a bit an entry: to
// mark a chunk is to look it up and to set the bit of the place found, and to
// know all marked chunks with all their places is to read the files through
// once, in order.
package index

import (
	"io"

	"holdfast/repo/blob"
	"holdfast/repo/index/segment"
)

// The nouns of a segment, which all users of an index speak of.
type (
	// Key is the part of an id that an index holds: its first 16 bytes.
	Key = segment.Key
	// Entry says where in its pack one chunk lies.
	Entry = segment.Entry
	// Pack is what a segment knows of one pack object.
	Pack = segment.Pack
	// Location is one place where a chunk may be read.
	Location = segment.Location
	// Segment is an open index segment.
	Segment = segment.Segment
	// Builder collects the tables of a few packs and makes one segment of them.
	Builder = segment.Builder
)

// The errors of a segment, as package segment explains them.
var (
	ErrCorrupt      = segment.ErrCorrupt
	ErrConservation = segment.ErrConservation
	ErrPack         = segment.ErrPack
)

// The kinds of pack that an index lists, and the largest number of chunks in one.
const (
	DataPack       = segment.DataPack
	MetaPack       = segment.MetaPack
	MaxPackEntries = segment.MaxPackEntries
)

// KeyOf is the key of id.
func KeyOf(id blob.ID) Key { return segment.KeyOf(id) }

// EntryHash is one entry's share of its pack's Sum (segment.EntryHash).
func EntryHash(id blob.ID, offset, stored uint32) uint64 {
	return segment.EntryHash(id, offset, stored)
}

// Open opens the segment of size bytes in r (segment.Open).
func Open(r io.ReaderAt, size int64) (*Segment, error) { return segment.Open(r, size) }
