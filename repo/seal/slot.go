package seal

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/argon2"
)

// ErrWrongKey: the password or key file does not open this slot. The slot is
// as it should be, as far as can be told without the secret.
var ErrWrongKey = errors.New("wrong password or key file")

// ErrSlotDamaged: the slot's bytes are not what was written.
var ErrSlotDamaged = errors.New("key slot damaged")

// ErrUnsupported: the slot is of a version or demands a key derivation that
// this version does not know or refuses as too costly.
var ErrUnsupported = errors.New("key slot not supported")

const (
	kdfArgon2id = "argon2id"
	kdfKeyFile  = "keyfile"

	saltBytes      = 32
	maxHeaderBytes = 64 << 10
	maxRingBytes   = 1 << 20
	maxLabelBytes  = 4 << 10

	maxTime      = 16
	minMemoryKiB = 8 << 10
	maxMemoryKiB = 4 << 20
	maxThreads   = 16
)

// KDF is the cost of trying a password: argon2id with Time passes over
// MemoryKiB of memory by Threads lanes. Key files need none and ignore it. The
// zero KDF is KDFStandard.
type KDF struct {
	Time      uint32
	MemoryKiB uint32
	Threads   uint8
}

// The costs that init offers: about 0.1 s and 64 MiB, or some 1 s and 256 MiB.
var (
	KDFStandard = KDF{Time: 3, MemoryKiB: 64 << 10, Threads: 1}
	KDFStrong   = KDF{Time: 4, MemoryKiB: 256 << 10, Threads: 1}
)

// check holds a cost to the limits of the format, before any work is done: a
// forged slot must not cost the reader hours or all memory.
func (k KDF) check() error {
	if k.Time < 1 || k.Time > maxTime || k.MemoryKiB < minMemoryKiB || k.MemoryKiB > maxMemoryKiB || k.Threads < 1 || k.Threads > maxThreads {
		return fmt.Errorf("check argon2id cost t=%d m=%d KiB p=%d: %w", k.Time, k.MemoryKiB, k.Threads, ErrUnsupported)
	}
	return nil
}

// slotHeader is the readable part of a slot, authenticated as additional data.
type slotHeader struct {
	Version int    `json:"version"`
	KDF     string `json:"kdf"`
	Time    uint32 `json:"t,omitempty"`
	Memory  uint32 `json:"m_kib,omitempty"`
	Threads uint32 `json:"p,omitempty"`
	Salt    []byte `json:"salt"`
	Commit  []byte `json:"commit"`
	Created string `json:"created"`
	Label   string `json:"label"`
	// Of slots that a rotation can reach; older ones lack them.
	Epoch     uint32 `json:"epoch,omitempty"` // the ring's last
	Recipient []byte `json:"recipient,omitempty"`
	Member    []byte `json:"member,omitempty"` // voucher for Recipient under the root of Epoch
}

// SlotInfo is what a slot says of itself to anyone. Nothing in it is
// authenticated before the slot has been opened.
type SlotInfo struct {
	KeyFile bool // opened by a key file, else by a password
	KDF     KDF  // the cost of the password; zero for a key file
	Created time.Time
	Label   string
	Epoch   uint32 // the last epoch in it; 0 for a slot that no rotation can reach
}

// NewSlot wraps the ring for one secret and returns the slot's payload, D of
// its container without the zeros behind. name is the slot's whole name,
// "keys/<slot>": a slot opens under no other.
func NewSlot(rand io.Reader, name string, secret Secret, kdf KDF, ring *Ring, label string, now time.Time) ([]byte, error) {
	payload, _, err := WrapRing(rand, name, secret, kdf, ring, label, now)
	return payload, err
}

