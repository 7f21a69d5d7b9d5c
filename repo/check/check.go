// Package check tells whether every recovery point can be restored.
//
// It goes from what is cheap to what is sure: every record is opened, the index
// is held against the packs that exist, packs are opened if asked, and every
// point is walked down to the last chunk it names. What it finds it reports by
// object, with the points and items that need it; what only the way to the
// store is to blame for is an error, never a finding.
package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/load"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
	"holdfast/repo/scrub"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// Options steer a check.
type Options struct {
	// ReadData also opens every chunk of every pack; ReadBytes > 0 stops after
	// so many bytes, ReadPercent after that share, of packs taken in random order.
	ReadData    bool
	ReadBytes   int64
	ReadPercent float64
	Progress    func(done, total int64) // of packs' bytes; may be nil
	Shuffle     func(n int, swap func(i, j int))
}

// Subject is the repository to be checked.
type Subject struct {
	*load.Loader
	Points func(ctx context.Context) ([]*recovery.Point, []Unreadable, error)
	// Named are objects that exist, or may, by what the ledger and the roll say: a
	// listing may hide them. nil is none.
	Named func(ctx context.Context) ([]string, error)
	// Slots judge key objects.
	Slots *slot.Keys
	// View is the newest ledger entry that Refresh has read.
	View func() *ledger.View
	// LostEnd names the ledger entry that must have been there and is gone, and the object
	// that proves it, of those that were met; "" if none does. nil is none.
	LostEnd func(ctx context.Context) (entry, by string, err error)
	// MayBeGone reports whether a prune may have removed a pack that the index
	// still lists: no writer relies on it. A point that does is a finding.
	MayBeGone func(index.Pack) bool
}

// Unreadable is a point whose manifest or label cannot be read.
type Unreadable struct {
	ID     string
	Object string
	Err    error
}

const asksAtOnce = 8

// checker carries one check.
type checker struct {
	r      Subject
	opts   Options
	rep    scrub.Report
	sizes  map[string]int64 // every object there is
	lost   map[string]bool  // packs that are missing or cannot be read whole
	seen   map[blob.ID]bool // content known to be there, and all below it
	aside  map[blob.ID]bool // the same, but for packs that no segment lists
	looked bool             // in packs that no segment lists
	newest uint32           // ledger entry that the index was last held against
	known  map[string]index.Pack

	opened map[string]bool     // packs that were read
	saved  map[string]blob.Set // what can still be read of lost packs
	broken map[string]string   // copies of precious objects that do not open, and why
	whole  scrub.Copies        // those in which parity finds nothing to mend
}

