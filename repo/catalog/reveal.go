package catalog

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/ledger"
)

const asksAtOnce = 8

// Reveal asks by name for the segments of these sessions that the last Refresh did
// not know, and returns how many there are; the next Refresh brings them. A session
// numbers its segments without gaps, so this costs one question a session where
// nothing is hidden. Sessions below the horizon have none but the ledger's runs,
// which every Refresh asks for.
func (c *Catalog) Reveal(ctx context.Context, sids ledger.Pile) (int, error) {
	c.mu.Lock()
	next := map[ledger.Packed]uint32{}
	for _, name := range append(slices.Clone(c.listed), c.hidden...) {
		if sid, n, err := ledger.ParseNumbered(name); err == nil {
			next[sid.Pack()] = max(next[sid.Pack()], uint32(n)+1)
		}
	}
	known := make(map[string]bool, len(c.listed))
	for _, name := range append(slices.Clone(c.listed), c.hidden...) {
		known[name] = true
	}
	c.mu.Unlock()
	var (
		mu    sync.Mutex
		found []string
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	for _, packed := range sids {
		group.Go(func() error {
			names, err := c.segmentsOf(ctx, packed.SID(), next[packed], known)
			mu.Lock()
			defer mu.Unlock()
			found = append(found, names...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden = append(c.hidden, found...)
	slices.Sort(c.hidden)
	c.hidden = slices.Compact(c.hidden)
	return len(found), nil
}

// segmentsOf finds a session's segments that are not known. All below next were
// written once; a repair may have removed some.
func (c *Catalog) segmentsOf(ctx context.Context, sid ledger.SID, next uint32, known map[string]bool) ([]string, error) {
	end, err := ledger.FirstFree(next, func(n uint32) (bool, error) { return c.Has(ctx, ledger.IndexName(sid, int(n))) })
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range end {
		name := ledger.IndexName(sid, int(n))
		if known[name] {
			continue
		}
		there, err := c.Has(ctx, name)
		if err != nil {
			return nil, err
		}
		if there {
			names = append(names, name)
		}
	}
	return names, nil
}

// Young finds by name the sessions that may have made points which the ledger does
// not name yet: those of the roll that are not below the horizon, sorted, and the
// roll's end. A number whose record is lost, or was collected meanwhile, tells
// nothing.
func (c *Catalog) Young(ctx context.Context) (young ledger.Pile, end uint32, err error) {
	if err := c.LookLedger(ctx); err != nil {
		return nil, 0, err
	}
	view := c.View()
	if end, err = c.RollEnd(ctx, view, 0); err != nil {
		return nil, 0, err
	}
	roll, err := c.readRoll(ctx, view.Entry.Roll, end)
	if err != nil {
		return nil, 0, err
	}
	for _, sid := range roll {
		if sid.Gen() >= view.Entry.Horizon {
			young = append(young, sid)
		}
	}
	young.Sort()
	return young, end, nil
}

// readRoll reads the records from start to end that were not read before, and
// returns what is known of them.
func (c *Catalog) readRoll(ctx context.Context, start, end uint32) (map[uint32]ledger.Packed, error) {
	c.mu.Lock()
	known := c.young
	c.mu.Unlock()
	var mu sync.Mutex
	roll := map[uint32]ledger.Packed{} // a new one: the old one may be in others' hands
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	for n := start; n < end; n++ {
		group.Go(func() error {
			sid, read := known[n]
			if !read {
				var err error
				if sid, err = c.Enrolled(ctx, n); errors.Is(err, ErrNoSession) {
					c.Log.Debug("a record of the roll tells nothing", "number", n, "error", err)
					return nil
				}
				if err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			roll[n] = sid
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young = roll
	return roll, nil
}
