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
)

// SectorBytes is the unit of every size and offset inside a VMDK.
const SectorBytes = 512

// MaxCapacity bounds the size of a disk in bytes: 64 TiB, a little above the
// 62 TiB that vSphere allows. Larger claims are refused before any table is
// laid out for them.
const MaxCapacity = int64(64) << 40

var (
	// ErrFormat means that the bytes are not a VMDK, or contradict themselves.
	ErrFormat = errors.New("not a valid vmdk")
	// ErrTruncated means that the bytes end before the structure does.
	ErrTruncated = errors.New("vmdk is truncated")
	// ErrSize means that a disk size or range cannot be expressed: not a
	// multiple of 512 bytes, empty, outside of the disk, or too large.
	ErrSize = errors.New("impossible disk size")
	// ErrHasParent means that the disk is a delta, whose missing grains are in
	// a parent: OpenChain reads it, Open must not.
	ErrHasParent = errors.New("disk is a delta and needs its parent")
	// ErrParentMismatch means that a chain's parent was changed after its
	// delta was made (parentCID of the one is not the CID of the other).
	ErrParentMismatch = errors.New("content id of the parent disk does not match")
	// ErrNeedsDescriptor means that the file is a bare extent, which is not a
	// disk by itself: its descriptor must be opened.
	ErrNeedsDescriptor = errors.New("file is a bare extent, open its descriptor")
	// ErrUnsupported means that the file is sound, but of a kind that cannot
	// be read here: a raw device mapping, a dirty seSparse journal.
	ErrUnsupported = errors.New("kind of vmdk is not supported")
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
	case bytes.HasPrefix(head, []byte(hostedMagic)):
		return kindHosted
	case bytes.HasPrefix(head, []byte(cowdMagic)):
		return kindCOWD
	case bytes.HasPrefix(head, []byte{0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0}):
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

// readFull fills p from off; an early end is ErrTruncated.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %d bytes at %d: %w", len(p), off, ErrTruncated)
	}
	return err
}

// isZero reports whether p holds no set bit; by blocks, since it looks at every
// byte of every disk.
func isZero(p []byte) bool {
	for len(p) >= len(zeroBlock) {
		if !bytes.Equal(p[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		p = p[len(zeroBlock):]
	}
	return bytes.Equal(p, zeroBlock[:len(p)])
}

var zeroBlock [4096]byte
