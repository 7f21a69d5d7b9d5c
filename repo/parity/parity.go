// Package parity is the outer container of every object of a repository:
// header pages at both ends, a data area D, and Reed–Solomon parity over D
// (FORMAT.md §3). It works without any key, so a storage box that holds no
// secret can find and repair rot.
//
// The idea: D and the parity P are cut into k + m shards of S bytes, and each
// shard into cells of 4 KiB, the size of a disk sector. The header pages hold
// a 32-bit sum of every cell. Row r, cell r of each shard, is one Reed–Solomon
// code word. A cell whose sum is wrong is an erasure, and a row with at most m
// erasures is recomputed. Neighbouring cells of an object lie in different
// rows, so a burst of damage is spread thin, and a bad sector costs a row one
// cell. Every page stands twice, at the front and mirrored at the back, so
// neither a torn head nor a torn tail takes the sums away.
//
// Sums steer healing only. They are no security: what is true is decided by
// the seal inside D, which package pack opens.
package parity

import (
	"errors"
	"fmt"
	"math/bits"
)

// PageBytes is the size of a header page, CellBytes of a cell: a sector of
// today's disks, the unit in which they lose data.
const (
	PageBytes = 4096
	CellBytes = 4096
)

const (
	firstSums = 991  // sums on page 0
	nextSums  = 1023 // sums on every further page
	fieldsEnd = 128  // page 0: where the sums begin
	checkAt   = PageBytes - 4
)

// ErrUnsupported: a page is intact but says what this version does not know:
// another format version, kind, suite or shape, or a reserved byte in use.
var ErrUnsupported = errors.New("object format not supported")

// ErrBadPage: a header page fails its check.
var ErrBadPage = errors.New("header page damaged")

// ErrLost: the damage is more than the parity can repair. The Damage that
// comes with it tells which cells are gone.
var ErrLost = errors.New("object damaged beyond its parity")

// ErrTooLarge: the data does not fit into the largest shape.
var ErrTooLarge = errors.New("data larger than an object can hold")

// Kind says what an object holds. It stands in page 0 and in the derivation of
// the object's key.
type Kind uint8

// The kinds of objects (FORMAT.md §3).
const (
	Data    Kind = 1
	Meta    Kind = 2
	Index   Kind = 3
	Config  Kind = 4
	Key     Kind = 5
	Session Kind = 6
	Commit  Kind = 7
	Confirm Kind = 8
	Forget  Kind = 9
	Ledger  Kind = 10
	Label   Kind = 11
)

var kindNames = [...]string{"", "data", "meta", "index", "config", "key", "session", "commit", "confirm", "forget", "ledger", "label"}

// Kinds lists every kind of this format version, in order.
func Kinds() []Kind {
	return []Kind{Data, Meta, Index, Config, Key, Session, Commit, Confirm, Forget, Ledger, Label}
}

// Known reports whether k is a kind of this format version.
func (k Kind) Known() bool { return k >= Data && int(k) < len(kindNames) }

// String is the kind's name as it enters key derivation, for example "data".
func (k Kind) String() string {
	if !k.Known() {
		return fmt.Sprintf("kind-%d", uint8(k))
	}
	return kindNames[k]
}

// IsPack reports whether objects of this kind hold many chunks; all others
// hold one record.
func (k Kind) IsPack() bool { return k == Data || k == Meta }

// Suites of cryptography. SuiteNone marks key slots, which seal themselves.
const (
	SuiteNone uint8 = 0
	SuiteGCM  uint8 = 1 // AES-256-GCM, BLAKE3
)

// Profile is how much parity a repository writes. The empty Profile is
// Standard.
type Profile string

// The profiles: Standard spends 6.5 % on a full pack, Strong 20 %, Off nothing
// (damage is then noticed but not healed).
const (
	Standard Profile = "standard"
	Strong   Profile = "strong"
	Off      Profile = "off"
)

// ErrProfile is returned by ParseProfile for an unknown word.
var ErrProfile = errors.New("parity must be standard, strong or off")

