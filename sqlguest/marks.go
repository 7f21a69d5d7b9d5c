package sqlguest

import (
	"context"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// addMarks puts the marks of a confirmed log backup into its confirmation, so that a
// restore to a mark needs the repository alone. A server that does not tell them
// leaves a warning: the backup is as good as any other, by time and by LSN.
func addMarks(ctx context.Context, s server.Server, at *facts.Instance, d *facts.Database, c *chain.Confirmation, later bool) {
	if c.State != chain.Confirmed || c.Header == nil || c.Header.Kind != chain.Log || c.Header.Empty() {
		return
	}
	h := c.Header
	found, err := facts.AskMarks(ctx, s, h.Database, h.First, h.Last, h.Started.Location())
	since := d.Created
	if err == nil && len(found) > 0 {
		then := time.Time{}
		if later { // what came behind the log has undone none of its marks
			then = h.SurelyAfter()
		}
		since, err = madeSo(ctx, s, at, d, then)
	}
	if err != nil {
		c.Unlisted, c.Warnings = h.First, append(c.Warnings, "marks are not known: "+err.Error())
		return
	}
	list := make([]chain.Mark, 0, len(found))
	for _, m := range found {
		list = append(list, chain.Mark{Name: m.Name, Description: m.Description, User: m.User, LSN: m.LSN, At: m.At})
	}
	marks, unlisted, warnings := h.Marks(list, since, later)
	c.Marks, c.Unlisted, c.Warnings = marks, unlisted, append(c.Warnings, warnings...)
}

// madeSo is when a database came to be what it was at a moment (zero: now): its last
// restore before that, or its creation.
func madeSo(ctx context.Context, s server.Server, at *facts.Instance, d *facts.Database, then time.Time) (since time.Time, err error) {
	restores, err := facts.AskRestores(ctx, s, at, d.Name)
	past := func(t time.Time) bool { return then.IsZero() || !t.After(then) }
	if past(d.Created) {
		since = d.Created
	}
	for _, r := range restores {
		const onlyVerified = "V"
		if r.Type != onlyVerified && r.At.After(since) && past(r.At) {
			since = r.At
		}
	}
	return since, err
}
