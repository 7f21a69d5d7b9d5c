package image

import (
	"fmt"

	"holdfast/repo/blob"
)

// node is a decoded map node: its ids without trailing zeros. The nil node is a
// span of zeros.
type node []blob.ID

// at is the id of child i.
func (n node) at(i int64) blob.ID {
	if i >= int64(len(n)) {
		return blob.ID{}
	}
	return n[i]
}

// childLimit is the number of children of a node that lie, at least in part,
// within a disk of that many chunks.
func childLimit(chunks int64, level int, index int64) int {
	below := coverage(level - 1)
	total := (chunks + below - 1) / below
	return int(max(0, min(Fanout, total-index*Fanout)))
}

// decodeNode checks and reads a node that may name at most limit children. As
// the last id is never zero, the count alone tells whether one lies beyond the
// end of the disk.
func decodeNode(plain []byte, limit int) (node, error) {
	count := len(plain) / blob.IDBytes
	switch {
	case len(plain) == 0 || len(plain)%blob.IDBytes != 0 || len(plain) > nodeBytes:
		return nil, fmt.Errorf("node of %d bytes: %w", len(plain), ErrMap)
	case count > limit:
		return nil, fmt.Errorf("node of %d ids where the disk ends after %d: %w", count, limit, ErrMap)
	}
	n := make(node, count)
	for i := range n {
		n[i] = blob.ID(plain[i*blob.IDBytes:])
	}
	if n[count-1].IsZero() {
		return nil, fmt.Errorf("node ends in a zero id: %w", ErrMap)
	}
	return n, nil
}

// encodeNode appends the node's bytes to buf, trimmed; nothing if all is zero.
func encodeNode(buf []byte, ids []blob.ID) []byte {
	for len(ids) > 0 && ids[len(ids)-1].IsZero() {
		ids = ids[:len(ids)-1]
	}
	for i := range ids {
		buf = append(buf, ids[i][:]...)
	}
	return buf
}
