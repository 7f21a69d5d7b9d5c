// Package vmdk reads and writes the virtual disk formats of VMware in pure Go.
//
// A VMDK is three things that travel under one suffix. A descriptor is a short
// text that names the disk's size, its content id, its parent and the files
// that hold its bytes (Descriptor). An extent is one of these files, in one of
// four encodings:
//
//   - flat: the raw bytes of the disk;
//   - hosted sparse (magic KDMV): 64 KiB grains behind a two-level table, plain
//     (monolithicSparse) or deflated behind markers (streamOptimized);
//   - COWD: the delta of older datastores, grains of one sector;
//   - seSparse: the delta of VMFS 6, grains of 4 KiB, 64-bit tables.
//
// And an image is what the guest sees: extents laid end to end, over a chain of
// parents when snapshots exist (Image).
//
// Reading and writing of single extents is in the subpackage extent.
//
// The package has two doors. ReadStream and WriteStream move a whole disk as
// streamOptimized, the form that NFC leases speak, in one pass without seeking.
// Open and OpenChain give random access to everything else.
//
// All input is untrusted. Memory follows what was read, never what a header
// claims; a name from a descriptor is never a path; a delta is never read
// without its parent. Formats: VMware "Virtual Disk Format 5.0" for KDMV and
// COWD; seSparse is not published and follows what qemu's block driver proved.
package vmdk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/vmware/vmdk/extent"
)

const (
	// SectorBytes is the unit of every size and offset inside a VMDK.
	SectorBytes = extent.SectorBytes
	// MaxCapacity bounds the size of a disk in bytes: 64 TiB.
	MaxCapacity = extent.MaxCapacity
)

var (
	// ErrFormat means that the bytes are not a VMDK, or contradict themselves.
	ErrFormat = extent.ErrFormat
	// ErrTruncated means that the bytes end before the structure does.
	ErrTruncated = extent.ErrTruncated
	// ErrSize means that a disk size or range cannot be expressed: not a
	// multiple of 512 bytes, empty, outside of the disk, or too large.
	ErrSize = extent.ErrSize
	// ErrUnsupported means that the file is sound, but of a kind that cannot
	// be read here: a raw device mapping, a dirty seSparse journal.
	ErrUnsupported = extent.ErrUnsupported
	// ErrHasParent means that the disk is a delta, whose missing grains are in
	// a parent: OpenChain reads it, Open must not.
	ErrHasParent = errors.New("disk is a delta and needs its parent")
	// ErrParentMismatch means that a chain's parent was changed after its
	// delta was made (parentCID of the one is not the CID of the other).
	ErrParentMismatch = errors.New("content id of the parent disk does not match")
	// ErrNeedsDescriptor means that the file is a bare extent, which is not a
	// disk by itself: its descriptor must be opened.
	ErrNeedsDescriptor = errors.New("file is a bare extent, open its descriptor")
)

// Extent is a range of a disk in bytes.
type Extent struct{ Start, Length int64 }

// CapacityFor is the capacity in bytes of a VMDK that holds an image of size
// bytes: the next multiple of a sector. The bytes added read as zero, and
// WriteStream adds them itself when its source ends inside the last sector.
func CapacityFor(size int64) int64 {
	return (size + SectorBytes - 1) / SectorBytes * SectorBytes
}

// Sniff reports whether the first bytes of r look like a VMDK: a sparse file, a
// bare COWD or seSparse extent, or a text descriptor. It must not decide about
// the content of a disk that a guest can write: a guest may put a descriptor
// into its first sector.
func Sniff(r io.ReaderAt) bool {
	head := make([]byte, SectorBytes)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return false
	}
	head = head[:n]
	return kindOf(head) != kindUnknown
}

type fileKind int

const (
	kindUnknown fileKind = iota
	kindHosted
	kindCOWD
	kindSESparse
	kindDescriptor
)

func kindOf(head []byte) fileKind {
	switch {
	case bytes.HasPrefix(head, []byte(extent.HostedMagic)):
		return kindHosted
	case bytes.HasPrefix(head, []byte(extent.COWDMagic)):
		return kindCOWD
	case bytes.HasPrefix(head, []byte(extent.SESparseMagic)):
		return kindSESparse
	case looksLikeDescriptor(head):
		return kindDescriptor
	}
	return kindUnknown
}

// looksLikeDescriptor accepts the comment that all writers put first, or text
// whose first statement is the version.
func looksLikeDescriptor(head []byte) bool {
	for line := range strings.Lines(string(head)) {
		line = strings.ToLower(strings.TrimSpace(line))
		switch {
		case strings.HasPrefix(line, "# disk descriptorfile"):
			return true
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			return strings.HasPrefix(strings.ReplaceAll(line, " ", ""), "version=")
		}
	}
	return false
}

// checkName admits only a plain file name: descriptors come from strangers, and
// a name of theirs must never reach another directory.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\\:\"") {
		return fmt.Errorf("name %q is not a plain file name: %w", name, ErrFormat)
	}
	for _, c := range name {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("name %q holds a control character: %w", name, ErrFormat)
		}
	}
	return nil
}

// ReadWriterAt is a file as the seSparse writer needs it; *os.File is one.
type ReadWriterAt = extent.ReadWriterAt

// SESparse is a writable seSparse delta; see extent.Delta.
type SESparse = extent.Delta

// CreateSESparse writes an empty delta for a disk of size bytes into file, over
// parent, which may be nil (zeros) or shorter than the disk. The descriptor that
// makes a disk of it is NewDeltaDescriptor's. ErrSize for an impossible size.
func CreateSESparse(file ReadWriterAt, size int64, parent io.ReaderAt) (*SESparse, error) {
	return extent.CreateDelta(file, size, parent)
}

// OpenSESparse opens a delta that CreateSESparse made, to go on writing.
// fileBytes is the file's length.
func OpenSESparse(file ReadWriterAt, fileBytes int64, parent io.ReaderAt) (*SESparse, error) {
	return extent.OpenDelta(file, fileBytes, parent)
}
