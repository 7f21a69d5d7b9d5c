package prune

import (
	"context"
	"fmt"
	"slices"

	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/session"
)

// revokeGone gives up sessions whose process is gone from this host: who gets
// the lock knows.
func (r *round) revokeGone(ctx context.Context) error {
	if r.opts.Who.Locks == nil {
		return nil
	}
	revoked := false
	for _, open := range r.survey.Open {
		lock := r.opts.Who.Locks.State(open.SID.String())
		why, dead := ledger.IsDead(open, r.view, lock, ledger.Patience{})
		if !dead || slices.Contains(r.opts.Vanished, open.SID) {
			continue
		}
		if r.opts.DryRun {
			r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: open.SID.Pack(), Kind: ledger.RevokedSlot})
			r.rep.Revoked = append(r.rep.Revoked, open.SID.String())
			continue
		}
		if err := r.revoke(ctx, open.SID, why); err != nil {
			return err
		}
		revoked = true
	}
	if revoked {
		return errAgain
	}
	if len(r.rep.Revoked) > 0 && r.opts.DryRun { // look again, as if they had been
		r.survey = ledger.Look(&r.listing)
		return r.hear(ctx)
	}
	return nil
}

// revokeSilent gives up sessions elsewhere that have been silent for too long by
// the clock that stamped the entry just written.
func (r *round) revokeSilent(ctx context.Context, before *ledger.View) error {
	if len(r.survey.Open) == 0 {
		return nil
	}
	info, err := r.c.Backend.Stat(ctx, ledger.LedgerName(r.view.Number))
	if err != nil {
		return fmt.Errorf("read the time of ledger %d: %w", r.view.Number, err)
	}
	patience := ledger.Patience{DeadAfter: r.opts.DeadAfter, StoreNow: info.Modified}
	revoked := false
	for _, open := range r.survey.Open {
		lock := ledger.LockUnknown
		if r.opts.Who.Locks != nil {
			lock = r.opts.Who.Locks.State(open.SID.String())
		}
		why, dead := ledger.IsDead(open, before, lock, patience)
		if !dead || slices.Contains(r.opts.Vanished, open.SID) {
			continue
		}
		if err := r.revoke(ctx, open.SID, why); err != nil {
			return err
		}
		revoked = true
	}
	if revoked {
		return errAgain
	}
	return nil
}

func (r *round) revoke(ctx context.Context, sid ledger.SID, why string) error {
	err := session.Revoke(ctx, r.c.Store, sid, why)
	if record.IsTaken(err) {
		return nil // it was faster: alive, or revoked by another
	}
	if err != nil {
		return fmt.Errorf("revoke session %s: %w", sid, err)
	}
	r.c.Log.Info("session revoked", "sid", sid.String(), "why", why)
	if r.opts.Who.Locks != nil {
		r.opts.Who.Locks.Settled(sid.String())
	}
	r.rep.Revoked = append(r.rep.Revoked, sid.String())
	return nil
}

// describeOpen tells whose the open sessions are; that a record cannot be read
// is no matter.
func (r *round) describeOpen(ctx context.Context) []OpenSession {
	open := []OpenSession{}
	for _, h := range r.survey.Open {
		o := OpenSession{SID: h.SID.String(), Heard: h.Newest, Vanished: slices.Contains(r.opts.Vanished, h.SID)}
		if n, known := r.numberOf(h.SID); known {
			if rec, err := record.ReadAs[ledger.Session](ctx, r.c.Store, ledger.RollName(n), parity.Session); err == nil {
				o.Host, o.Source = rec.Host, rec.Source
			}
		}
		open = append(open, o)
	}
	return open
}
