package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// proof is an object of a session that began under an entry of the ledger: entries stay
// for ever, so where no entry of that number, and no later one, is to be had, the ledger
// has lost its end.
type proof struct {
	gen    uint32 // the entry's number
	object string
}

// prove takes an object for a proof. It must have been opened: a name alone says nothing.
func (c *Catalog) prove(gen uint32, object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen > c.proof.gen {
		c.proof = proof{gen, object}
	}
}

func (c *Catalog) proven() proof {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proof
}

// Meet opens those objects of sessions that may be a proof: they are of a later entry than
// is known here. Mostly that entry has just been written; the next ReadLedger asks for it
// by name. Names are best given from the last on: one that opens spares the others. A
// slot with a revocation is none: anybody may write that later, under an older ledger.
func (c *Catalog) Meet(ctx context.Context, kind parity.Kind, name string, sid ledger.SID) error {
	c.mu.Lock()
	news := !c.unread && c.view != nil && sid.Gen > max(c.view.Number, c.proof.gen)
	c.mu.Unlock()
	if !news {
		return nil
	}
	payload, err := c.Read(ctx, name, kind)
	if err == nil && kind == parity.Commit {
		slot, err := ledger.Decode[ledger.Slot](payload)
		if err != nil || slot.Revoked != nil {
			return nil
		}
	}
	switch {
	case err == nil:
		c.prove(sid.Gen, name)
	case errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil:
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil // gone, damaged, foreign: it proves nothing, and others tell of it
}

// MeetLast is Meet of the session that entered the roll last, and reports whether that,
// or anything met before, is of a later entry than view.
func (c *Catalog) MeetLast(ctx context.Context, view *ledger.View) (later bool, err error) {
	end, err := c.RollEnd(ctx, view, 0)
	if err == nil && end > view.Entry.Roll {
		_, err = c.Enrolled(ctx, end-1)
	}
	if errors.Is(err, ErrNoSession) {
		err = nil
	}
	return c.proven().gen > view.Number, err
}

// beyond goes on from end, the first number of the ledger that was found free, to the
// proven entry, if that is there: those between may be lost.
func (c *Catalog) beyond(ctx context.Context, end uint32, p proof) (uint32, error) {
	if p.gen < end {
		return end, nil
	}
	there, err := c.hasEntry(ctx, p.gen)
	if err != nil || !there {
		return end, err
	}
	return ledger.FirstFree(p.gen+1, func(g uint32) (bool, error) { return c.hasEntry(ctx, g) })
}

// outlives is ErrLedger if the entry is a later one than the newest that there is. The
// newest must have been looked for after the proof was met.
func (p proof) outlives(newest uint32) error {
	if p.gen <= newest {
		return nil
	}
	return fmt.Errorf("%w: %s is missing, under which %s was made: %w", ErrLedger, ledger.LedgerName(p.gen), p.object, pack.ErrDamaged)
}

// IsOutlived reports whether the entry that LookLedger has found is not the last that
// there was.
func (c *Catalog) IsOutlived() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.unread && c.proof.gen > c.view.Number
}

// LostEnd names the entry that the ledger must have had and has no more, and what proves
// it; "" if nothing does.
func (c *Catalog) LostEnd(ctx context.Context) (entry, by string, err error) {
	p := c.proven()
	newest, err := c.newestLedger(ctx, nil, p)
	if errors.Is(err, ErrLedger) || err == nil && p.gen <= newest {
		return "", "", nil
	}
	return ledger.LedgerName(p.gen), p.object, err
}

// IsBeyond reports whether a session began under a later entry than the newest that there
// is, as after an older state of the repository was brought back. What is unknown is not.
func (c *Catalog) IsBeyond(sid ledger.SID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.unread && sid.Gen > c.view.Number
}

// HasBegun asks by name for the entry that a session began under, and else for a later
// one: false is that the place was set back to an older state since.
func (c *Catalog) HasBegun(ctx context.Context, gen uint32) (bool, error) {
	known := c.View().Number
	for _, g := range []uint32{gen, max(known, gen), max(known, gen) + 1} {
		if there, err := c.hasEntry(ctx, g); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// MendEnd puts entries where the ledger has lost its end: copies of the newest that is
// left, up to one above the proven, that nobody can have begun under. Batches that wait
// are condemned anew, since what was made under the lost entries may have rescued them
// (FORMAT.md §9). It returns how many it wrote. Before,
// no segment may list a pack that is gone and that this entry does not condemn: the lost
// ones may have let go of more.
func (c *Catalog) MendEnd(ctx context.Context) (int, error) {
	p := c.proven()
	newest, err := c.newestLedger(ctx, nil, p)
	if err != nil || p.gen <= newest {
		return 0, err
	}
	next, err := record.ReadAs[ledger.Entry](ctx, c.Store, ledger.LedgerName(newest), parity.Ledger)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrLedger, err)
	}
	last := p.gen + 1
	for i, batch := range next.Condemned {
		if !batch.Going {
			next.Condemned[i].Since, next.Condemned[i].Covered = last, nil
		}
	}
	payload, err := next.Payload()
	if err != nil {
		return 0, err
	}
	for g := newest + 1; g <= last; g++ { // the last at last: until then nobody begins
		name := ledger.LedgerName(g)
		err := c.WritePayload(ctx, name, parity.Ledger, payload)
		if record.IsTaken(err) { // by another repair, whose entry is the same, or the lost one is back
			there, readErr := c.Read(ctx, name, parity.Ledger)
			if readErr == nil && bytes.Equal(there, payload) {
				continue
			}
		}
		if err != nil {
			return 0, fmt.Errorf("put entry %d of the ledger: %w", g, err)
		}
	}
	return int(last - newest), c.LookLedger(ctx)
}
