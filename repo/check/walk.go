package check

import (
	"context"
	"errors"

	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/load"
	"holdfast/repo/recovery"
	"holdfast/repo/scrub"
	"holdfast/repo/stream"
)

// What is wrong when no segment, or no pack at all, has what points need.
const (
	whatUnlisted = "does not list what points need"
	whatNowhere  = "no pack holds what points need: it is lost"
)

// points walks every point and looks for everything it needs.
func (c *checker) points(ctx context.Context) error {
	entries, problems, err := c.r.Points(ctx)
	if err != nil {
		return err
	}
	// Again, for points that were made meanwhile: their segments came before them.
	if _, err := c.refresh(ctx); err != nil {
		return err
	}
	for _, p := range problems {
		c.hit(p.Object, p.Err.Error(), p.ID)
		if errors.Is(p.Err, recovery.ErrVanished) {
			c.rep.Findings[len(c.rep.Findings)-1].Vanished = true
		}
	}
	for _, e := range entries {
		for i := range e.Items {
			if err := c.item(ctx, e, &e.Items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// errHurt ends the walk of an item at its first loss: one is enough to say
// that the item is not whole.
var errHurt = errors.New("item is not whole")

// walk is the way through one item.
type walk struct {
	c        *checker
	nodes    []blob.ID // that were found to be there
	unlisted bool      // something was found only in packs that the index does not list
	lost     string    // the object that is to blame, if something is nowhere
}

// item walks one item of a point to the last chunk. What cannot be found is looked for
// again as long as the ledger moves: a prune beside us lists in segments of its own what
// it keeps, and takes those away that we knew of.
func (c *checker) item(ctx context.Context, p *recovery.Point, it *recovery.Item) error {
	for {
		w := &walk{c: c}
		err := w.through(ctx, it)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && !w.unlisted {
			return nil
		}
		if errors.Is(err, errMoved) {
			c.forget()
			continue
		}
		if moved, rerr := c.refresh(ctx); rerr != nil {
			return rerr
		} else if !moved {
			return c.judge(w, err, p.ID+"/"+it.Name)
		}
		c.forget()
	}
}

// refresh brings the index up to date and reports whether the ledger has moved since it
// was so last.
func (c *checker) refresh(ctx context.Context) (bool, error) {
	if err := c.r.Refresh(ctx); err != nil {
		return false, err
	}
	was := c.newest
	c.newest = c.r.Ledger()
	return c.newest != was, nil
}

// forget takes nothing for walked any more.
func (c *checker) forget() {
	clear(c.seen)
	clear(c.aside)
}

// through walks the item. An error is not yet a verdict.
func (w *walk) through(ctx context.Context, it *recovery.Item) error {
	meet := func(kind blob.Kind, id blob.ID) error { return w.meet(ctx, kind, id) }
	switch {
	case it.Disk != nil:
		return image.Nodes(ctx, w.c.r, *it.Disk, meet, w.skip)
	case it.Stream != nil:
		return stream.Nodes(ctx, w.c.r, *it.Stream, meet, w.skip)
	}
	return nil
}

// judge makes a finding of what a walk came upon, or returns what is none.
func (c *checker) judge(w *walk, err error, who string) error {
	if err == nil {
		w.setAside()
		c.hit(ledger.Indexes, whatUnlisted, who)
		return nil
	}
	var damage *load.DamageError
	switch {
	case errors.Is(err, errHurt) && w.lost == ledger.Data:
		c.hit(w.lost, whatNowhere, who)
	case errors.Is(err, errHurt):
		c.hit(w.lost, "damaged", who)
	case errors.As(err, &damage):
		c.hit(damage.Object, err.Error(), who)
	case errors.Is(err, load.ErrMissing):
		c.hit(ledger.Data, whatNowhere, who)
	case errors.Is(err, image.ErrMap), errors.Is(err, stream.ErrStream):
		c.hit(ledger.Data, err.Error(), who)
	default:
		return err
	}
	c.forget() // a subtree that was entered but not finished must be walked again
	return nil
}

// skip passes over a node that was walked before, with all below it.
func (w *walk) skip(id blob.ID) bool {
	w.unlisted = w.unlisted || w.c.aside[id]
	return w.c.seen[id] || w.c.aside[id]
}

// meet looks for one node or chunk.
func (w *walk) meet(ctx context.Context, kind blob.Kind, id blob.ID) error {
	if w.skip(id) {
		return nil
	}
	blame, err := w.c.holder(ctx, id)
	switch {
	case err != nil:
		return err
	case blame == "":
		w.c.seen[id] = true
		if kind.IsMeta() {
			w.nodes = append(w.nodes, id)
		}
	case blame == ledger.Indexes:
		w.c.aside[id], w.unlisted = true, true
	default:
		w.lost = blame
		return errHurt
	}
	return nil
}

// setAside keeps the nodes of a walk that found something unlisted from being passed
// over as whole: whoever else has one of them needs the same repair.
func (w *walk) setAside() {
	for _, id := range w.nodes {
		delete(w.c.seen, id)
		w.c.aside[id] = true
	}
}

// holder says which object is to blame if content is not to be had as the index
// says: "" for none, index/ if only packs that it does not list have it, be it that what
// it does list is gone, data/ if no pack has it.
func (c *checker) holder(ctx context.Context, id blob.ID) (string, error) {
	found, err := c.r.Lookup(ctx, id)
	if err != nil {
		return "", err
	}
	for _, at := range found {
		if name := at.Pack.Name(); !c.lost[name] || c.saved[name].Has(id) {
			return "", nil
		}
	}
	there, err := c.inUnlisted(ctx, id)
	switch {
	case err != nil:
		return "", err
	case there:
		return ledger.Indexes, nil
	case len(found) == 0:
		return ledger.Data, nil
	}
	return found[0].Pack.Name(), nil
}

// hit adds a point's item to the finding of an object, or makes one. Of some losses
// nobody can say whom they hit.
func (c *checker) hit(object, what, who string) {
	for i := range c.rep.Findings {
		f := &c.rep.Findings[i]
		if f.Object == object && f.Lost && who != "" {
			f.Hits = append(f.Hits, who)
			return
		}
	}
	lost := scrub.Finding{Object: object, What: what, Lost: true, Rebuild: object == ledger.Indexes}
	if who != "" {
		lost.Hits = []string{who}
	}
	c.rep.Add(lost)
}
