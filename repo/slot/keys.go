package slot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// ErrLastKey: the last key of a repository cannot be removed.
var ErrLastKey = errors.New("the last key cannot be removed")

// ErrUnknown: no key slot has that id, or more than one begins so.
var ErrUnknown = errors.New("no such key")

// ErrRemoved: the key that opened the repository was removed since, or its
// removal was begun and will be completed.
var ErrRemoved = errors.New("this key was removed")

// ErrUncertain: a slot was written and could neither be confirmed nor taken
// back. Others may count on it: its secret must be kept until a list of the keys
// shows what became of it.
var ErrUncertain = errors.New("the new key may or may not stay: keep its secret")

// ErrHeld: the key is removed, and a rotation passes it over, but the place of storage
// locks the objects of its slot for a time and has not deleted them: until it does
// the key opens what is written before the next rotation.
var ErrHeld = errors.New("the key is removed, but the place of storage still holds its slot")

// ErrStillHeld: a key whose removal was decided before cannot be deleted yet. Nothing
// was changed.
var ErrStillHeld = errors.New("the key was removed before, and the place of storage still holds its slot")

// ErrBusy: others change the keys of the repository at the same time, again and
// again.
var ErrBusy = errors.New("others are changing the keys")

const (
	idBytes  = 8
	attempts = 10 // at a change that others keep coming before
)

// New is a secret for which a slot is made.
type New struct {
	Secret seal.Secret
	KDF    seal.KDF // for passwords; a key file needs none
	Label  string
}

// Key describes one key slot.
type Key struct {
	ID       string    `json:"id"`
	KDF      string    `json:"kdf"` // argon2id or keyfile
	Created  time.Time `json:"created"`
	Label    string    `json:"label"`
	Epoch    uint32    `json:"epoch"`              // the newest epoch that it is known to open
	Current  bool      `json:"current"`            // this one opened the repository
	Damaged  bool      `json:"damaged"`            // neither copy can be read
	Behind   bool      `json:"behind"`             // not vouched for: it does not open what is written now
	Removing bool      `json:"removing,omitempty"` // its removal is claimed and was not completed
}

// Keys changes the key slots of one open repository. All fields but Log are
// required. It may be used from many goroutines.
type Keys struct {
	Backend backend.Backend
	Ring    *seal.Ring
	Rand    io.Reader
	Now     func() time.Time // for the slot's header, never for safety
	Log     *slog.Logger     // nil: nothing is logged

	changing sync.Mutex // one change at a time; it guards slot against writing, too

	mu   sync.Mutex // guards slot, which others ask for while a change is under way
	slot string
}

// Opened tells which slot opened the repository: before any change, from outside.
func (k *Keys) Opened(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slot = id
}

// Slot is the id of the slot that opened the repository, or replaced that one.
func (k *Keys) Slot() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.slot
}

// Follow brings the ring up to the rotations of others.
func (k *Keys) Follow(ctx context.Context) (grown bool, err error) {
	return Follow(ctx, k.Backend, k.Ring, k.Slot())
}

// First writes the first slot of a repository that is being made, where nobody
// rotates yet, and lets the ring follow under it. It returns the id even if it
// fails, for the caller to take back.
func (k *Keys) First(ctx context.Context, key New) (id string, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if id, err = k.randomID(); err != nil {
		return "", err
	}
	if err := k.enroll(ctx, id, true); err != nil {
		return id, err
	}
	identity, err := k.write(ctx, id, key)
	if err != nil {
		return id, err
	}
	k.Ring.Assume(identity)
	k.Opened(id)
	return id, nil
}

