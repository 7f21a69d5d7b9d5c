package prune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
)

const deletesAtOnce = 8

// remove deletes what the entry in the ledger lets go, one kind of object after
// the other in the order of P6 and P7.
func (r *round) remove(ctx context.Context) error {
	for _, prefix := range ledger.RemovalOrder() {
		names := slices.DeleteFunc(r.namesBelow(prefix), func(name string) bool { return !r.view.MayRemove(name) })
		if err := r.removeAll(ctx, prefix, names); err != nil {
			return err
		}
	}
	if err := r.c.Backend.Sync(ctx); err != nil {
		return fmt.Errorf("make removals durable: %w", err)
	}
	return nil
}

// namesBelow is what this round has listed of one kind and might remove.
func (r *round) namesBelow(prefix string) []string {
	var names []string
	switch prefix {
	case ledger.Data, ledger.Meta:
		names = slices.Clone(r.listing.Packs)
	case ledger.Indexes:
		for _, segment := range r.listing.Segments {
			names = append(names, segment.Name)
		}
	case ledger.Commits:
		for _, slot := range r.listing.Slots {
			if r.view.Voids(slot.SID) { // of the others there are many
				names = append(names, ledger.CommitName(slot.SID.SID()))
			}
		}
	case ledger.Sessions:
		names = slices.Clone(r.records)
		for _, e := range r.listing.Roll {
			names = append(names, ledger.RollName(e.Number))
		}
	default:
		names = slices.Clone(r.others)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name[:min(len(prefix), len(name))] != prefix })
	slices.Sort(names) // what a map gave: the same calls in the same order, as in inOrder
	return slices.Compact(names)
}

func (r *round) removeAll(ctx context.Context, prefix string, names []string) error {
	var mu sync.Mutex
	done := int64(0)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesAtOnce)
	for _, name := range names {
		group.Go(func() error {
			err := r.c.Backend.Delete(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, backend.ErrRefused) && !errors.Is(err, backend.ErrUnreachable) {
				// Locked until a date: it stays named in the ledger, and a later
				// prune tries again. (A login that may not delete is unreachable, too.)
				r.locked[name] = true
				r.rep.Locked = len(r.locked)
				return nil
			}
			if err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
			r.rep.ObjectsRemoved++
			if isPack(name) {
				r.rep.PacksRemoved++
				r.rep.BytesRemoved += r.bytes[name]
			}
			done++
			r.progress("removing "+prefix, done, int64(len(names)))
			return nil
		})
	}
	return group.Wait()
}

// keepSpares sees to it that the newest ledger entry has its spare, which its writer
// may not have lived to write, and removes those of old entries that are whole
// themselves: the others want to be healed from them.
func (r *round) keepSpares(ctx context.Context) error {
	if err := r.c.KeepSpare(ctx, ledger.LedgerName(r.view.Number)); err != nil {
		return err
	}
	names, err := r.c.List(ctx, ledger.Spare(ledger.Ledgers))
	if err != nil {
		return err
	}
	var old []string
	for _, name := range names {
		if !r.view.MayRemove(name) {
			continue
		}
		whole, err := r.c.IsWhole(ctx, ledger.TrueName(name))
		if err != nil {
			return err
		}
		if whole {
			old = append(old, name)
		}
	}
	if len(old) == 0 {
		return nil
	}
	removed := r.rep.ObjectsRemoved
	if err := r.removeAll(ctx, ledger.Spare(ledger.Ledgers), old); err != nil {
		return err
	}
	r.rep.ObjectsRemoved = removed // each prune has a spare to remove; what it found in the repository is the news
	if err := r.c.Backend.Sync(ctx); err != nil {
		return fmt.Errorf("make removals durable: %w", err)
	}
	return nil
}

// prolong locks what is needed for as long as a new object, where the place locks
// objects. What a session has written since its point was looked for has a lock
// that is still fresh.
func (r *round) prolong(ctx context.Context) error {
	retainer, retains := backend.As[backend.Retainer](r.c.Backend)
	locker, locks := backend.As[backend.Locker](r.c.Backend)
	if !r.opts.Lock || !retains || !locks {
		return nil
	}
	names, err := r.worthALock(ctx)
	if err != nil {
		return err
	}
	until, err := locker.LockEnd()
	if err != nil {
		return fmt.Errorf("prolong locks: %w", err)
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesAtOnce)
	for _, name := range names {
		group.Go(func() error {
			err := retainer.ExtendRetention(ctx, name, until)
			if errors.Is(err, backend.ErrNotFound) {
				return nil // gone meanwhile
			}
			if err != nil {
				return fmt.Errorf("prolong lock of %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.rep.Prolonged++
			r.progress("locking", int64(r.rep.Prolonged), int64(len(names)))
			return nil
		})
	}
	return group.Wait()
}

// worthALock is everything of the repository's that stays: neither what goes, nor
// packs that no point needs, nor the records of sessions, which nothing needs.
func (r *round) worthALock(ctx context.Context) (names []string, err error) {
	listed := map[string]bool{}
	err = r.c.Backend.List(ctx, "", func(info backend.Info) error {
		listed[info.Name] = true
		_, live := r.plan.Live[info.Name]
		passing := isPack(info.Name) && !live || strings.HasPrefix(info.Name, ledger.Sessions) || r.opts.Leaving[info.Name]
		if ledger.IsOurs(info.Name) && !passing && !r.view.MayRemove(info.Name) {
			names = append(names, info.Name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.plan.Live)) {
		if !listed[name] {
			names = append(names, name) // the listing hides it
		}
	}
	return names, nil
}
