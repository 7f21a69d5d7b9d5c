package pack

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// Encode builds one object of the chunks, in their order, and verifies it: a
// pack of 1 to MaxChunks, or a record of one. Errors: parity.ErrTooLarge when
// they do not fit (Fill tells before), ErrFormat for chunks that may not stand
// in such an object, seal.ErrUnknownEpoch, ErrVerify.
func Encode(p Params, chunks []Chunk) (*Object, error) {
	e := encoder{Params: p, cipherOf: p.Keys.AEAD}
	return e.encode(chunks)
}

// EncodeRecord builds the object of one record: every kind but packs and keys.
func EncodeRecord(p Params, payload []byte) (*Object, error) {
	if len(payload) > MaxRawBytes {
		return nil, fmt.Errorf("encode %s: %d bytes: %w", p.Kind, len(payload), parity.ErrTooLarge)
	}
	p.Verify = VerifyFull
	return Encode(p, []Chunk{{
		ID:       p.Keys.ID(blob.Record, payload),
		Kind:     blob.Record,
		RawBytes: len(payload),
		Data:     Compress(Auto, blob.Record, payload, nil),
	}})
}

// encoder is one encoding. Tests watch the cipher and spoil the bytes.
type encoder struct {
	Params
	cipherOf func(kind parity.Kind, epoch uint32, id [16]byte) (cipher.AEAD, error)
	spoil    func(object []byte) // between sealing and verifying; nil but in tests
}

func (e *encoder) encode(chunks []Chunk) (*Object, error) {
	if e.Rand == nil {
		e.Rand = rand.Reader
	}
	if e.Epoch == 0 {
		e.Epoch = e.Keys.Epoch()
	}
	o, err := e.layout(chunks)
	if err != nil {
		return nil, fmt.Errorf("encode %s object: %w", e.Kind, err)
	}
	table := appendTable(make([]byte, 0, len(o.Entries)*entryBytes), o.Entries)
	if err := e.identify(o, table); err != nil {
		return nil, fmt.Errorf("encode %s object: %w", e.Kind, err)
	}
	if err := e.seal(o, chunks, table); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.Name, err)
	}
	if e.spoil != nil {
		e.spoil(o.Bytes)
	}
	if err := e.verify(o); err != nil {
		return nil, fmt.Errorf("encode %s: %w: %w", o.Name, ErrVerify, err)
	}
	return o, nil
}

// layout checks the chunks, chooses the shape and places them.
func (e *encoder) layout(chunks []Chunk) (*Object, error) {
	if e.NameOf == nil {
		return nil, errors.New("name object: Params.NameOf is not set")
	}
	if n := len(chunks); n < 1 || n > MaxChunks || (!e.Kind.IsPack() && n != 1) || e.Kind == parity.Key {
		return nil, fmt.Errorf("place %d chunks: %w", n, ErrFormat)
	}
	shape, err := e.Profile.ShapeFor(SealedSize(chunks))
	if err != nil {
		return nil, err
	}
	o := &Object{Entries: make([]Entry, len(chunks)), Count: uint32(len(chunks))}
	o.Header = parity.Header{Kind: e.Kind, Suite: parity.SuiteGCM, Epoch: e.Epoch, Shape: shape}
	offset := uint32(shape.DataOffset())
	for i := range chunks {
		c := &chunks[i]
		if err := e.admit(c); err != nil {
			return nil, fmt.Errorf("place chunk %d: %w", i, err)
		}
		stored := uint32(len(c.Data) + seal.TagBytes)
		o.Entries[i] = Entry{ID: c.ID, Kind: c.Kind, Raw: uint32(c.RawBytes), Offset: offset, Stored: stored}
		offset += stored
	}
	o.Sum = Sum(o.Entries)
	return o, nil
}

// admit tells why a chunk may not stand in the object. The zero id means zeros
// everywhere, so content that hashes to it cannot be named.
func (e *encoder) admit(c *Chunk) error {
	if c.ID.IsZero() || !fitsKind(e.Kind, c.Kind) {
		return fmt.Errorf("content kind %#x, id %s: %w", uint8(c.Kind), c.ID, ErrFormat)
	}
	_, raw, _, err := cutFrame(c.Data)
	if err != nil {
		return err
	}
	if raw != c.RawBytes {
		return fmt.Errorf("frame of %d raw bytes where the chunk has %d: %w", raw, c.RawBytes, ErrFormat)
	}
	return nil
}

// fitsKind tells whether content of a kind may stand in an object of a kind.
func fitsKind(object parity.Kind, content blob.Kind) bool {
	if object.IsPack() {
		return knownContent(content)
	}
	return content == blob.Record
}

// identify draws the object's id and name. Before the table is hashed in, the
// name is mixed into the random bytes: a machine set back to an earlier state
// draws the same bytes again, and may then write the same record under another
// name. That is other additional data under the same key and nonce, which GCM
// does not survive.
func (e *encoder) identify(o *Object, table []byte) error {
	var random [16]byte
	if _, err := io.ReadFull(e.Rand, random[:]); err != nil {
		return fmt.Errorf("draw object id: %w", err)
	}
	random = e.Keys.ObjectID(random, []byte(e.NameOf([16]byte{})))
	o.ID = e.Keys.ObjectID(random, table)
	o.Header.ID = o.ID
	o.Name = e.NameOf(o.ID)
	return nil
}

