package page

import (
	"bytes"
	"encoding/binary"
)

// Range is some bytes of a page with their content before and after a change. The
// two have the same length; an undone change is the same range turned round.
type Range struct {
	Offset        uint16
	Before, After []byte
}

// Diff finds what differs between two contents of a page. The header's LSN and
// checksum are left out; neighbouring changes become one range.
func Diff(before, after Page) []Range {
	const gap = 8
	var out []Range
	for i := 0; i < Bytes; {
		if i+8 <= Bytes && binary.LittleEndian.Uint64(before[i:]) == binary.LittleEndian.Uint64(after[i:]) {
			i += 8
			continue
		}
		if before[i] == after[i] || (i >= atLSN && i < endVolatile) {
			i++
			continue
		}
		end := i + 1
		for j := end; j < Bytes && j-end < gap; j++ {
			if j == atLSN {
				break
			}
			if before[j] != after[j] {
				end = j + 1
			}
		}
		out = append(out, Range{uint16(i), bytes.Clone(before[i:end]), bytes.Clone(after[i:end])})
		i = end
	}
	return out
}

// Apply writes the new content of the ranges, or the old one to undo them.
func (p Page) Apply(ranges []Range, undo bool) {
	for _, r := range ranges {
		content := r.After
		if undo {
			content = r.Before
		}
		copy(p[r.Offset:], content)
	}
}
