package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/check"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
)

// fetchSegment brings a segment for the local index. A segment that is damaged
// beyond its parity is rebuilt in memory from the packs of its session, which
// say themselves what they hold: reading goes on, and check tells of the damage.
func (r *Repository) fetchSegment(ctx context.Context, name string) ([]byte, error) {
	payload, err := r.readRecord(ctx, name, parity.Index)
	if err == nil || isGone(err) || ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return payload, err
	}
	sid, _, nameErr := ledger.ParseNumbered(name)
	if nameErr != nil {
		return nil, err
	}
	packs, listErr := r.packsOf(ctx, sid)
	if listErr != nil {
		return nil, errors.Join(err, listErr)
	}
	r.log.Warn("index segment is damaged; rebuilt from packs", "segment", name, "packs", len(packs), "error", err)
	var b index.Builder
	for _, p := range packs {
		if err := r.addFromTable(ctx, &b, p); err != nil {
			return nil, fmt.Errorf("rebuild %s: %w", name, err)
		}
	}
	return b.Bytes()
}

// packsOf lists the packs that a session wrote.
func (r *Repository) packsOf(ctx context.Context, sid ledger.SID) ([]string, error) {
	var names []string
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		found, err := r.list(ctx, prefix+sid.String()+"/")
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	return names, nil
}

// addFromTable reads a pack and adds what its own table says of it.
func (r *Repository) addFromTable(ctx context.Context, b *index.Builder, name string) error {
	sid, id, err := ledger.ParsePack(name)
	if err != nil {
		return err
	}
	object, err := backend.Whole(ctx, r.be, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	header, table, err := pack.OpenTable(r.keys, name, object)
	if err != nil {
		return err
	}
	if header.ID != id {
		return fmt.Errorf("read %s: it holds another pack: %w", name, pack.ErrTampered)
	}
	entries := make([]index.Entry, len(table))
	for i, e := range table {
		entries[i] = index.Entry{ID: e.ID, Offset: e.Offset, Stored: e.Stored}
	}
	b.Add(index.Pack{
		SID: sid.String(), Kind: uint8(header.Kind), ID: id, Epoch: header.Epoch,
		Bytes: uint32(header.Shape.StoredBytes()), Count: uint32(len(table)), Sum: pack.Sum(table),
	}, entries)
	return nil
}

// RepairReport is what a repair of the index did.
type RepairReport struct {
	Packs      int      `json:"packs"`      // read and listed anew
	Segments   []string `json:"segments"`   // written
	Removed    []string `json:"removed"`    // segments that were damaged or listed lost packs; the others' packs are listed again
	Lost       []string `json:"lost"`       // packs that are gone: the next backup stores their content anew if it still exists
	Unreadable []string `json:"unreadable"` // packs whose table cannot be read
}

// RepairIndex lists every pack that no good segment lists, from the packs' own
// tables, in new segments, and then removes segments that are damaged beyond
// repair or list packs that are gone. It never removes a pack.
func (r *Repository) RepairIndex(ctx context.Context, progress func(done, total int)) (*RepairReport, error) {
	rep := &RepairReport{}
	// Segments before packs: whatever a listed segment names was there before.
	segments, err := r.list(ctx, ledger.Indexes)
	if err != nil {
		return nil, err
	}
	unlisted := map[string]bool{}
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		names, err := r.list(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			unlisted[name] = true
		}
	}
	bad, err := r.badSegments(ctx, segments, unlisted, rep)
	if err != nil {
		return nil, err
	}
	if err := r.relist(ctx, slices.Sorted(maps.Keys(unlisted)), rep, progress); err != nil {
		return nil, err
	}
	if err := r.be.Sync(ctx); err != nil {
		return nil, fmt.Errorf("make new segments durable: %w", err)
	}
	for _, name := range bad {
		if err := r.be.Delete(ctx, name); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
		rep.Removed = append(rep.Removed, name)
	}
	return rep, errors.Join(r.be.Sync(ctx), r.refresh(ctx))
}

// badSegments returns the segments that must be replaced: those that cannot be
// read, and those that list a pack that is gone, by which new backups would
// believe lost chunks to be stored. It takes from packs, all that exist, those
// that some good segment lists.
func (r *Repository) badSegments(ctx context.Context, names []string, packs map[string]bool, rep *RepairReport) (bad []string, err error) {
	listed := map[string]bool{}
	lost := map[string]bool{}
	for _, name := range names {
		in, err := r.segmentPacks(ctx, name)
		if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
			return nil, err
		}
		if err != nil {
			if !isGone(err) {
				bad = append(bad, name)
			}
			continue
		}
		whole := true
		for _, p := range in {
			if !packs[p.Name()] {
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
func (r *Repository) segmentPacks(ctx context.Context, name string) ([]index.Pack, error) {
	payload, err := r.readRecord(ctx, name, parity.Index)
	if err != nil {
		return nil, err
	}
	return check.SegmentPacks(payload)
}

// relist writes segments for packs, as many packs in each as a session would.
// The segments belong to a session of the repair's own, revoked at once: it
// makes no point.
func (r *Repository) relist(ctx context.Context, packs []string, rep *RepairReport, progress func(done, total int)) error {
	if len(packs) == 0 {
		return nil
	}
	sid, err := r.openSession(ctx, r.keys.SourceName("repair"), "repair index")
	if err != nil {
		return err
	}
	defer r.revoke(context.WithoutCancel(ctx), sid, "repair index")
	var b index.Builder
	flush := func() error {
		if b.Len() == 0 {
			return nil
		}
		segment, err := b.Bytes()
		if err != nil {
			return fmt.Errorf("build index segment: %w", err)
		}
		name := ledger.IndexName(sid, len(rep.Segments))
		b = index.Builder{}
		rep.Segments = append(rep.Segments, name)
		return r.writePayload(ctx, name, parity.Index, segment)
	}
	for i, name := range packs {
		err := r.addFromTable(ctx, &b, name)
		switch {
		case err == nil:
			rep.Packs++
		case ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable):
			return err
		case !isGone(err):
			r.log.Warn("pack cannot be listed", "pack", name, "error", err)
			rep.Unreadable = append(rep.Unreadable, name)
		}
		if b.Len() >= packsPerFlush {
			if err := flush(); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(i+1, len(packs))
		}
	}
	return flush()
}
