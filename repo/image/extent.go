package image

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Extent is a range of a disk in bytes.
type Extent struct{ Start, Length int64 }

// end is the first byte after an extent of positive length, held at the largest
// number.
func (e Extent) end() int64 {
	if e.Start > 0 && e.Length > math.MaxInt64-e.Start {
		return math.MaxInt64
	}
	return e.Start + e.Length
}

// Normalize makes of any extents the ranges of whole chunks that they touch:
// ascending, apart from each other, cut to the size of the disk, so that only
// the last may end inside a chunk. Extents without a length (zero or negative)
// and what lies before or beyond the disk are dropped. chunkBytes is a power of
// two. The argument is not changed.
func Normalize(extents []Extent, size, chunkBytes int64) []Extent {
	var cut []Extent
	for _, e := range extents {
		if e.Length <= 0 {
			continue
		}
		start, end := max(0, e.Start), min(size, e.end())
		if start >= end {
			continue
		}
		start -= start % chunkBytes
		if rest := end % chunkBytes; rest != 0 {
			end += min(chunkBytes-rest, size-end)
		}
		cut = append(cut, Extent{start, end - start})
	}
	slices.SortFunc(cut, func(a, b Extent) int { return cmp.Compare(a.Start, b.Start) })
	merged := cut[:0]
	for _, e := range cut {
		if n := len(merged); n > 0 && e.Start <= merged[n-1].end() {
			last := &merged[n-1]
			last.Length = max(last.end(), e.end()) - last.Start
			continue
		}
		merged = append(merged, e)
	}
	return merged
}

// ReadPlan says what of a disk must be read to make its next map, given the
// parent's map (nil: none), the disk's size and chunk size now, and what the
// source reports as changed since the parent. The answer is normalized.
//
// The reason is empty when the changed extents are enough. Otherwise it says why
// more is read. A whole read follows from no usable parent and from any extent
// that cannot be understood (a negative number, an end beyond all numbers):
// what was meant is unknown, and reading too much costs only time. A resize
// reads the chunk that holds the last byte of the shorter of the two, whose
// padding begins or ends there, and everything beyond the old end, as sources
// are known to be silent about growth.
//
// After a whole read a Builder needs no parent, and must not have one where
// chunks not set are to be zeros.
func ReadPlan(parent *Map, bytes, chunkBytes int64, changed []Extent) (read []Extent, reason string) {
	whole := Normalize([]Extent{{0, bytes}}, bytes, chunkBytes)
	if parent == nil {
		return whole, "no parent"
	}
	if err := parent.Validate(); err != nil {
		return whole, fmt.Sprintf("the parent cannot be used: %v", err)
	}
	if parent.ChunkBytes != chunkBytes {
		return whole, fmt.Sprintf("the parent has chunks of %d bytes, not %d", parent.ChunkBytes, chunkBytes)
	}
	for _, e := range changed {
		if e.Start < 0 || e.Length < 0 || e.Length > math.MaxInt64-e.Start {
			return whole, fmt.Sprintf("a changed extent makes no sense: start %d, length %d", e.Start, e.Length)
		}
	}
	if parent.Bytes == bytes {
		return Normalize(changed, bytes, chunkBytes), ""
	}
	common := min(parent.Bytes, bytes)
	from := max(0, common-1)
	changed = append(slices.Clone(changed), Extent{from, bytes - from})
	return Normalize(changed, bytes, chunkBytes),
		fmt.Sprintf("the disk had %d bytes and has %d: read from the end they have in common", parent.Bytes, bytes)
}
