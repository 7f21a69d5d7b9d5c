// Package segment holds the bytes of an index (FORMAT.md §8): sorted tables
// that tell in which pack, and where in it, a chunk lies.
//
// A segment is an immutable sorted file: pages of 146 entries with a check
// each, the list of packs the entries speak of, one fence key a page, and a
// trailer. Opening one reads everything but the pages; a look-up searches the
// fences in memory and reads one page. That is 0.11 bytes of heap a chunk for
// fences and 56 bytes a pack, with no memory map, no filter and no key-value
// engine. A segment holds the first 16 of an id's 32 bytes: an answer is a
// candidate until the chunk has been opened and hashed, as every reader does.
//
// # The conservation law
//
// An index that silently lost an entry would make prune delete data in use, or
// a backup trust a chunk that is not there. So every pack carries, in its own
// footer, the number of its entries and the sum (mod 2^64) of their hashes, and
// every segment that lists the pack repeats both. A sum of hashes does not care
// about order or about how entries were grouped, so whatever sorts, merges and
// drops may do, this must hold: for each pack listed, entries and hashes add
// up to what the pack said of itself, and the packs of a merged segment are
// those of its inputs less those that were meant to go. An entry lost, doubled,
// altered or moved to another pack breaks the equation. It is checked by
// [Builder.Bytes] before a segment leaves memory, by [Merge] before the output
// gets the trailer that makes it a segment, and by [Segment.Verify] on what
// was fetched. Two segments may list the same pack, and then with the same
// entries: each pack counts once, whoever lists it.
//
// # Several as one
//
// Since all segments sort alike, any number of them is read as one by a merge of
// their pages: [Union]. [Merge] writes what it reads; whoever must see every
// entry of a repository, as prune does, walks through it.
package segment

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"holdfast/repo/blob"
)

// ErrCorrupt: bytes are not a segment, or a check or an order in it is wrong.
// A local file in this state is deleted and fetched again; a segment in the
// repository is built again from the packs.
var ErrCorrupt = errors.New("index segment corrupt")

// ErrConservation: the entries of a pack do not add up to the count and sum
// that the pack states, or two segments state them differently. Nothing may be
// deleted on the word of such an index.
var ErrConservation = errors.New("index conservation law broken")

// ErrPack: a pack's own fields are impossible (name, kind, count, sizes).
var ErrPack = errors.New("impossible pack in index")

// The kinds of pack that an index lists, numbered as in FORMAT.md §3.
const (
	DataPack uint8 = 1 // disk and stream chunks, under data/
	MetaPack uint8 = 2 // map and stream nodes, under meta/
)

// MaxPackEntries is the largest number of chunks in one pack (FORMAT.md §4).
const MaxPackEntries = 16384

// sidChars is the length of a session name: gen 8, source 16, random 16 hex.
const sidChars = 42

// Key is the part of an id that an index holds: its first 16 bytes.
type Key [16]byte

// KeyOf is the key of id.
func KeyOf(id blob.ID) Key { return Key(id[:16]) }

// Entry says where in its pack one chunk lies.
type Entry struct {
	ID     blob.ID
	Offset uint32 // bytes from the start of the pack object
	Stored uint32 // sealed length in bytes, tag included
}

// Pack is what a segment knows of one pack object.
type Pack struct {
	SID   string   // the session that wrote it, 42 characters
	Kind  uint8    // DataPack or MetaPack
	ID    [16]byte // object id
	Epoch uint32   // root key that sealed it
	Bytes uint32   // size of the whole object
	Count uint32   // chunks in it, 1 to MaxPackEntries
	Sum   uint64   // sum mod 2^64 of EntryHash over them
}

// Name is the pack's object name: "data/<sid>/<hex id>" or "meta/<sid>/<hex id>".
func (p Pack) Name() string {
	prefix := "data/"
	if p.Kind == MetaPack {
		prefix = "meta/"
	}
	return prefix + p.SID + "/" + hex.EncodeToString(p.ID[:])
}

// Location is one place where a chunk may be read.
type Location struct {
	Pack   Pack
	Offset uint32 // bytes from the start of the pack object
	Stored uint32 // sealed length in bytes
}