// seal fills D in place, then adds parity and headers.
func (e *encoder) seal(o *Object, chunks []Chunk, table []byte) error {
	aead, err := e.cipherOf(e.Kind, e.Epoch, o.ID)
	if err != nil {
		return err
	}
	w := crypter{aead: aead, name: []byte(o.Name)}
	o.Bytes, _ = parity.Alloc(o.Header.Shape)
	at := o.Header.Shape.DataOffset()
	for i := range chunks {
		at = w.seal(o.Bytes, at, chunks[i].Data)
	}
	tableAt := o.Header.Shape.DataOffset() + o.Header.Shape.DataBytes() - footerBytes - len(table) - seal.TagBytes
	w.seal(o.Bytes, at, o.Bytes[at:tableAt-seal.TagBytes]) // the padding: zeros, sealed where they stand
	w.seal(o.Bytes, tableAt, table)
	foot := footer{table: uint32(tableAt), count: o.Count, sum: o.Sum}
	w.seal(o.Bytes, tableAt+len(table)+seal.TagBytes, foot.append(nil))
	return parity.Finish(o.Bytes, o.Header)
}

// verify opens the object from its bytes, as a reader will.
func (e *encoder) verify(o *Object) error {
	r, err := openObject(e.Keys, o.Name, o.Bytes)
	if err != nil {
		return err
	}
	if r.Header != o.Header || !slices.Equal(r.entries, o.Entries) {
		return fmt.Errorf("compare table: %w", ErrContent)
	}
	if err := r.checkPadding(); err != nil {
		return err
	}
	decode, err := e.drawSample(len(o.Entries))
	if err != nil {
		return err
	}
	for i, entry := range r.entries {
		if decode(i) {
			_, err = r.chunk(entry)
		} else {
			_, err = r.frame(entry)
		}
		if err != nil {
			return fmt.Errorf("verify chunk %d: %w", i, err)
		}
	}
	return nil
}

// drawSample decides which of n chunks are decoded.
func (e *encoder) drawSample(n int) (func(i int) bool, error) {
	if e.Verify == VerifyFull {
		return func(int) bool { return true }, nil
	}
	var seed [32]byte
	if _, err := io.ReadFull(e.Rand, seed[:]); err != nil {
		return nil, fmt.Errorf("draw sample: %w", err)
	}
	r := mathrand.New(mathrand.NewChaCha8(seed))
	always := r.IntN(n)
	return func(i int) bool { return r.IntN(10) == 0 || i == always }, nil
}

// crypter seals and opens the parts of one object. One goroutine at a time.
type crypter struct {
	aead  cipher.AEAD
	name  []byte
	nonce [seal.NonceBytes]byte
}

// seal writes the sealed plain at an offset of the object and returns the
// offset behind it. plain may be the very bytes at that offset.
func (c *crypter) seal(object []byte, at int, plain []byte) int {
	c.nonce = seal.Nonce(uint32(at))
	c.aead.Seal(object[at:at:at+len(plain)+seal.TagBytes], c.nonce[:], plain, c.name)
	return at + len(plain) + seal.TagBytes
}

// open appends the plaintext of sealed, which stands at an offset of the
// object, to dst. sealed is not changed.
func (c *crypter) open(dst, sealed []byte, at uint32) ([]byte, error) {
	c.nonce = seal.Nonce(at)
	plain, err := c.aead.Open(dst, c.nonce[:], sealed, c.name)
	if err != nil {
		return nil, fmt.Errorf("open seal at %d: %w", at, ErrSeal)
	}
	return plain, nil
}

// EncodeSlot builds the object of a key slot, whose payload seals itself. It
// always has standard parity: it is read before the config that names another.
func EncodeSlot(payload []byte) ([]byte, error) {
	shape, err := parity.Standard.ShapeFor(len(payload))
	if err != nil {
		return nil, fmt.Errorf("encode key slot: %w", err)
	}
	obj, err := parity.Protect(parity.Header{Kind: parity.Key, Suite: parity.SuiteNone, Shape: shape}, payload)
	if err != nil {
		return nil, fmt.Errorf("encode key slot: %w", err)
	}
	return obj, nil
}

// DecodeSlot takes the payload out of a key slot's object, zeros to the end of
// D included, and heals it on the way. Errors: ErrDamaged, ErrFormat when the
// object is none of a key slot, parity.ErrUnsupported.
func DecodeSlot(obj []byte) ([]byte, error) {
	fixed, _, err := parity.Heal(obj)
	if err != nil {
		return nil, fmt.Errorf("decode key slot: %w", healError(err))
	}
	h, err := parity.FindHeader(fixed)
	if err != nil {
		return nil, fmt.Errorf("decode key slot: %w", err)
	}
	if h.Kind != parity.Key || h.Epoch != 0 || h.ID != [16]byte{} {
		return nil, fmt.Errorf("decode key slot: header of a %s object: %w", h.Kind, ErrFormat)
	}
	from := h.Shape.DataOffset()
	return bytes.Clone(fixed[from : from+h.Shape.DataBytes()]), nil
}

// frameRaw is the raw length that a frame claims.
func frameRaw(framed []byte) uint32 { return binary.LittleEndian.Uint32(framed[1:]) }
