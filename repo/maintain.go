package repo

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/prune"
	"holdfast/repo/repair"
)

type (
	// PruneOptions steer Prune.
	PruneOptions = prune.Options
	// PruneReport is what a prune did, or would do.
	PruneReport = prune.Report
	// PruneProgress tells how far a prune has come.
	PruneProgress = prune.Progress
	// RepairReport is what a repair of the index did.
	RepairReport = repair.Report
)

var (
	// ErrPruneBlocked: damage keeps prune from deciding.
	ErrPruneBlocked = prune.ErrBlocked
	// ErrPruneContended: other pruners were faster, again and again.
	ErrPruneContended = prune.ErrContended
	// ErrLedger: the newest ledger entry is lost, and its spare with it.
	ErrLedger = catalog.ErrLedger
)

// Forget drops a point: from now on it is not listed, and a prune may remove what
// only it needs. There is no way back. A point that turns out to be pinned, though e
// says that it is not, is ErrPinned.
func (r *Repository) Forget(ctx context.Context, e Entry, reason string) error {
	if !e.Pinned {
		if err := r.notPinned(ctx, e.Session()); err != nil {
			return err
		}
	}
	return points.Forget(ctx, r.catalog, e, reason)
}

// ForgetLost drops a point whose manifest cannot be read, or is gone, so that it no
// longer keeps prune from deciding, and nobody misses it. Of a point that has vanished and
// was made under a later ledger than there is, nothing is written: only this machine knows
// of it, and forgets it.
func (r *Repository) ForgetLost(ctx context.Context, e *PointError, reason string) error {
	gone := errors.Is(e.Err, ErrVanished)
	if gone {
		sid, err := e.Session()
		if err == nil {
			err = r.catalog.LookLedger(ctx)
		}
		if err != nil {
			return err
		}
		if r.catalog.IsBeyond(sid) {
			r.unremember(sid)
			return nil
		}
	}
	if err := points.ForgetLost(ctx, r.catalog, e, reason); err != nil || !gone {
		return err
	}
	sid, err := e.Session()
	if err != nil {
		return err
	}
	return r.acknowledge(ctx, sid)
}

// Prune removes what no point needs; see prune.Run. Options' Src, Who, Lock,
// Leaving and Vanished are filled in.
func (r *Repository) Prune(ctx context.Context, opts PruneOptions) (*PruneReport, error) {
	opts.Src, opts.Who = r.keys.SourceName("prune"), r.sessionOptions("prune")
	if opts.Lock = r.config.Lock != nil; opts.Lock {
		keys, err := r.slots.List(ctx)
		if err != nil {
			return &PruneReport{}, err
		}
		opts.Leaving = map[string]bool{}
		for _, key := range keys {
			if key.Removing { // its lock is all that keeps it
				opts.Leaving[ledger.Keys+key.ID], opts.Leaving[ledger.Spare(ledger.Keys+key.ID)] = true, true
			}
		}
	}
	gone, err := r.missed(ctx)
	if err != nil {
		return &PruneReport{}, err
	}
	opts.Vanished = gone
	rep, err := prune.Run(ctx, r.catalog, opts)
	if errors.Is(err, ErrPruneBlocked) {
		return rep, r.blamesIndex(ctx, rep, err)
	}
	if err != nil {
		return rep, err
	}
	for _, sid := range gone {
		if r.opts.Vanished != nil {
			r.opts.Vanished(sid.Rand)
			continue
		}
		rep.Warnings = append(rep.Warnings, fmt.Sprintf("point %s was here when this machine last looked; it is gone, and nobody has forgotten it", sid.Rand))
	}
	return rep, nil
}

// RepairIndex lists every pack that no good segment lists; see repair.Index.
func (r *Repository) RepairIndex(ctx context.Context, progress func(done, total int)) (*RepairReport, error) {
	return repair.Index(ctx, r.catalog, r.keys.SourceName("repair"), r.sessionOptions("repair index"), progress)
}

// RepairPacksReport is what a repair of packs did.
type RepairPacksReport = repair.PacksReport

// RepairPacks salvages what is left of damaged packs; see repair.Packs.
func (r *Repository) RepairPacks(ctx context.Context, dryRun bool, progress func(done, total int)) (*RepairPacksReport, error) {
	return repair.Packs(ctx, r.catalog, repair.PacksOptions{
		Src: r.keys.SourceName("repair"), Who: r.sessionOptions("repair packs"), DryRun: dryRun, Progress: progress,
	})
}
