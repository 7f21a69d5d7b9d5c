//go:build linux || darwin

package backup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"holdfast/repo/image"
)

// maxHoles bounds the list; a file in more pieces is read in full.
const maxHoles = 1 << 20

// Allocated lists the areas of a sparse file that hold data, or nil if the
// file system cannot tell. An empty file of holes gives an empty list, not nil.
func Allocated(f *os.File, size int64) []image.Extent {
	extents := []image.Extent{}
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return extents
		}
		if err != nil || len(extents) == maxHoles {
			return nil
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil || end <= start {
			return nil
		}
		extents = append(extents, image.Extent{Start: start, Length: end - start})
		off = end
	}
	return extents
}
