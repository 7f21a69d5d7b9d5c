package sqlcmd

import (
	"context"

	"holdfast/cmd/database"
	"holdfast/cmd/ui"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/check"
)

// warnOfEvents tells what a guest's Windows has noted of snapshots that it could not keep
// (Q28): images of the machine from those hours may hold databases that nobody can
// recover, and the backup of the databases is the moment when somebody reads that. It
// is never in the way of a backup.
func warnOfEvents(ctx context.Context, at database.Place, t *ui.Terminal) {
	guest, ok := at.Server.(interface {
		Checks(ctx context.Context) ([]agent.Check, error)
	})
	if !ok || at.Guest == "" {
		return
	}
	lines, err := guest.Checks(ctx)
	if err != nil {
		return // the backup itself will say so
	}
	for _, l := range lines {
		if l.ID == check.EventsID && l.Status != check.OK {
			t.Warn("%s: %s: %s; %s (rule Q28)", at.Guest, l.Name, l.Detail, l.Remedy)
		}
	}
}
