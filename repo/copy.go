package repo

import (
	"context"
	"errors"

	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/recovery"
	"holdfast/repo/transfer"
)

// Copier copies points of one source from another repository, the oldest first.
type Copier struct {
	from, to *Repository
	carrier  transfer.Carrier
	ids      map[string]string // point there → point here
	last     *recovery.Point   // the copy whose maps the carrier builds on
	words    *words            // nil: not looked for yet
}

// CopierFrom makes a Copier. progress is told of bytes as they are read; it may
// be nil.
func (r *Repository) CopierFrom(from *Repository, progress func(bytes int64)) *Copier {
	return &Copier{from: from, to: r, ids: map[string]string{}, carrier: transfer.Carrier{
		From: from, Back: r, ChunkBytes: r.config.DiskChunkBytes, CDC: r.CDCKey(), Progress: progress,
	}}
}

// OriginOf is what a copy of the point says that it comes from.
func (r *Repository) OriginOf(p *recovery.Point) string {
	if p.Origin != "" {
		return p.Origin
	}
	return r.config.ID + "/" + p.ID
}

// Known tells of a point that was copied before: the next one is read as what
// differs from it.
func (c *Copier) Known(there, here *recovery.Point) {
	c.ids[there.ID], c.last = here.ID, here
	c.carrier.Known(there.Items, here.Items)
}

// words are the points of the source that are confirmed, there and here.
type words struct{ there, here ledger.Pile }

// Said tells whether the point there is confirmed and its copy here is not: the copy was
// made before the source had said anything. That costs two listings for a source.
func (c *Copier) Said(ctx context.Context, there Entry, here *recovery.Point) (bool, error) {
	sid, err := ledger.ParseSID(here.SID)
	if err != nil {
		return false, err
	}
	if c.words == nil {
		var found words
		if found.there, err = points.Sessions(ctx, c.from.catalog, ledger.Confirms+there.Session().Src+"/"); err != nil {
			return false, err
		}
		if found.here, err = points.Sessions(ctx, c.to.catalog, ledger.Confirms+sid.Src+"/"); err != nil {
			return false, err
		}
		c.words = &found
	}
	return c.words.there.Has(there.Session().Pack()) && !c.words.here.Has(sid.Pack()), nil
}

// Confirm gives a copy the word that its original has got since. One that it has got here
// meanwhile stays.
func (c *Copier) Confirm(ctx context.Context, there Entry, here *recovery.Point) error {
	sid, err := ledger.ParseSID(here.SID)
	if err != nil {
		return err
	}
	if err := c.confirmFirst(ctx, sid, there); !errors.Is(err, ErrConfirmed) {
		return err
	}
	return nil
}

// Copy makes a point here of one there: the same content, time and identity, with
// an id of its own. Its tags and pin come along, and its place in the order.
func (c *Copier) Copy(ctx context.Context, e Entry) (*recovery.Point, error) {
	s, err := c.to.Begin(ctx, e.Source, e.Identity)
	if err != nil {
		return nil, err
	}
	if c.last != nil && s.Expect(ctx, c.last) != nil {
		c.carrier.Forget() // what it needs may go at any time
	}
	p := *e.Point
	p.Origin, p.Parent = c.from.OriginOf(e.Point), c.ids[e.Parent]
	if p.Items, err = c.carrier.Items(ctx, s, e.Point); err == nil {
		err = c.finish(ctx, s, e, &p)
	}
	if err != nil {
		c.carrier.Forget() // nothing keeps the maps that a failed copy has made
		s.Abort()
		return nil, err
	}
	c.ids[e.ID], c.last = p.ID, &p
	return &p, nil
}

// finish makes the point of what the carrier has stored.
func (c *Copier) finish(ctx context.Context, s *Session, e Entry, p *recovery.Point) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	p.BytesAdded, p.ChunksNew = s.Stats().BytesAdded, s.Stats().ChunksNew
	if e.Pinned {
		label := ledger.Label{Tags: p.Tags, Pinned: true}
		if err := points.LabelFirst(ctx, c.to.catalog, s.SID(), label); err != nil {
			return err
		}
	}
	if err := c.confirmFirst(ctx, s.SID(), e); err != nil {
		return err
	}
	return s.Commit(ctx, p)
}

// confirmFirst takes a point's confirmation along, before its slot is written: the
// copy is never seen without it. One without a slot says nothing and goes with its
// session.
func (c *Copier) confirmFirst(ctx context.Context, sid ledger.SID, e Entry) error {
	facts, err := points.Confirmation(ctx, c.from.catalog, e.Session())
	if err != nil || facts == nil {
		return err
	}
	return points.Confirm(ctx, c.to.catalog, sid, facts)
}
