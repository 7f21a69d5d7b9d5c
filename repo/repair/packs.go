package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/index"
	"holdfast/repo/index/segment"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
	"holdfast/repo/session"
)

// PacksOptions steer Packs.
type PacksOptions struct {
	Src      string          // source name of the repair's own session
	Who      session.Options // of that session
	DryRun   bool            // look and report, change nothing
	Progress func(done, total int)
}

// PacksReport is what a repair of packs did.
type PacksReport struct {
	DryRun         bool         `json:"dry_run"`
	Packs          int          `json:"packs"`           // that were read
	Healable       []string     `json:"healable"`        // parity brings them back whole: scrub --heal
	Damaged        []BrokenPack `json:"damaged"`         // beyond parity
	Missing        []string     `json:"missing"`         // listed by the index, and gone: no longer listed after the repair
	Unlisted       int          `json:"unlisted"`        // packs that no segment listed, and that points may need: listed after the repair
	ChunksSalvaged int          `json:"chunks_salvaged"` // now in new packs
	ChunksLost     int          `json:"chunks_lost"`     // that no other pack holds
	Index          *Report      `json:"index,omitempty"` // the repair of the index that followed
}

// BrokenPack is one pack that parity could not bring back.
type BrokenPack struct {
	Pack     string `json:"pack"`
	What     string `json:"what"`
	Salvaged int    `json:"salvaged"`
	Lost     int    `json:"lost"` // that no other pack holds

	lost []blob.ID // what did not open, as far as the index or the pack's table names it; of an id its key at least
}

type packRepair struct {
	c    *catalog.Catalog
	opts PacksOptions
	rep  *PacksReport
	s    *session.Session // begun with the first damaged pack

	saved map[index.Key]bool // chunks that damaged packs still had
}

// Packs reads every pack. Of those that are damaged beyond their parity it copies
// each chunk that still opens into new packs, then moves the damaged bytes to
// quarantine and lists the index anew, with the packs that it lacks and without those
// that are gone altogether, so that the next backup stores what was lost again if its
// source still has it.
func Packs(ctx context.Context, c *catalog.Catalog, opts PacksOptions) (*PacksReport, error) {
	p := &packRepair{c: c, opts: opts, saved: map[index.Key]bool{}, rep: &PacksReport{DryRun: opts.DryRun, Healable: []string{}, Damaged: []BrokenPack{}, Missing: []string{}}}
	var names []string
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		found, err := c.List(ctx, prefix)
		if err != nil {
			return p.rep, err
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	known := map[string]index.Pack{}
	for listed := range c.Index.Packs() {
		known[listed.Name()] = listed
	}
	if opts.Progress != nil {
		opts.Progress(0, len(names))
	}
	for i, name := range names {
		if err := p.look(ctx, name, known); err != nil {
			if p.s != nil {
				p.s.Abort()
			}
			return p.rep, err
		}
		if opts.Progress != nil {
			opts.Progress(i+1, len(names))
		}
	}
	err := p.missing(ctx, names, known)
	if err == nil {
		err = p.unlisted(ctx)
	}
	if err == nil {
		err = p.weigh(ctx)
	}
	if err != nil {
		if p.s != nil {
			p.s.Abort()
		}
		return p.rep, err
	}
	return p.rep, p.finish(ctx)
}

// missing finds packs that the index lists and the place has not: by them backups
// would believe lost chunks to be stored.
func (p *packRepair) missing(ctx context.Context, names []string, known map[string]index.Pack) error {
	mayBeGone := p.c.MayBeGone()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, there := slices.BinarySearch(names, name); there || mayBeGone(known[name]) {
			continue
		}
		there, err := p.c.Has(ctx, name) // a listing may hide it
		if err != nil {
			return err
		}
		if !there {
			p.rep.Missing = append(p.rep.Missing, name)
		}
	}
	return nil
}

// unlisted counts the packs that the index lacks, but for those that are put aside.
func (p *packRepair) unlisted(ctx context.Context) error {
	names, err := p.c.NotListed(ctx)
	for _, name := range names {
		if !p.isDamaged(name) {
			p.rep.Unlisted++
		}
	}
	return err
}

func (p *packRepair) isDamaged(name string) bool {
	return slices.ContainsFunc(p.rep.Damaged, func(b BrokenPack) bool { return b.Pack == name })
}

