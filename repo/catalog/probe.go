package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// What is found by name here must not be missed: a listing may hide anything
// (FORMAT.md §9). Listings only tell where to begin.

// Has asks for an object by name.
func (c *Catalog) Has(ctx context.Context, name string) (bool, error) {
	_, err := c.Backend.Stat(ctx, name)
	if record.IsGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return true, nil
}

// newestLedger finds the number of the newest entry. Entries are numbered without
// gaps and stay for ever. known may be nil; p is what was met before.
func (c *Catalog) newestLedger(ctx context.Context, known *ledger.View, p proof) (uint32, error) {
	from := uint32(0)
	if known != nil {
		from = known.Number + 1
	} else {
		names, err := c.List(ctx, ledger.Ledgers)
		if err != nil {
			return 0, err
		}
		for _, name := range names { // sorted; what an operator left beside them is none
			if g, err := ledger.ParseLedger(name); err == nil {
				from = g + 1
			}
		}
	}
	end, err := ledger.FirstFree(from, func(g uint32) (bool, error) { return c.hasEntry(ctx, g) })
	if err == nil {
		end, err = c.beyond(ctx, end, p)
	}
	if err != nil {
		return 0, err
	}
	if end == 0 {
		return 0, fmt.Errorf("%w: no entry: %w", ErrLedger, pack.ErrDamaged)
	}
	return end - 1, nil
}

// hasEntry asks for a ledger entry. Its spare is written after it, so a spare alone
// says that the entry was lost: its number is taken all the same.
func (c *Catalog) hasEntry(ctx context.Context, g uint32) (bool, error) {
	there, err := c.Has(ctx, ledger.LedgerName(g))
	if err != nil || there {
		return there, err
	}
	return c.Has(ctx, ledger.Spare(ledger.LedgerName(g)))
}

// ErrLedger: the newest ledger entry is damaged or gone, and its spare with it. Points can be
// read; nobody can say any more what a writer may build on.
var ErrLedger = errors.New("the newest entry of the ledger cannot be read")

// RollEnd finds the first free number of the roll that is not below from or where
// view says that the roll begins.
func (c *Catalog) RollEnd(ctx context.Context, view *ledger.View, from uint32) (uint32, error) {
	c.mu.Lock()
	from = max(from, view.Entry.Roll, c.roll)
	c.mu.Unlock()
	end, err := ledger.FirstFree(from, func(n uint32) (bool, error) { return c.Has(ctx, ledger.RollName(n)) })
	if err != nil {
		return 0, err
	}
	c.SawRoll(end)
	return end, nil
}

// ErrNoSession: a number of the roll is free, or its record is lost.
var ErrNoSession = errors.New("no session has this number")

// Enrolled tells which session has a number of the roll, or ErrNoSession. It
// believes in damage when it has seen it three times: an answer may be wrong.
func (c *Catalog) Enrolled(ctx context.Context, n uint32) (ledger.Packed, error) {
	for try := 1; ; try++ {
		rec, err := record.ReadAs[ledger.Session](ctx, c.Store, ledger.RollName(n), parity.Session)
		if err == nil {
			var sid ledger.SID
			if sid, err = ledger.ParseSID(rec.SID); err == nil {
				c.prove(sid.Gen, ledger.RollName(n))
				return sid.Pack(), nil
			}
		}
		switch {
		case record.IsGone(err):
			return ledger.Packed{}, fmt.Errorf("%w: %w", ErrNoSession, err)
		case !record.IsDefinite(err) && !errors.Is(err, ledger.ErrName) || ctx.Err() != nil:
			return ledger.Packed{}, fmt.Errorf("read roll: %w", err)
		case try == 3:
			return ledger.Packed{}, fmt.Errorf("%w: %w", ErrNoSession, err)
		}
	}
}

// SawRoll notes that all numbers of the roll below end have been taken.
func (c *Catalog) SawRoll(end uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll = max(c.roll, end)
}

// segments lists the segments of the index. Those that the ledger names, and those
// that Reveal has found, are asked for by name if the listing does not show them.
func (c *Catalog) segments(ctx context.Context) ([]string, error) {
	names, err := c.List(ctx, ledger.Indexes)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(names) { // the latest first
		sid, _, err := ledger.ParseNumbered(name)
		if err == nil && sid.Gen <= c.View().Number {
			break
		}
		if err == nil {
			err = c.Meet(ctx, parity.Index, name, sid)
			if err != nil {
				return nil, err
			}
		}
	}
	c.mu.Lock()
	known := append(slices.Clone(c.view.Entry.Runs), c.hidden...)
	c.mu.Unlock()
	slices.Sort(known)
	var hidden []string
	for _, name := range slices.Compact(known) {
		if _, listed := slices.BinarySearch(names, name); listed {
			continue
		}
		there, err := c.Has(ctx, name)
		if err != nil {
			return nil, err
		}
		if there {
			hidden = append(hidden, name)
		}
	}
	if len(hidden) > 0 {
		names = append(names, hidden...)
		slices.Sort(names)
	}
	return names, nil
}
