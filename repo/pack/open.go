package pack

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// buffers holds scratch memory for frames between opening and decoding.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// OpenChunk opens the bytes of one chunk, read from ref.Offset by one ranged
// read, and returns its plaintext in new memory. Whatever happened to the
// bytes, the result has the id want and the content kind, or there is an
// error: ErrSeal (then read the whole object and call OpenChunkIn), ErrFormat,
// ErrContent, seal.ErrUnknownEpoch. sealed is not changed.
func OpenChunk(keys *seal.Keys, ref Ref, sealed []byte, want blob.ID, kind blob.Kind) ([]byte, error) {
	aead, err := keys.AEAD(ref.Kind, ref.Epoch, ref.ID)
	if err != nil {
		return nil, fmt.Errorf("open chunk in %s: %w", ref.Name, err)
	}
	c := crypter{aead: aead, name: []byte(ref.Name)}
	plain, err := openChunk(keys, &c, ref.Offset, sealed, want, kind)
	if err != nil {
		return nil, fmt.Errorf("open chunk in %s: %w", ref.Name, err)
	}
	return plain, nil
}

// OpenUnknown opens one chunk of which neither id nor content kind is known for
// certain: kinds are tried until fits says that an id is the one it looks for. It
// is for packs whose own table is lost. Errors are those of OpenChunk.
func OpenUnknown(keys *seal.Keys, ref Ref, sealed []byte, kinds []blob.Kind, fits func(blob.ID) bool) (Entry, []byte, error) {
	aead, err := keys.AEAD(ref.Kind, ref.Epoch, ref.ID)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("open chunk in %s: %w", ref.Name, err)
	}
	c := crypter{aead: aead, name: []byte(ref.Name)}
	framed, err := c.open(nil, sealed, ref.Offset)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("open chunk in %s: %w", ref.Name, err)
	}
	plain, err := Decompress(framed, nil)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("open chunk in %s: %w: %w", ref.Name, ErrFormat, err)
	}
	for _, kind := range kinds {
		if id := keys.ID(kind, plain); fits(id) {
			return Entry{ID: id, Kind: kind, Raw: uint32(len(plain)), Offset: ref.Offset, Stored: uint32(len(sealed))}, plain, nil
		}
	}
	return Entry{}, nil, fmt.Errorf("open chunk in %s: %w", ref.Name, ErrContent)
}

