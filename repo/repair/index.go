// Package repair brings back what can be brought back of a damaged repository:
// the index from the packs' own tables, and of damaged packs what still opens.
// It never removes a pack that holds anything.
package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/catalog"
	"holdfast/repo/check"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/points"
	"holdfast/repo/record"
	"holdfast/repo/session"
)

// Report is what a repair of the index did.
type Report struct {
	Packs      int      `json:"packs"`             // read and listed anew
	UntilPrune int      `json:"packs_until_prune"` // of them: no backup reuses what they hold before the next prune has listed them in a run
	Segments   []string `json:"segments"`          // written
	Removed    []string `json:"removed"`           // segments that were damaged or listed lost packs; the others' packs are listed again
	Lost       []string `json:"lost"`              // packs that are gone: the next backup stores their content anew if it still exists
	Unreadable []string `json:"unreadable"`        // packs whose table cannot be read
	Ledger     int      `json:"ledger_entries"`    // put where the ledger had lost its end
}

// Index lists every pack that no good segment lists, from the packs' own
// tables, in new segments, and then removes segments that are damaged beyond
// repair or list packs that are gone. It never removes a pack.
func Index(ctx context.Context, c *catalog.Catalog, src string, who session.Options, progress func(done, total int)) (*Report, error) {
	rep := &Report{}
	// Segments before packs: whatever a listed segment names was there before.
	segments, err := c.List(ctx, ledger.Indexes)
	if err != nil {
		return nil, err
	}
	unlisted := map[string]bool{}
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		names, err := c.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			unlisted[name] = true
		}
	}
	bad, err := badSegments(ctx, c, segments, unlisted, rep)
	if err != nil {
		return nil, err
	}
	if bad, err = mendEnd(ctx, c, bad, rep); err != nil {
		return nil, err
	}
	if err := relist(ctx, c, src, who, slices.Sorted(maps.Keys(unlisted)), rep, progress); err != nil {
		return nil, err
	}
	if err := c.Backend.Sync(ctx); err != nil {
		return nil, fmt.Errorf("make new segments durable: %w", err)
	}
	if err := remove(ctx, c, bad, rep); err != nil {
		return nil, err
	}
	return rep, errors.Join(c.Backend.Sync(ctx), c.Refresh(ctx))
}

func remove(ctx context.Context, c *catalog.Catalog, bad []string, rep *Report) error {
	for _, name := range bad {
		if err := c.Backend.Delete(ctx, name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		rep.Removed = append(rep.Removed, name)
	}
	return nil
}

// mendEnd makes a ledger that has lost its end one that can be built on, and returns the
// bad segments that are left. It removes them first: by an entry that knows of fewer
// deletions than there were, a backup would reuse packs that are gone. Until they are
// listed anew, the others of such a segment are read by their own tables.
func mendEnd(ctx context.Context, c *catalog.Catalog, bad []string, rep *Report) ([]string, error) {
	if _, err := points.Sessions(ctx, c, ledger.Commits); err != nil { // met, as the segments were
		return nil, err
	}
	if _, err := c.MeetLast(ctx, c.View()); err != nil {
		return nil, err
	}
	entry, _, err := c.LostEnd(ctx)
	if err != nil || entry == "" {
		return bad, err
	}
	if err := remove(ctx, c, bad, rep); err != nil {
		return nil, err
	}
	if err := c.Backend.Sync(ctx); err != nil {
		return nil, fmt.Errorf("make it durable that segments are gone: %w", err)
	}
	rep.Ledger, err = c.MendEnd(ctx)
	return nil, err
}

// badSegments returns the segments that must be replaced: those that cannot be
// read, and those that list a pack that is gone, by which new backups would
// believe lost chunks to be stored. It takes from packs, all that exist, those
// that some good segment lists.
func badSegments(ctx context.Context, c *catalog.Catalog, names []string, packs map[string]bool, rep *Report) (bad []string, err error) {
	listed := map[string]bool{}
	lost := map[string]bool{}
	mayBeGone := c.MayBeGone()
	for _, name := range names {
		in, err := segmentPacks(ctx, c, name)
		if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
			return nil, err
		}
		if err != nil {
			if !record.IsGone(err) {
				bad = append(bad, name)
			}
			continue
		}
		whole := true
		for _, p := range in {
			if packs[p.Name()] || mayBeGone(p) {
				continue
			}
			there, err := c.Has(ctx, p.Name()) // a listing may hide it
			if err != nil {
				return nil, err
			}
			if !there {
				whole, lost[p.Name()] = false, true
			}
		}
		if !whole {
			bad = append(bad, name)
			continue
		}
		for _, p := range in {
			listed[p.Name()] = true
		}
	}
	maps.DeleteFunc(packs, func(name string, _ bool) bool { return listed[name] })
	rep.Lost = slices.Sorted(maps.Keys(lost))
	return bad, nil
}

// segmentPacks reads a segment and lists its packs.
func segmentPacks(ctx context.Context, c *catalog.Catalog, name string) ([]index.Pack, error) {
	payload, err := c.Read(ctx, name, parity.Index)
	if err != nil {
		return nil, err
	}
	return check.SegmentPacks(payload)
}

// packsPerSegment is how many packs a new segment lists, as a backup's would.
const packsPerSegment = 64

// lister writes segments for packs, read from the packs themselves. The segments
// belong to a session of the repair's own, which makes no point.
type lister struct {
	c   *catalog.Catalog
	s   *session.Session
	b   index.Builder
	rep *Report
}

// relist writes segments for packs, as many packs in each as a session would.
func relist(ctx context.Context, c *catalog.Catalog, src string, who session.Options, packs []string, rep *Report, progress func(done, total int)) error {
	if len(packs) == 0 {
		return nil
	}
	s, err := session.Begin(ctx, c, src, who)
	if err != nil {
		return err
	}
	defer s.Revoke(ctx, "the repair makes no point")
	l := &lister{c: c, s: s, rep: rep}
	for i, name := range packs {
		if err := l.add(ctx, name); err != nil {
			return err
		}
		if l.b.Len() >= packsPerSegment {
			if err := l.flush(ctx); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(i+1, len(packs))
		}
	}
	return l.flush(ctx)
}

func (l *lister) add(ctx context.Context, name string) error {
	listed, entries, err := l.c.Table(ctx, name)
	switch {
	case err == nil:
		l.b.Add(listed, entries)
		l.rep.Packs++
		// Below the horizon anything may be about to go: there a writer trusts the
		// lists of a prune alone, and only a prune can tell what is needed.
		if owner, _, err := ledger.ParsePack(name); err == nil && owner.Gen < l.c.View().Entry.Horizon {
			l.rep.UntilPrune++
		}
	case ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable):
		return err
	case !record.IsGone(err):
		l.c.Log.Warn("pack cannot be listed", "pack", name, "error", err)
		l.rep.Unreadable = append(l.rep.Unreadable, name)
	}
	return nil
}

func (l *lister) flush(ctx context.Context) error {
	if l.b.Len() == 0 {
		return nil
	}
	segment, err := l.b.Bytes()
	if err != nil {
		return fmt.Errorf("build index segment: %w", err)
	}
	l.b = index.Builder{}
	name, err := l.s.PublishSegment(ctx, segment)
	if err == nil {
		l.rep.Segments = append(l.rep.Segments, name)
	}
	return err
}