// weigh takes from what was counted as lost what other packs hold, or had to give.
func (p *packRepair) weigh(ctx context.Context) error {
	for i := range p.rep.Damaged {
		hurt := &p.rep.Damaged[i]
		for _, id := range hurt.lost {
			held, err := p.held(ctx, id)
			if err != nil {
				return err
			}
			if held {
				hurt.Lost--
			}
		}
		p.rep.ChunksLost += hurt.Lost
	}
	return nil
}

// held reports whether a chunk that a damaged pack has lost is had from elsewhere: saved
// out of another one, or in a pack that is whole, be it listed or not.
func (p *packRepair) held(ctx context.Context, id blob.ID) (bool, error) {
	if p.saved[index.KeyOf(id)] {
		return true, nil
	}
	for _, find := range []func(context.Context, blob.ID) ([]index.Location, error){p.c.Load.Lookup, p.c.Load.LookupUnlisted} {
		found, err := find(ctx, id)
		if err != nil {
			return false, err
		}
		for _, at := range found {
			if name := at.Pack.Name(); !p.isDamaged(name) && !p.c.View().IsGoing(name) {
				if there, err := p.c.Has(ctx, name); err != nil || there {
					return there, err
				}
			}
		}
	}
	return false, nil
}

// look reads one pack and salvages what is left if it is damaged.
func (p *packRepair) look(ctx context.Context, name string, known map[string]index.Pack) error {
	if _, _, err := ledger.ParsePack(name); err != nil {
		return nil // what an operator left there
	}
	object, err := backend.Whole(ctx, p.c.Backend, name)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return errors.Join(err, ctx.Err())
	}
	if record.IsGone(err) {
		return nil // pruned meanwhile
	}
	p.rep.Packs++
	left, state, why := p.judge(ctx, name, object, err)
	if state == broken {
		// One answer of a place that may lie is not enough to give a pack up.
		again, err := backend.Whole(ctx, p.c.Backend, name)
		if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
			return errors.Join(err, ctx.Err())
		}
		if record.IsGone(err) {
			return nil
		}
		left, state, why = p.judge(ctx, name, again, err)
	}
	switch state {
	case whole:
		return nil
	case healable:
		p.rep.Healable = append(p.rep.Healable, name)
		return nil
	case unknown:
		return fmt.Errorf("judge %s: %w", name, why)
	}
	listed, indexed := known[name]
	return p.salvage(ctx, name, left, listed, indexed, why)
}

// verdict is what a pack turned out to be.
type verdict uint8

const (
	whole verdict = iota
	healable
	broken
	unknown // we lack the key: nothing is known of it, and nothing may be done to it
)

// judge opens a pack as it was read (err: as far as it could be read) and says what
// it is, what is left of it, and why.
func (p *packRepair) judge(ctx context.Context, name string, object []byte, err error) (left []byte, state verdict, why error) {
	if err != nil {
		return nil, broken, err
	}
	left = object
	fixed, damage, healErr := parity.Heal(object)
	if fixed != nil {
		left = fixed
	}
	verify := func() error { return pack.VerifyAll(p.c.Keys, name, left, nil) }
	why = verify()
	if errors.Is(why, seal.ErrUnknownEpoch) && p.c.Follow != nil {
		if err := p.c.Follow(ctx); err != nil {
			return left, unknown, err
		}
		why = verify()
	}
	switch {
	case errors.Is(why, seal.ErrUnknownEpoch):
		return left, unknown, why
	case why == nil && damage.Clean():
		return left, whole, nil
	case why == nil && healErr == nil:
		return left, healable, nil
	}
	return left, broken, errors.Join(why, healErr)
}

// salvage copies every chunk of a damaged pack that still opens.
func (p *packRepair) salvage(ctx context.Context, name string, left []byte, listed index.Pack, indexed bool, why error) error {
	hurt := BrokenPack{Pack: name, What: why.Error()}
	keep := func(e pack.Entry, plain []byte, err error) error {
		if err != nil {
			hurt.Lost++
			hurt.lost = append(hurt.lost, e.ID)
			return nil
		}
		hurt.Salvaged++
		p.saved[index.KeyOf(e.ID)] = true
		if p.opts.DryRun {
			return nil
		}
		if p.s == nil {
			s, err := session.Begin(ctx, p.c, p.opts.Src, p.opts.Who)
			if err != nil {
				return err
			}
			p.s = s
		}
		return p.s.Copy(e.Kind, e.ID, plain)
	}
	walked := false
	var failed error
	if left != nil {
		err := pack.VerifyAll(p.c.Keys, name, left, func(e pack.Entry, plain []byte, err error) error {
			walked = true
			failed = keep(e, plain, err)
			return failed
		})
		if err != nil && failed != nil {
			return failed
		}
	}
	if !walked && indexed {
		if err := p.byIndex(left, listed, keep); err != nil {
			return err
		}
	}
	if indexed && hurt.Salvaged+hurt.Lost < int(listed.Count) { // nobody could walk the rest
		hurt.Lost = int(listed.Count) - hurt.Salvaged
	}
	p.rep.Damaged = append(p.rep.Damaged, hurt)
	p.rep.ChunksSalvaged += hurt.Salvaged
	return nil
}

