package parity

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// encoders keeps one encoder a (k, m): the matrices are pure functions of the
// shape and safe for concurrent use.
var encoders sync.Map // [2]int{k, m} → reedsolomon.Encoder

// encoder returns the shared encoder of a shape with parity. It never inverts
// matrices, so its inversion cache, which grows with each pattern of damage,
// is off; healing makes its own.
func encoder(s Shape) (reedsolomon.Encoder, error) {
	key := [2]int{s.K, s.M}
	if e, ok := encoders.Load(key); ok {
		return e.(reedsolomon.Encoder), nil
	}
	e, err := reedsolomon.New(s.K, s.M, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("make encoder %d+%d: %w", s.K, s.M, err)
	}
	got, _ := encoders.LoadOrStore(key, e)
	return got.(reedsolomon.Encoder), nil
}

// Alloc makes room for a whole object of the shape and returns it together
// with its data area D, all zero, for the caller to fill before Finish. The
// two share memory: D is never copied.
func Alloc(s Shape) (object, d []byte) {
	object = make([]byte, s.StoredBytes())
	from, to := s.DataOffset(), s.DataOffset()+s.DataBytes()
	return object, object[from:to:to]
}

// Finish computes the parity and both sets of header pages of an object whose
// D is filled. The object is as long as h.Shape says, and its header pages
// still zero, as Alloc left them.
func Finish(object []byte, h Header) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("finish object: %w", err)
	}
	if len(object) != h.Shape.StoredBytes() {
		return fmt.Errorf("finish object: %d bytes where the shape says %d", len(object), h.Shape.StoredBytes())
	}
	if h.Shape.M > 0 {
		e, err := encoder(h.Shape)
		if err != nil {
			return fmt.Errorf("finish object: %w", err)
		}
		if err := e.Encode(shards(object, h.Shape)); err != nil {
			return fmt.Errorf("encode parity: %w", err)
		}
	}
	h.put(object)
	putSums(object, h.Shape)
	return nil
}

// Protect builds the object that holds d, zero-filled to the end of D.
func Protect(h Header, d []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("protect data: %w", err)
	}
	if len(d) > h.Shape.DataBytes() {
		return nil, fmt.Errorf("protect %d bytes: %w", len(d), ErrTooLarge)
	}
	object, area := Alloc(h.Shape)
	copy(area, d)
	if err := Finish(object, h); err != nil {
		return nil, err
	}
	return object, nil
}

// shards cuts D and P of an object into k + m views.
func shards(object []byte, s Shape) [][]byte {
	out := make([][]byte, s.K+s.M)
	for i := range out {
		from := s.DataOffset() + i*s.ShardBytes
		out[i] = object[from : from+s.ShardBytes : from+s.ShardBytes]
	}
	return out
}

// putSums writes the sum of every cell, the checks of the pages, and H′.
func putSums(object []byte, s Shape) {
	for c := range s.Cells() {
		page, offset := sumPlace(c)
		at := s.CellOffset(c)
		binary.LittleEndian.PutUint32(object[page*PageBytes+offset:], cellSum(object[at:at+CellBytes]))
	}
	for i := range s.Pages() {
		page := object[i*PageBytes : (i+1)*PageBytes]
		sealPage(page, i)
		copy(mirror(object, i), page)
	}
}

// mirror is the place of page i in H′.
func mirror(object []byte, i int) []byte {
	end := len(object) - i*PageBytes
	return object[end-PageBytes : end : end]
}
