package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// ErrLastKey: the last key of a repository cannot be removed.
var ErrLastKey = errors.New("the last key cannot be removed")

// ErrKeyUnknown: no key slot has that id.
var ErrKeyUnknown = errors.New("no such key")

const slotIDBytes = 8

// Key describes one key slot.
type Key struct {
	ID      string    `json:"id"`
	KDF     string    `json:"kdf"` // argon2id or keyfile
	Created time.Time `json:"created"`
	Label   string    `json:"label"`
	Current bool      `json:"current"` // this one opened the repository
	Damaged bool      `json:"damaged"` // neither copy can be read
}

// AddKey makes a slot for one more secret and returns its id.
func (r *Repository) AddKey(ctx context.Context, key NewKey) (string, error) {
	id, err := randomHex(r.opts.Rand, slotIDBytes)
	if err != nil {
		return "", err
	}
	name := ledger.Keys + id
	if err := r.writeSlot(ctx, name, key); err != nil {
		// A key that was not added must open nothing.
		ctx = context.WithoutCancel(ctx)
		for _, place := range []string{name, ledger.Spare(name)} {
			if undoErr := r.be.Delete(ctx, place); undoErr != nil {
				err = errors.Join(err, fmt.Errorf("take back %s: %w", place, undoErr))
			}
		}
		return "", err
	}
	return id, nil
}

// writeSlot makes the slot of that name and its spare.
func (r *Repository) writeSlot(ctx context.Context, name string, key NewKey) error {
	payload, err := seal.NewSlot(r.opts.Rand, name, key.Secret, key.KDF, r.ring, key.Label, r.opts.Now())
	if err != nil {
		return fmt.Errorf("make key slot: %w", err)
	}
	object, err := pack.EncodeSlot(payload)
	if err != nil {
		return fmt.Errorf("make key slot: %w", err)
	}
	for _, place := range []string{ledger.Spare(name), name} {
		if err := r.be.PutIfAbsent(ctx, place, object); err != nil {
			return fmt.Errorf("write %s: %w", place, err)
		}
	}
	return nil
}

// ReplaceKey makes a slot for a new secret and then removes the one that
// opened the repository. A crash between the two leaves both.
func (r *Repository) ReplaceKey(ctx context.Context, key NewKey) (string, error) {
	id, err := r.AddKey(ctx, key)
	if err != nil {
		return "", err
	}
	old := r.slot
	r.slot = id
	_, err = r.RemoveKey(ctx, old)
	return id, err
}

// RemoveKey removes the slot whose id begins with id, never the last one that
// can be read, and returns its full id.
func (r *Repository) RemoveKey(ctx context.Context, id string) (removed string, err error) {
	keys, err := r.Keys(ctx)
	if err != nil {
		return "", err
	}
	found, others := "", 0
	for _, k := range keys {
		switch {
		case strings.HasPrefix(k.ID, id) && len(id) >= 4:
			if found != "" {
				return "", fmt.Errorf("remove key %s: more than one begins so: %w", id, ErrKeyUnknown)
			}
			found = k.ID
		case !k.Damaged:
			others++
		}
	}
	if found == "" {
		return "", fmt.Errorf("remove key %s: %w", id, ErrKeyUnknown)
	}
	if others == 0 {
		return "", fmt.Errorf("remove key %s: %w", found, ErrLastKey)
	}
	for _, place := range []string{ledger.Keys + found, ledger.Spare(ledger.Keys + found)} {
		if err := r.be.Delete(ctx, place); err != nil {
			return "", fmt.Errorf("remove %s: %w", place, err)
		}
	}
	return found, r.be.Sync(ctx)
}

// Keys lists the key slots.
func (r *Repository) Keys(ctx context.Context) ([]Key, error) {
	ids, err := slot.IDs(ctx, r.be)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, id := range ids {
		key := Key{ID: id, Current: id == r.slot, Damaged: true}
		slot.EachCopy(ctx, r.be, ledger.Keys+id, func(payload []byte) bool {
			info, err := seal.ReadSlotInfo(payload)
			if err != nil {
				return false
			}
			key.Created, key.Label, key.Damaged = info.Created, info.Label, false
			key.KDF = "argon2id"
			if info.KeyFile {
				key.KDF = "keyfile"
			}
			return true
		})
		keys = append(keys, key)
	}
	return keys, nil
}
