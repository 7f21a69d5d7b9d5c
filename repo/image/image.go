// Package image keeps a disk as a map: a tree of ids that says for each chunk
// of the disk which content it holds.
//
// A disk is cut into chunks of one fixed size at fixed places. A map node is a
// row of up to 128 ids; a node of level 0 names chunks, a node of level n names
// nodes of level n-1, and the one node at the top is the root (FORMAT.md §7).
// The zero id stands for zeros at every level, so an empty terabyte costs
// nothing. Nodes are content like chunks are: two maps share every subtree in
// which they agree. That one property gives the rest of the package its shape.
// An incremental backup writes the changed chunks and the nodes above them
// (Builder), two points are compared without reading what they share (Diff),
// and still every map is complete by itself (Walk, Copy, Reader).
//
// The tree has no slack: size and chunks fix depth and nodes, trailing zero ids
// are trimmed, a node of zeros is the zero id. The same disk therefore has the
// same root, whatever parent it was built from and whatever was read twice.
//
// Parents and nodes may lie far away. Nodes are always asked for in batches of
// one level, up to 128 at once, and memory does not grow with the disk.
package image

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"holdfast/repo/blob"
)

const (
	// Fanout is the number of ids in a full map node.
	Fanout = 128
	// MinChunkBytes is the least chunk size, which is a power of two. What a
	// repository may be told to use is narrower and checked where that is
	// configured.
	MinChunkBytes = 512
	// MaxChunkBytes is the largest chunk size.
	MaxChunkBytes = 4 << 20

	fanoutBits  = 7                     // Fanout = 1 << fanoutBits
	windowNodes = 128                   // nodes of one level that are held and asked for at once
	maxDepth    = 8                     // 2^63 bytes in chunks of 512
	nodeBytes   = Fanout * blob.IDBytes // length of a full node
)

// ErrMap is returned when a map, one of its nodes or one of its chunks does not
// have the form that FORMAT.md §7 asks for. The content was authentic, so it is
// a writer's defect, not damage.
var ErrMap = errors.New("bad disk map")

// ErrIncomparable is returned when two maps cut their disks into chunks of
// different sizes: their ids have nothing to do with each other.
var ErrIncomparable = errors.New("chunk sizes differ")

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

// Map is a disk: its size and the root of its tree. The zero root is a disk of
// zeros. A map that was read from elsewhere is to be Validated before use.
type Map struct {
	Bytes      int64   `json:"bytes"`       // size of the disk
	ChunkBytes int64   `json:"chunk_bytes"` // size of a chunk, a power of two
	Root       blob.ID `json:"root"`        // node of level Depth()-1
}

// Validate returns ErrMap if the sizes are impossible. It reads no nodes.
func (m Map) Validate() error {
	switch {
	case m.Bytes < 0:
		return fmt.Errorf("read disk map: size of %d bytes: %w", m.Bytes, ErrMap)
	case m.ChunkBytes < MinChunkBytes, m.ChunkBytes > MaxChunkBytes, bits.OnesCount64(uint64(m.ChunkBytes)) != 1:
		return fmt.Errorf("read disk map: chunks of %d bytes: %w", m.ChunkBytes, ErrMap)
	case m.Bytes == 0 && !m.Root.IsZero():
		return fmt.Errorf("read disk map: content in an empty disk: %w", ErrMap)
	}
	return nil
}

// Chunks is the number of chunks of the disk; the last may reach beyond its end.
func (m Map) Chunks() int64 {
	n := m.Bytes / m.ChunkBytes
	if m.Bytes%m.ChunkBytes != 0 {
		n++
	}
	return n
}

// Depth is the number of levels of the tree, at least 1: the smallest d with
// Fanout^d ≥ Chunks().
func (m Map) Depth() int {
	chunks, depth := m.Chunks(), 1
	for coverage(depth-1) < chunks {
		depth++
	}
	return depth
}

// coverage is the number of chunks under one node of a level; under one child
// of such a node it is coverage(level-1).
func coverage(level int) int64 { return 1 << (fanoutBits * (level + 1)) }