// Run tells whether every point can be restored: all records open, the index
// obeys its law and agrees with the packs that exist, every map and stream is
// whole, every chunk they name is in a pack that is there. With ReadData the
// packs are opened and every chunk re-hashed. Findings name the points and
// items they hit.
func Run(ctx context.Context, r Subject, opts Options) (*scrub.Report, error) {
	c := &checker{
		r: r, opts: opts, sizes: map[string]int64{}, lost: map[string]bool{},
		seen: map[blob.ID]bool{}, aside: map[blob.ID]bool{}, known: map[string]index.Pack{},
		opened: map[string]bool{}, saved: map[string]blob.Set{}, broken: map[string]string{}, whole: scrub.Copies{},
	}
	err := r.Backend.List(ctx, "", func(info backend.Info) error {
		if !strings.HasPrefix(info.Name, ledger.Quarantine) {
			c.sizes[info.Name] = info.Bytes
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{c.complete, c.records, c.packs, c.runs, c.data, c.points, c.ledger} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	c.rep.Objects = len(c.sizes)
	for _, size := range c.sizes {
		c.rep.Bytes += size
	}
	return &c.rep, nil
}

// complete adds the objects that the listing has hidden and that can be asked for by
// name: nothing is lost, and nothing is whole, because a listing does not show it.
// (What is not there is for others to judge.)
func (c *checker) complete(ctx context.Context) error {
	if c.r.Named == nil {
		return nil
	}
	names, err := c.r.Named(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	found := map[string]int64{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	for _, name := range names {
		if _, listed := c.sizes[name]; listed {
			continue
		}
		group.Go(func() error {
			info, err := c.r.Backend.Stat(ctx, name)
			if errors.Is(err, backend.ErrNotFound) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			found[name] = info.Bytes // of one that cannot be asked for, reading it tells
			return c.noAnswer(ctx, name, err)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	maps.Copy(c.sizes, found)
	return nil
}

// kindOf is the kind of object that a name promises; false for packs, key
// slots and names that are not ours.
func kindOf(name string) (parity.Kind, bool) {
	for prefix, kind := range map[string]parity.Kind{
		ledger.Sessions: parity.Session, ledger.Indexes: parity.Index, ledger.Commits: parity.Commit, ledger.Confirms: parity.Confirm,
		ledger.Labels: parity.Label, ledger.Forgets: parity.Forget, ledger.Ledgers: parity.Ledger,
	} {
		if strings.HasPrefix(name, prefix) {
			return kind, true
		}
	}
	return parity.Config, name == ledger.ConfigObject
}

// records opens every record object, both copies of the precious ones.
func (c *checker) records(ctx context.Context) error {
	names := make([]string, 0, len(c.sizes))
	for name := range c.sizes {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.record(ctx, name); err != nil {
			return err
		}
	}
	if err := c.copies(ctx, names); err != nil {
		return err
	}
	if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(ledger.TrueName(name), ledger.Ledgers) }) {
		c.rep.Add(scrub.Finding{Object: ledger.Ledgers, What: "missing: no backup can be made", Lost: true})
	}
	return nil
}

// ledger asks whether the ledger has lost its end: no listing of it can tell.
func (c *checker) ledger(ctx context.Context) error {
	if c.r.LostEnd == nil {
		return nil
	}
	entry, by, err := c.r.LostEnd(ctx)
	if entry != "" {
		c.rep.Add(scrub.Finding{Object: entry, What: "missing, though " + by + " was made under it: no backup can be made", Lost: true})
	}
	return err
}

// isThere asks for an object now.
func (c *checker) isThere(ctx context.Context, name string) (bool, error) {
	_, err := c.r.Backend.Stat(ctx, name)
	return err == nil, c.noAnswer(ctx, name, err)
}

// copies judges each precious object by what is left of its two copies.
func (c *checker) copies(ctx context.Context, names []string) error {
	newest := uint32(0) // entry of the ledger of which a copy is there, healthy or not
	for _, name := range names {
		if n, err := ledger.ParseLedger(ledger.TrueName(name)); err == nil {
			newest = max(newest, n)
		}
	}
	for _, name := range names {
		if !ledger.HasSpare(ledger.TrueName(name)) {
			continue
		}
		why, bad := c.broken[name]
		_, otherThere := c.sizes[ledger.Twin(name)]
		if !otherThere { // it may have been written, or both removed, since they were listed
			twin, err := c.isThere(ctx, ledger.Twin(name))
			if err != nil {
				return err
			}
			self, err := c.isThere(ctx, name)
			if err != nil {
				return err
			}
			otherThere = twin || !self
		}
		_, otherBad := c.broken[ledger.Twin(name)]
		switch {
		case bad && (otherBad || !otherThere) && ledger.IsPast(name, newest):
			c.rep.Add(scrub.Finding{Object: name, What: why, Idle: true})
		case bad && (otherBad || !otherThere):
			c.rep.Add(scrub.Finding{Object: name, What: why, Lost: true})
		case bad && c.whole.Whole(name): // somebody else's bytes, which a scrub takes for good
			c.rep.Add(scrub.Finding{Object: name, What: why, Differs: true, Right: ledger.Twin(name)})
		case bad:
			c.rep.Add(scrub.Finding{Object: name, What: why + scrub.OtherThere})
		case !otherThere && (ledger.NeedsSpare(ledger.TrueName(name)) || ledger.TrueName(name) != name):
			c.rep.Add(scrub.Finding{Object: ledger.Twin(name), What: "missing" + scrub.OtherThere})
		case !otherBad && ledger.TrueName(name) == name && c.whole.Differ(name):
			if err := c.differ(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) record(ctx context.Context, name string) error {
	kind, ours := kindOf(ledger.TrueName(name))
	slot := ledger.IsKeyObject(ledger.TrueName(name))
	if !ours && !slot {
		return nil
	}
	object, err := backend.Whole(ctx, c.r.Backend, name)
	if errors.Is(err, backend.ErrNotFound) {
		delete(c.sizes, name) // pruned meanwhile
		return nil
	}
	if err := c.noAnswer(ctx, name, err); err != nil {
		return err
	}
	var damage parity.Damage
	if err == nil {
		_, damage, err = parity.Inspect(object)
	}
	if err == nil {
		if fixed, _, err := parity.Heal(object); err == nil {
			c.whole.Note(name, fixed)
		}
		err = c.openRecord(name, kind, slot, object)
		if errors.Is(err, seal.ErrUnknownEpoch) && c.r.Follow != nil { // rotated since this began
			if err := c.r.Follow(ctx); err != nil {
				return err
			}
			err = c.openRecord(name, kind, slot, object)
		}
	}
	switch {
	case err != nil && ledger.HasSpare(ledger.TrueName(name)):
		c.broken[name] = err.Error()
	case err != nil: // a segment that was altered, and not by chance, is no mere loss
		rebuild := kind == parity.Index && !slot && !errors.Is(err, pack.ErrTampered)
		idle, askErr := c.isForgotten(ctx, name)
		if askErr != nil {
			return askErr
		}
		c.rep.Add(scrub.Finding{Object: name, What: err.Error(), Lost: !idle, Idle: idle, Rebuild: rebuild})
	case !damage.Clean():
		c.rep.Add(scrub.Finding{Object: name, What: damage.String() + "; parity brings it back"})
	}
	return nil
}

// noAnswer is an error if err tells nothing of the object, only of the way to
// it. Any other error is what the place says of that object: a finding.
func (c *checker) noAnswer(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return fmt.Errorf("check %s: %w", name, errors.Join(err, ctx.Err()))
	}
	return nil
}

// openRecord opens a record; a segment of the index must obey its law, too.
func (c *checker) openRecord(name string, kind parity.Kind, slot bool, object []byte) error {
	if slot {
		payload, err := pack.DecodeSlot(object)
		if err == nil {
			err = c.r.Slots.Prove(ledger.TrueName(name), payload)
		}
		return err
	}
	payload, _, err := pack.OpenRecord(c.r.Keys, ledger.TrueName(name), kind, object)
	if err != nil || kind != parity.Index {
		return err
	}
	_, err = SegmentPacks(payload)
	return err
}

// SegmentPacks lists the packs of a segment that obeys the conservation law.
func SegmentPacks(payload []byte) ([]index.Pack, error) {
	segment, err := index.Open(bytes.NewReader(payload), int64(len(payload)))
	if err != nil {
		return nil, err
	}
	return segment.Packs(), segment.Verify()
}

// packs compares the index with the packs that exist.
func (c *checker) packs(ctx context.Context) error {
	for p := range c.r.Index.Packs() {
		name := p.Name()
		c.known[name] = p
		size, there := c.sizes[name]
		switch {
		case !there:
			if err := c.missing(ctx, p); err != nil {
				return err
			}
		case size != int64(p.Bytes):
			// Truncated packs may heal; reading decides.
			if err := c.readPack(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// missing reports a pack that was not listed, unless it was written after the
// listing, by a backup that runs beside the check.
func (c *checker) missing(ctx context.Context, p index.Pack) error {
	name := p.Name()
	info, err := c.r.Backend.Stat(ctx, name)
	if err == nil {
		c.sizes[name] = info.Bytes
		return nil
	}
	if !errors.Is(err, backend.ErrNotFound) {
		return fmt.Errorf("check %s: %w", name, err)
	}
	return c.gone(ctx, p)
}

// gone reports a pack that is not there, unless a prune that runs beside the check,
// or ran before it, may have taken it.
func (c *checker) gone(ctx context.Context, p index.Pack) error {
	c.lost[p.Name()] = true
	if c.r.MayBeGone(p) {
		return nil
	}
	if err := c.r.Refresh(ctx); err != nil {
		return err
	}
	if !c.r.MayBeGone(p) {
		c.rep.Add(scrub.Finding{Object: p.Name(), What: "missing", Lost: true})
	}
	return nil
}

// data opens packs, all or a share of them.
func (c *checker) data(ctx context.Context) error {
	if !c.opts.ReadData {
		return nil
	}
	var names []string
	var total int64
	for name := range c.known {
		if !c.lost[name] {
			names = append(names, name)
			total += c.sizes[name]
		}
	}
	sort.Strings(names)
	limit := total
	if c.opts.ReadPercent > 0 {
		limit = int64(float64(total) * c.opts.ReadPercent / 100)
	}
	if c.opts.ReadBytes > 0 {
		limit = min(limit, c.opts.ReadBytes)
	}
	if limit < total && c.opts.Shuffle != nil {
		c.opts.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	var done int64
	for _, name := range names {
		if done >= limit {
			break
		}
		if !c.opened[name] {
			if err := c.readPack(ctx, name); err != nil {
				return err
			}
		}
		done += c.sizes[name]
		if c.opts.Progress != nil {
			c.opts.Progress(min(done, limit), limit)
		}
	}
	return nil
}
