package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrNotVouched: nobody who holds the newest root has said that this slot may
// have the next one. It was put there by somebody who lacks that root, missed a
// rotation, or was made before rotation existed.
var ErrNotVouched = errors.New("key slot is not vouched for by the current keys")

// ErrForged: a decision or removal was not made by a holder of the keys.
var ErrForged = errors.New("signature does not match: not made with the keys of this repository")

// ErrNoIdentity: the slot that the ring came from has no key pair, so it cannot
// follow a rotation. A slot made anew for the same secret can.
var ErrNoIdentity = errors.New("key slot cannot follow a rotation")

const rotationIDBytes = 8

// kem is that of all recipients. It is a hybrid: a box lies where others can
// copy it, and must still be shut when X25519 falls.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// Identity is the private side of one slot: what opens the boxes sealed to it.
// The zero Identity opens none. It prints as "***".
type Identity struct {
	seed veiled[[]byte]
	slot string // the slot's whole name, "keys/<slot>"
}

// String hides the identity.
func (i Identity) String() string { return redacted }

// GoString hides the identity.
func (i Identity) GoString() string { return redacted }

// Format hides the identity, whatever the verb.
func (i Identity) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the identity, in JSON too.
func (i Identity) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (i Identity) private() (hpke.PrivateKey, error) {
	if i.seed == nil {
		return nil, ErrNoIdentity
	}
	key, err := kem().NewPrivateKey(i.seed())
	if err != nil {
		return nil, fmt.Errorf("make key pair: %w", err)
	}
	return key, nil
}

// recipient is the public half.
func (i Identity) recipient() ([]byte, error) {
	key, err := i.private()
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}

// Assume makes the ring known under the identity of a slot: it opens the boxes
// of that slot from now on.
func (r *Ring) Assume(i Identity) {
	held := r.held()
	held.mu.Lock()
	defer held.mu.Unlock()
	held.identity = i
}

func (r *roots) self() Identity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.identity
}

// epochKey derives a key that only holders of an epoch's root have. The id root
// enters so that two repositories never share one.
func (r *Ring) epochKey(epoch uint32, purpose string) ([]byte, error) {
	root := r.held().root(epoch)
	if root == nil {
		return nil, fmt.Errorf("derive %s key of epoch %d: %w", purpose, epoch, ErrUnknownEpoch)
	}
	return deriveBoth(root, r.held().id, purpose), nil
}

func deriveBoth(root, id []byte, purpose string) []byte {
	return derive(slices.Concat(root, id), nil, "holdfast/1 "+purpose)
}

// vouch signs that a recipient belongs to a slot and may have the next root.
func (r *Ring) vouch(epoch uint32, slot string, recipient []byte) ([]byte, error) {
	key, err := r.epochKey(epoch, "member")
	if err != nil {
		return nil, err
	}
	return sign(key, slot, recipient), nil
}

// sign is HMAC-SHA256 of a name and what stands under it. The names that are
// signed with one key have one length.
func sign(key []byte, name string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, name) // a hash never fails
	_, _ = h.Write(body)
	return h.Sum(nil)
}

// Member is a slot for which holders of the current root vouch.
type Member struct {
	slot      string
	recipient []byte
}

// Vouched checks a slot that was made in the current epoch and returns it as a
// member. name is the slot's whole name. Errors: ErrNotVouched, also for a slot
// of an earlier epoch (VouchedBy tells of those), ErrUnknownEpoch for one of an
// epoch beyond the ring, ErrSlotDamaged, ErrUnsupported.
func (r *Ring) Vouched(payload []byte, name string) (Member, error) {
	h, _, _, err := parseSlot(payload)
	if err != nil {
		return Member{}, fmt.Errorf("examine key slot %s: %w", name, err)
	}
	current := r.Current()
	if h.Epoch > current {
		return Member{}, fmt.Errorf("examine key slot %s of epoch %d: %w", name, h.Epoch, ErrUnknownEpoch)
	}
	if h.Epoch < current {
		return Member{}, fmt.Errorf("examine key slot %s of epoch %d: %w", name, h.Epoch, ErrNotVouched)
	}
	return r.member(name, h.Recipient, h.Member)
}

// VouchedBy checks a slot of an earlier epoch by its box of the current epoch.
// Errors as of Vouched.
func (r *Ring) VouchedBy(payload []byte, name string, box []byte) (Member, error) {
	h, _, _, err := parseSlot(payload)
	if err != nil {
		return Member{}, fmt.Errorf("examine key slot %s: %w", name, err)
	}
	b, _, _, err := parseBox(box)
	if err != nil {
		return Member{}, fmt.Errorf("examine box of %s: %w", name, err)
	}
	if !bytes.Equal(b.Recipient, h.Recipient) {
		return Member{}, fmt.Errorf("compare key slot %s with its box: %w", name, ErrNotVouched)
	}
	return r.member(name, b.Recipient, b.Member)
}

