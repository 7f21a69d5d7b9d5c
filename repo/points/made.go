package points

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
)

// peaksMost bounds how many forgotten points of a source are read. More that no live one
// has followed are there only where a source was forgotten whole.
const peaksMost = 256

// Known is Of for a session of a source, and the highest number (recovery.Point.Made)
// that the source's forgotten points had: the next one's is to be higher, or the order of
// making in a copy that still has them would be in doubt. turn is the session's own
// (recovery.Point.Turn).
func Known(ctx context.Context, c *catalog.Catalog, src string, turn int64) (entries []Entry, problems []*Unreadable, peak int64, err error) {
	look, err := survey(ctx, c, src)
	if err != nil {
		return nil, nil, 0, err
	}
	known := newWords()
	var live ledger.Pile
	followed := int64(0)
	problems, err = look.each(ctx, c, func(e Entry) error {
		known.share(&e)
		entries = append(entries, e)
		live.Add(e.sid)
		if e.isOwn() {
			followed = max(followed, e.Turn)
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	sortEntries(entries)
	view := c.View()
	forgotten := unfollowed(live, slices.DeleteFunc(look.forgotten, view.Voids))
	peak = view.Entry.Made[src]
	if len(forgotten) == 0 {
		return entries, problems, peak, nil
	}
	newest := newestOf(forgotten)
	from, to := max(followed, int64(view.Entry.Roll)), turn-1
	inRoll := newest[0].Gen() >= view.Entry.Horizon // all of that generation
	// By the roll, which has the sessions in their order, unless few can be read at once.
	if gap := to - from; inRoll && gap >= 0 && (gap < int64(len(newest)) || len(newest) > readsAtOnce) {
		highest, found, err := peakInRoll(ctx, c, forgotten, from, to)
		if err == nil && (found || followed > 0 && from == followed) { // what it has not met a live one has followed
			return entries, problems, max(peak, highest), nil
		}
		if err != nil && !errors.Is(err, errNotTold) {
			return nil, nil, 0, err
		}
	}
	peaks, err := Peaks(ctx, c, view.Entry.Made, live, forgotten, nil)
	return entries, problems, peaks[src], err
}

// isOwn tells a point whose number is higher than that of every one before it: what this
// repository has made. A copy has its original's, and copies may be made in any order.
func (e *Entry) isOwn() bool { return e.Origin == "" && e.Made > 0 }

// errNotTold: the roll does not tell which of the forgotten points is the last.
var errNotTold = errors.New("the roll does not tell")

// peakInRoll goes back through the roll from before number to down to from, and reads those
// forgotten points that it meets, until one is found that is of this repository's own making. errNotTold where a record is lost, for any of them may be its
// session, and where the way is longer than to read them all.
func peakInRoll(ctx context.Context, c *catalog.Catalog, forgotten ledger.Pile, from, to int64) (peak int64, found bool, err error) {
	most := min(len(newestOf(forgotten)), peaksMost) // reads of the roll: no more than it takes without
	for asked := 0; to > from && !found; {
		first := max(from, to-readsAtOnce)
		if asked += int(to - first); asked > most {
			return 0, false, errNotTold
		}
		met, err := enrolled(ctx, c, forgotten, first, to)
		if errors.Is(err, catalog.ErrNoSession) {
			return 0, false, errNotTold
		}
		if err != nil {
			return 0, false, err
		}
		for one := min(1, len(met)); len(met) > 0 && !found; one = len(met) { // the last, or else the others, too
			err := eachForgotten(ctx, c, met[:one], func(e *Entry) {
				peak, found = max(peak, e.Made), found || e.isOwn()
			})
			if err != nil {
				return 0, false, err
			}
			met = met[one:]
		}
		to = first
	}
	return peak, found, nil
}

// enrolled are those of a sorted pile that the roll names from number first up to below
// end, the last one first.
func enrolled(ctx context.Context, c *catalog.Catalog, of ledger.Pile, first, end int64) (met ledger.Pile, err error) {
	roll := make(ledger.Pile, end-first)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i := range roll {
		group.Go(func() (err error) {
			roll[i], err = c.Enrolled(ctx, uint32(first)+uint32(i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, sid := range slices.Backward(roll) {
		if of.Has(sid) {
			met = append(met, sid)
		}
	}
	return met, nil
}

// Peaks is known, by source, with the numbers of those forgotten points that no later one is
// known to have followed. A later point has a higher number; so where one was begun under a
// newer ledger, live or forgotten, nothing before it has to be read, and under one ledger
// nothing before the last by its number in the roll, where turns tells that of all. What
// cannot be read has none.
func Peaks(ctx context.Context, c *catalog.Catalog, known map[string]int64, live, forgotten ledger.Pile, turns map[ledger.Packed]uint32) (map[string]int64, error) {
	bySource := map[string]ledger.Pile{}
	for _, p := range unfollowed(live, forgotten) {
		bySource[p.Src()] = append(bySource[p.Src()], p)
	}
	left := map[string][]ledger.Pile{}
	for src, pile := range bySource {
		left[src] = latestFirst(pile, turns)
	}
	peaks := maps.Clone(known)
	for len(left) > 0 {
		var batch ledger.Pile
		for _, src := range slices.Sorted(maps.Keys(left)) {
			batch = append(batch, left[src][0]...)
			if left[src] = left[src][1:]; len(left[src]) == 0 {
				delete(left, src)
			}
		}
		err := eachForgotten(ctx, c, batch, func(e *Entry) {
			if peaks == nil {
				peaks = map[string]int64{}
			}
			if e.Made > peaks[e.sid.Src] {
				peaks[e.sid.Src] = e.Made
			}
			if e.isOwn() {
				delete(left, e.sid.Src)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return peaks, nil
}

// latestFirst cuts a source's sorted sessions, up to peaksMost of them, into what is to be
// read at a time: the latest generation first, and within it the last by its turn, or all
// where not every turn is known.
func latestFirst(pile ledger.Pile, turns map[ledger.Packed]uint32) (cut []ledger.Pile) {
	for room := peaksMost; len(pile) > 0 && room > 0; {
		gen := slices.Clone(newestOf(pile))
		pile = pile[:len(pile)-len(gen)]
		inRoll := !slices.ContainsFunc(gen, func(p ledger.Packed) bool { _, there := turns[p]; return !there })
		if inRoll {
			slices.SortFunc(gen, func(a, b ledger.Packed) int { return cmp.Compare(turns[b], turns[a]) })
		}
		gen = gen[:min(len(gen), room)]
		room -= len(gen)
		if !inRoll {
			cut = append(cut, gen)
			continue
		}
		cut = append(cut, gen[:1])
		cut = slices.AppendSeq(cut, slices.Chunk(gen[1:], readsAtOnce))
	}
	return cut
}

// newestOf is the newest generation of sorted sessions.
func newestOf(pile ledger.Pile) ledger.Pile {
	newest := pile[len(pile)-1].Gen()
	return pile[slices.IndexFunc(pile, func(p ledger.Packed) bool { return p.Gen() == newest }):]
}

// eachForgotten reads points that were forgotten and gives each that can be read to fn, one
// at a time and in no order.
func eachForgotten(ctx context.Context, c *catalog.Catalog, sids ledger.Pile, fn func(*Entry)) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, packed := range sids {
		group.Go(func() error {
			e, err := readPoint(ctx, c, packed.SID(), nil)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, backend.ErrUnreachable):
				return err
			case e == nil:
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			fn(e)
			return nil
		})
	}
	return group.Wait()
}

// unfollowed are those forgotten sessions that are not of an older generation than a live
// one of their source.
func unfollowed(live, forgotten ledger.Pile) (left ledger.Pile) {
	if len(forgotten) == 0 {
		return nil
	}
	newest := map[string]uint32{}
	for _, p := range live {
		newest[p.Src()] = max(newest[p.Src()], p.Gen())
	}
	for _, p := range forgotten {
		if p.Gen() >= newest[p.Src()] {
			left = append(left, p)
		}
	}
	return left
}
