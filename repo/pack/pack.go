// Package pack turns chunks into objects and back: the inside of D (FORMAT.md
// §4), between the keys of package seal and the container of package parity.
//
// The idea: an object is encoded at once, in memory, by one function. Chunks
// stand back to back, each sealed under the object's own key with its byte
// offset as nonce and the object's name as additional data; then a sealed run
// of zeros that hides how full the object is; then the sealed table of what
// lies where; last the sealed footer. So an index entry (offset, length) is
// enough to read one chunk with one ranged read, the table tells all without
// any index, and bytes moved to another place or name open as nothing.
//
// Before an encoded object leaves memory it is opened again from its sealed
// bytes, because a bit that flips between compressor and disk would otherwise
// be sealed in for ever.
//
// Reading is forgiving once: if a seal fails, the object is healed in memory
// by its parity and tried again. What stays wrong is either ErrDamaged, more
// rot than parity can mend, or ErrTampered, right sums under a wrong seal,
// which rot does not make.
package pack

import (
	"errors"
	"io"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// MaxChunks is how many chunks a pack holds at most.
const MaxChunks = 16384

// MaxRawBytes is the largest plaintext of one chunk.
const MaxRawBytes = 32 << 20

const (
	frameBytes       = 5  // codec u8 ‖ rawLen u32
	entryBytes       = 41 // id ‖ kind u8 ‖ rawLen u32 ‖ stored u32
	footerPlain      = 16 // table offset u32 ‖ count u32 ‖ sum u64
	footerBytes      = footerPlain + seal.TagBytes
	minStoredBytes   = frameBytes + seal.TagBytes
	overheadPerChunk = entryBytes + seal.TagBytes
	overheadPerPack  = seal.TagBytes + seal.TagBytes + footerBytes // padding, table, footer
)

// ErrSeal: the seal of some bytes does not open under this key, name and
// offset. From OpenChunk: read the whole object and try OpenChunkIn.
var ErrSeal = errors.New("seal does not match")

// ErrDamaged: an object is damaged beyond what its parity mends.
var ErrDamaged = errors.New("object damaged beyond repair")

// ErrTampered: every sum of an object is right but a seal is not: the bytes
// were altered or swapped on purpose, or belong to other keys.
var ErrTampered = errors.New("object altered: sums are right, seal is not")

// ErrFormat: authentic bytes break the rules of the format. A writer's bug.
var ErrFormat = errors.New("object breaks the format")

// ErrContent: an authentic chunk does not have the id under which it stands.
var ErrContent = errors.New("chunk does not match its id")

// ErrVerify: the object just encoded does not open again as what went in. The
// memory or processor of this machine cannot be trusted; nothing was written.
var ErrVerify = errors.New("encoded object fails verification")

// Chunk is one piece of content on its way into an object.
type Chunk struct {
	ID       blob.ID   // Keys.ID of kind and plaintext
	Kind     blob.Kind // what the content is
	RawBytes int       // length of the plaintext
	Data     []byte    // the frame that Compress made of the plaintext
}

// Entry tells where a chunk stands in an object.
type Entry struct {
	ID     blob.ID
	Kind   blob.Kind
	Raw    uint32 // bytes of plaintext
	Offset uint32 // in the object, not in D
	Stored uint32 // bytes in the object, the seal's tag included
}

// Verify is how much Encode decodes of what it has just sealed. Every seal is
// opened in either case.
type Verify uint8

// VerifyTenth decodes and hashes a random tenth of the chunks, at least one;
// VerifyFull all of them.
const (
	VerifyTenth Verify = iota
	VerifyFull
)

// Params says how to encode objects.
type Params struct {
	Keys    *seal.Keys
	Epoch   uint32 // 0: the newest of Keys
	Kind    parity.Kind
	Profile parity.Profile // empty: standard
	Rand    io.Reader      // nil: crypto/rand
	Verify  Verify
	// NameOf gives the object's name, which the seals bind, from its id. For a
	// record whose name has no id in it, it ignores its argument. It must be
	// a pure function; it is also called with the zero id.
	NameOf func(id [16]byte) string
}

// Object is an encoded object, ready to be stored under Name.
type Object struct {
	Name    string
	ID      [16]byte
	Header  parity.Header
	Bytes   []byte
	Entries []Entry
	Count   uint32 // of entries
	Sum     uint64 // Sum(Entries), the conservation sum
}

// Ref names an object for the reader of one of its chunks: all that is needed
// besides the bytes of that chunk. An index entry and its pack hold it.
type Ref struct {
	Name   string
	Kind   parity.Kind
	Epoch  uint32
	ID     [16]byte
	Offset uint32 // of the chunk in the object
}

// Fill counts what goes into a pack, so that a packer knows when it is full.
// The zero Fill is an empty pack of the standard profile.
type Fill struct {
	Profile parity.Profile
	count   int
	bytes   int
}

// Fits reports whether one more chunk whose frame (Chunk.Data) has dataBytes
// bytes still goes in.
func (f *Fill) Fits(dataBytes int) bool {
	return f.count < MaxChunks && f.SealedBytes()+dataBytes+overheadPerChunk <= f.Profile.MaxBytes()
}

// Add counts one chunk whose frame has dataBytes bytes.
func (f *Fill) Add(dataBytes int) {
	f.count++
	f.bytes += dataBytes + overheadPerChunk
}

// Count is the number of chunks so far.
func (f *Fill) Count() int { return f.count }

// SealedBytes is how much of D is in use, padding at its least.
func (f *Fill) SealedBytes() int { return f.bytes + overheadPerPack }

// Reset empties the count for the next pack.
func (f *Fill) Reset() { f.count, f.bytes = 0, 0 }

// SealedSize is the least D, in bytes, that holds these chunks.
func SealedSize(chunks []Chunk) int {
	var f Fill
	for i := range chunks {
		f.Add(len(chunks[i].Data))
	}
	return f.SealedBytes()
}

// knownContent reports whether k is a content kind of this format version.
func knownContent(k blob.Kind) bool {
	return k == blob.DiskChunk || k == blob.StreamChunk || k == blob.Record || (k >= blob.MapNode && k <= blob.StreamNode+0x0f)
}
