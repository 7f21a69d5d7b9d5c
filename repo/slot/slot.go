// Package slot is all that is done with key slots: the objects that wrap the
// key ring by a password or a key file (FORMAT.md §6). Nothing can be read
// before one is open, so it needs nothing but the store.
//
// Several hands may change the keys of a repository at once, from machines that
// do not know each other, and each may die at any moment. Two things must never
// happen: that no key is left, and that a rotation forgets a key that was
// reported as added. So removals are claimed in one order that all see, an
// added slot is reported only when no rotation has begun that could have
// overlooked it, and a rotation reads the roll of slots only after it has begun where
// all can see it. No listing is believed in this: slots, removals and begun rotations
// have names that can be asked for. Who meets the traces of a dead rotation rotates in its place.
package slot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// ErrMissed: the key opens its slot, but the keys of the repository were
// rotated since and this slot was not given the new one.
var ErrMissed = errors.New("this key missed a key rotation")

// IDs finds the ids of all slots of which a copy exists.
func IDs(ctx context.Context, be backend.Backend) ([]string, error) {
	names, err := below(ctx, be, ledger.Keys)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if id := strings.TrimPrefix(name, ledger.Keys); !strings.Contains(id, "/") {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// below lists the true names below prefix of which a copy exists, each once.
func below(ctx context.Context, be backend.Backend, prefix string) ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, place := range []string{prefix, ledger.Spare(prefix)} {
		err := be.List(ctx, place, func(info backend.Info) error {
			if name := ledger.TrueName(info.Name); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
	}
	return names, nil
}

// read gives the payload of each readable copy of an object to fn until fn is
// content. Its error is backend.ErrNotFound only if neither copy exists: what is
// damaged, or was not answered for, must not pass for absent.
func read(ctx context.Context, be backend.Backend, name string, fn func(payload []byte) error) error {
	var absent, last error
	for _, place := range []string{name, ledger.Spare(name)} {
		object, err := backend.Whole(ctx, be, place)
		if errors.Is(err, backend.ErrNotFound) {
			absent = fmt.Errorf("read %s: %w", place, err)
			continue
		}
		if err == nil {
			err = judge(object, fn)
		}
		for other := range backend.Others(ctx, be, place) { // a bucket that keeps versions: the oldest that is right
			if err == nil {
				break
			}
			if judge(other, fn) == nil {
				err = nil
			}
		}
		if err == nil {
			return nil
		}
		if last == nil || !errors.Is(last, backend.ErrUnreachable) {
			last = fmt.Errorf("read %s: %w", place, err)
		}
	}
	if last == nil {
		return absent
	}
	return last
}

func judge(object []byte, fn func(payload []byte) error) error {
	payload, err := pack.DecodeSlot(object)
	if err != nil {
		return err
	}
	return fn(payload)
}

// put writes an object and its spare, the spare first: it is the spare that
// takes the name. Errors: backend.ErrExists when other bytes have it.
func put(ctx context.Context, be backend.Backend, name string, payload []byte) error {
	object, err := pack.EncodeSlot(payload)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	for _, place := range []string{ledger.Spare(name), name} {
		if err := be.PutIfAbsent(ctx, place, object); err != nil {
			return fmt.Errorf("write %s: %w", place, err)
		}
	}
	return nil
}

// remove deletes an object and its spare. What the place holds on to (isHeld) keeps
// nothing else from being deleted; it is the error when all is done.
func remove(ctx context.Context, be backend.Backend, name string) error {
	var held error
	for _, place := range []string{name, ledger.Spare(name)} {
		err := be.Delete(ctx, place)
		switch {
		case errors.Is(err, backend.ErrRefused) && !errors.Is(err, backend.ErrUnreachable):
			// Locked until a date. (A login that may not delete is unreachable, too.)
			held = &heldError{fmt.Errorf("remove %s: %w", place, err)}
		case err != nil:
			return fmt.Errorf("remove %s: %w", place, err)
		}
	}
	return held
}

// heldError is a deletion that the place refuses for a time.
type heldError struct{ error }

func (e *heldError) Unwrap() error { return e.error }

// isHeld: all is done but deletions that the place refuses for a time.
func isHeld(err error) bool {
	_, held := err.(*heldError)
	return held
}

// unlessHeld is err unless it is no more than that.
func unlessHeld(err error) error {
	if isHeld(err) {
		return nil
	}
	return err
}

// ErrNoSlots: the place lists no key slot, so that the secret was not tried on any.
// Every repository has one: they are lost, or the place does not show them.
var ErrNoSlots = errors.New("the place lists no key slot, so nobody knows whether the password or key is right")

// Open tries the secret on every slot and follows the rotations since. It
// returns the ring and the id of the slot. A wrong secret and a damaged slot
// are told apart: seal.ErrWrongKey needs at least one slot that could be read, and
// where there is none to try it is ErrNoSlots.
func Open(ctx context.Context, be backend.Backend, secret seal.Secret) (*seal.Ring, string, error) {
	ids, err := IDs(ctx, be)
	if err != nil {
		return nil, "", err
	}
	var wrong, damaged error
	for _, id := range ids {
		ring, err := try(ctx, be, ledger.Keys+id, secret)
		switch {
		case ctx.Err() != nil:
			return nil, "", ctx.Err()
		case err == nil:
			_, err := Follow(ctx, be, ring, id)
			return ring, id, err
		case errors.Is(err, seal.ErrWrongKey):
			wrong = err
		case errors.Is(err, backend.ErrUnreachable):
			return nil, "", fmt.Errorf("read key slot: %w", err)
		default:
			damaged = err
		}
	}
	return nil, "", refusal(wrong, damaged)
}

// try opens one slot. That a copy says seal.ErrWrongKey is the last word only if the other
// one says so too, or has the same bytes: somebody else's slot may lie in its place.
func try(ctx context.Context, be backend.Backend, name string, secret seal.Secret) (ring *seal.Ring, err error) {
	var wrong error
	var tried []byte
	err = read(ctx, be, name, func(payload []byte) (err error) {
		if wrong != nil && bytes.Equal(payload, tried) {
			return wrong // a password is costly to try
		}
		ring, err = seal.OpenSlot(payload, name, secret)
		if errors.Is(err, seal.ErrWrongKey) {
			wrong, tried = err, payload
		}
		return err
	})
	if err != nil && wrong != nil && !errors.Is(err, backend.ErrUnreachable) {
		return nil, wrong
	}
	return ring, err
}

// refusal says why no slot opened.
func refusal(wrong, damaged error) error {
	switch {
	case wrong != nil && damaged != nil:
		return fmt.Errorf("open repository: %w; there is also a key slot that cannot be read: %s", seal.ErrWrongKey, damaged.Error())
	case wrong != nil:
		return fmt.Errorf("open repository: %w", seal.ErrWrongKey)
	case damaged == nil:
		return fmt.Errorf("open repository: %w: nothing is listed below %s and %s: %w", ErrNoSlots, ledger.Keys, ledger.Spare(ledger.Keys), pack.ErrDamaged)
	}
	return fmt.Errorf("open repository: no key slot can be read (%w): %w", damaged, pack.ErrDamaged)
}

// Follow brings the ring, opened by the slot of that id, up to the rotations
// that were decided since, and tells whether there were any. It costs two small
// requests when there were none. Errors: ErrMissed, seal.ErrForged,
// backend.ErrUnreachable, pack.ErrDamaged.
func Follow(ctx context.Context, be backend.Backend, ring *seal.Ring, id string) (grown bool, err error) {
	for {
		next := ring.Current() + 1
		d, err := decision(ctx, be, ring, next)
		if errors.Is(err, backend.ErrNotFound) {
			return grown, nil
		}
		if err != nil {
			return grown, err
		}
		name := ledger.BoxName(next, d.Rotation, id)
		err = read(ctx, be, name, func(payload []byte) error { return ring.Grow(d, payload, name) })
		switch {
		case errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil:
			return grown, err
		case errors.Is(err, backend.ErrNotFound): // not passed on: it is the box that is gone, not what the caller reads
			return grown, fmt.Errorf("follow key rotation to epoch %d with key %s: no box for it: %w", next, id, ErrMissed)
		case err != nil:
			return grown, fmt.Errorf("follow key rotation to epoch %d with key %s: %w: %w", next, id, ErrMissed, err)
		}
		grown = true
	}
}

// decision reads which rotation made an epoch. The ring must hold the one
// before. Errors: backend.ErrNotFound while none is decided.
func decision(ctx context.Context, be backend.Backend, ring *seal.Ring, epoch uint32) (d seal.Decision, err error) {
	name := ledger.DecisionName(epoch)
	err = read(ctx, be, name, func(payload []byte) (err error) {
		d, err = ring.ReadDecision(payload, name, epoch)
		return err
	})
	return d, err
}