// ParseProfile reads a profile as an operator writes it.
func ParseProfile(s string) (Profile, error) {
	if p := Profile(s); s != "" && p.known() {
		return p, nil
	}
	return "", fmt.Errorf("parse parity %q: %w", s, ErrProfile)
}

// Shape is the geometry of an object: K data shards and M parity shards of
// ShardBytes bytes each.
type Shape struct{ K, M, ShardBytes int }

// family is the row of FORMAT.md's table that belongs to a profile.
type family struct {
	small4, small16, small64 int // parity shards of the three small sizes
	k, m                     int // shards of all larger sizes
	steps                    int // largest n: D is at most n × k × 4 KiB
}

func (p Profile) family() (family, bool) {
	switch p {
	case Standard, "":
		return family{2, 2, 3, 64, 4, 128}, true
	case Strong:
		return family{4, 4, 6, 40, 8, 192}, true
	case Off:
		return family{0, 0, 0, 64, 0, 128}, true
	}
	return family{}, false
}

func (p Profile) known() bool { _, ok := p.family(); return ok }

// MaxBytes is the largest D of the profile in bytes, 0 for an unknown profile.
func (p Profile) MaxBytes() int {
	f, _ := p.family()
	return f.steps * f.k * CellBytes
}

// ShapeFor returns the smallest shape whose D holds sealedBytes bytes, or
// ErrTooLarge.
func (p Profile) ShapeFor(sealedBytes int) (Shape, error) {
	f, ok := p.family()
	if !ok {
		return Shape{}, fmt.Errorf("choose shape for parity %q: %w", string(p), ErrProfile)
	}
	switch {
	case sealedBytes < 0 || sealedBytes > p.MaxBytes():
		return Shape{}, fmt.Errorf("choose shape for %d bytes: %w", sealedBytes, ErrTooLarge)
	case sealedBytes <= CellBytes:
		return Shape{1, f.small4, CellBytes}, nil
	case sealedBytes <= 4*CellBytes:
		return Shape{4, f.small16, CellBytes}, nil
	case sealedBytes <= 16*CellBytes:
		return Shape{16, f.small64, CellBytes}, nil
	}
	step := f.k * CellBytes
	n := threeBits((sealedBytes + step - 1) / step)
	return Shape{f.k, f.m, n * CellBytes}, nil
}

// threeBits rounds n up to a number with three significant bits: the length of
// an object then tells its volume to a quarter and no better.
func threeBits(n int) int {
	if n <= 8 {
		return n
	}
	shift := bits.Len(uint(n)) - 3
	return (n + 1<<shift - 1) >> shift << shift
}

// ProfileOf tells which profile writes objects of this shape; false if none
// does, and then the shape is not of this format.
func ProfileOf(s Shape) (Profile, bool) {
	if s.K <= 0 || s.M < 0 || s.ShardBytes <= 0 || s.K > 64 || s.ShardBytes > 192*CellBytes {
		return "", false
	}
	for _, p := range []Profile{Standard, Strong, Off} {
		if got, err := p.ShapeFor(s.DataBytes()); err == nil && got == s {
			return p, true
		}
	}
	return "", false
}

// DataBytes is the length of D.
func (s Shape) DataBytes() int { return s.K * s.ShardBytes }

// Cells is the number of cells of D and P together.
func (s Shape) Cells() int { return (s.K + s.M) * (s.ShardBytes / CellBytes) }

// Rows is the number of code words.
func (s Shape) Rows() int { return s.ShardBytes / CellBytes }

// Pages is the number of header pages at each end.
func (s Shape) Pages() int {
	if more := s.Cells() - firstSums; more > 0 {
		return 1 + (more+nextSums-1)/nextSums
	}
	return 1
}

// DataOffset is the offset of D in the object.
func (s Shape) DataOffset() int { return s.Pages() * PageBytes }

// StoredBytes is the length of the whole object.
func (s Shape) StoredBytes() int { return 2*s.DataOffset() + (s.K+s.M)*s.ShardBytes }

// CellOffset is the offset of cell c in the object.
func (s Shape) CellOffset(c int) int { return s.DataOffset() + c*CellBytes }
