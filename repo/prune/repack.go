package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/session"
)

const (
	smallBytes = 4 << 20 // packs below this size are merged when there are many
	smallMany  = 32
)

// choice is what a repack is to copy.
type choice struct {
	packs []string
	copy  int64 // bytes of live chunks in them
}

// candidate is a live pack that could be repacked.
type candidate struct {
	name   string
	live   int64
	unused int64
}

// unusedOf estimates what of a pack nobody needs, by the share of its chunks.
func (r *round) unusedOf(name string, use ledger.Use) int64 {
	p, ok := r.packs[name]
	if !ok || int(p.Count) <= use.Chunks || use.Chunks == 0 {
		return 0
	}
	return use.Bytes / int64(use.Chunks) * int64(int(p.Count)-use.Chunks)
}

// chooseRepack picks the packs whose live part is copied: the most wasteful
// first, until what remains unused is below the allowed share or the budget is
// spent. Many small packs are put together; on demand, what an older key sealed
// is sealed anew.
func (r *round) chooseRepack() choice {
	allowed := defaultMaxUnused
	if r.opts.MaxUnused != nil {
		allowed = *r.opts.MaxUnused
	}
	var all []candidate
	var live, unused int64
	small := map[uint8]int{}
	for name, use := range r.plan.Live {
		p, ok := r.packs[name]
		owner, _, err := ledger.ParsePack(name)
		if !ok || err != nil || !r.survey.IsSettled(owner) {
			continue
		}
		c := candidate{name: name, live: use.Bytes, unused: r.unusedOf(name, use)}
		live, unused = live+c.live, unused+c.unused
		if isSmall(p) {
			small[p.Kind]++
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		// a.unused/(a.unused+a.live) against b's, without division.
		return cmp.Or(cmp.Compare(b.unused*(a.unused+a.live), a.unused*(b.unused+b.live)), cmp.Compare(a.name, b.name))
	})
	var out choice
	for _, c := range all {
		p := r.packs[c.name]
		wasteful := c.unused > 0 && float64(unused) > allowed*float64(live+unused)
		many := isSmall(p) && small[p.Kind] >= smallMany
		old := r.opts.Reencrypt && p.Epoch < r.c.Ring.Current()
		if !wasteful && !many && !old || r.opts.MaxRepack > 0 && out.copy+c.live > r.opts.MaxRepack {
			continue
		}
		out.packs = append(out.packs, c.name)
		out.copy += c.live
		unused -= c.unused
	}
	return out
}

// isSmall reports whether a pack could hold much more than it does. One of very
// short chunks is full by their number long before it is long: to put such packs
// together would only make as many again, at every prune.
func isSmall(p index.Pack) bool { return p.Bytes < smallBytes && p.Count < index.MaxPackEntries/2 }

// repack copies the live chunks of the chosen packs into packs of a session of
// the pruner's own. It removes nothing: the next round finds the copies, which
// win because their session is younger.
func (r *round) repack(ctx context.Context, chosen choice) error {
	s, err := session.Begin(ctx, r.c, r.opts.Src, r.opts.Who)
	if err != nil {
		return err
	}
	moved, err := r.copyChosen(ctx, s, chosen)
	if err == nil {
		err = s.Flush(ctx)
	}
	if err != nil {
		s.Abort()
		return err
	}
	s.Revoke(ctx, "a prune makes no point")
	r.rep.PacksRepacked += moved
	r.rep.BytesRepacked += s.Stats().BytesAdded
	return nil
}

func (r *round) copyChosen(ctx context.Context, s *session.Session, chosen choice) (int, error) {
	wanted := map[string]bool{}
	for _, name := range chosen.packs {
		if owner, _, err := ledger.ParsePack(name); err == nil && ledger.MayRepack(owner, s.SID().Gen) {
			wanted[name] = true
		}
	}
	names := packNames(r.live)
	var holders []string
	kept, err := r.live.Gather(func(_ index.Key, places []index.Place) int {
		holders = holders[:0]
		for _, at := range places {
			holders = append(holders, names[at.Pack])
		}
		keep, ok := r.marker.Keeper(holders)
		if !ok || !wanted[keep] {
			return -1
		}
		return slices.Index(holders, keep)
	})
	if err != nil {
		return 0, fmt.Errorf("read local index: %w", err)
	}
	moved := 0
	for len(kept) > 0 {
		n := slices.IndexFunc(kept, func(k index.Kept) bool { return k.Pack != kept[0].Pack })
		if n < 0 {
			n = len(kept)
		}
		r.progress("repacking", int64(moved), int64(len(wanted)))
		if err := r.copyPack(ctx, s, r.live.Packs()[kept[0].Pack], kept[:n]); err != nil {
			return moved, err
		}
		kept = kept[n:]
		moved++
	}
	return moved, nil
}

// copyPack reads one pack whole, healing it if it must, and copies the chunks at
// the given places. A pack that cannot be read is left as it is: check names it.
func (r *round) copyPack(ctx context.Context, s *session.Session, p index.Pack, places []index.Kept) error {
	name := p.Name()
	object, err := backend.Whole(ctx, r.c.Backend, name)
	if errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		r.c.Log.Warn("pack cannot be repacked", "pack", name, "error", err)
		return nil
	}
	if fixed, damage, _ := parity.Heal(object); fixed != nil && !damage.Clean() {
		object = fixed
		r.c.NoteHealed(name)
	}
	_, table, err := pack.OpenTable(r.c.Keys, name, object)
	if err != nil {
		r.c.Log.Warn("pack cannot be repacked", "pack", name, "error", err)
		return nil
	}
	byOffset := make(map[uint32]pack.Entry, len(table))
	for _, e := range table {
		byOffset[e.Offset] = e
	}
	for _, at := range places {
		e, ok := byOffset[at.Offset]
		if !ok {
			continue
		}
		ref := pack.Ref{Name: name, Kind: parity.Kind(p.Kind), Epoch: p.Epoch, ID: p.ID, Offset: at.Offset}
		plain, _, err := pack.OpenChunkIn(r.c.Keys, ref, at.Stored, object, e.ID, e.Kind)
		if err != nil {
			r.c.Log.Warn("chunk cannot be repacked", "pack", name, "error", err)
			continue
		}
		if err := s.Copy(e.Kind, e.ID, plain); err != nil {
			return err
		}
	}
	return nil
}
