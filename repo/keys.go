package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
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
	ids, err := slotIDs(ctx, r.be)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, id := range ids {
		key := Key{ID: id, Current: id == r.slot, Damaged: true}
		eachCopy(ctx, r.be, ledger.Keys+id, func(payload []byte) bool {
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

// slotIDs finds the ids of all slots of which a copy exists.
func slotIDs(ctx context.Context, be backend.Backend) ([]string, error) {
	seen := map[string]bool{}
	var ids []string
	for _, prefix := range []string{ledger.Keys, ledger.Spare(ledger.Keys)} {
		err := be.List(ctx, prefix, func(info backend.Info) error {
			id := strings.TrimPrefix(info.Name, prefix)
			if !seen[id] && !strings.Contains(id, "/") {
				seen[id] = true
				ids = append(ids, id)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
	}
	return ids, nil
}

// eachCopy gives the payload of each readable copy of a slot to fn until fn is
// content, and returns the last error met.
func eachCopy(ctx context.Context, be backend.Backend, name string, fn func(payload []byte) bool) error {
	var last error
	for _, place := range []string{name, ledger.Spare(name)} {
		object, err := backend.Whole(ctx, be, place)
		if err != nil {
			last = err
			continue
		}
		payload, err := pack.DecodeSlot(object)
		if err != nil {
			last = err
			continue
		}
		if fn(payload) {
			return nil
		}
	}
	return last
}

// openRing tries the secret on every slot. A wrong secret and a damaged slot
// are told apart: seal.ErrWrongKey needs at least one slot that could be read.
func openRing(ctx context.Context, be backend.Backend, secret seal.Secret) (*seal.Ring, string, error) {
	ids, err := slotIDs(ctx, be)
	if err != nil {
		return nil, "", err
	}
	var wrong, damaged error
	for _, id := range ids {
		name := ledger.Keys + id
		var ring *seal.Ring
		err := eachCopy(ctx, be, name, func(payload []byte) bool {
			opened, err := seal.OpenSlot(payload, name, secret)
			switch {
			case err == nil:
				ring = opened
			case errors.Is(err, seal.ErrWrongKey):
				wrong = err
			default:
				damaged = err
			}
			return err == nil || errors.Is(err, seal.ErrWrongKey)
		})
		if ring != nil {
			return ring, id, nil
		}
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		if errors.Is(err, backend.ErrUnreachable) {
			return nil, "", fmt.Errorf("read key slot: %w", err)
		}
		if err != nil {
			damaged = err
		}
	}
	if wrong != nil && damaged != nil {
		return nil, "", fmt.Errorf("open repository: %w; there is also a key slot that cannot be read: %s", seal.ErrWrongKey, damaged.Error())
	}
	if wrong != nil {
		return nil, "", fmt.Errorf("open repository: %w", seal.ErrWrongKey)
	}
	if damaged == nil {
		return nil, "", fmt.Errorf("open repository: no key slot: %w", pack.ErrDamaged)
	}
	return nil, "", fmt.Errorf("open repository: no key slot can be read (%w): %w", damaged, pack.ErrDamaged)
}
