package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// namesBelow is what this round has listed of one kind.
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
			names = append(names, ledger.CommitName(slot.SID))
		}
	case ledger.Sessions:
		for _, records := range r.beats {
			names = append(names, records...)
		}
	default:
		names = slices.Clone(r.others)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name[:min(len(prefix), len(name))] != prefix })
	slices.Sort(names) // what a map gave: the same calls in the same order, as in inOrder
	return names
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
			if errors.Is(err, backend.ErrRefused) {
				// Locked until a date: it stays named in the ledger, and a later
				// prune tries again.
				r.rep.Locked++
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

// extend keeps what is needed locked for longer, where the place locks objects.
func (r *round) extend(ctx context.Context) error {
	retainer, ok := backend.As[backend.Retainer](r.c.Backend)
	if !ok || r.opts.RetainFor <= 0 {
		return nil
	}
	var names []string
	err := r.c.Backend.List(ctx, "", func(info backend.Info) error {
		if ledger.IsOurs(info.Name) && !r.view.MayRemove(info.Name) {
			names = append(names, info.Name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	until := r.c.Now().Add(r.opts.RetainFor)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesAtOnce)
	for i, name := range names {
		r.progress("locking", int64(i), int64(len(names)))
		group.Go(func() error {
			if err := retainer.ExtendRetention(ctx, name, until); err != nil && !errors.Is(err, backend.ErrNotFound) {
				return fmt.Errorf("lock %s for longer: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
