// Package slot finds and opens key slots: the objects that wrap the key ring by
// a password or a key file, each stored twice (FORMAT.md §6). Nothing can be
// read before one is open, so it needs nothing but the store.
package slot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// IDs finds the ids of all slots of which a copy exists.
func IDs(ctx context.Context, be backend.Backend) ([]string, error) {
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

// EachCopy gives the payload of each readable copy of a slot to fn until fn is
// content, and returns the last error met.
func EachCopy(ctx context.Context, be backend.Backend, name string, fn func(payload []byte) bool) error {
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

// Open tries the secret on every slot. A wrong secret and a damaged slot
// are told apart: seal.ErrWrongKey needs at least one slot that could be read.
func Open(ctx context.Context, be backend.Backend, secret seal.Secret) (*seal.Ring, string, error) {
	ids, err := IDs(ctx, be)
	if err != nil {
		return nil, "", err
	}
	var wrong, damaged error
	for _, id := range ids {
		name := ledger.Keys + id
		var ring *seal.Ring
		err := EachCopy(ctx, be, name, func(payload []byte) bool {
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
