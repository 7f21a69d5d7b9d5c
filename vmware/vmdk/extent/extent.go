// Package extent reads and writes the files that a VMDK's bytes lie in, one
// file at a time: flat, hosted sparse (KDMV, plain or deflated), COWD and
// seSparse. How files and parents become a disk is the business of package
// vmdk; an extent only tells, for a place, whether it stores it, knows it to be
// zero, or knows nothing.
//
// The three sparse formats are one idea: a directory of tables of entries, one
// entry a grain. They share the walk over it (grainMap) and differ in the width
// of numbers and in what an entry means. Tables are read when needed and a few
// kept, so that memory never follows what a header claims.
package extent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// SectorBytes is the unit of every size and offset inside a VMDK.
const SectorBytes = 512

// MaxCapacity bounds the size of a disk in bytes: 64 TiB, a little above the
// 62 TiB that vSphere allows. Larger claims are refused before any table is
// laid out for them.
const MaxCapacity = int64(64) << 40

// MaxDescriptorBytes bounds a descriptor's text; it admits a 62 TiB disk in
// pieces of 2 GiB.
const MaxDescriptorBytes = 4 << 20

var (
	// ErrFormat means that the bytes are not a VMDK, or contradict themselves.
	ErrFormat = errors.New("not a valid vmdk")
	// ErrTruncated means that the bytes end before the structure does.
	ErrTruncated = errors.New("vmdk is truncated")
	// ErrSize means that a disk size or range cannot be expressed: not a
	// multiple of 512 bytes, empty, outside of the disk, or too large.
	ErrSize = errors.New("impossible disk size")
	// ErrUnsupported means that the file is sound, but of a kind that cannot
	// be read here: a raw device mapping, a dirty seSparse journal.
	ErrUnsupported = errors.New("kind of vmdk is not supported")
)

// State is what an extent knows about a range.
type State int

const (
	// Absent: the parent's content, or zero without a parent.
	Absent State = iota
	// Zero: zero, whatever the parent holds.
	Zero
	// Data: stored in this extent.
	Data
)

// Run is a range of an extent with one answer, Length bytes long. For Data, At
// is the byte of the file where it lies (of deflated data: where the grain's
// record starts).
type Run struct {
	State  State
	Length int64
	At     int64
}

// Reader is one extent of a disk. Offsets are bytes relative to the extent.
// Both methods may be called in parallel.
type Reader interface {
	// Locate answers for off, and for as many of the limit bytes from there
	// as one look at the tables tells; never for none.
	Locate(off, limit int64) (Run, error)
	// Read fills p, which must lie inside the Data run that Locate gave for
	// off.
	Read(p []byte, off int64, r Run) error
}

// Hole is an extent without a file: the ZERO line of a descriptor.
type Hole struct{}

// Locate knows of zeros only.
func (Hole) Locate(_, limit int64) (Run, error) { return Run{Zero, limit, 0}, nil }

// Read fails, for there is no data in a hole.
func (Hole) Read([]byte, int64, Run) error { return fmt.Errorf("read hole: %w", ErrFormat) }

// Flat is an extent of raw bytes, from byte Start of File on.
type Flat struct {
	File  io.ReaderAt
	Start int64
}

// Locate knows of data only.
func (f Flat) Locate(off, limit int64) (Run, error) { return Run{Data, limit, f.Start + off}, nil }

// Read reads the raw bytes.
func (f Flat) Read(p []byte, _ int64, r Run) error { return ReadFull(f.File, p, r.At) }

// ReadFull fills p from off; an early end is ErrTruncated.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %d bytes at %d: %w", len(p), off, ErrTruncated)
	}
	return err
}

// IsZero reports whether p holds no set bit; by blocks, since it looks at every
// byte of every disk.
func IsZero(p []byte) bool {
	for len(p) >= len(zeroBlock) {
		if !bytes.Equal(p[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		p = p[len(zeroBlock):]
	}
	return bytes.Equal(p, zeroBlock[:len(p)])
}

var zeroBlock [4096]byte

// RoundUp is n to the next multiple of unit.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
