// Package seal holds the keys of a repository and everything that is done with
// them directly: content ids, object ids, source names, and the authenticated
// encryption of objects (FORMAT.md §5, §6).
//
// The idea: a repository has one key ring of random roots. The id root never
// changes, so that equal content keeps its id and is stored once. The sealing
// root of the newest epoch seals what is written now; a rotation adds an
// epoch, and what an old root leaked does not open what comes later. Every
// object gets a key of its own, derived from the root, its kind and its object
// id, and inside an object the nonce is the byte offset, which cannot repeat
// since an object is sealed once. So nothing is counted, stored or drawn at
// random per chunk, and the limits of random nonces never apply.
//
// The ring lies in the repository wrapped by a password or a key file: a key
// slot. Changing a password rewraps the ring and re-encrypts nothing. Since
// nobody knows all passwords, a rotation does not rewrap: each slot has a key
// pair whose public half stands in it, and the new root is sealed to each of
// them, a box a slot. Whoever holds the newest root vouches for the slots that
// may have the next one.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
)

// KeyBytes is the length of every key and root.
const KeyBytes = 32

// TagBytes is what a seal adds to its plaintext.
const TagBytes = 16

// NonceBytes is the length of a nonce.
const NonceBytes = 12

// ErrUnknownEpoch: an object was sealed by a root that this key ring does not
// hold. The keys were rotated since it was opened; or, if the place shows no
// such rotation, it has lost or withheld it.
var ErrUnknownEpoch = errors.New("key ring does not hold this epoch")

const redacted = "***"

// Keys are the working keys derived from a ring. They are safe for concurrent
// use and print as "***".
type Keys struct{ held veiled[*derived] }

// derived is all that is derived once from a ring.
type derived struct {
	ids    sync.Pool // *idHasher
	object [KeyBytes]byte
	source [KeyBytes]byte
	cdc    [KeyBytes]byte
	epochs atomic.Pointer[epochKeys] // replaced as a whole when the ring grows
}

// epochKeys are the keys that an epoch adds. They are never changed.
type epochKeys struct {
	current uint32
	kinds   map[kindEpoch][]byte
}

type kindEpoch struct {
	kind  parity.Kind
	epoch uint32
}

// idHasher is a keyed hasher with the memory it reads and writes, so that an
// id costs no allocation.
type idHasher struct {
	h      *blake3.Hasher
	prefix [9]byte
	sum    [blob.IDBytes]byte
}

// Keys derives the working keys of the ring as it is now; an epoch added later
// gets into them by Update.
func (r *Ring) Keys() *Keys {
	from := r.held()
	k := &derived{}
	copy(k.object[:], derive(from.id, nil, "holdfast/1 object"))
	copy(k.source[:], derive(from.id, nil, "holdfast/1 source"))
	copy(k.cdc[:], derive(from.id, nil, "holdfast/1 cdc"))
	idKey := derive(from.id, nil, "holdfast/1 id")
	k.ids.New = func() any { return &idHasher{h: keyed(idKey)} }
	keys := &Keys{veil(k)}
	keys.Update(r)
	return keys
}

// Update takes in the epochs that were added to the ring, which must be the
// one that the keys came from. Whoever uses the keys sees them from then on.
func (k *Keys) Update(r *Ring) {
	sealing, current := r.held().all()
	next := &epochKeys{current: current, kinds: map[kindEpoch][]byte{}}
	for epoch, root := range sealing {
		for _, kind := range parity.Kinds() {
			if kind != parity.Key {
				next.kinds[kindEpoch{kind, epoch}] = derive(root, nil, "holdfast/1 kind "+kind.String())
			}
		}
	}
	held := &k.held().epochs
	for { // of two updates at once the longer ring stays
		now := held.Load()
		if now != nil && now.current >= current || held.CompareAndSwap(now, next) {
			return
		}
	}
}

// derive is HKDF-SHA256 to a key. It cannot fail for 32 bytes of output.
func derive(secret, salt []byte, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, KeyBytes)
	if err != nil {
		panic("seal: hkdf refused 32 bytes of output: " + err.Error())
	}
	return key
}

// keyed makes a keyed BLAKE3; only a key of another length could fail.
func keyed(key []byte) *blake3.Hasher {
	h, err := blake3.NewKeyed(key)
	if err != nil {
		panic("seal: blake3 refused a 32-byte key: " + err.Error())
	}
	return h
}

// ID is the content id: keyed BLAKE3-256 of kind, length and plaintext. It
// allocates nothing.
func (k *Keys) ID(kind blob.Kind, plain []byte) blob.ID {
	ids := &k.held().ids
	s := ids.Get().(*idHasher)
	s.h.Reset()
	s.prefix[0] = byte(kind)
	binary.LittleEndian.PutUint64(s.prefix[1:], uint64(len(plain)))
	_, _ = s.h.Write(s.prefix[:]) // a hash never fails
	_, _ = s.h.Write(plain)
	s.h.Sum(s.sum[:0])
	id := blob.ID(s.sum)
	ids.Put(s)
	return id
}

// ObjectID is the id of an object with this table. The table enters so that a
// random source that repeats itself cannot give two contents one key.
func (k *Keys) ObjectID(random [16]byte, table []byte) [16]byte {
	h := keyed(k.held().object[:])
	_, _ = h.Write(random[:])
	_, _ = h.Write(table)
	return [16]byte(h.Sum(nil))
}

// SourceName is the name under which a source's points stand, 16 hex digits: a
// keyed hash, so that the place of storage does not learn the source.
func (k *Keys) SourceName(identity string) string {
	h := keyed(k.held().source[:])
	_, _ = h.WriteString(identity)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// CDC is the key of the content-defined cutting of streams.
func (k *Keys) CDC() [KeyBytes]byte { return k.held().cdc }

// Epoch is the epoch that seals what is written now.
func (k *Keys) Epoch() uint32 { return k.held().epochs.Load().current }

// IsCurrent reports whether an object of that epoch is sealed by the newest
// root. What is not may be read by whoever once had an older one; a repack
// seals it anew.
func (k *Keys) IsCurrent(epoch uint32) bool { return epoch == k.Epoch() }

// AEAD returns the cipher of one object: AES-256-GCM under the key derived
// from the root of the epoch, the kind and the object id. ErrUnknownEpoch when
// the ring lacks the epoch.
func (k *Keys) AEAD(kind parity.Kind, epoch uint32, objectID [16]byte) (cipher.AEAD, error) {
	root, ok := k.held().epochs.Load().kinds[kindEpoch{kind, epoch}]
	if !ok {
		return nil, fmt.Errorf("derive key of %s object in epoch %d: %w", kind, epoch, ErrUnknownEpoch)
	}
	return newGCM(derive(root, objectID[:], "holdfast/1 "+kind.String()))
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make aead: %w", err)
	}
	return aead, nil
}

// Nonce is the nonce of what lies at this byte offset of an object: the offset
// as a 96-bit little-endian number.
func Nonce(offset uint32) [NonceBytes]byte {
	var n [NonceBytes]byte
	binary.LittleEndian.PutUint32(n[:], offset)
	return n
}

// String hides the keys.
func (k *Keys) String() string { return redacted }

// GoString hides the keys.
func (k *Keys) GoString() string { return redacted }

// Format hides the keys, whatever the verb.
func (k *Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the keys, in JSON too.
func (k *Keys) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the keys.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(redacted) }
