package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
)

// writeRecord seals v as a record object and takes its name for ever. It
// returns backend.ErrExists if another record has the name. Precious records
// get their spare first.
func (r *Repository) writeRecord(ctx context.Context, name string, kind parity.Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return r.writePayload(ctx, name, kind, payload)
}

func (r *Repository) writePayload(ctx context.Context, name string, kind parity.Kind, payload []byte) error {
	object, err := pack.EncodeRecord(r.params(kind, name), payload)
	if err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if ledger.HasSpare(name) {
		if err := r.be.PutIfAbsent(ctx, ledger.Spare(name), object.Bytes); err != nil {
			return fmt.Errorf("write %s: %w", ledger.Spare(name), err)
		}
	}
	if err := r.be.PutIfAbsent(ctx, name, object.Bytes); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// params are how this repository encodes an object of one fixed name.
func (r *Repository) params(kind parity.Kind, name string) pack.Params {
	p := pack.Params{
		Keys: r.keys, Epoch: r.ring.Current(), Kind: kind, Profile: r.profile, Rand: r.opts.Rand,
		NameOf: func([16]byte) string { return name },
	}
	if r.opts.VerifyFull {
		p.Verify = pack.VerifyFull
	}
	return p
}

// readRecord reads and opens a record object, heals it in memory if it must,
// and turns to the spare where there is one.
func (r *Repository) readRecord(ctx context.Context, name string, kind parity.Kind) ([]byte, error) {
	payload, err := r.readCopy(ctx, name, name, kind)
	if err == nil || !ledger.HasSpare(name) || ctx.Err() != nil {
		return payload, err
	}
	payload, spareErr := r.readCopy(ctx, ledger.Spare(name), name, kind)
	if spareErr != nil {
		return nil, err // the original's error tells more
	}
	r.noteHealed(name)
	return payload, nil
}

// readCopy reads the record that lies at place under its true name.
func (r *Repository) readCopy(ctx context.Context, place, name string, kind parity.Kind) ([]byte, error) {
	object, err := backend.Whole(ctx, r.be, place)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", place, err)
	}
	payload, healed, err := pack.OpenRecord(r.keys, name, kind, object)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	if healed {
		r.noteHealed(place)
	}
	return payload, nil
}

// noteHealed tells that bytes came back only through parity or a spare: the
// object wants a scrub.
func (r *Repository) noteHealed(name string) {
	r.log.Warn("object healed while reading", "object", name)
	if r.opts.Healed != nil {
		r.opts.Healed(name)
	}
}

// isGone reports whether err means that an object is not there.
func isGone(err error) bool { return errors.Is(err, backend.ErrNotFound) }

// isTaken reports whether err means that a name is taken by other bytes.
func isTaken(err error) bool { return errors.Is(err, backend.ErrExists) }
