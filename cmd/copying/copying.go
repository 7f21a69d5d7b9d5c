// Package copying is a run of the command copy: points of one repository become points
// of another. Of a database it takes along what the chosen backups are restored by: a
// differential is worth nothing where its full is not.
package copying

import (
	"context"
	"errors"
	"fmt"

	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/retain"
	"holdfast/sqlguest/shelf"
)

// Options say what is copied.
type Options struct {
	From, To *repo.Repository
	Place    string // of From, as it may be shown
	// Chosen are points of From by their ids; nil means all.
	Chosen map[string]bool
	DryRun bool
	UI     *ui.Terminal
}

// copied is how one point ends.
type copied struct {
	Point      string `json:"point"` // "" in a dry run
	From       string `json:"from"`
	Source     string `json:"source"`
	BytesTotal int64  `json:"bytes_total"`
	BytesAdded int64  `json:"bytes_added"`
	ChunksNew  int64  `json:"chunks_new"`
	DryRun     bool   `json:"dry_run"`
	NeededBy   string `json:"needed_by,omitempty"` // the point there for which it comes along
}

// skipped is a point that is here already.
type skipped struct {
	From     string `json:"from"`
	Point    string `json:"point"` // as which it is here
	Source   string `json:"source"`
	Reason   string `json:"reason"`
	Rule     string `json:"rule"`
	NeededBy string `json:"needed_by,omitempty"`
}

// run is one run.
type run struct {
	Options
	need     recovery.Need
	progress *ui.Progress
	copiers  map[string]*repo.Copier    // by identity: a point is read against the one before
	here     map[string]*recovery.Point // what this repository has, by where it was made

	done   int // copied, or here already
	failed []error
}

// Run copies. Points that are damaged there do not stop the others: the run is not
// complete then, as it is if a chosen backup of a database cannot be restored by all
// that is there.
func Run(ctx context.Context, o Options) error {
	wanted, problems, err := o.From.Points(ctx)
	if err != nil {
		return err
	}
	c := &run{Options: o, progress: o.UI.Progress(), copiers: map[string]*repo.Copier{}}
	repo.InOrder(wanted)
	if c.here, err = byOrigin(ctx, o.To); err != nil {
		return err
	}
	if err := c.ask(ctx); err != nil {
		return err
	}
	o.UI.Stream()
	for _, e := range wanted {
		if p := c.here[o.From.OriginOf(e.Point)]; p == nil && c.takes(e.ID) {
			c.progress.Expect(e.Source, e.BytesTotal)
		}
	}
	for _, e := range wanted { // as they were made
		if err := c.one(ctx, e); err != nil {
			c.progress.Done()
			return verdict.Told(err.Error(), append(c.failed, err)...)
		}
	}
	c.progress.Done()
	if o.Chosen == nil {
		for _, p := range problems {
			c.fail("point "+p.ID+" in "+o.Place, p.Err)
		}
	}
	return c.end()
}

// ask finds what the chosen points need.
func (c *run) ask(ctx context.Context) error {
	if c.Chosen == nil {
		return nil
	}
	briefs, _, err := c.From.Briefs(ctx) // Find has met what cannot be read
	if err != nil {
		return err
	}
	ours := &sqlguest.Repository{Repo: c.From}
	var failed error // other than by what is damaged, of which parents tell enough
	read := func(identity string) ([]chain.Backup, error) {
		list, err := ours.Whole(ctx, identity)
		if _, unread := errors.AsType[*repo.PointError](err); err != nil && (!unread || errors.Is(err, backend.ErrUnreachable)) {
			failed = errors.Join(failed, err)
		}
		return list, err
	}
	c.need = recovery.Needs(briefs, func(id string) bool { return c.Chosen[id] }, retain.Chains(read))
	return failed
}

// takes tells whether a point is chosen, or comes along.
func (c *run) takes(id string) bool {
	return c.Chosen == nil || c.Chosen[id] || c.need.By[id] != ""
}

// one copies a point, or passes it over. An error ends the run: of a point that
// cannot be read its neighbours know nothing.
func (c *run) one(ctx context.Context, e repo.Entry) error {
	copier := c.copiers[e.Identity]
	if copier == nil {
		copier = c.To.CopierFrom(c.From, c.progress.Read)
		c.copiers[e.Identity] = copier
	}
	p := c.here[c.From.OriginOf(e.Point)]
	if p != nil {
		copier.Known(e.Point, p)
	}
	by := c.need.By[e.ID]
	switch {
	case !c.takes(e.ID):
	case p != nil:
		return c.pass(ctx, copier, e, p)
	case c.DryRun:
		c.done++
		c.UI.Say("would copy %s of %s, %s%s\n", e.ID, e.Source, ui.Bytes(e.BytesTotal), because(by))
		c.UI.Event("summary", copied{From: e.ID, Source: e.Source, BytesTotal: e.BytesTotal, DryRun: true, NeededBy: by})
	default:
		return c.carry(ctx, copier, e)
	}
	return nil
}

