package pack

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
)

// recorder notes each use of a key and nonce.
type recorder struct {
	cipher.AEAD
	key  string
	seen map[string]int
}

func (r recorder) Seal(dst, nonce, plain, ad []byte) []byte {
	r.seen[r.key+string(nonce)]++
	return r.AEAD.Seal(dst, nonce, plain, ad)
}

// stuck is a random source that always says the same.
type stuck struct{}

func (stuck) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 42
	}
	return len(b), nil
}

func TestStuckRandomSourceRepeatsNoKeyWithANonce(t *testing.T) {
	keys := testKeys(t)
	seen := map[string]int{}
	ids := map[[16]byte]string{}
	encode := func(what string, kind parity.Kind, name func([16]byte) string, chunks []Chunk) {
		e := encoder{Params: Params{Keys: keys, Kind: kind, NameOf: name, Rand: stuck{}}}
		e.cipherOf = func(kind parity.Kind, epoch uint32, id [16]byte) (cipher.AEAD, error) {
			aead, err := keys.AEAD(kind, epoch, id)
			return recorder{aead, fmt.Sprint(kind, epoch, id), seen}, err
		}
		o, err := e.encode(chunks)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := ids[o.ID]; ok {
			t.Errorf("%s and %s have one object id", what, other)
		}
		ids[o.ID] = what
	}
	record := func(payload string) []Chunk {
		return []Chunk{{ID: keys.ID(blob.Record, []byte(payload)), Kind: blob.Record, RawBytes: len(payload), Data: Compress(None, blob.Record, []byte(payload), nil)}}
	}
	for i := range 30 {
		encode(fmt.Sprint("pack ", i), parity.Data, packName, chunksOf(keys, Auto, mixed(uint64(i), 3000), mixed(uint64(i+1), 500)))
		encode(fmt.Sprint("record ", i), parity.Label, fixedName("label/a/b/00000001"), record(fmt.Sprint("payload ", i)))
		encode(fmt.Sprint("same record, name ", i), parity.Label, fixedName(fmt.Sprintf("label/a/b/%08d", i+10)), record("same"))
	}
	for use, n := range seen {
		if n > 1 {
			t.Errorf("%q used %d times", use, n)
		}
	}
	if len(seen) < 90*4 {
		t.Fatalf("only %d seals seen", len(seen))
	}
}

func TestVerifyAfterEncodeCatchesAFlippedBit(t *testing.T) {
	keys := testKeys(t)
	chunks := chunksOf(keys, None, mixed(0, 700), mixed(3, 400))
	e := encoder{Params: Params{Keys: keys, Kind: parity.Data, NameOf: packName, Rand: stuck{}}, cipherOf: keys.AEAD}
	for at := 4096; at < 8192; at++ {
		e.spoil = func(object []byte) { object[at] ^= 1 << (at % 8) }
		if o, err := e.encode(chunks); o != nil || !errors.Is(err, ErrVerify) {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	e.spoil = nil
	if _, err := e.encode(chunks); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyAfterEncodeCatchesWrongContent(t *testing.T) {
	keys := testKeys(t)
	plain := mixed(1, 9000)
	for name, spoil := range map[string]func(c *Chunk){
		"byte changed before framing": func(c *Chunk) { p := bytes.Clone(plain); p[77] ^= 1; c.Data = Compress(None, c.Kind, p, nil) },
		"frame does not decode":       func(c *Chunk) { c.Data[len(c.Data)/2] ^= 0x55 },
		"id of other content":         func(c *Chunk) { c.ID[31] ^= 1 },
	} {
		for _, verify := range []Verify{VerifyTenth, VerifyFull} {
			chunks := chunksOf(keys, Auto, plain, mixed(2, 100))
			spoil(&chunks[0])
			if verify == VerifyTenth {
				chunks = chunks[:1] // at least one is always decoded
			}
			p := Params{Keys: keys, Kind: parity.Data, NameOf: packName, Verify: verify}
			if _, err := Encode(p, chunks); !errors.Is(err, ErrVerify) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
