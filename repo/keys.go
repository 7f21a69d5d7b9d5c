package repo

import (
	"context"

	"holdfast/repo/slot"
)

// ErrLastKey: the last key of a repository cannot be removed.
var ErrLastKey = slot.ErrLastKey

// ErrKeyUnknown: no key slot has that id.
var ErrKeyUnknown = slot.ErrUnknown

// Key describes one key slot.
type Key = slot.Key

// NewKey is a secret for which a slot is made.
type NewKey = slot.New

// Keys lists the key slots.
func (r *Repository) Keys(ctx context.Context) ([]Key, error) { return r.slots.List(ctx) }

// AddKey makes a slot for one more secret and returns its id. After
// slot.ErrUncertain the secret must be kept: it may open the repository.
func (r *Repository) AddKey(ctx context.Context, key NewKey) (string, error) {
	id, err := r.slots.Add(ctx, key)
	r.keys.Update(r.store.Ring)
	return id, err
}

// ReplaceKey makes a slot for a new secret and then removes the one that
// opened the repository. A crash between the two leaves both; the same change
// made again leaves one.
func (r *Repository) ReplaceKey(ctx context.Context, key NewKey) (string, error) {
	id, err := r.slots.Replace(ctx, key)
	r.keys.Update(r.store.Ring)
	return id, err
}

// RemoveKey removes the slot whose id begins with id, never the last one that
// opens what is written now, and returns its full id.
func (r *Repository) RemoveKey(ctx context.Context, id string) (removed string, err error) {
	removed, err = r.slots.Remove(ctx, id)
	r.keys.Update(r.store.Ring)
	return removed, err
}

// RotateKeys makes a new random root the one that seals what is written from
// now on; every key goes on working, but those that the result names as left
// out. What was written before stays readable.
func (r *Repository) RotateKeys(ctx context.Context) (*slot.Rotated, error) {
	done, err := r.slots.Rotate(ctx)
	r.keys.Update(r.store.Ring)
	return done, err
}

// Epoch is the number of the root that seals what is written now.
func (r *Repository) Epoch() uint32 { return r.keys.Epoch() }

// follow takes in the rotations of others while this process runs.
func (r *Repository) follow(ctx context.Context) error {
	_, err := r.slots.Follow(ctx)
	r.keys.Update(r.store.Ring)
	return err
}