// pass passes over a point that is here. What SQL Server said of it after it was copied
// comes along: until then nothing that stands on it can be restored here.
func (c *run) pass(ctx context.Context, copier *repo.Copier, e repo.Entry, p *recovery.Point) error {
	c.done++
	reason := "it is here already"
	said, err := false, error(nil)
	if shelf.Holds(e.Kind) {
		said, err = copier.Said(ctx, e, p)
	}
	if said && !c.DryRun {
		err = copier.Confirm(ctx, e, p)
	}
	what := fmt.Sprintf("%s of %s", e.ID, e.Source)
	switch {
	case err != nil && (ctx.Err() != nil || !isDamage(err)):
		return fmt.Errorf("copy what SQL Server said of %s: %w", what, err)
	case err != nil:
		c.fail("what SQL Server said of "+what+" in "+c.Place, err)
	case said && c.DryRun:
		reason += "; what SQL Server said of it since would come along"
	case said:
		reason += "; what SQL Server said of it since has come along"
	}
	by := c.need.By[e.ID]
	if said && err == nil {
		c.UI.Say("%s: %s\n", what, reason)
	} else {
		c.UI.Detail("%s is here as %s%s", what, p.ID, because(by))
	}
	c.UI.Event("skipped", skipped{From: e.ID, Point: p.ID, Source: e.Source, Reason: reason, Rule: "COPY-1", NeededBy: by})
	return nil
}

// because says why a point comes along that nobody named.
func because(by string) string {
	if by == "" {
		return ""
	}
	return "; " + by + " needs it"
}

func (c *run) carry(ctx context.Context, copier *repo.Copier, e repo.Entry) error {
	c.progress.Begin(e.Source, e.BytesTotal)
	p, err := copier.Copy(ctx, e)
	c.progress.End(e.Source)
	what := fmt.Sprintf("%s of %s", e.ID, e.Source)
	switch {
	case err == nil:
	case ctx.Err() != nil, !isDamage(err):
		return fmt.Errorf("copy %s: %w", what, err)
	default:
		c.fail(what+" in "+c.Place, err)
		return nil
	}
	c.done++
	by := c.need.By[e.ID]
	c.UI.Say("copied %s as %s, %s stored%s\n", what, p.ID, ui.Bytes(p.BytesAdded), because(by))
	c.UI.Event("summary", copied{Point: p.ID, From: e.ID, Source: e.Source, BytesTotal: p.BytesTotal, BytesAdded: p.BytesAdded, ChunksNew: p.ChunksNew, NeededBy: by})
	return nil
}

// isDamage: what was to be read is lost or altered; everything else, such as a
// place that is full or does not answer, would hit the next point as well.
func isDamage(err error) bool {
	for _, kind := range []error{pack.ErrDamaged, pack.ErrTampered, repo.ErrMissing, repo.ErrUnlisted} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (c *run) fail(what string, err error) {
	c.UI.Problem(what, err)
	c.failed = append(c.failed, fmt.Errorf("%s: %w", what, err))
}

// end is what the run comes to: done, done but not complete, or failed.
func (c *run) end() error {
	if !c.DryRun {
		c.UI.Say("%d points are here\n", c.done)
	}
	for _, id := range c.need.Short {
		c.UI.Warn("%s cannot be restored by what %s has: what it stands on is not there", id, c.Place)
	}
	var err error
	switch {
	case len(c.failed) == 0 && len(c.need.Short) == 0:
		return nil
	case len(c.failed) == 0:
		err = verdict.Incomplete(fmt.Sprintf("%d of the points that were named restore nothing, here or there", len(c.need.Short)))
		return verdict.Advise(err, "holdfast -r "+c.Place+" chain shows what is missing; holdfast backup sql begins anew with a full")
	case c.done == 0:
		err = verdict.Told(fmt.Sprintf("none of %d points could be copied from %s", len(c.failed), c.Place), c.failed...)
	default:
		err = verdict.Incomplete(fmt.Sprintf("%d of %d points could not be copied from %s", len(c.failed), c.done+len(c.failed), c.Place))
	}
	return verdict.Advise(err, "holdfast -r "+c.Place+" check --read-data names the points and items that are hit there")
}

// byOrigin are the points of a repository by where they were made, be that another
// one or itself.
func byOrigin(ctx context.Context, r *repo.Repository) (map[string]*recovery.Point, error) {
	entries, _, err := r.Points(ctx) // one that cannot be read is copied again
	if err != nil {
		return nil, err
	}
	here := map[string]*recovery.Point{}
	for _, e := range entries {
		here[r.OriginOf(e.Point)] = e.Point
	}
	return here, nil
}
