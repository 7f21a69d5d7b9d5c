package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
)

// fetchSegment brings a segment for the local index. A segment that is damaged
// beyond its parity is rebuilt in memory from the packs of its session, which
// say themselves what they hold: reading goes on, and check tells of the damage.
func (c *Catalog) fetchSegment(ctx context.Context, name string) ([]byte, error) {
	payload, err := c.Read(ctx, name, parity.Index)
	if err == nil || record.IsGone(err) || ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return payload, err
	}
	sid, _, nameErr := ledger.ParseNumbered(name)
	if nameErr != nil {
		return nil, err
	}
	packs, listErr := c.PacksOf(ctx, sid)
	if listErr != nil {
		return nil, errors.Join(err, listErr)
	}
	if len(packs) == 0 {
		return nil, err // a run of the pruner: it lists what others wrote
	}
	c.Log.Warn("index segment is damaged; rebuilt from packs", "segment", name, "packs", len(packs), "error", err)
	var b index.Builder
	for _, p := range packs {
		listed, entries, err := c.Table(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("rebuild %s: %w", name, err)
		}
		b.Add(listed, entries)
	}
	return b.Bytes()
}

// unlisted indexes packs that no segment lists, from their own tables, for reading
// alone: writers and prune believe segments. nil where there are none.
func (c *Catalog) unlisted(ctx context.Context) (*index.Local, error) {
	known := map[string]bool{}
	for p := range c.Index.Packs() {
		known[p.Name()] = true
	}
	extra, err := index.OpenLocal("", index.LocalOptions{Logger: c.Log})
	if err != nil {
		return nil, err
	}
	var b index.Builder
	found := 0
	flush := func() error {
		if b.Len() == 0 {
			return nil
		}
		segment, err := b.Bytes()
		if err != nil {
			return err
		}
		found += b.Len()
		b = index.Builder{}
		return extra.AddSegment(fmt.Sprintf("unlisted/%d", found), segment)
	}
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		names, err := c.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if known[name] {
				continue
			}
			p, entries, err := c.Table(ctx, name)
			if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
				return nil, errors.Join(err, ctx.Err())
			}
			if err != nil {
				c.Log.Warn("pack that no segment lists cannot be read", "pack", name, "error", err)
				continue
			}
			if b.Add(p, entries); b.Len() >= 64 {
				err = flush()
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if err := flush(); err != nil || found == 0 {
		return nil, err
	}
	return extra, nil
}

// lacking tells that what was wanted is in a pack that no segment lists. (Those of a
// backup that still runs are none that anybody wants.)
func (c *Catalog) lacking(packs int) {
	c.Log.Warn("the index does not list all packs; what they hold is read from them. Mend it with: repair index", "packs", packs)
	if c.OnUnlisted != nil {
		c.OnUnlisted(packs)
	}
}

// NotListed are the packs that no segment lists and that a point may need: their session
// is over and they are not condemned. A killed session's, of which nobody has heard
// since, are none.
func (c *Catalog) NotListed(ctx context.Context) ([]string, error) {
	var packs []string
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		names, err := c.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		packs = append(packs, names...)
	}
	slots, err := c.SIDs(ctx, ledger.Commits)
	if err == nil {
		err = c.Refresh(ctx) // last: who has a slot has published its segments before
	}
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for p := range c.Index.Packs() {
		known[p.Name()] = true
	}
	view := c.View()
	return slices.DeleteFunc(packs, func(name string) bool {
		owner, _, err := ledger.ParsePack(name)
		return err != nil || known[name] || !slots[owner] && owner.Gen >= view.Entry.Horizon || view.IsCondemned(name)
	}), nil
}

// PacksOf lists the packs that a session wrote.
func (c *Catalog) PacksOf(ctx context.Context, sid ledger.SID) ([]string, error) {
	var names []string
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		found, err := c.List(ctx, prefix+sid.String()+"/")
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	return names, nil
}

// Table reads a pack and returns what its own table says of it.
func (c *Catalog) Table(ctx context.Context, name string) (index.Pack, []index.Entry, error) {
	object, err := backend.Whole(ctx, c.Backend, name)
	if err != nil {
		return index.Pack{}, nil, fmt.Errorf("read %s: %w", name, err)
	}
	return c.TableIn(ctx, name, object)
}

// TableIn is Table of a pack that was read already.
func (c *Catalog) TableIn(ctx context.Context, name string, object []byte) (index.Pack, []index.Entry, error) {
	sid, id, err := ledger.ParsePack(name)
	if err != nil {
		return index.Pack{}, nil, err
	}
	header, table, err := pack.OpenTable(c.Keys, name, object)
	if errors.Is(err, seal.ErrUnknownEpoch) && c.Follow != nil {
		if err := c.Follow(ctx); err != nil {
			return index.Pack{}, nil, err
		}
		header, table, err = pack.OpenTable(c.Keys, name, object)
	}
	if err != nil {
		return index.Pack{}, nil, err
	}
	if header.ID != id {
		return index.Pack{}, nil, fmt.Errorf("read %s: it holds another pack: %w", name, pack.ErrTampered)
	}
	entries := make([]index.Entry, len(table))
	for i, e := range table {
		entries[i] = index.Entry{ID: e.ID, Offset: e.Offset, Stored: e.Stored}
	}
	return index.Pack{
		SID: sid.String(), Kind: uint8(header.Kind), ID: id, Epoch: header.Epoch,
		Bytes: uint32(header.Shape.StoredBytes()), Count: uint32(len(table)), Sum: pack.Sum(table),
	}, entries, nil
}
