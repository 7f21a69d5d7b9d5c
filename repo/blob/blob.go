// Package blob holds the nouns that every layer of the repository shares: the
// identifier of a piece of content, and sets of them. It imports nothing of
// the project.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// IDBytes is the length of an ID in bytes.
const IDBytes = 32

// ID names one piece of plaintext: keyed BLAKE3-256 of kind, length and bytes
// (FORMAT.md §5). The zero ID never names content: it stands for a span of
// zeros at whatever level of a disk map it appears.
type ID [IDBytes]byte

// ErrBadID is returned by Parse for text that is not 64 hex digits.
var ErrBadID = errors.New("bad id")

// Parse reads the 64 hex digits that String writes.
func Parse(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDBytes {
		return ID{}, fmt.Errorf("parse id: %d characters: %w", len(s), ErrBadID)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("parse id: %w", ErrBadID)
	}
	return id, nil
}

// IsZero reports whether id stands for a span of zeros.
func (id ID) IsZero() bool { return id == ID{} }

// String is the full id in 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the hex form, so that JSON holds ids as text; the zero ID
// becomes the empty string.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	got, err := Parse(string(text))
	if err != nil {
		return err
	}
	*id = got
	return nil
}

// Kind says what a piece of content is. It goes into the ID, so that a disk
// chunk and a map node with equal bytes are different content.
type Kind uint8

// The kinds of content. Map nodes are MapNode plus their level: level 0 nodes
// point at disk chunks, level n nodes at nodes of level n-1.
const (
	DiskChunk   Kind = 0x01
	StreamChunk Kind = 0x02
	MapNode     Kind = 0x10 // … 0x1f: MapNode + level
	StreamNode  Kind = 0x20 // … 0x2f: StreamNode + level
	Record      Kind = 0x30 // payload of an object that holds one thing: manifest, session, ledger …
)

// IsMeta reports whether content of this kind describes other content: it goes
// into meta packs, which are read to walk a point without its data.
func (k Kind) IsMeta() bool { return k >= MapNode }

// Set is a set of IDs.
type Set map[ID]struct{}

// Add puts id into the set.
func (s Set) Add(id ID) { s[id] = struct{}{} }

// Has reports whether id is in the set.
func (s Set) Has(id ID) bool { _, ok := s[id]; return ok }