// EntryHash is one entry's share of its pack's Sum: xxhash64 of the id's first
// 16 bytes, offset and stored length (FORMAT.md §4).
func EntryHash(id blob.ID, offset, stored uint32) uint64 {
	return keyHash(KeyOf(id), offset, stored)
}

func keyHash(key Key, offset, stored uint32) uint64 {
	var b [24]byte
	copy(b[:16], key[:])
	binary.LittleEndian.PutUint32(b[16:], offset)
	binary.LittleEndian.PutUint32(b[20:], stored)
	return xxhash.Sum64(b[:])
}

// samePack reports whether a and b are the same object.
func samePack(a, b Pack) bool { return Compare(a, b) == 0 }

// Compare is the order of packs in every segment: session, kind, id. One
// order everywhere makes equal sets of packs equal bytes, and lets a merge
// renumber packs without sorting entries again.
func Compare(a, b Pack) int {
	return cmp.Or(strings.Compare(a.SID, b.SID), cmp.Compare(a.Kind, b.Kind), compareKeys(a.ID, b.ID))
}

// Distinct sorts packs, in place, and drops second copies. It returns ErrPack
// for a pack that cannot exist, ErrConservation for copies that contradict each
// other.
func Distinct(packs []Pack) ([]Pack, error) {
	slices.SortFunc(packs, Compare)
	for i, p := range packs {
		if err := p.check(); err != nil {
			return nil, err
		}
		if i > 0 && samePack(packs[i-1], p) && packs[i-1] != p {
			return nil, fmt.Errorf("pack %s stated in two ways: %w", p.Name(), ErrConservation)
		}
	}
	return slices.Clip(slices.CompactFunc(packs, samePack)), nil
}

// Ordinal finds the object p in packs, which are sorted; -1 if it is not there.
func Ordinal(packs []Pack, p Pack) int {
	i, ok := slices.BinarySearchFunc(packs, p, Compare)
	if !ok {
		return -1
	}
	return i
}

// Rows are all the entries of one pack, sorted, with ordinal 0. It returns
// ErrPack or ErrConservation if pack and entries do not belong together.
func (p Pack) Rows(entries []Entry) ([]Row, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	rows, law := make([]Row, 0, len(entries)), make(tally, 1)
	for _, e := range entries {
		if !p.holds(e.Offset, e.Stored) {
			return nil, outside(KeyOf(e.ID))
		}
		rows = append(rows, Row{Key: KeyOf(e.ID), Offset: e.Offset, Stored: e.Stored})
		law.add(rows[len(rows)-1])
	}
	slices.SortFunc(rows, compareRows)
	return rows, law.check([]Pack{p})
}

// check refuses packs that cannot exist.
func (p Pack) check() error {
	switch {
	case !validSID(p.SID):
		return fmt.Errorf("check pack %x: session name %q: %w", p.ID, p.SID, ErrPack)
	case p.Kind != DataPack && p.Kind != MetaPack:
		return fmt.Errorf("check pack %x: kind %d: %w", p.ID, p.Kind, ErrPack)
	case p.Count == 0 || p.Count > MaxPackEntries:
		return fmt.Errorf("check pack %x: %d chunks: %w", p.ID, p.Count, ErrPack)
	}
	return nil
}

// holds reports whether offset and stored lie within the pack object.
func (p Pack) holds(offset, stored uint32) bool { return fits(p.Bytes, offset, stored) }

// fits reports whether offset and stored lie within a pack object of that size.
func fits(bytes, offset, stored uint32) bool {
	return stored > 0 && uint64(offset)+uint64(stored) <= uint64(bytes)
}

// outside is the error for an entry that its pack cannot hold.
func outside(key Key) error { return fmt.Errorf("entry %x lies outside its pack: %w", key, ErrPack) }

// validSID reports whether s has the shape <8 hex>-<16 hex>-<16 hex>.
func validSID(s string) bool {
	return len(s) == sidChars && s[8] == '-' && s[25] == '-' && strings.Count(s, "-") == 2 &&
		strings.Trim(s, "0123456789abcdef-") == ""
}
