package sqlguest

import (
	"context"
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// addMarks puts the marks of a confirmed log backup into its confirmation, so that a
// restore to a mark needs the repository alone. Ours are the backups that are known beside
// it; later tells that it was made by an earlier run. A server that does not tell marks
// leaves a warning: the backup is as good as any other, by time and by LSN.
func addMarks(ctx context.Context, s server.Server, at *facts.Instance, d *facts.Database, c *chain.Confirmation, ours []chain.Backup, later bool) {
	if c.State != chain.Confirmed || c.Header == nil || c.Header.Kind != chain.Log || c.Header.Empty() {
		return
	}
	h := c.Header
	found, err := facts.AskMarks(ctx, s, h.Database, h.First, h.Last, h.Started.Location())
	var restores []time.Time
	if err == nil && len(found) > 0 {
		restores, err = restored(ctx, s, at, d)
	}
	if err != nil {
		c.Unlisted, c.Warnings = h.First, append(c.Warnings, "marks are not known: "+err.Error())
		return
	}
	list := make([]chain.Mark, 0, len(found))
	for _, m := range found {
		list = append(list, chain.Mark{Name: m.Name, Description: m.Description, User: m.User, LSN: m.LSN, At: m.At})
	}
	marks, unlisted, warnings := h.Marks(list, lifeOf(h, d.Created, restores, ours, later))
	c.Marks, c.Unlisted, c.Warnings = marks, unlisted, append(c.Warnings, warnings...)
}

// restored is when the database was restored over, in order.
func restored(ctx context.Context, s server.Server, at *facts.Instance, d *facts.Database) (times []time.Time, err error) {
	restores, err := facts.AskRestores(ctx, s, at, d.Name)
	for _, r := range restores {
		const onlyVerified = "V"
		if r.Type != onlyVerified {
			times = append(times, r.At)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times, err
}

// lifeOf tells by its restores when a database was where a log is.
func lifeOf(h *chain.Header, created time.Time, restores []time.Time, ours []chain.Backup, later bool) (life chain.Life) {
	if later { // what came behind the log has undone none of its marks
		life.Until = h.SurelyAfter()
	}
	for _, t := range append([]time.Time{created}, restores...) {
		if t.After(life.Since) && (life.Until.IsZero() || !t.After(life.Until)) {
			life.Since = t
		}
	}
	if h.FirstFork == h.Fork || h.FirstFork == "" {
		return life
	}
	// It lived on the fork on which the log begins when our last backup of that was made; if
	// there is none, perhaps never after its first restore.
	var alive time.Time
	for i := range ours {
		if b := &ours[i]; b.State == chain.Confirmed && b.Fork == h.FirstFork && b.Started.After(alive) {
			alive = b.Started
		}
	}
	if i := slices.IndexFunc(restores, func(t time.Time) bool { return !t.Before(alive) }); i >= 0 {
		life.Left = restores[i]
	}
	return life
}