// WrapRing is NewSlot that also returns the identity of the new slot, for a
// ring that is to be known under it from now on (Ring.Assume).
func WrapRing(rand io.Reader, name string, secret Secret, kdf KDF, ring *Ring, label string, now time.Time) ([]byte, Identity, error) {
	h, err := newHeader(rand, secret, kdf, label, now)
	if err != nil {
		return nil, Identity{}, fmt.Errorf("make key slot %s: %w", name, err)
	}
	payload, identity, err := h.wrap(name, secret, ring)
	if err != nil {
		return nil, Identity{}, fmt.Errorf("make key slot %s: %w", name, err)
	}
	return payload, identity, nil
}

// newHeader is the header of a new slot as far as the secret does not enter it.
func newHeader(rand io.Reader, secret Secret, kdf KDF, label string, now time.Time) (h slotHeader, err error) {
	if secret.IsZero() {
		return h, ErrEmptyPassword
	}
	if len(label) > maxLabelBytes {
		return h, fmt.Errorf("label of %d bytes is too long", len(label))
	}
	salt, err := draw(rand, saltBytes)
	if err != nil {
		return h, err
	}
	h = slotHeader{Version: 1, KDF: kdfKeyFile, Salt: salt, Created: now.UTC().Format(time.RFC3339), Label: label}
	if !secret.IsKeyFile() {
		if kdf == (KDF{}) {
			kdf = KDFStandard
		}
		h.KDF, h.Time, h.Memory, h.Threads = kdfArgon2id, kdf.Time, kdf.MemoryKiB, uint32(kdf.Threads)
	}
	return h, h.check()
}

// wrap seals the ring under the header, of which it fills what the secret and
// the ring decide.
func (h slotHeader) wrap(name string, secret Secret, ring *Ring) ([]byte, Identity, error) {
	keys := h.stretch(secret)
	identity := Identity{veil(keys.seed), name}
	recipient, err := identity.recipient()
	if err != nil {
		return nil, Identity{}, err
	}
	plain, current, err := ring.encode()
	if err != nil {
		return nil, Identity{}, err
	}
	h.Commit, h.Recipient, h.Epoch = keys.commit, recipient, current
	if h.Member, err = ring.vouch(h.Epoch, name, recipient); err != nil {
		return nil, Identity{}, err
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, Identity{}, fmt.Errorf("encode slot header: %w", err)
	}
	aead, err := newGCM(keys.kek)
	if err != nil {
		return nil, Identity{}, err
	}
	var nonce [NonceBytes]byte // the key is new with each salt
	return joinParts(head, aead.Seal(nil, nonce[:], plain, slotAD(name, head))), identity, nil
}

// stretched is what a secret becomes under the salt of a slot.
type stretched struct{ kek, commit, seed []byte }

// stretch turns a secret into the wrapping key, the commitment to it and the
// seed of the slot's key pair. GCM alone does not commit to its key; without
// the commitment one crafted slot could test many passwords at once.
func (h slotHeader) stretch(secret Secret) stretched {
	master := secret.held()
	if h.KDF == kdfArgon2id {
		master = argon2.IDKey(secret.held(), h.Salt, h.Time, h.Memory, uint8(h.Threads), KeyBytes)
	}
	return stretched{
		kek:    derive(master, h.Salt, "holdfast/1 kek"),
		commit: derive(master, h.Salt, "holdfast/1 kek commit"),
		seed:   derive(master, h.Salt, "holdfast/1 recipient"),
	}
}

func slotAD(name string, head []byte) []byte { return append([]byte(name), head...) }

// check holds a header to the limits, all of them before any work.
func (h slotHeader) check() error {
	if h.Version != 1 {
		return fmt.Errorf("check slot header: version %d: %w", h.Version, ErrUnsupported)
	}
	if len(h.Salt) < 16 || len(h.Salt) > 64 {
		return fmt.Errorf("check slot header: salt of %d bytes: %w", len(h.Salt), ErrUnsupported)
	}
	switch h.KDF {
	case kdfKeyFile:
		return nil
	case kdfArgon2id:
		if h.Threads > maxThreads {
			return fmt.Errorf("check slot header: %d lanes: %w", h.Threads, ErrUnsupported)
		}
		return h.cost().check()
	}
	return fmt.Errorf("check slot header: key derivation %.32q: %w", h.KDF, ErrUnsupported)
}

