package points

import (
	"context"
	"errors"
	"maps"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
)

// peaksMost bounds how many forgotten points a session reads. More of one generation go
// by a policy alone, which leaves the newest.
const peaksMost = 256

// Known is Of for a session of a source, and the highest number (recovery.Point.Made)
// that the source's forgotten points had: the next one's is to be higher, or the order of
// making in a copy that still has them would be in doubt.
func Known(ctx context.Context, c *catalog.Catalog, src string) (entries []Entry, problems []*Unreadable, peak int64, err error) {
	look, err := survey(ctx, c, src)
	if err != nil {
		return nil, nil, 0, err
	}
	known := newWords()
	var live ledger.Pile
	problems, err = look.each(ctx, c, func(e Entry) error {
		known.share(&e)
		entries = append(entries, e)
		live.Add(e.sid)
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	sortEntries(entries)
	view := c.View()
	forgotten := unfollowed(live, slices.DeleteFunc(look.forgotten, view.Voids))
	if len(forgotten) > peaksMost {
		forgotten = nil
	}
	peaks, err := Peaks(ctx, c, view.Entry.Made, live, forgotten)
	return entries, problems, peaks[src], err
}

// Peaks is known, by source, with the numbers of those forgotten points that no live one is
// known to have followed. A later point has a higher number; so where a live one was begun
// under a newer ledger nothing has to be read. What cannot be read has none.
func Peaks(ctx context.Context, c *catalog.Catalog, known map[string]int64, live, forgotten ledger.Pile) (map[string]int64, error) {
	peaks := maps.Clone(known)
	for _, packed := range unfollowed(live, forgotten) {
		sid := packed.SID()
		e, err := readPoint(ctx, c, sid, nil)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, backend.ErrUnreachable):
			return nil, err
		case e == nil || e.Made <= peaks[sid.Src]:
			continue
		case peaks == nil:
			peaks = map[string]int64{}
		}
		peaks[sid.Src] = e.Made
	}
	return peaks, nil
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
