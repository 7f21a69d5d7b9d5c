package prune

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/prune/shelf"
	"holdfast/repo/record"
)

const readsAtOnce = 8

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
		if held, there := r.slots.Find(sid); there {
			r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: sid, Kind: held.Kind})
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
	fresh := make([]shelf.Slot, 0, max(0, len(sids)-r.slots.Len()))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, sid := range sids {
		if _, known := r.slots.Find(sid); known {
			continue
		}
		group.Go(func() error {
			kind, of, err := shelf.Read(ctx, r.c.Store, sid.SID())
			if record.IsGone(err) {
				return nil // free, or collected by another pruner
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			fresh = append(fresh, r.slots.Hold(sid, kind, of))
			done++
			r.progress("listing", done, int64(len(sids)))
			return nil
		})
	}
	err := group.Wait()
	r.slots.Add(fresh) // whatever became of the others
	return err
}
