package prune

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/points"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

const readsAtOnce = 8

// shelf is what slots hold, as read: a slot never changes. There may be half a
// million, so a slot takes 40 bytes, and each of its maps 48.
type shelf struct {
	slots   []slot // by session
	disks   []image.Map
	streams []stream.Stream
}

// slot is what a slot holds.
type slot struct {
	sid            ledger.Packed
	kind           ledger.SlotKind
	disks, streams span
}

// span is a part of one of the shelf's lists.
type span struct{ from, count uint32 }

// roots are what a point's manifest names.
type roots struct {
	disks   []image.Map
	streams []stream.Stream
}

func (s *shelf) find(sid ledger.Packed) (slot, bool) {
	at, found := slices.BinarySearchFunc(s.slots, sid, func(held slot, sid ledger.Packed) int { return held.sid.Compare(sid) })
	if !found {
		return slot{}, false
	}
	return s.slots[at], true
}

// roots are those of a session's point; none if it made none.
func (s *shelf) roots(sid ledger.Packed) roots {
	held, _ := s.find(sid)
	return roots{
		disks:   s.disks[held.disks.from:][:held.disks.count],
		streams: s.streams[held.streams.from:][:held.streams.count],
	}
}

// hold takes in what a manifest names.
func (s *shelf) hold(sid ledger.Packed, kind ledger.SlotKind, of roots) slot {
	held := slot{
		sid: sid, kind: kind,
		disks:   span{uint32(len(s.disks)), uint32(len(of.disks))},
		streams: span{uint32(len(s.streams)), uint32(len(of.streams))},
	}
	s.disks, s.streams = append(s.disks, of.disks...), append(s.streams, of.streams...)
	return held
}

// add takes in slots that were not known.
func (s *shelf) add(fresh []slot) {
	if len(s.slots) == 0 {
		s.slots = fresh
	} else {
		s.slots = append(s.slots, fresh...)
	}
	slices.SortFunc(s.slots, func(a, b slot) int { return a.sid.Compare(b.sid) })
}

// listSlots finds the slots that decide something by their names: of the sessions
// in the roll, and of the points that the ledger names. A listing adds what is void
// and waits for its removal. Manifests are told from revocations; what the ledger
// has made void, and what is forgotten and covered, need not be read.
func (r *round) listSlots(ctx context.Context) error {
	slots, err := points.Sessions(ctx, r.c, ledger.Commits)
	if err != nil {
		return err
	}
	forgotten, err := points.Sessions(ctx, r.c, ledger.Forgets)
	if err != nil {
		return err
	}
	if r.opts.DryRun {
		for _, sid := range r.opts.Without {
			forgotten.Add(sid)
		}
		forgotten.Sort()
	}
	r.listing.Forgets = forgotten
	for _, e := range r.listing.Roll {
		if e.SID.Gen() >= r.view.Entry.Horizon {
			slots = append(slots, e.SID)
		}
	}
	slots = append(slots, r.view.Entry.Points...)
	slots.Sort()
	r.listing.Slots = make([]ledger.Held, 0, len(slots))
	slots = slices.DeleteFunc(slots, func(sid ledger.Packed) bool {
		settled := r.view.Voids(sid) || forgotten.Has(sid) && sid.Gen() < r.view.Entry.Horizon
		if settled {
			r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: sid, Kind: ledger.PointSlot})
		}
		return settled
	})
	if err := r.readSlots(ctx, slots); err != nil {
		return err
	}
	for _, sid := range slots {
		if held, there := r.slots.find(sid); there {
			r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: sid, Kind: held.kind})
		}
	}
	return nil
}

// readSlots reads those slots that no earlier round has read, in their order, so
// that the same state of the place always makes the same calls, however many run
// at once: a simulation can be replayed.
func (r *round) readSlots(ctx context.Context, sids ledger.Pile) error {
	var mu sync.Mutex
	done := int64(0)
	fresh := make([]slot, 0, max(0, len(sids)-len(r.slots.slots)))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, sid := range sids {
		if _, known := r.slots.find(sid); known {
			continue
		}
		group.Go(func() error {
			kind, of, err := r.readSlot(ctx, sid.SID())
			if record.IsGone(err) {
				return nil // free, or collected by another pruner
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			fresh = append(fresh, r.slots.hold(sid, kind, of))
			done++
			r.progress("listing", done, int64(len(sids)))
			return nil
		})
	}
	err := group.Wait()
	r.slots.add(fresh) // whatever became of the others
	return err
}

// readSlot reads one slot. Only the way to the store is an error, and that the slot
// is free (backend.ErrNotFound): one that is damaged counts as unreadable, and a
// live one then blocks the round.
func (r *round) readSlot(ctx context.Context, sid ledger.SID) (ledger.SlotKind, roots, error) {
	held, err := record.ReadAs[ledger.Slot](ctx, r.c.Store, ledger.CommitName(sid), parity.Commit)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return 0, roots{}, errors.Join(err, ctx.Err())
	}
	if record.IsGone(err) {
		return 0, roots{}, err
	}
	if err != nil {
		r.c.Log.Warn("slot cannot be read", "sid", sid.String(), "error", err)
		return ledger.UnreadableSlot, roots{}, nil
	}
	if held.Revoked != nil {
		return ledger.RevokedSlot, roots{}, nil
	}
	var point recovery.Point
	if err := json.Unmarshal(held.Point, &point); err != nil || point.SID != sid.String() {
		r.c.Log.Warn("manifest cannot be read", "sid", sid.String(), "error", err)
		return ledger.UnreadableSlot, roots{}, nil
	}
	var of roots
	for _, item := range point.Items {
		if item.Disk != nil && !item.Disk.Root.IsZero() {
			of.disks = append(of.disks, *item.Disk)
		}
		if item.Stream != nil && !item.Stream.Root.IsZero() {
			of.streams = append(of.streams, *item.Stream)
		}
	}
	return ledger.PointSlot, of, nil
}
