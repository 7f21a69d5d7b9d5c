package parity

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

const (
	magic   = "HOLDFAST"
	version = 1
)

// Header is what page 0 says of an object.
type Header struct {
	Kind  Kind
	Suite uint8    // SuiteGCM, or SuiteNone for key slots
	Epoch uint32   // the root key that sealed D; 0 for key slots
	ID    [16]byte // the object id, the salt of its key; zeros for key slots
	Shape Shape
}

// check tells whether an object may have such a header.
func (h Header) check() error {
	if !h.Kind.Known() {
		return fmt.Errorf("check header: %s: %w", h.Kind, ErrUnsupported)
	}
	if want := suiteOf(h.Kind); h.Suite != want {
		return fmt.Errorf("check header: suite %d for %s: %w", h.Suite, h.Kind, ErrUnsupported)
	}
	if _, ok := ProfileOf(h.Shape); !ok {
		return fmt.Errorf("check header: shape %d+%d of %d bytes: %w", h.Shape.K, h.Shape.M, h.Shape.ShardBytes, ErrUnsupported)
	}
	return nil
}

func suiteOf(k Kind) uint8 {
	if k == Key {
		return SuiteNone
	}
	return SuiteGCM
}

// put writes the fixed fields into page 0, whose bytes are zero.
func (h Header) put(page []byte) {
	copy(page, magic)
	page[8], page[9], page[10] = version, byte(h.Kind), h.Suite
	binary.LittleEndian.PutUint32(page[12:], h.Epoch)
	copy(page[16:32], h.ID[:])
	binary.LittleEndian.PutUint16(page[32:], uint16(h.Shape.K))
	binary.LittleEndian.PutUint16(page[34:], uint16(h.Shape.M))
	binary.LittleEndian.PutUint32(page[36:], uint32(h.Shape.ShardBytes))
}

// ReadHeader reads page 0: the first or the last 4 KiB of an object. The error
// is ErrBadPage when these bytes are no intact page 0, ErrUnsupported when
// they are one of another format.
func ReadHeader(page []byte) (Header, error) {
	if len(page) != PageBytes || string(page[:8]) != magic || !pageIntact(page, 0) {
		return Header{}, fmt.Errorf("read header: %w", ErrBadPage)
	}
	if page[8] != version {
		return Header{}, fmt.Errorf("read header: version %d: %w", page[8], ErrUnsupported)
	}
	h := Header{
		Kind:  Kind(page[9]),
		Suite: page[10],
		Epoch: binary.LittleEndian.Uint32(page[12:]),
		ID:    [16]byte(page[16:32]),
		Shape: Shape{
			K:          int(binary.LittleEndian.Uint16(page[32:])),
			M:          int(binary.LittleEndian.Uint16(page[34:])),
			ShardBytes: int(min(binary.LittleEndian.Uint32(page[36:]), 1<<30)),
		},
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	if page[11] != 0 || !allZero(page[40:fieldsEnd]) || !spareSumsZero(page, 0, h.Shape) {
		return Header{}, fmt.Errorf("read header: reserved bytes in use: %w", ErrUnsupported)
	}
	return h, nil
}

// sumPlace tells where the sum of cell c stands: page number, offset in it.
func sumPlace(c int) (page, offset int) {
	if c < firstSums {
		return 0, fieldsEnd + 4*c
	}
	c -= firstSums
	return 1 + c/nextSums, 4 * (c % nextSums)
}

// pageCells is the range of cells [from, to) whose sums page i can hold.
func pageCells(i int) (from, to int) {
	if i == 0 {
		return 0, firstSums
	}
	from = firstSums + (i-1)*nextSums
	return from, from + nextSums
}

func cellSum(cell []byte) uint32 { return uint32(xxhash.Sum64(cell)) }

// pageCheck xors the page's number in, so that a page in another's place fails.
func pageCheck(page []byte, i int) uint32 {
	return uint32(xxhash.Sum64(page[:checkAt])) ^ uint32(i)
}

func pageIntact(page []byte, i int) bool {
	return binary.LittleEndian.Uint32(page[checkAt:]) == pageCheck(page, i)
}

func sealPage(page []byte, i int) {
	binary.LittleEndian.PutUint32(page[checkAt:], pageCheck(page, i))
}

// spareSumsZero tells whether the sums of cells that a shape does not have are
// zero on page i, as the format demands: heals are bit-identical only if
// nothing else can stand there.
func spareSumsZero(page []byte, i int, s Shape) bool {
	from, to := pageCells(i)
	if used := s.Cells(); used > from {
		from = min(used, to)
	}
	if from == to {
		return true
	}
	_, offset := sumPlace(from)
	return allZero(page[offset:checkAt])
}

var zeros [PageBytes]byte

// allZero tells whether b, of at most a page, is all zero.
func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