func (k *Keys) randomID() (string, error) {
	raw := make([]byte, idBytes)
	if _, err := io.ReadFull(k.Rand, raw); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// write makes the slot of that id and its spare.
func (k *Keys) write(ctx context.Context, id string, key New) (seal.Identity, error) {
	name := ledger.Keys + id
	payload, identity, err := seal.WrapRing(k.Rand, name, key.Secret, key.KDF, k.Ring, key.Label, k.Now())
	if err != nil {
		return identity, err
	}
	return identity, put(ctx, k.Backend, name, payload)
}

// Add makes a slot for one more secret and returns its id. Errors: ErrUncertain
// (with the id), ErrBusy, those of Follow.
func (k *Keys) Add(ctx context.Context, key New) (id string, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	id, _, err = k.add(ctx, key)
	return id, err
}

func (k *Keys) add(ctx context.Context, key New) (string, seal.Identity, error) {
	for range attempts {
		if _, err := Follow(ctx, k.Backend, k.Ring, k.slot); err != nil {
			return "", seal.Identity{}, fmt.Errorf("add key: %w", err)
		}
		next := k.Ring.Current() + 1 // the rotation that might overlook the slot
		id, err := k.randomID()
		if err != nil {
			return "", seal.Identity{}, fmt.Errorf("add key: %w", err)
		}
		if err := k.enroll(ctx, id, false); err != nil { // no slot is there yet
			return "", seal.Identity{}, fmt.Errorf("add key: %w", err)
		}
		identity, err := k.write(ctx, id, key)
		begun := false
		if err == nil {
			begun, err = k.begun(ctx, next)
		}
		if err == nil && !begun {
			return id, identity, nil
		}
		undo := k.takeBack(context.WithoutCancel(ctx), id)
		if errors.Is(undo, ErrLastKey) { // all others were removed meanwhile, since this one is there
			if s, standErr := k.stand(ctx, id); standErr == nil && s.opens {
				return id, identity, nil
			}
		}
		switch {
		case undo != nil:
			return id, seal.Identity{}, fmt.Errorf("add key: %w", errors.Join(err, fmt.Errorf("%w: %w", ErrUncertain, undo)))
		case err != nil:
			return "", seal.Identity{}, fmt.Errorf("add key: %w", err)
		}
		// Taking it back has ended that rotation, whose slot this was not.
	}
	return "", seal.Identity{}, fmt.Errorf("add key: %w", ErrBusy)
}

// takeBack removes a slot that was not reported as added: it must open nothing.
// It is claimed like any removal, since another may already have counted on it.
// On a full store no claim can be written, nor by anybody else.
func (k *Keys) takeBack(ctx context.Context, id string) error {
	name := ledger.Keys + id
	err := read(ctx, k.Backend, name, func([]byte) error { return nil })
	if errors.Is(err, backend.ErrNotFound) {
		return nil
	}
	_, err = k.claim(ctx, func(ids []string) (string, error) { return id, nil })
	if err != nil && !errors.Is(err, backend.ErrNoSpace) {
		return fmt.Errorf("take back key %s: %w", id, err)
	}
	if err := unlessHeld(k.erase(ctx, id)); err != nil { // held, but claimed: it will go
		return fmt.Errorf("take back key %s: %w", id, err)
	}
	return nil
}

// Replace makes a slot for a new secret and then removes the one that opened
// the repository. A crash between the two leaves both. With an error it returns
// the id of a slot that is there, or may be; "" when there is none. After ErrHeld
// all is done but that the place keeps the old slot for a time.
func (k *Keys) Replace(ctx context.Context, key New) (string, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	id, identity, err := k.add(ctx, key)
	if err != nil {
		return id, err
	}
	old := k.slot
	k.Ring.Assume(identity)
	k.Opened(id)
	_, err = k.remove(ctx, old)
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrStillHeld) {
		err = nil // somebody else has removed it
	}
	if err == nil || errors.Is(err, ErrHeld) {
		err = errors.Join(err, k.dropTwins(ctx, id, key.Secret))
	}
	return id, err
}

// dropTwins removes the other slots that the secret opens: one that an
// interrupted change has left would let it in when it is changed again.
func (k *Keys) dropTwins(ctx context.Context, id string, secret seal.Secret) error {
	claimed, err := k.claims(ctx)
	if err != nil {
		return err
	}
	ids, err := k.known(ctx, claimed)
	if err != nil {
		return err
	}
	var held error
	for _, other := range ids {
		if other == id {
			continue
		}
		if _, err := try(ctx, k.Backend, ledger.Keys+other, secret); err != nil {
			continue // another's, or damaged: nothing is known of it
		}
		_, err := k.remove(ctx, other)
		switch {
		case errors.Is(err, ErrHeld):
			held = err
		case err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrStillHeld):
			return err
		}
	}
	return held
}

