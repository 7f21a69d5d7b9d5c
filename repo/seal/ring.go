package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// maxEpochs bounds a ring: more roots than any repository rotates through in a
// lifetime, few enough that a slot stays small.
const maxEpochs = 1024

// ErrRingFull: the ring holds as many epochs as the format allows.
var ErrRingFull = errors.New("key ring is full")

// Ring is the key ring of a repository: the id root and the sealing root of
// each epoch, all random. It is not safe for AddEpoch concurrent with other
// use. It prints as "***".
type Ring struct{ held veiled[*roots] }

// roots are the bytes of a ring.
type roots struct {
	id      []byte
	sealing map[uint32][]byte
	current uint32
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
	r := &Ring{veil(&roots{id: idRoot, sealing: map[uint32][]byte{}})}
	if _, err := r.AddEpoch(rand); err != nil {
		return nil, fmt.Errorf("make key ring: %w", err)
	}
	return r, nil
}

// AddEpoch draws the root of a new epoch, makes it the current one and returns
// its number. Every slot must be written again to hold it.
func (r *Ring) AddEpoch(rand io.Reader) (uint32, error) {
	held := r.held()
	if len(held.sealing) >= maxEpochs {
		return 0, ErrRingFull
	}
	root, err := draw(rand, KeyBytes)
	if err != nil {
		return 0, fmt.Errorf("add epoch: %w", err)
	}
	held.current++
	held.sealing[held.current] = root
	return held.current, nil
}

// Current is the epoch that seals what is written now.
func (r *Ring) Current() uint32 { return r.held().current }

// Epochs is the number of epochs in the ring.
func (r *Ring) Epochs() int { return len(r.held().sealing) }

func draw(rand io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("draw random bytes: %w", err)
	}
	return b, nil
}

// encode writes the ring as it stands in a slot: secret bytes.
func (r *Ring) encode() ([]byte, error) {
	held := r.held()
	out := ringJSON{Version: 1, IDRoot: held.id}
	for e := uint32(1); e <= held.current; e++ {
		out.Epochs = append(out.Epochs, epochJSON{e, held.sealing[e]})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode key ring: %w", err)
	}
	return b, nil
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