// byIndex walks a pack whose own table is lost by what the index says of it.
func (p *packRepair) byIndex(left []byte, listed index.Pack, keep func(pack.Entry, []byte, error) error) error {
	payload, err := p.c.Index.Extract([]index.Pack{listed})
	if err != nil {
		return fmt.Errorf("list %s: %w", listed.Name(), err)
	}
	seg, err := segment.Open(bytes.NewReader(payload), int64(len(payload)))
	if err != nil {
		return fmt.Errorf("list %s: %w", listed.Name(), err)
	}
	kinds := contentKinds(listed.Kind)
	for item, err := range seg.Entries() {
		if err != nil {
			return fmt.Errorf("list %s: %w", listed.Name(), err)
		}
		var key blob.ID
		copy(key[:], item.Key[:])
		end := int64(item.Offset) + int64(item.Stored)
		if end > int64(len(left)) {
			if err := keep(pack.Entry{ID: key}, nil, pack.ErrDamaged); err != nil {
				return err
			}
			continue
		}
		ref := pack.Ref{Name: listed.Name(), Kind: parity.Kind(listed.Kind), Epoch: listed.Epoch, ID: listed.ID, Offset: item.Offset}
		e, plain, openErr := pack.OpenUnknown(p.c.Keys, ref, left[item.Offset:end], kinds, func(id blob.ID) bool { return index.KeyOf(id) == item.Key })
		if openErr != nil {
			e.ID = key
		}
		if err := keep(e, plain, openErr); err != nil {
			return err
		}
	}
	return nil
}

// contentKinds are what a pack of a kind may hold.
func contentKinds(kind uint8) []blob.Kind {
	if kind == index.DataPack {
		return []blob.Kind{blob.DiskChunk, blob.StreamChunk}
	}
	var kinds []blob.Kind
	for level := range blob.Kind(16) {
		kinds = append(kinds, blob.MapNode+level, blob.StreamNode+level)
	}
	return kinds
}

// finish makes the copies durable, then puts the damaged packs aside, then lists
// the index anew: whatever dies between two of these leaves nothing that a second
// repair does not find. The session stays open until the damaged packs are gone: a
// prune beside us keeps what an open session wrote, and it would keep a chunk in
// the damaged pack rather than in the copy.
func (p *packRepair) finish(ctx context.Context) error {
	if p.opts.DryRun || len(p.rep.Damaged)+len(p.rep.Missing)+p.rep.Unlisted == 0 {
		return nil
	}
	if err := p.replace(ctx); err != nil {
		if p.s != nil {
			p.s.Abort()
		}
		return err
	}
	if p.s != nil {
		p.s.Revoke(ctx, "a repair makes no point")
	}
	who := p.opts.Who
	who.Name = "repair index"
	rep, err := Index(ctx, p.c, p.opts.Src, who, nil)
	p.rep.Index = rep
	return err
}

func (p *packRepair) replace(ctx context.Context) error {
	if p.s != nil {
		if err := p.s.Flush(ctx); err != nil {
			return err
		}
	}
	for _, hurt := range p.rep.Damaged {
		if p.s != nil {
			if err := p.s.Alive(ctx); err != nil {
				return fmt.Errorf("put %s aside: %w", hurt.Pack, err)
			}
		}
		if err := p.quarantine(ctx, hurt.Pack); err != nil {
			return err
		}
	}
	return nil
}

// quarantine moves a damaged pack out of the way. What it is about to remove it
// judges once more: a pack that opens now stays.
func (p *packRepair) quarantine(ctx context.Context, name string) error {
	object, err := backend.Whole(ctx, p.c.Backend, name)
	if record.IsGone(err) {
		return nil // pruned meanwhile
	}
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	if _, state, why := p.judge(ctx, name, object, nil); state != broken {
		p.c.Log.Warn("a pack that seemed damaged stays: it opens now", "pack", name, "error", why)
		return nil
	}
	if err := p.c.Backend.Put(ctx, ledger.Quarantine+name, object); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	if err := p.c.Backend.Sync(ctx); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	if err := p.c.Backend.Delete(ctx, name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