func (h slotHeader) cost() KDF {
	return KDF{Time: h.Time, MemoryKiB: h.Memory, Threads: uint8(h.Threads)}
}

// parseSlot cuts a payload into header and wrapped ring; zeros may follow.
func parseSlot(payload []byte) (h slotHeader, head, wrapped []byte, err error) {
	head, wrapped, err = cutParts(payload)
	if err != nil {
		return h, nil, nil, fmt.Errorf("parse slot: %w", err)
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return h, nil, nil, fmt.Errorf("parse slot header: %w: %w", ErrSlotDamaged, err)
	}
	if err := h.check(); err != nil {
		return h, nil, nil, err
	}
	return h, head, wrapped, nil
}

// joinParts is the outer form of all that seals or signs itself: a readable
// head and a body, each behind its length.
func joinParts(head, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(head)))
	out = append(out, head...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	return append(out, body...)
}

// cutParts is the reverse of joinParts; zeros may follow.
func cutParts(payload []byte) (head, body []byte, err error) {
	head, rest, ok := cutPart(payload, maxHeaderBytes)
	if !ok {
		return nil, nil, fmt.Errorf("cut off head: %w", ErrSlotDamaged)
	}
	body, rest, ok = cutPart(rest, maxRingBytes)
	if !ok || len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, nil, fmt.Errorf("cut off body: %w", ErrSlotDamaged)
	}
	return head, body, nil
}

// cutPart takes one length-prefixed part off b.
func cutPart(b []byte, limit uint32) (part, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n > limit || int(n) > len(b)-4 {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

// OpenSlot unwraps the ring. Errors: ErrWrongKey when the secret is not the
// one of this slot, ErrSlotDamaged when its bytes are not what was written (or
// it lies under another name), ErrUnsupported when it is of another version or
// beyond the limits.
func OpenSlot(payload []byte, name string, secret Secret) (*Ring, error) {
	h, head, wrapped, err := parseSlot(payload)
	if err != nil {
		return nil, fmt.Errorf("open key slot %s: %w", name, err)
	}
	if secret.IsZero() || secret.IsKeyFile() != (h.KDF == kdfKeyFile) {
		return nil, fmt.Errorf("open key slot %s (%s): %w", name, h.KDF, ErrWrongKey)
	}
	keys := h.stretch(secret)
	if subtle.ConstantTimeCompare(keys.commit, h.Commit) != 1 {
		return nil, fmt.Errorf("open key slot %s: %w", name, ErrWrongKey)
	}
	aead, err := newGCM(keys.kek)
	if err != nil {
		return nil, fmt.Errorf("open key slot %s: %w", name, err)
	}
	var nonce [NonceBytes]byte
	plain, err := aead.Open(nil, nonce[:], wrapped, slotAD(name, head))
	if err != nil {
		return nil, fmt.Errorf("open key slot %s: unwrap key ring: %w", name, ErrSlotDamaged)
	}
	ring, err := decodeRing(plain)
	if err != nil {
		return nil, fmt.Errorf("open key slot %s: %w", name, err)
	}
	if h.Recipient != nil {
		ring.Assume(Identity{veil(keys.seed), name})
	}
	return ring, nil
}

// ReadSlotInfo reads what a slot says of itself, without a secret.
func ReadSlotInfo(payload []byte) (SlotInfo, error) {
	h, _, _, err := parseSlot(payload)
	if err != nil {
		return SlotInfo{}, fmt.Errorf("read key slot: %w", err)
	}
	created, err := time.Parse(time.RFC3339, h.Created)
	if err != nil {
		return SlotInfo{}, fmt.Errorf("read key slot: time of creation: %w", ErrSlotDamaged)
	}
	return SlotInfo{KeyFile: h.KDF == kdfKeyFile, KDF: h.cost(), Created: created, Label: h.Label, Epoch: h.Epoch}, nil
}
