package check

import (
	"context"
	"errors"
	"slices"

	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/scrub"
)

const whatRun = "a run that the ledger names is gone, and no segment lists all that it listed"

// runs names the runs of the ledger that are gone, as long as there are packs that no
// segment lists: once a repair has listed them anew nobody needs the run, and the next
// prune no longer names it.
func (c *checker) runs(ctx context.Context) error {
	gone := c.goneRuns()
	for len(gone) > 0 { // a prune beside us replaces its runs, and says so in the ledger before
		moved, err := c.refresh(ctx)
		if err != nil {
			return err
		}
		if !moved {
			break
		}
		gone = c.goneRuns()
	}
	if len(gone) == 0 {
		return nil
	}
	if found, err := c.unlistedPack(ctx); err != nil || !found {
		return err
	}
	for _, run := range gone {
		c.rep.Add(scrub.Finding{Object: run, What: whatRun, Lost: true, Rebuild: true})
	}
	return nil
}

// goneRuns are the runs that the index lacks; of those that are damaged their record tells.
func (c *checker) goneRuns() []string {
	return slices.DeleteFunc(c.r.Index.Lacks(c.r.View().Runs()), func(run string) bool {
		_, there := c.sizes[run]
		return there
	})
}

// unlistedPack looks for a pack that only a run may list, and that no segment does.
func (c *checker) unlistedPack(ctx context.Context) (bool, error) {
	listed, view := map[string]bool{}, c.r.View()
	for p := range c.r.Index.Packs() {
		listed[p.Name()] = true
	}
	for name := range c.sizes {
		owner, _, err := ledger.ParsePack(name)
		if err != nil || listed[name] || owner.Gen >= view.Entry.Horizon || view.IsCondemned(name) {
			continue
		}
		if there, err := c.isThere(ctx, name); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// errMoved: a prune beside the check has moved what is looked for; it is found where the
// index says now.
var errMoved = errors.New("the ledger has moved")

// inUnlisted reports whether a pack that no segment lists holds content. The first call reads
// all of those packs, so it makes sure before that the index was not merely behind.
func (c *checker) inUnlisted(ctx context.Context, id blob.ID) (bool, error) {
	if !c.looked {
		moved, err := c.refresh(ctx)
		if err != nil {
			return false, err
		}
		if moved {
			return false, errMoved
		}
		c.looked = true
	}
	found, err := c.r.LookupUnlisted(ctx, id)
	for _, at := range found {
		if err := c.meetUnlisted(ctx, at.Pack); err != nil {
			return false, err
		}
		if name := at.Pack.Name(); !c.lost[name] || c.saved[name].Has(id) {
			return true, nil
		}
	}
	return false, err
}

// meetUnlisted judges a pack that no segment lists as those that are listed: it may have
// gone since it was looked at, and with all data it is read, too.
func (c *checker) meetUnlisted(ctx context.Context, p index.Pack) error {
	name := p.Name()
	if _, known := c.sizes[name]; !known && !c.lost[name] {
		info, err := c.r.Backend.Stat(ctx, name)
		if err := c.noAnswer(ctx, name, err); err != nil {
			return err
		}
		if err != nil {
			c.lost[name] = true
			return nil
		}
		c.sizes[name] = info.Bytes
	}
	if !c.opts.ReadData || c.opts.ReadBytes > 0 || c.opts.ReadPercent > 0 || c.opened[name] || c.lost[name] {
		return nil
	}
	c.known[name] = p
	return c.readPack(ctx, name)
}