// Remove removes the slot whose id begins with id, at least four digits, and
// returns its full id. Errors: ErrUnknown, ErrLastKey when no other key that can
// be read opens what is written now, ErrBusy; ErrHeld, with the id, and ErrStillHeld
// where the place locks objects, with the time until which it does.
func (k *Keys) Remove(ctx context.Context, id string) (removed string, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	return k.remove(ctx, id)
}

func (k *Keys) remove(ctx context.Context, prefix string) (string, error) {
	id, err := k.claim(ctx, func(ids []string) (string, error) {
		found := ""
		for _, id := range ids {
			if len(prefix) < 4 || !strings.HasPrefix(id, prefix) {
				continue
			}
			if found != "" {
				return "", fmt.Errorf("more than one begins so: %w", ErrUnknown)
			}
			found = id
		}
		if found == "" {
			return "", ErrUnknown
		}
		return found, nil
	})
	if errors.Is(err, ErrUnknown) {
		if held := k.stillHeld(ctx, prefix); held != nil {
			err = held
		}
	}
	if err != nil {
		return "", fmt.Errorf("remove key %s: %w", prefix, err)
	}
	err = k.erase(ctx, id)
	switch {
	case isHeld(err):
		return id, fmt.Errorf("remove key %s: %w: %w", prefix, ErrHeld, err)
	case err != nil:
		return "", fmt.Errorf("remove key %s: %w", prefix, err)
	}
	return id, nil
}

// stillHeld is ErrStillHeld if prefix fits a slot whose removal is claimed and that
// the place does not let go. In every other case it is nil.
func (k *Keys) stillHeld(ctx context.Context, prefix string) error {
	claimed, err := k.claims(ctx)
	if err != nil || len(prefix) < 4 {
		return nil
	}
	ids, err := IDs(ctx, k.Backend)
	if err != nil {
		return nil
	}
	for _, id := range ids {
		if !claimed.of[id] || !strings.HasPrefix(id, prefix) {
			continue
		}
		if err := k.erase(ctx, id); isHeld(err) {
			return fmt.Errorf("%w: %w", ErrStillHeld, err)
		}
	}
	return nil
}

// erase deletes a slot whose removal is claimed, and the boxes sealed to it, as far
// as the place lets them go; what it holds on to (isHeld) is the error. The
// boxes of a rotation that is not decided stay: it may be under way.
func (k *Keys) erase(ctx context.Context, id string) error {
	held := remove(ctx, k.Backend, ledger.Keys+id)
	if err := unlessHeld(held); err != nil {
		return err
	}
	err := k.sweep(ctx, func(epoch uint32, _, slot string) (bool, error) {
		return slot != id || epoch > k.Ring.Current(), nil
	})
	if held == nil {
		held = err
	}
	if err := errors.Join(unlessHeld(err), k.Backend.Sync(ctx)); err != nil {
		return err
	}
	return held
}

// List lists the key slots. It changes nothing.
func (k *Keys) List(ctx context.Context) ([]Key, error) {
	opened := k.Slot()
	claims, err := k.claims(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := k.known(ctx, claims)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, id := range ids {
		s, err := k.stand(ctx, id)
		if errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			s.damaged = err // the others can be listed
		}
		if s.gone {
			continue
		}
		key := Key{ID: id, Created: s.info.Created, Label: s.info.Label, Epoch: max(s.info.Epoch, 1),
			Current: id == opened, Damaged: s.damaged != nil, Removing: claims.of[id]}
		switch {
		case key.Damaged:
			key.Epoch = 0
		case s.opens:
			key.Epoch = k.Ring.Current()
		default:
			key.Behind = true
		}
		if !key.Damaged {
			key.KDF = "argon2id"
			if s.info.KeyFile {
				key.KDF = "keyfile"
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}
