package index

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/index/segment"
)

// Parts are merged when they cost more than they save: everything, when what is
// outside the base or dead in it exceeds the larger of freshEntries and an
// eighth of the base; the small ones among themselves, when there are many.
const (
	freshEntries = 64 << 10
	baseShare    = 8
	maxRecent    = 8
	fetchBatch   = 64 // segments between two merges of a long Refresh: bounds open files
)

// SegmentError says that one segment of the repository could not be taken in.
type SegmentError struct {
	Name string // the segment's object name
	Err  error  // of fetch, ErrCorrupt, ErrConservation, or of the directory
}

// Error names the segment and the cause.
func (e *SegmentError) Error() string { return "take in segment " + e.Name + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *SegmentError) Unwrap() error { return e.Err }

// Fetch brings the bytes of the segment called name, opened and healed: what
// Builder made of it. It is called from several goroutines at once.
type Fetch func(ctx context.Context, name string) ([]byte, error)

// Refresh brings the local index up to the segments that exist now, names: it
// fetches those it lacks, several at a time, and drops what only gone segments
// listed. Every fetched segment is read whole and held against the conservation
// law.
//
// A segment that fetch does not bring, or that is damaged, does not stop the
// others: all else is in effect, and the error joins one SegmentError for each
// that is missing. Other errors: ctx's, and ErrConservation when segments
// contradict each other.
//
// While it fetches, everything else goes on with what was known before; only
// another Refresh waits, as long as its ctx lasts. (It cannot share this one's
// outcome: its list of names may be younger.)
func (l *Local) Refresh(ctx context.Context, names []string, fetch Fetch) error {
	select {
	case l.refreshing <- struct{}{}:
		defer func() { <-l.refreshing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	old, err := l.begin()
	if err != nil {
		return err
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	parts, retired := restrict(old, wanted)
	// A second round brings anew what a damaged local file held.
	for range 2 {
		var gone []*shard
		parts, gone, err = l.catchUp(ctx, parts, wanted, fetch)
		retired = append(retired, gone...)
		if !slices.ContainsFunc(parts, func(p part) bool { return p.condemned() }) {
			break
		}
		parts, gone = restrict(parts, wanted)
		retired = append(retired, gone...)
	}
	l.finish(parts, retired, wanted)
	return err
}

// begin tells AddSegment that the parts there are must stay as they are.
func (l *Local) begin() ([]part, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.fetching = true
	return l.parts, nil
}

// finish puts what a Refresh has brought in the place of what was there when it
// began, and keeps what AddSegment has brought since.
func (l *Local) finish(parts []part, retired []*shard, wanted map[string]bool) {
	l.changing.Lock()
	defer l.changing.Unlock()
	for _, p := range l.added {
		for _, n := range p.names {
			wanted[n.Name] = true
		}
		parts = append(parts, part{p.shard, p.liveIn(wanted)})
	}
	l.wanted, l.fetching, l.added = wanted, false, nil
	l.swap(parts, retired)
}

// restrict keeps of parts what segments in wanted list. Damaged parts go.
func restrict(parts []part, wanted map[string]bool) (kept []part, retired []*shard) {
	for _, p := range parts {
		live := p.liveIn(wanted)
		if p.condemned() || !slices.Contains(live, true) && len(live) > 0 {
			retired = append(retired, p.shard)
			continue
		}
		kept = append(kept, part{p.shard, live})
	}
	return kept, retired
}

// catchUp fetches what parts lack of the wanted segments, merging on the way.
func (l *Local) catchUp(ctx context.Context, parts []part, wanted map[string]bool, fetch Fetch) ([]part, []*shard, error) {
	var retired []*shard
	var errs []error
	todo := missing(parts, wanted)
	for {
		batch := todo[:min(len(todo), fetchBatch)]
		todo = todo[len(batch):]
		fresh, err := l.fetch(ctx, batch, fetch)
		for _, s := range fresh {
			parts = append(parts, part{s, s.liveIn(wanted)})
		}
		// Also with nothing new: what is gone may ask for a merge.
		merged, gone, mergeErr := l.compact(parts, wanted)
		parts, retired = merged, append(retired, gone...)
		errs = append(errs, err, mergeErr)
		if len(todo) == 0 || ctx.Err() != nil {
			return parts, retired, errors.Join(append(errs, ctx.Err())...)
		}
	}
}

// missing is what wanted has and parts do not cover, sorted.
func missing(parts []part, wanted map[string]bool) []string {
	covered := map[string]bool{}
	for _, p := range parts {
		p.cover(covered)
	}
	var names []string
	for name := range wanted {
		if !covered[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// fetch brings the named segments and stores them. It returns those that came,
// and the errors of the others, joined.
func (l *Local) fetch(ctx context.Context, names []string, fetch Fetch) ([]*shard, error) {
	var mu sync.Mutex
	var fresh []*shard
	var errs []error
	var group errgroup.Group
	group.SetLimit(l.fetches)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			var s *shard
			data, err := fetch(ctx, name)
			if err == nil {
				s, err = l.store.take(name, data)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, &SegmentError{Name: name, Err: err})
			} else {
				fresh = append(fresh, s)
			}
			return nil // one failed segment does not stop its neighbours
		})
	}
	_ = group.Wait()
	return fresh, errors.Join(errs...)
}

// compact merges parts where it pays. retired are shards that the result no
// longer needs. A merge that cannot be written is put off: the parts are right
// as they are. A damaged part is condemned, for the caller to replace; the law
// broken between sound parts is an error.
func (l *Local) compact(parts []part, wanted map[string]bool) (merged []part, retired []*shard, err error) {
	chosen := choose(parts)
	if len(chosen) == 0 {
		return parts, nil, nil
	}
	s, err := l.merge(chosen, wanted)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrConservation) {
		if l.condemnDamaged(chosen) {
			err = nil
		}
		return parts, nil, err
	}
	if err != nil {
		l.log.Warn("merge of local index put off", "error", err)
		return parts, nil, nil
	}
	merged = []part{{s, s.liveIn(wanted)}}
	for _, p := range parts {
		if slices.ContainsFunc(chosen, func(c part) bool { return c.shard == p.shard }) {
			retired = append(retired, p.shard)
		} else {
			merged = append(merged, p)
		}
	}
	return merged, retired, nil
}

// condemnDamaged reads parts whole and condemns those that are not sound. It
// reports whether there were any.
func (l *Local) condemnDamaged(parts []part) bool {
	found := false
	for _, p := range parts {
		if err := p.seg.Verify(); err != nil {
			l.log.Warn("local index file damaged", "file", p.where(), "error", err)
			p.condemn()
			found = true
		}
	}
	return found
}

// choose says which sound parts to merge now: all, the small ones, or none.
func choose(parts []part) []part {
	sorted := slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.condemned() })
	if len(sorted) == 0 {
		return nil
	}
	slices.SortFunc(sorted, func(a, b part) int { return cmp.Compare(b.seg.Len(), a.seg.Len()) })
	base, recent := sorted[0], sorted[1:]
	burden := 0 // entries outside the base, and in it those of packs that do not count
	for _, p := range recent {
		burden += p.seg.Len()
	}
	for i, live := range base.live {
		if !live {
			burden += int(base.seg.Packs()[i].Count)
		}
	}
	switch {
	case burden > max(freshEntries, base.seg.Len()/baseShare):
		return sorted
	case len(recent) > maxRecent:
		return recent
	}
	return nil
}

