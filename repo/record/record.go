// Package record reads and writes record objects: everything in a repository
// that is not a pack of chunks. A record is one sealed payload under a fixed
// name, written once; precious ones lie there twice (FORMAT.md §2, §4).
package record

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// Store is the place of a repository with the keys to it. All fields but
// OnHealed are required. It may be used from many goroutines.
type Store struct {
	Backend backend.Backend
	Ring    *seal.Ring
	Keys    *seal.Keys
	Profile parity.Profile // of what is written
	Rand    io.Reader
	Now     func() time.Time // for records and hints, never for safety
	Log     *slog.Logger
	// Follow takes in rotations of the keys since the repository was opened: it
	// is called once when an object is met whose epoch Keys do not hold. nil: never.
	Follow     func(ctx context.Context) error
	VerifyFull bool              // decode and re-hash every chunk before it leaves memory, not one in ten
	OnHealed   func(name string) // told each time a read had to heal an object
	OnUnlisted func(packs int)   // told when a read had to find packs that the index does not list

	owed atomic.Bool // the reserve was used and could not be taken again
}

// Write seals v as a record object and takes its name for ever. It returns
// backend.ErrExists if another record has the name. Precious records get their
// spare first.
func (s *Store) Write(ctx context.Context, name string, kind parity.Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return s.WritePayload(ctx, name, kind, payload)
}

// WritePayload is Write for bytes that are no JSON.
func (s *Store) WritePayload(ctx context.Context, name string, kind parity.Kind, payload []byte) error {
	object, err := pack.EncodeRecord(s.Params(kind, name), payload)
	if err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if ledger.NeedsSpare(name) {
		if err := s.Backend.PutIfAbsent(ctx, ledger.Spare(name), object.Bytes); err != nil {
			return fmt.Errorf("write %s: %w", ledger.Spare(name), err)
		}
	}
	spareFollows := ledger.HasSpare(name) && !ledger.NeedsSpare(name)
	if spareFollows { // whoever lost the record has the number still
		_, err := s.Backend.Stat(ctx, ledger.Spare(name))
		if err == nil {
			return fmt.Errorf("write %s: its spare is there: %w", name, backend.ErrExists)
		}
		if !IsGone(err) {
			return fmt.Errorf("look for %s: %w", ledger.Spare(name), err)
		}
	}
	if err := s.Backend.PutIfAbsent(ctx, name, object.Bytes); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if spareFollows {
		return s.putSpare(ctx, name, object.Bytes)
	}
	return nil
}