// openChunk opens, decodes and compares the id, always.
func openChunk(keys *seal.Keys, c *crypter, at uint32, sealed []byte, want blob.ID, kind blob.Kind) ([]byte, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	framed, err := c.open(slices.Grow((*buf)[:0], len(sealed)), sealed, at)
	if err != nil {
		return nil, err
	}
	*buf = framed
	var plain []byte
	if snug(framed) && framed[0] == codecNone && int(frameRaw(framed)) == len(framed)-frameBytes {
		plain, *buf = framed[frameBytes:], nil // the frame's memory becomes the caller's
	} else if plain, err = Decompress(framed, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if keys.ID(kind, plain) != want {
		return nil, fmt.Errorf("compare id %s: %w", want, ErrContent)
	}
	return plain, nil
}

// snug tells whether a frame fills its memory well enough to be given away.
func snug(framed []byte) bool {
	return len(framed) > frameBytes && cap(framed)-len(framed) <= len(framed)/4+64
}

// OpenChunkIn opens one chunk, of stored bytes at ref.Offset, out of a whole
// object, healing it in memory if need be. Errors: ErrDamaged, ErrTampered and
// those of OpenChunk but ErrSeal.
func OpenChunkIn(keys *seal.Keys, ref Ref, stored uint32, obj []byte, want blob.ID, kind blob.Kind) (plain []byte, healed bool, err error) {
	healed, err = withHealing(obj, func(obj []byte) error {
		from, to := uint64(ref.Offset), uint64(ref.Offset)+uint64(stored)
		if to > uint64(len(obj)) {
			return fmt.Errorf("find chunk at %d: %w", ref.Offset, ErrSeal)
		}
		plain, err = OpenChunk(keys, ref, obj[from:to], want, kind)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("open chunk in whole %s: %w", ref.Name, err)
	}
	return plain, healed, nil
}

// withHealing calls open with the object, and if it finds a wrong seal or
// header, once more with the object healed as far as possible.
func withHealing(obj []byte, open func(obj []byte) error) (healed bool, err error) {
	first := open(obj)
	if first == nil || !(errors.Is(first, ErrSeal) || errors.Is(first, parity.ErrLost)) {
		return false, first
	}
	fixed, damage, healErr := parity.Heal(obj)
	switch {
	case fixed == nil:
		return false, healError(healErr)
	case damage.Clean():
		return false, fmt.Errorf("%w: %w", ErrTampered, first)
	}
	again := open(fixed)
	switch {
	case again == nil:
		return true, nil
	case !errors.Is(again, ErrSeal):
		return false, again
	case healErr != nil:
		return false, fmt.Errorf("%w: %s: %w", ErrDamaged, damage, again)
	}
	return false, fmt.Errorf("%w, also after healing: %w", ErrTampered, again)
}

// healError puts parity's verdict into this package's words.
func healError(err error) error {
	if errors.Is(err, parity.ErrLost) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// reader is an object whose footer and table have been opened and checked.
type reader struct {
	crypter
	parity.Header
	keys    *seal.Keys
	obj     []byte
	entries []Entry
	padding uint32 // offset of the sealed padding
	table   uint32 // offset of the sealed table, where the padding ends
	scratch []byte // frames
	plain   []byte // what they decode to
}

// openObject opens footer and table. It never heals.
func openObject(keys *seal.Keys, name string, obj []byte) (*reader, error) {
	h, err := parity.FindHeader(obj)
	if err != nil {
		return nil, err
	}
	if len(obj) != h.Shape.StoredBytes() {
		return nil, fmt.Errorf("open %d bytes where the shape says %d: %w", len(obj), h.Shape.StoredBytes(), ErrSeal)
	}
	if h.Kind == parity.Key {
		return nil, fmt.Errorf("open key slot as an object: %w", ErrFormat)
	}
	aead, err := keys.AEAD(h.Kind, h.Epoch, h.ID)
	if err != nil {
		return nil, err
	}
	r := &reader{crypter: crypter{aead: aead, name: []byte(name)}, Header: h, keys: keys, obj: obj}
	if err := r.readTable(); err != nil {
		return nil, err
	}
	return r, nil
}

// readTable opens footer and table and holds them to each other, to the shape
// and to the conservation law.
func (r *reader) readTable() error {
	end := r.Shape.DataOffset() + r.Shape.DataBytes()
	plain, err := r.open(nil, r.obj[end-footerBytes:end], uint32(end-footerBytes))
	if err != nil {
		return fmt.Errorf("open footer: %w", err)
	}
	foot, err := parseFooter(plain, r.Header)
	if err != nil {
		return err
	}
	if plain, err = r.open(nil, r.obj[foot.table:end-footerBytes], foot.table); err != nil {
		return fmt.Errorf("open table: %w", err)
	}
	r.table = foot.table
	r.entries, r.padding, err = parseTable(plain, uint32(r.Shape.DataOffset()), foot.table-seal.TagBytes)
	if err != nil {
		return err
	}
	if Sum(r.entries) != foot.sum {
		return fmt.Errorf("compare conservation sum: %w", ErrFormat)
	}
	for _, e := range r.entries {
		if !fitsKind(r.Kind, e.Kind) {
			return fmt.Errorf("read table: content kind %#x in %s: %w", uint8(e.Kind), r.Kind, ErrFormat)
		}
	}
	return r.checkShape()
}

// checkShape holds the object to the smallest shape that its content needs:
// the format gives a writer no choice.
func (r *reader) checkShape() error {
	profile, _ := parity.ProfileOf(r.Shape) // known: the header was accepted
	used := r.Shape.DataBytes() - int(r.table-seal.TagBytes-r.padding)
	if want, err := profile.ShapeFor(used); err != nil || want != r.Shape {
		return fmt.Errorf("compare shape %v with %d bytes of content: %w", r.Shape, used, ErrFormat)
	}
	return nil
}

// frame opens the seal of one chunk into scratch memory.
func (r *reader) frame(e Entry) ([]byte, error) {
	framed, err := r.open(slices.Grow(r.scratch[:0], int(e.Stored)), r.obj[e.Offset:e.Offset+e.Stored], e.Offset)
	if err != nil {
		return nil, err
	}
	r.scratch = framed
	if len(framed) < frameBytes || frameRaw(framed) != e.Raw {
		return nil, fmt.Errorf("compare raw length with table: %w", ErrFormat)
	}
	return framed, nil
}

// chunk opens one chunk, decodes it and compares its id. The plaintext is valid
// until the next call.
func (r *reader) chunk(e Entry) ([]byte, error) {
	framed, err := r.frame(e)
	if err != nil {
		return nil, err
	}
	plain, err := Decompress(framed, r.plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	r.plain = plain
	if r.keys.ID(e.Kind, plain) != e.ID {
		return nil, fmt.Errorf("compare id %s: %w", e.ID, ErrContent)
	}
	return plain, nil
}

// checkPadding opens the padding and demands zeros.
func (r *reader) checkPadding() error {
	sealed := r.obj[r.padding:r.table]
	plain, err := r.open(slices.Grow(r.scratch[:0], len(sealed)), sealed, r.padding)
	if err != nil {
		return fmt.Errorf("open padding: %w", err)
	}
	r.scratch = plain
	var zeros [4096]byte
	for ; len(plain) > 0; plain = plain[min(len(plain), len(zeros)):] {
		n := min(len(plain), len(zeros))
		if !bytes.Equal(plain[:n], zeros[:n]) {
			return fmt.Errorf("read padding: not zero: %w", ErrFormat)
		}
	}
	return nil
}

// OpenRecord opens an object that holds one record, whole as read from the
// backend. If a seal fails the object is healed in memory and tried again;
// healed tells so, and then the stored object should be mended. Errors:
// ErrDamaged, ErrTampered, ErrFormat, ErrContent, parity.ErrUnsupported,
// seal.ErrUnknownEpoch. obj is not changed.
func OpenRecord(keys *seal.Keys, name string, kind parity.Kind, obj []byte) (payload []byte, healed bool, err error) {
	healed, err = withHealing(obj, func(obj []byte) error {
		r, err := openObject(keys, name, obj)
		if err != nil {
			return err
		}
		if r.Kind != kind || r.Kind.IsPack() {
			return fmt.Errorf("open %s object as %s: %w", r.Kind, kind, ErrFormat)
		}
		payload, err = r.chunk(r.entries[0])
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("open %s: %w", name, err)
	}
	return payload, healed, nil
}

// OpenTable tells what an object holds from its own table, healing it in
// memory if need be: the way to rebuild an index, or to resume. The number of
// entries, their bounds and their conservation sum are checked. Errors as of
// OpenRecord.
func OpenTable(keys *seal.Keys, name string, obj []byte) (parity.Header, []Entry, error) {
	var r *reader
	_, err := withHealing(obj, func(obj []byte) (err error) {
		r, err = openObject(keys, name, obj)
		return err
	})
	if err != nil {
		return parity.Header{}, nil, fmt.Errorf("open table of %s: %w", name, err)
	}
	return r.Header, r.entries, nil
}

// VerifyAll opens everything in an object, with no healing: footer, table,
// padding, and each chunk down to its id. fn, unless nil, gets every chunk with
// its plaintext, valid until fn returns, or with the error that it has; an error
// that fn returns ends the walk and is returned. Give it what parity.Heal made of a damaged object,
// with ErrLost too, to learn which chunks are left. The returned error is the
// first one found.
func VerifyAll(keys *seal.Keys, name string, obj []byte, fn func(e Entry, plain []byte, err error) error) error {
	r, err := openObject(keys, name, obj)
	if err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	first := r.checkPadding()
	for _, e := range r.entries {
		plain, err := r.chunk(e)
		if err != nil && first == nil {
			first = err
		}
		if fn == nil {
			continue
		}
		if err := fn(e, plain, err); err != nil {
			return err
		}
	}
	if first != nil {
		return fmt.Errorf("verify %s: %w", name, first)
	}
	return nil
}
