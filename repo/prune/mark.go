package prune

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/stream"
)

// mark follows the maps of all points that the survey names and tells the marker
// of every distinct chunk once.
func (r *round) mark(ctx context.Context) (err error) {
	r.marker = r.survey.Marker()
	if r.live, err = r.c.Index.NewMarks(); err != nil {
		return fmt.Errorf("mark chunks: %w", err)
	}
	r.again = r.live.Beyond()
	total := int64(len(r.survey.Live) + len(r.survey.Remark))
	for i, sid := range append(append([]ledger.SID{}, r.survey.Live...), r.survey.Remark...) {
		r.progress("marking", int64(i), total)
		marks, live := r.live, true
		if i >= len(r.survey.Live) {
			marks, live = r.again, false
		}
		lost, err := r.walk(ctx, r.slots[sid].roots, marks)
		if err != nil {
			return fmt.Errorf("follow point %s: %w", sid.Rand, err)
		}
		if lost != nil {
			r.c.Log.Warn("the map of a point cannot be followed", "point", sid.Rand, "error", lost)
			r.marker.Lost(live)
		}
	}
	return r.tell()
}

// walk marks all that a point needs. lost says why that was not possible to the
// end; err is only what says nothing of the point.
func (r *round) walk(ctx context.Context, of roots, marks *index.Marks) (lost, err error) {
	var failed error
	// What is marked is marked with all below it: by this walk, or by one before,
	// and a walk that did not come to its end leaves the round undecided.
	skip := func(id blob.ID) bool {
		first, known, err := marks.Mark(id)
		if err != nil && failed == nil {
			failed = err
		}
		if err == nil && !known && lost == nil {
			lost = fmt.Errorf("chunk %.16s is in no pack that is listed", id)
		}
		return !first || failed != nil
	}
	seen := func(blob.Kind, blob.ID) error { return failed }
	for _, m := range of.disks {
		if err := image.Nodes(ctx, r.c.Load, m, seen, skip); err != nil && lost == nil {
			lost = err
		}
	}
	for _, s := range of.streams {
		if err := stream.Nodes(ctx, r.c.Load, s, seen, skip); err != nil && lost == nil {
			lost = err
		}
	}
	if failed == nil {
		failed = ctx.Err()
	}
	if errors.Is(lost, backend.ErrUnreachable) || errors.Is(lost, index.ErrCorrupt) {
		failed = lost
	}
	return lost, failed
}

// tell gives the marker every chunk that was marked.
func (r *round) tell() error {
	names := packNames(r.live)
	var holders []string
	collect := func(places []index.Place) (int64, []string) {
		holders = holders[:0]
		stored := int64(0)
		for _, at := range places {
			holders = append(holders, names[at.Pack])
			stored = int64(at.Stored)
		}
		return stored, holders
	}
	err := r.live.Each(func(_ index.Key, places []index.Place) error {
		r.marker.Live(collect(places))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read local index: %w", err)
	}
	err = r.again.Each(func(_ index.Key, places []index.Place) error {
		_, in := collect(places)
		r.marker.Again(in)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read local index: %w", err)
	}
	return nil
}

// packNames are the object names of the packs that marks speaks of, by ordinal.
func packNames(m *index.Marks) []string {
	packs := m.Packs()
	names := make([]string, len(packs))
	for i, p := range packs {
		names[i] = p.Name()
	}
	return names
}
