package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
	"holdfast/repo/record"
)

// readRoll reads the roll by name, from where the ledger says that it begins to the
// first number that is free. Below that all were taken, so a number that is missing
// there is damage, or another pruner's removal, of which the ledger then tells. A
// session whose record is lost is known by what else is there of it, as far as
// listings show that: only damage and a listing that hides it make a round blind.
func (r *round) readRoll(ctx context.Context) error {
	end, err := r.c.RollEnd(ctx, r.view, r.listing.RollEnd)
	if err != nil {
		return err
	}
	start := r.view.Entry.Roll
	if err := r.enrolled(ctx, start, end); err != nil {
		return err
	}
	for ; ; end++ { // who began since; nobody who counts is beyond a free number
		sid, err := r.c.Enrolled(ctx, end)
		if record.IsGone(err) {
			break
		}
		if errors.Is(err, catalog.ErrNoSession) {
			r.holes = append(r.holes, ledger.RollName(end)) // damaged, but taken
			continue
		}
		if err != nil {
			return err
		}
		r.roll[end] = sid
	}
	r.listing.RollEnd = end
	r.c.SawRoll(end)
	for n := start; n < end; n++ {
		if sid, known := r.roll[n]; known {
			r.listing.Roll = append(r.listing.Roll, ledger.Enrolled{Number: n, SID: sid})
		}
	}
	return nil
}

// enrolled reads the records from start to end that no earlier round has read.
func (r *round) enrolled(ctx context.Context, start, end uint32) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for n := start; n < end; n++ {
		mu.Lock()
		_, known := r.roll[n]
		mu.Unlock()
		if known {
			continue
		}
		group.Go(func() error {
			sid, err := r.c.Enrolled(ctx, n)
			if errors.Is(err, catalog.ErrNoSession) {
				mu.Lock()
				defer mu.Unlock()
				r.holes = append(r.holes, ledger.RollName(n))
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.roll[n] = sid
			return nil
		})
	}
	return group.Wait()
}

// numberOf is a session's number in the roll.
func (r *round) numberOf(sid ledger.SID) (uint32, bool) {
	packed := sid.Pack()
	at := slices.IndexFunc(r.listing.Roll, func(e ledger.Enrolled) bool { return e.SID == packed })
	if at < 0 {
		return 0, false
	}
	return r.listing.Roll[at].Number, true
}

// hear finds the newest heartbeat of each open session by name: one that a listing
// hides must not make it seem silent.
func (r *round) hear(ctx context.Context) error {
	listed := map[ledger.SID]int{}
	for _, h := range r.listing.Sessions {
		listed[h.SID] = h.Beats
	}
	for i := range r.survey.Open {
		h := &r.survey.Open[i]
		h.Beats = listed[h.SID]
		free, err := ledger.FirstFree(uint32(h.Beats)+1, func(n uint32) (bool, error) { return r.c.Has(ctx, ledger.BeatName(h.SID, n)) })
		if err != nil {
			return err
		}
		h.Beats = int(free) - 1
		name := ledger.BeatName(h.SID, free-1)
		if h.Beats == 0 {
			n, known := r.numberOf(h.SID)
			if !known {
				h.Beats = -1
				continue
			}
			name = ledger.RollName(n)
		}
		info, err := r.c.Backend.Stat(ctx, name)
		if err != nil && !record.IsGone(err) {
			return fmt.Errorf("read the time of %s: %w", name, err)
		}
		h.Newest = info.Modified
	}
	return nil
}

// confirmPacks asks by name for packs of which a listing may be wrong and on which
// something rests: one that a segment lists and the listing does not show is no
// reason to give up that segment, or to forget that the pack is to go; and one that
// no writer would trust keeps no chunk unless it is there now.
func (r *round) confirmPacks(ctx context.Context) error {
	inRun := r.c.Index.InSegments(r.view.Runs())
	var doubtful []string
	for name, p := range r.packs {
		owner, err := ledger.ParseSID(p.SID)
		if err != nil {
			continue
		}
		_, shown := r.bytes[name]
		trusted := r.view.MayReuse(name, owner, inRun(p)) || r.view.IsCondemned(name)
		if !r.view.IsGoing(name) && !(shown && trusted) {
			doubtful = append(doubtful, name)
		}
	}
	for _, batch := range r.view.Entry.Condemned {
		for _, name := range batch.Packs {
			p, listed := r.packs[name]
			if _, shown := r.bytes[name]; !shown && !r.gone[name] && !(listed && batch.Going && inRun(p)) {
				doubtful = append(doubtful, name)
			}
		}
	}
	slices.Sort(doubtful)
	return r.confirm(ctx, slices.Compact(doubtful))
}

// confirm takes each pack for there if it is there, and only then.
func (r *round) confirm(ctx context.Context, names []string) error {
	var mu sync.Mutex
	dropped := map[string]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, name := range names {
		group.Go(func() error {
			info, err := r.c.Backend.Stat(ctx, name)
			if err != nil && !record.IsGone(err) {
				return fmt.Errorf("look for %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			_, shown := r.bytes[name]
			switch {
			case err != nil:
				dropped[name] = true
				delete(r.bytes, name)
				if r.view.IsGoing(name) {
					r.gone[name] = true
				}
			case !shown:
				r.listing.Packs = append(r.listing.Packs, name)
				r.bytes[name] = info.Bytes
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.listing.Packs = slices.DeleteFunc(r.listing.Packs, func(name string) bool { return dropped[name] })
	slices.Sort(r.listing.Packs)
	return nil
}