// KeepSpare writes the spare of a record that has none: whoever wrote the record
// died between the two. A record that is damaged beyond its parity is left alone.
func (s *Store) KeepSpare(ctx context.Context, name string) error {
	_, err := s.Backend.Stat(ctx, ledger.Spare(name))
	if err == nil {
		return nil
	}
	if !IsGone(err) {
		return fmt.Errorf("look for %s: %w", ledger.Spare(name), err)
	}
	object, err := backend.Whole(ctx, s.Backend, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	whole, _, err := parity.Heal(object)
	if err != nil {
		s.Log.Warn("a damaged record has no spare", "object", name, "error", err)
		return nil
	}
	return s.putSpare(ctx, name, whole)
}

// IsWhole reports whether an object is there and its parity brings all of it back.
func (s *Store) IsWhole(ctx context.Context, name string) (bool, error) {
	object, err := backend.Whole(ctx, s.Backend, name)
	switch {
	case err == nil:
		_, _, err = parity.Heal(object)
		return err == nil, nil
	case errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil:
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return false, nil
}

// putSpare writes the spare of a record that stands. If the name is taken, the
// record is not to blame: its name is, and nobody must think that it was lost.
func (s *Store) putSpare(ctx context.Context, name string, object []byte) error {
	err := s.Backend.PutIfAbsent(ctx, ledger.Spare(name), object)
	if IsTaken(err) {
		s.Log.Warn("another object has the name of a spare", "object", ledger.Spare(name))
		return nil
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", ledger.Spare(name), err)
	}
	return nil
}

// Params are how this repository encodes an object of one fixed name.
func (s *Store) Params(kind parity.Kind, name string) pack.Params {
	p := pack.Params{
		Keys: s.Keys, Epoch: s.Keys.Epoch(), Kind: kind, Profile: s.Profile, Rand: s.Rand,
		NameOf: func([16]byte) string { return name },
	}
	if s.VerifyFull {
		p.Verify = pack.VerifyFull
	}
	return p
}

// Read reads and opens a record object, heals it in memory if it must, and
// turns to the spare where there is one.
func (s *Store) Read(ctx context.Context, name string, kind parity.Kind) ([]byte, error) {
	payload, err := s.readCopy(ctx, name, name, kind)
	if err == nil || !ledger.HasSpare(name) || ctx.Err() != nil {
		return payload, err
	}
	payload, spareErr := s.readCopy(ctx, ledger.Spare(name), name, kind)
	switch {
	case spareErr != nil && IsGone(err) && !IsGone(spareErr):
		return nil, fmt.Errorf("%s is missing, and its copy does not help: %w", name, spareErr)
	case spareErr != nil:
		return nil, err // the original's error tells more
	}
	s.NoteHealed(name)
	return payload, nil
}

// readCopy reads the record that lies at place under its true name.
func (s *Store) readCopy(ctx context.Context, place, name string, kind parity.Kind) ([]byte, error) {
	object, err := backend.Whole(ctx, s.Backend, place)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", place, err)
	}
	payload, healed, err := pack.OpenRecord(s.Keys, name, kind, object)
	if errors.Is(err, seal.ErrUnknownEpoch) && s.Follow != nil {
		if err := s.Follow(ctx); err != nil {
			return nil, fmt.Errorf("open %s: %w", place, err)
		}
		payload, healed, err = pack.OpenRecord(s.Keys, name, kind, object)
	}
	if err == nil {
		if healed {
			s.NoteHealed(place)
		}
		return payload, nil
	}
	// In a bucket that keeps versions the oldest one that verifies is the object,
	// whatever was laid over it or put there before it.
	for other := range backend.Others(ctx, s.Backend, place) {
		if payload, _, otherErr := pack.OpenRecord(s.Keys, name, kind, other); otherErr == nil {
			s.NoteHealed(place)
			return payload, nil
		}
	}
	return nil, fmt.Errorf("open %s: %w", place, err)
}

// ReadAs reads a record of one type.
func ReadAs[T any](ctx context.Context, s *Store, name string, kind parity.Kind) (*T, error) {
	payload, err := s.Read(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	v, err := ledger.Decode[T](payload)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

// NoteHealed tells that bytes came back only through parity or a spare: the
// object wants a scrub.
func (s *Store) NoteHealed(name string) {
	s.Log.Warn("object healed while reading", "object", name)
	if s.OnHealed != nil {
		s.OnHealed(name)
	}
}

// List returns the names below prefix, sorted.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := s.Backend.List(ctx, prefix, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return names, nil
}

// SIDs are the sessions of which there is an object PREFIX/SRC/SID below prefix.
func (s *Store) SIDs(ctx context.Context, prefix string) (map[ledger.SID]bool, error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	sids := make(map[ledger.SID]bool, len(names))
	for _, name := range names {
		if sid, err := ledger.ParseSlot(name); err == nil {
			sids[sid] = true
		}
	}
	return sids, nil
}

// RandomHex reads n random bytes and writes them in hex.
func (s *Store) RandomHex(n int) (string, error) {
	raw := make([]byte, n)
	if _, err := io.ReadFull(s.Rand, raw); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// WithReserve runs fn, which is going to free space, and once more with the space
// that is kept for it if the place is full. Whatever becomes of it, the reserve is
// taken again; if there is no room for that yet, then after the next fn.
func (s *Store) WithReserve(ctx context.Context, fn func(context.Context) error) error {
	err := fn(ctx)
	reserve, ok := backend.As[backend.Reserver](s.Backend)
	if !ok || !errors.Is(err, backend.ErrNoSpace) {
		if ok && s.owed.Load() {
			err = errors.Join(err, s.refill(ctx, reserve))
		}
		return err
	}
	s.Log.Warn("the place is full; using the space kept for forgetting and pruning")
	if err := reserve.UseReserve(ctx); err != nil {
		return err
	}
	return errors.Join(fn(ctx), s.refill(ctx, reserve))
}

// refill takes the reserve again, as far as there is room.
func (s *Store) refill(ctx context.Context, reserve backend.Reserver) error {
	missing, err := reserve.Refill(context.WithoutCancel(ctx))
	s.owed.Store(missing > 0 || err != nil)
	if missing > 0 {
		s.Log.Warn("not all of the space kept for pruning could be taken again", "missing_bytes", missing)
	}
	return err
}

// IsGone reports whether err means that an object is not there.
func IsGone(err error) bool { return errors.Is(err, backend.ErrNotFound) }

// IsTaken reports whether err means that a name is taken by other bytes.
func IsTaken(err error) bool { return errors.Is(err, backend.ErrExists) }

// IsDefinite reports whether an error says something of the object, not of the
// way to it.
func IsDefinite(err error) bool {
	for _, target := range []error{backend.ErrNotFound, pack.ErrDamaged, pack.ErrTampered, pack.ErrFormat, index.ErrCorrupt} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
