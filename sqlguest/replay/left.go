package replay

import (
	"context"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
)

// leaves finds the sets of ours that the database has left behind without a fork, by a
// revert of its machine or a restore that no backup has seen yet. The tail that is taken
// now is what sees it: without its word what was left would be mixed with it.
func (x *work) leaves(ctx context.Context) error {
	ours, err := x.run.Keep.Backups(ctx, x.oldID)
	if err != nil {
		return err
	}
	f := decide.Facts{Instance: *x.at, Database: *x.old}
	if f.History.Rows, err = facts.AskHistory(ctx, x.run.Server, x.at, x.old.Family, lsn.LSN{}); err != nil {
		return err
	}
	if f.History.LastRestore, err = facts.AskLastRestore(ctx, x.run.Server, x.at, x.old.Name, ours); err != nil {
		return err
	}
	x.orphan = x.oldID != x.run.Identity && !plan.Leads(ours, x.expected())
	x.left, x.seen = decide.Decide(decide.Request{Want: decide.Full, Resolved: true}, f, ours).Abandons, f.LastRestore()
	return nil
}
