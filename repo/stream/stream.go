// Package stream keeps a byte stream as chunks that its content cut, and a tree
// of their ids.
//
// Where an image.Map knows the place of a chunk by its number, the chunks of a
// stream differ in length, so a node's entry is an id with the number of bytes
// below it. A node has up to 1,024 entries; level 0 names chunks, level n names
// nodes of level n-1, and all but the last node of a level are full (FORMAT.md
// §7). A stream is its size and the level and id of the one node at the top;
// the empty stream has no node. Streams that share a long run of chunks share
// the chunks, and nodes where runs of 1,024 fall together.
//
// Write makes a stream from a Cutter, Open reads it from front to end, ReaderAt
// anywhere, and Nodes lists what it needs. Memory is bounded in all of them.
package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/repo/blob"
)

const (
	// NodeEntries is the number of entries of a full node.
	NodeEntries = 1024
	// MaxChunkBytes is the longest chunk of a stream.
	MaxChunkBytes = 32 << 20

	entryBytes = blob.IDBytes + 8
	maxLevel   = 6 // 1024^7 chunks of one byte are more than an int64 counts
)

// ErrStream is returned when a stream, one of its nodes or one of its chunks
// does not have the form that FORMAT.md §7 asks for. The content was authentic,
// so it is a writer's defect, not damage.
var ErrStream = errors.New("bad stream")

// Store takes content in. Equal content is kept once. Put may be called from
// several goroutines, and plain may be reused once it has returned.
type Store interface {
	Put(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, error)
}

// Loader brings content back. Load calls fn once for each index of ids, in any
// order but never two at a time; plain may be used only during the call. An id
// may occur more than once. The first error ends it.
type Loader interface {
	Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error
}

// Stream is a stored stream. One that was read from elsewhere is checked where
// it is used.
type Stream struct {
	Bytes int64   `json:"bytes"` // length of the stream
	Level int     `json:"level"` // level of the root; 0 holds chunks
	Root  blob.ID `json:"root"`  // zero only for the empty stream
}

// Validate returns ErrStream if the numbers are impossible. It reads no nodes.
func (s Stream) Validate() error {
	switch {
	case s.Bytes < 0:
		return fmt.Errorf("read stream: length of %d bytes: %w", s.Bytes, ErrStream)
	case s.Level < 0 || s.Level > maxLevel:
		return fmt.Errorf("read stream: level %d: %w", s.Level, ErrStream)
	case s.Root.IsZero() != (s.Bytes == 0) || s.Bytes == 0 && s.Level != 0:
		return fmt.Errorf("read stream: %d bytes, level %d, root %q: %w", s.Bytes, s.Level, s.Root, ErrStream)
	}
	return nil
}

// entry is one row of a node: an id and the bytes of the stream below it.
type entry struct {
	id     blob.ID
	length int64
}

// decodeNode checks and reads a node whose entries must hold that many bytes.
func decodeNode(plain []byte, level int, length int64) ([]entry, error) {
	if len(plain) == 0 || len(plain)%entryBytes != 0 || len(plain) > NodeEntries*entryBytes {
		return nil, fmt.Errorf("node of %d bytes: %w", len(plain), ErrStream)
	}
	entries := make([]entry, 0, len(plain)/entryBytes)
	rest := length
	for ; len(plain) > 0; plain = plain[entryBytes:] {
		e := entry{blob.ID(plain), int64(binary.LittleEndian.Uint64(plain[blob.IDBytes:]))}
		switch {
		case e.id.IsZero():
			return nil, fmt.Errorf("entry %d has no id: %w", len(entries), ErrStream)
		case e.length <= 0 || e.length > rest || level == 0 && e.length > MaxChunkBytes:
			return nil, fmt.Errorf("entry %d of %d bytes, %d are left: %w", len(entries), e.length, rest, ErrStream)
		}
		rest -= e.length
		entries = append(entries, e)
	}
	if rest != 0 {
		return nil, fmt.Errorf("node lacks %d bytes of %d: %w", rest, length, ErrStream)
	}
	return entries, nil
}

// encodeNode appends a node's bytes to buf.
func encodeNode(buf []byte, entries []entry) []byte {
	for i := range entries {
		buf = append(buf, entries[i].id[:]...)
		buf = binary.LittleEndian.AppendUint64(buf, uint64(entries[i].length))
	}
	return buf
}
