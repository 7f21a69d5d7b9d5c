package seal

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
)

// maxEpochs bounds a ring: more roots than any repository rotates through in a
// lifetime, few enough that a slot stays small.
const maxEpochs = 1024

// ErrRingFull: the ring holds as many epochs as the format allows.
var ErrRingFull = errors.New("key ring is full")

// Ring is the key ring of a repository: the id root and the sealing root of
// each epoch, all random. It is safe for concurrent use and prints as "***".
type Ring struct{ held veiled[*roots] }

// roots are the bytes of a ring. It only grows: no root is ever changed.
type roots struct {
	mu       sync.RWMutex
	id       []byte
	sealing  map[uint32][]byte
	current  uint32
	identity Identity // of the slot that it came from; may be zero
}

// root returns the root of an epoch; nil when the ring lacks it.
func (r *roots) root(epoch uint32) []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sealing[epoch]
}

// add appends the root of the next epoch; a root that is there already does no
// harm, since two may follow the same decision.
func (r *roots) add(epoch uint32, root []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case subtle.ConstantTimeCompare(r.sealing[epoch], root) == 1:
		return nil
	case r.current >= maxEpochs:
		return ErrRingFull
	case epoch != r.current+1:
		return fmt.Errorf("add epoch %d to a ring of %d: %w", epoch, r.current, ErrUnknownEpoch)
	}
	r.current = epoch
	r.sealing[epoch] = root
	return nil
}

// all returns the roots as they are now.
func (r *roots) all() (sealing map[uint32][]byte, current uint32) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.sealing), r.current
}

// ringJSON is the ring inside a slot's seal.
type ringJSON struct {
	Version int         `json:"version"`
	IDRoot  []byte      `json:"id_root"`
	Epochs  []epochJSON `json:"epochs"` // the last one is the current epoch
}

type epochJSON struct {
	Epoch uint32 `json:"epoch"`
	Root  []byte `json:"root"`
}

// NewRing draws a new ring with epoch 1.
func NewRing(rand io.Reader) (*Ring, error) {
	idRoot, err := draw(rand, KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("make key ring: %w", err)
	}
	root, err := draw(rand, KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("make key ring: %w", err)
	}
	return &Ring{veil(&roots{id: idRoot, sealing: map[uint32][]byte{1: root}, current: 1})}, nil
}

// Current is the epoch that seals what is written now. Epochs run from 1, so it
// is their number, too.
func (r *Ring) Current() uint32 {
	held := r.held()
	held.mu.RLock()
	defer held.mu.RUnlock()
	return held.current
}

func draw(rand io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("draw random bytes: %w", err)
	}
	return b, nil
}

// encode writes the ring as it stands in a slot, secret bytes, and tells its
// last epoch.
func (r *Ring) encode() (plain []byte, current uint32, err error) {
	sealing, current := r.held().all()
	out := ringJSON{Version: 1, IDRoot: r.held().id}
	for e := uint32(1); e <= current; e++ {
		out.Epochs = append(out.Epochs, epochJSON{e, sealing[e]})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, 0, fmt.Errorf("encode key ring: %w", err)
	}
	return b, current, nil
}

// decodeRing reads what encode wrote. Epochs run from 1 without gaps.
func decodeRing(b []byte) (*Ring, error) {
	var in ringJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("decode key ring: %w", ErrSlotDamaged) // the cause could quote key bytes
	}
	if in.Version != 1 {
		return nil, fmt.Errorf("decode key ring: version %d: %w", in.Version, ErrUnsupported)
	}
	if len(in.IDRoot) != KeyBytes || len(in.Epochs) == 0 || len(in.Epochs) > maxEpochs {
		return nil, fmt.Errorf("decode key ring: %d epochs: %w", len(in.Epochs), ErrSlotDamaged)
	}
	held := &roots{id: in.IDRoot, sealing: map[uint32][]byte{}}
	for _, e := range in.Epochs {
		if e.Epoch != held.current+1 || len(e.Root) != KeyBytes {
			return nil, fmt.Errorf("decode key ring: epoch %d: %w", e.Epoch, ErrSlotDamaged)
		}
		held.current = e.Epoch
		held.sealing[e.Epoch] = e.Root
	}
	return &Ring{veil(held)}, nil
}

// String hides the roots.
func (r *Ring) String() string { return redacted }

// GoString hides the roots.
func (r *Ring) GoString() string { return redacted }

// Format hides the roots, whatever the verb.
func (r *Ring) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the roots, in JSON too.
func (r *Ring) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the roots.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(redacted) }