// merge makes one shard of parts, without the packs that do not count.
func (l *Local) merge(parts []part, wanted map[string]bool) (*shard, error) {
	segs := make([]*Segment, len(parts))
	for i, p := range parts {
		segs[i] = p.seg
	}
	live := livePacks(parts)
	fill := func(w io.Writer) (int64, error) {
		return segment.Merge(w, segs, func(p Pack) bool { return segment.Ordinal(live, p) >= 0 })
	}
	return l.store.create(fill, func(seg *Segment) []named { return renumber(parts, wanted, seg) })
}

// renumber carries the names of parts, as far as wanted, over to a merged segment.
func renumber(parts []part, wanted map[string]bool, seg *Segment) []named {
	var all []named
	done := map[string]bool{}
	for _, p := range parts {
		for _, n := range p.names {
			if !wanted[n.Name] || done[n.Name] {
				continue
			}
			done[n.Name] = true
			to := named{Name: n.Name, Packs: make([]uint32, 0, len(n.Packs))}
			for _, i := range n.Packs {
				if at := segment.Ordinal(seg.Packs(), p.seg.Packs()[i]); at >= 0 {
					to.Packs = append(to.Packs, uint32(at))
				}
			}
			all = append(all, to)
		}
	}
	slices.SortFunc(all, func(a, b named) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