// VouchedBox tells whether a box of the decided rotation to an epoch is that of the slot
// of that whole name. What it holds only the slot's secret opens. Errors as of Vouched.
func (r *Ring) VouchedBox(box []byte, name string, epoch uint32) error {
	b, _, _, err := parseBox(box)
	if err != nil {
		return fmt.Errorf("examine box of %s: %w", name, err)
	}
	_, err = r.memberAt(epoch, name, b.Recipient, b.Member)
	return err
}

func (r *Ring) member(name string, recipient, voucher []byte) (Member, error) {
	return r.memberAt(r.Current(), name, recipient, voucher)
}

func (r *Ring) memberAt(epoch uint32, name string, recipient, voucher []byte) (Member, error) {
	want, err := r.vouch(epoch, name, recipient)
	if err != nil {
		return Member{}, err
	}
	if len(recipient) == 0 || !hmac.Equal(want, voucher) {
		return Member{}, fmt.Errorf("examine key slot %s: %w", name, ErrNotVouched)
	}
	return Member{name, recipient}, nil
}

// Rotation is the next epoch of a ring on its way: its root is drawn, and
// whether it becomes the epoch is not yet decided. It prints as "***".
type Rotation struct {
	root  veiled[[]byte]
	ring  *Ring
	epoch uint32
	id    string
}

// NewRotation draws the root of the epoch after the current one.
func (r *Ring) NewRotation(rand io.Reader) (*Rotation, error) {
	root, err := draw(rand, KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("begin key rotation: %w", err)
	}
	id, err := draw(rand, rotationIDBytes)
	if err != nil {
		return nil, fmt.Errorf("begin key rotation: %w", err)
	}
	epoch := r.Current() + 1
	if epoch > maxEpochs {
		return nil, fmt.Errorf("begin key rotation: %w", ErrRingFull)
	}
	return &Rotation{root: veil(root), ring: r, epoch: epoch, id: hex.EncodeToString(id)}, nil
}

// Epoch is the number of the epoch that the rotation is to make.
func (n *Rotation) Epoch() uint32 { return n.epoch }

// ID names the rotation, 16 hex digits.
func (n *Rotation) ID() string { return n.id }

// Format hides the root, whatever the verb.
func (n *Rotation) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// boxHeader is the readable part of a box.
type boxHeader struct {
	Version   int    `json:"version"`
	Recipient []byte `json:"recipient"`
	Member    []byte `json:"member"` // voucher for Recipient under the root in the box
}

// Box seals the new root to a member: the payload of the object of that name.
func (n *Rotation) Box(name string, m Member) ([]byte, error) {
	public, err := kem().NewPublicKey(m.recipient)
	if err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, ErrNotVouched) // vouched for, yet no key: a writer's bug
	}
	voucher := sign(deriveBoth(n.root(), n.ring.held().id, "member"), m.slot, m.recipient)
	head, err := json.Marshal(boxHeader{1, m.recipient, voucher})
	if err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, err)
	}
	sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), boxInfo(name, head), n.root())
	if err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, err)
	}
	return joinParts(head, sealed), nil
}

func boxInfo(name string, head []byte) []byte {
	return slices.Concat([]byte("holdfast/1 box"), []byte(name), head)
}

func parseBox(payload []byte) (h boxHeader, head, sealed []byte, err error) {
	if head, sealed, err = cutParts(payload); err != nil {
		return h, nil, nil, err
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return h, nil, nil, fmt.Errorf("parse box: %w: %w", ErrSlotDamaged, err)
	}
	if h.Version != 1 {
		return h, nil, nil, fmt.Errorf("parse box of version %d: %w", h.Version, ErrUnsupported)
	}
	return h, head, sealed, nil
}

// decisionJSON says which rotation made an epoch, and of which root.
type decisionJSON struct {
	Version  int    `json:"version"`
	Rotation string `json:"rotation"`
	Commit   []byte `json:"commit"`
}

// Decision is what a decision object says, once its signature is checked.
type Decision struct {
	Epoch    uint32
	Rotation string // 16 hex
	commit   []byte
}

