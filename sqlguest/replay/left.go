package replay

import (
	"context"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// leaves are the sets of ours that the database has left behind without a fork, by a
// revert of its machine or a restore that no backup has seen yet. The tail that is taken
// now is what sees it: without its word what was left would be mixed with it.
func (x *work) leaves(ctx context.Context) ([]string, error) {
	ours, err := x.run.Keep.Backups(ctx, x.oldID)
	if err != nil || len(ours) == 0 {
		return nil, err
	}
	f := decide.Facts{Instance: *x.at, Database: *x.old}
	if f.History.Rows, err = facts.AskHistory(ctx, x.run.Server, x.at, x.old.Family, lsn.LSN{}); err != nil {
		return nil, err
	}
	since := ours[len(ours)-1].Started
	if f.History.Restores, err = facts.AskRestores(ctx, x.run.Server, x.at, x.old.Name, since); err != nil {
		return nil, err
	}
	return decide.Decide(decide.Request{Want: decide.Full, Resolved: true}, f, ours).Abandons, nil
}
