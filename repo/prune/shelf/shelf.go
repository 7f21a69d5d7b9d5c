// Package shelf holds what the slots of sessions say, as a prune has read them: for
// each whether it is a point, and the roots of the maps that it names. A slot never
// changes once it is taken, so what was read stays true from round to round.
package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// Shelf is what slots hold, as read: a slot never changes. There may be half a
// million, so a slot takes 40 bytes, and each of its maps 48.
type Shelf struct {
	slots   []Slot // by session
	disks   []image.Map
	streams []stream.Stream
}

// Slot is what a slot holds.
type Slot struct {
	SID            ledger.Packed
	Kind           ledger.SlotKind
	disks, streams span
}

// span is a part of one of the shelf's lists.
type span struct{ from, count uint32 }

// Roots are what a point's manifest names.
type Roots struct {
	Disks   []image.Map
	Streams []stream.Stream
}

// Find returns what the slot of a session holds, if it has been added.
func (s *Shelf) Find(sid ledger.Packed) (Slot, bool) {
	at, found := slices.BinarySearchFunc(s.slots, sid, func(held Slot, sid ledger.Packed) int { return held.SID.Compare(sid) })
	if !found {
		return Slot{}, false
	}
	return s.slots[at], true
}

// Roots are those of a session's point; none if it made none.
func (s *Shelf) Roots(sid ledger.Packed) Roots {
	held, _ := s.Find(sid)
	return Roots{
		Disks:   s.disks[held.disks.from:][:held.disks.count],
		Streams: s.streams[held.streams.from:][:held.streams.count],
	}
}

// Hold takes in what a manifest names.
func (s *Shelf) Hold(sid ledger.Packed, kind ledger.SlotKind, of Roots) Slot {
	held := Slot{
		SID: sid, Kind: kind,
		disks:   span{uint32(len(s.disks)), uint32(len(of.Disks))},
		streams: span{uint32(len(s.streams)), uint32(len(of.Streams))},
	}
	s.disks, s.streams = append(s.disks, of.Disks...), append(s.streams, of.Streams...)
	return held
}

// Len is how many slots have been added.
func (s *Shelf) Len() int { return len(s.slots) }

// Add takes in slots that were not known.
func (s *Shelf) Add(fresh []Slot) {
	if len(s.slots) == 0 {
		s.slots = fresh
	} else {
		s.slots = append(s.slots, fresh...)
	}
	slices.SortFunc(s.slots, func(a, b Slot) int { return a.SID.Compare(b.SID) })
}

// Read reads one slot. Only the way to the store is an error, and that the slot
// is free (backend.ErrNotFound): one that is damaged counts as unreadable, and a
// live one then blocks the round.
func Read(ctx context.Context, store *record.Store, sid ledger.SID) (ledger.SlotKind, Roots, error) {
	held, err := record.ReadAs[ledger.Slot](ctx, store, ledger.CommitName(sid), parity.Commit)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return 0, Roots{}, errors.Join(err, ctx.Err())
	}
	if record.IsGone(err) {
		return 0, Roots{}, err
	}
	if err != nil {
		store.Log.Warn("slot cannot be read", "sid", sid.String(), "error", err)
		return ledger.UnreadableSlot, Roots{}, nil
	}
	if held.Revoked != nil {
		return ledger.RevokedSlot, Roots{}, nil
	}
	var point recovery.Point
	if err := json.Unmarshal(held.Point, &point); err != nil || point.SID != sid.String() {
		store.Log.Warn("manifest cannot be read", "sid", sid.String(), "error", err)
		return ledger.UnreadableSlot, Roots{}, nil
	}
	var of Roots
	for _, item := range point.Items {
		if item.Disk != nil && !item.Disk.Root.IsZero() {
			of.Disks = append(of.Disks, *item.Disk)
		}
		if item.Stream != nil && !item.Stream.Root.IsZero() {
			of.Streams = append(of.Streams, *item.Stream)
		}
	}
	return ledger.PointSlot, of, nil
}
