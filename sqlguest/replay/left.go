package replay

import (
	"context"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/replay/check"
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
	x.left, x.seen = decide.Decide(decide.Request{Want: decide.Full, Resolved: true}, f, ours).Abandons, f.LastRestore()
	tail := x.expected()
	if x.oldID == x.run.Identity { // with what is known of them now
		ours = append(x.run.Backups[:len(x.run.Backups):len(x.run.Backups)], x.kept(&tail)...)
	}
	x.orphan, x.between = check.Orphaned(ours, tail)
	return nil
}

// kept are the logs in files that lead to the tail, as backups; one that could not be
// taken in is unconfirmed.
func (x *work) kept(tail *chain.Backup) (list []chain.Backup) {
	if x.run.recalled == nil {
		return nil
	}
	for _, l := range x.run.recalled.Left {
		b := *tail
		b.Point, b.Set, b.First, b.Last, b.Fork, b.Tail, b.Abandons = l.Path, l.Path, l.First, l.Last, b.FirstFork, false, nil
		if l.Err != nil {
			b.State = chain.Unconfirmed
		}
		list = append(list, b)
	}
	return list
}
