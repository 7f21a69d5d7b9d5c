package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/check"
	"holdfast/repo/ledger"
	"holdfast/repo/points"
)

// toldAndGone finds points that have vanished by what later ones of their source say. A
// session in the roll, not below the horizon, that has neither slot nor tombstone is
// under way, was killed, or has lost its point; none of the first two is ever named by a
// point. What was forgotten is told apart for certain: its tombstone stays until the
// horizon has passed it, and then it is no session of the roll any more. Only sources
// with such a session are read.
func (r *Repository) toldAndGone(ctx context.Context) (gone []check.Unreadable, err error) {
	open, forgotten, err := r.slotless(ctx)
	if err != nil {
		return nil, err
	}
	for _, src := range slices.Sorted(maps.Keys(open)) {
		entries, problems, err := points.Of(ctx, r.catalog, src)
		if err != nil {
			return nil, err
		}
		w := witness{open: open[src], told: map[ledger.SID]string{}}
		w.byParent(entries)
		if len(problems) == 0 { // else the chain of manifests cannot be followed
			if err := r.byPrevious(ctx, &w, entries, forgotten); err != nil {
				return nil, err
			}
		}
		for _, sid := range w.open {
			if w.told[sid] == "" {
				continue
			}
			lost, err := r.isLost(ctx, sid)
			if err != nil {
				return nil, err
			}
			if lost {
				why := fmt.Errorf("%s: %w", w.told[sid], ErrVanished)
				gone = append(gone, check.Unreadable{ID: sid.Rand, Object: ledger.CommitName(sid), Err: why})
			}
		}
	}
	return gone, nil
}

// slotless are the sessions of the roll without slot and tombstone, by source, and all
// that there are tombstones of.
func (r *Repository) slotless(ctx context.Context) (open map[string][]ledger.SID, forgotten ledger.Pile, err error) {
	young, _, err := r.catalog.Young(ctx)
	if err != nil || len(young) == 0 {
		return nil, nil, err
	}
	slots, err := points.Sessions(ctx, r.catalog, ledger.Commits)
	if err == nil {
		forgotten, err = points.Sessions(ctx, r.catalog, ledger.Forgets)
	}
	open = map[string][]ledger.SID{}
	for _, p := range young {
		if sid := p.SID(); err == nil && !slots.Has(p) && !forgotten.Has(p) {
			open[sid.Src] = append(open[sid.Src], sid)
		}
	}
	return open, forgotten, err
}

// witness is what the points of a source tell of its sessions without a slot.
type witness struct {
	open []ledger.SID
	told map[ledger.SID]string // and how
}

// byParent finds those that a point was read against.
func (w *witness) byParent(entries []Entry) {
	for _, e := range entries {
		for _, sid := range w.open {
			if e.Parent == sid.Rand {
				w.told[sid] = "point " + e.ID + " was read against it"
			}
		}
	}
}

// byPrevious finds those of which only the chain of manifests tells: each carries the
// hash of the one before. That is of use until the first prune: once points were forgotten
// and removed, what is unknown may be one of those, though its place be behind the
// horizon, for backups that overlap name one before. Hashes have no names, so it takes as
// many sessions as are missed.
func (r *Repository) byPrevious(ctx context.Context, w *witness, entries []Entry, forgotten ledger.Pile) error {
	if r.catalog.View().Entry.Horizon > 0 {
		return nil
	}
	unknown := dangling(entries)
	given := 0 // up: forgotten once they had vanished
	for _, p := range forgotten {
		if len(unknown) == 0 {
			return nil
		}
		if sid := p.SID(); sid.Src == w.open[0].Src {
			hash, err := points.HashOf(ctx, r.catalog, sid)
			if err != nil {
				return err
			}
			if hash == "" {
				given++
			}
			delete(unknown, hash)
		}
	}
	if len(unknown) != len(w.open)+given {
		return nil
	}
	for _, sid := range w.open {
		if w.told[sid] == "" {
			w.told[sid] = "point " + unknown[slices.Min(slices.Collect(maps.Keys(unknown)))] + " was made after it"
		}
	}
	return nil
}

// dangling are the hashes of what came before points and is not there, with those points.
func dangling(entries []Entry) map[string]string {
	known := map[string]bool{"": true}
	for _, e := range entries {
		known[e.Hash()] = true
	}
	unknown := map[string]string{}
	for _, e := range entries {
		if !known[e.Previous] {
			unknown[e.Previous] = e.ID
		}
	}
	return unknown
}
