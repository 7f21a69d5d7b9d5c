package repo

import (
	"context"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
)

// ObjectLock says how the place is to lock each object as it is written.
type ObjectLock = ledger.ObjectLock

// ErrNoLock: objects are to be locked, and the place cannot do that.
var ErrNoLock = backend.ErrNoLock

// CheckLock is ErrNoLock if a lock is wanted (not nil) that the place cannot give.
func CheckLock(ctx context.Context, be backend.Backend, lock *ObjectLock) error {
	if lock == nil {
		return nil
	}
	locker, ok := backend.As[backend.Locker](be)
	if !ok {
		return fmt.Errorf("%s: %w", be.Location(), ErrNoLock)
	}
	return locker.Lockable(ctx)
}

// lockObjects makes the place lock what is written from now on, as the config
// says. A copy of the repository at a place without locks works like any other,
// so there it is only logged.
func (r *Repository) lockObjects() error {
	lock := r.config.Lock
	if lock == nil {
		return nil
	}
	locker, ok := backend.As[backend.Locker](r.be)
	if !ok {
		r.log.Warn("the repository wants its objects locked, and this place cannot do that", "place", r.be.Location())
		return nil
	}
	if err := locker.LockObjects(lock.Mode, lock.Days); err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	return nil
}
