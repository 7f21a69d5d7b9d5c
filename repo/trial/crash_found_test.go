package trial_test

import (
	"errors"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/ledger"
)

// TestUnansweredBeginLeavesNobodyWaiting: the record of a session was written and
// the answer was lost, so the backup failed before it began. It revokes itself;
// else every prune would wait a day for a session that nobody ever had.
func TestUnansweredBeginLeavesNobodyWaiting(t *testing.T) {
	ctx := t.Context()
	store := newStore()
	s := newSite(store, 1)
	p := s.process(store, "")
	must(t, founded(1)(ctx, p))
	deaf := s.process(fault.New(store, fault.Options{Rules: []fault.Rule{
		{Op: fault.PutIfAbsent, Prefix: ledger.Sessions, Mode: fault.DoneButLost, Err: backend.ErrUnreachable},
	}}), "")
	if err := deaf.backup(ctx, vmB, other); !errors.Is(err, backend.ErrUnreachable) {
		t.Fatalf("backup: %v", err)
	}
	must(t, p.with(ctx, func(r *repo.Repository) error {
		rep, err := r.Prune(ctx, repo.PruneOptions{})
		if err == nil && len(rep.Open) > 0 {
			t.Errorf("prune waits for %+v", rep.Open)
		}
		return err
	}))
}

// TestSessionThatCouldNotSettleIsDeadWithItsProcess: the way to the place is lost
// in the middle of a backup, so not even the revocation can be written. The
// session's lock stays with the process; once that has ended, prune need not
// wait for a day of silence.
func TestSessionThatCouldNotSettleIsDeadWithItsProcess(t *testing.T) {
	ctx := t.Context()
	store := newStore()
	s := newSite(store, 1)
	p := s.process(store, "")
	must(t, founded(1)(ctx, p))
	cut := s.process(&sick{Backend: store, sickness: sickness{err: backend.ErrUnreachable, onwards: true}, at: 3}, "")
	if err := cut.backup(ctx, vmB, other); !errors.Is(err, backend.ErrUnreachable) {
		t.Fatalf("backup: %v", err)
	}
	prune := func() (rep *repo.PruneReport) {
		must(t, p.with(ctx, func(r *repo.Repository) (err error) {
			rep, err = r.Prune(ctx, repo.PruneOptions{})
			return err
		}))
		return rep
	}
	if rep := prune(); len(rep.Open) != 1 || len(rep.Revoked) != 0 {
		t.Errorf("while its process lives: %+v", rep)
	}
	cut.end()
	if rep := prune(); len(rep.Open) != 0 || len(rep.Revoked) != 1 {
		t.Errorf("when its process has ended: %+v", rep)
	}
}