// Decision is the payload of the object that makes this rotation the epoch.
func (n *Rotation) Decision(name string) ([]byte, error) {
	key, err := n.ring.epochKey(n.epoch-1, "decide")
	if err != nil {
		return nil, fmt.Errorf("decide epoch %d: %w", n.epoch, err)
	}
	head, err := json.Marshal(decisionJSON{1, n.id, commitTo(n.root(), n.ring.held().id)})
	if err != nil {
		return nil, fmt.Errorf("decide epoch %d: %w", n.epoch, err)
	}
	return joinParts(head, sign(key, name, head)), nil
}

func commitTo(root, id []byte) []byte {
	return deriveBoth(root, id, "root commit")
}

// ReadDecision reads the decision for an epoch. The ring must hold the epoch
// before it. Errors: ErrForged, ErrUnknownEpoch, ErrSlotDamaged, ErrUnsupported.
func (r *Ring) ReadDecision(payload []byte, name string, epoch uint32) (Decision, error) {
	var d decisionJSON
	key, err := r.epochKey(epoch-1, "decide")
	if err == nil {
		err = readSigned(payload, name, key, &d)
	}
	if err != nil {
		return Decision{}, fmt.Errorf("read decision %s: %w", name, err)
	}
	if raw, err := hex.DecodeString(d.Rotation); d.Version != 1 || err != nil || len(raw) != rotationIDBytes {
		return Decision{}, fmt.Errorf("read decision %s: version %d, rotation %.32q: %w", name, d.Version, d.Rotation, ErrUnsupported)
	}
	return Decision{epoch, d.Rotation, d.Commit}, nil
}

// readSigned checks the signature of a payload and only then reads it.
func readSigned(payload []byte, name string, key []byte, into any) error {
	head, signature, err := cutParts(payload)
	if err != nil {
		return err
	}
	if !hmac.Equal(sign(key, name, head), signature) {
		return ErrForged
	}
	if err := json.Unmarshal(head, into); err != nil {
		return fmt.Errorf("%w: %w", ErrSlotDamaged, err)
	}
	return nil
}

// Adopt adds the root of a rotation that its own decision has made the epoch.
func (r *Ring) Adopt(n *Rotation) error {
	if err := r.held().add(n.epoch, n.root()); err != nil {
		return fmt.Errorf("take over rotation: %w", err)
	}
	return nil
}

// Grow opens a box of the decided rotation, sealed to the slot that the ring
// came from, and adds the root in it. Errors: ErrNoIdentity, ErrSlotDamaged
// when the box does not open, or holds another root than was decided.
func (r *Ring) Grow(d Decision, box []byte, name string) error {
	private, err := r.held().self().private()
	if err != nil {
		return fmt.Errorf("open box %s: %w", name, err)
	}
	_, head, sealed, err := parseBox(box)
	if err != nil {
		return fmt.Errorf("open box %s: %w", name, err)
	}
	root, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), boxInfo(name, head), sealed)
	if err != nil || len(root) != KeyBytes {
		return fmt.Errorf("open box %s: %w", name, ErrSlotDamaged)
	}
	if !hmac.Equal(commitTo(root, r.held().id), d.commit) {
		return fmt.Errorf("open box %s: not the root that was decided: %w", name, ErrSlotDamaged)
	}
	if err := r.held().add(d.Epoch, root); err != nil {
		return fmt.Errorf("open box %s: %w", name, err)
	}
	return nil
}

// removalJSON claims the removal of a slot.
type removalJSON struct {
	Version int    `json:"version"`
	Slot    string `json:"slot"` // its id, 16 hex
}

// Removal is the payload of a claim to remove a slot, given by its id.
func (r *Ring) Removal(name, slot string) ([]byte, error) {
	head, err := json.Marshal(removalJSON{1, slot})
	if err != nil {
		return nil, fmt.Errorf("claim removal of %s: %w", slot, err)
	}
	return joinParts(head, sign(r.removalKey(), name, head)), nil
}

func (r *Ring) removalKey() []byte { return derive(r.held().id, nil, "holdfast/1 removal") }

// ReadRemoval reads a claim and returns the id of the slot. Errors: ErrForged,
// ErrSlotDamaged, ErrUnsupported.
func (r *Ring) ReadRemoval(payload []byte, name string) (slot string, err error) {
	var claim removalJSON
	if err := readSigned(payload, name, r.removalKey(), &claim); err != nil {
		return "", fmt.Errorf("read claim %s: %w", name, err)
	}
	if claim.Version != 1 {
		return "", fmt.Errorf("read claim %s of version %d: %w", name, claim.Version, ErrUnsupported)
	}
	return claim.Slot, nil
}
