package prune

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/session"
)

// runEntries bounds a run: 256 Ki entries are 7 MiB, well below what one record
// may hold, and small enough to be built in memory.
const runEntries = 256 << 10

// decide turns the marks into the plan.
func (r *round) decide(ctx context.Context) error {
	if len(r.missing) > 0 {
		r.marker.Lost(true)
		r.survey.Blocked = append(r.survey.Blocked, ledger.Reason{
			Rule: "P1", Object: r.missing[0], Why: "this segment of the index cannot be read: repair the index",
		})
	}
	r.plan = r.marker.Decide(nil)
	if len(r.survey.Blocked) > 0 {
		return nil
	}
	if merge := r.mergeRuns(len(r.plan.Run)); len(merge) > 0 {
		r.plan = r.marker.Decide(merge)
	}
	leaving := slices.DeleteFunc(slices.Clone(r.listing.Forgets), func(sid ledger.Packed) bool {
		return r.view.Voids(sid) || sid.Gen() >= r.plan.Next.Horizon
	})
	turns := map[ledger.Packed]uint32{}
	for _, e := range r.listing.Roll {
		turns[e.SID] = e.Number
	}
	made, err := points.Peaks(ctx, r.c, r.view.Entry.Made, r.survey.Live, leaving, turns)
	if err != nil {
		return err
	}
	r.plan.WithMade(made)
	return nil
}

// mergeRuns picks the runs that are rewritten. A run that is full stays as it is
// until much of it is gone: to merge it with others would only cut it anew.
// fresh is how many packs the new run lists in any case.
func (r *round) mergeRuns(fresh int) []string {
	going := map[string]bool{}
	for _, batch := range r.view.Entry.Condemned {
		for _, name := range batch.Packs {
			going[name] = batch.Going
		}
	}
	var sizes []ledger.RunSize
	for _, segment := range r.listing.Segments {
		if !r.view.IsRun(segment.Name) {
			continue
		}
		size := ledger.RunSize{Name: segment.Name, Packs: len(segment.Packs)}
		entries := 0
		for _, name := range segment.Packs {
			entries += int(r.packs[name].Count)
			if _, there := r.bytes[name]; !there || going[name] {
				size.Gone++
			}
		}
		if entries < r.opts.packsInRun/2 || size.Gone*4 > size.Packs {
			sizes = append(sizes, size)
		}
	}
	return ledger.PickRuns(sizes, fresh)
}

// writeRuns writes the segments that the plan asks for, in a session of the
// pruner's own, and settles that session: all this before the entry that names
// them.
func (r *round) writeRuns(ctx context.Context) error {
	if len(r.plan.Run) == 0 {
		return nil
	}
	s, err := session.Begin(ctx, r.c, r.opts.Src, r.opts.Who)
	if err != nil {
		return fmt.Errorf("begin session for runs: %w", err)
	}
	var names []string
	groups := r.groupRun()
	for _, packs := range groups {
		segment, err := r.c.Index.Extract(packs)
		if errors.Is(err, index.ErrUnknownPack) {
			s.Abort() // to begin was to look anew: another pruner has let it go since
			return errAgain
		}
		if err != nil {
			s.Abort()
			return fmt.Errorf("build run: %w", err)
		}
		name, err := s.PublishSegment(ctx, segment)
		if err != nil {
			s.Abort()
			return fmt.Errorf("write run: %w", err)
		}
		names = append(names, name)
		if len(groups) > 1 {
			runtime.GC() // to seal a run leaves eight times its size behind: that is not to pile up
		}
	}
	if err := r.c.Backend.Sync(ctx); err != nil {
		s.Abort()
		return fmt.Errorf("make runs durable: %w", err)
	}
	s.Revoke(ctx, "a prune makes no point")
	r.plan.WithRuns(names)
	return nil
}

// groupRun cuts the packs of the new run into segments of bounded size.
func (r *round) groupRun() [][]index.Pack {
	var groups [][]index.Pack
	var group []index.Pack
	entries := 0
	for _, name := range r.plan.Run {
		p := r.packs[name]
		if len(group) > 0 && entries+int(p.Count) > r.opts.packsInRun {
			groups, group, entries = append(groups, group), nil, 0
		}
		group = append(group, p)
		entries += int(p.Count)
	}
	return append(groups, group)
}

// report notes what the round found and decided.
func (r *round) report(ctx context.Context) {
	rep := r.rep
	rep.Ledger, rep.Points = r.view.Number, len(r.survey.Live)
	rep.PacksLive, rep.BytesLive, rep.BytesUnused = 0, 0, 0
	for name, use := range r.plan.Live {
		rep.PacksLive++
		rep.BytesLive += r.bytes[name]
		rep.BytesUnused += r.unusedOf(name, use)
	}
	rep.PacksWaiting, rep.BytesWaiting = 0, 0
	for _, batch := range r.plan.Next.Condemned {
		for _, name := range batch.Packs {
			_, there := r.bytes[name]
			switch {
			case rep.DryRun && there && (batch.Going || len(r.survey.Open) == 0):
				rep.PacksRemoved++
				rep.BytesRemoved += r.bytes[name]
			case !batch.Going:
				rep.PacksWaiting++
				rep.BytesWaiting += r.bytes[name]
			}
		}
	}
	rep.Open = r.describeOpen(ctx)
	for _, reason := range r.plan.Reasons {
		rep.Rules[reason.Rule]++
		r.c.Log.Debug("prune decides", "rule", reason.Rule, "object", reason.Object, "why", reason.Why)
	}
	rep.Blocked = rep.Blocked[:0]
	for _, b := range r.survey.Blocked {
		rep.Blocked = append(rep.Blocked, BlockedBy{Object: b.Object, Why: b.Why})
	}
	slices.Sort(rep.Revoked)
	rep.Revoked = slices.Compact(rep.Revoked)
}
