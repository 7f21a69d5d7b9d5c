package backend

import (
	"context"
	"time"
)

// Wrapper is a backend that stands before another. Its Unwrap lets As reach
// the abilities of the one below.
type Wrapper interface {
	Unwrap() Backend
}

// Lender is a wrapper that lends an ability of the backend below in a form of
// its own: retried, limited, failing on purpose. As offers it a pointer to the
// wanted interface before it asks the wrapped backend itself; Lend fills it
// and returns true, or returns false where the backend below has no such ability.
type Lender interface {
	Lend(target any) bool
}

// As finds an ability, which is an interface that some backends have beside
// Backend: Reserver, Versioned, Retainer, Locker, WriterLocker. It walks from be down
// through all wrappers and returns the first that really has it. Wrappers do not
// implement abilities themselves, since a type cannot tell what it wraps; so a
// caller must ask As, not the type.
func As[T any](be Backend) (ability T, ok bool) {
	for be != nil {
		if lender, lends := be.(Lender); lends && lender.Lend(&ability) {
			return ability, true
		}
		if ability, ok = be.(T); ok {
			return ability, true
		}
		wrapper, wraps := be.(Wrapper)
		if !wraps {
			break
		}
		be = wrapper.Unwrap()
	}
	return ability, false
}

// Reserver keeps some space back, so that a repository that has filled its
// place can still be pruned: dropping data writes a little before it frees
// anything. Ordinary writes never touch the reserve.
type Reserver interface {
	// UseReserve gives the reserve to whoever writes next, and clears away
	// what dead processes have left behind. It is for maintenance that is going
	// to free space; calling it twice, or where there is no reserve, is no error.
	UseReserve(ctx context.Context) error
	// Refill takes the reserve again. missing is how many bytes there was no
	// room for: a warning, not an error. The next process that writes tries again.
	Refill(ctx context.Context) (missing int64, err error)
}

// Version is one of several bodies that a name has had in a place that keeps
// them all.
type Version struct {
	ID       string // "" where the place keeps no versions
	Bytes    int64
	Modified time.Time // by the store's clock
}

// Versioned is a place that may keep what a name held before. Names are
// written once, so the oldest version that verifies is the object, whatever
// somebody who could put but not delete has laid over it.
type Versioned interface {
	// Versions lists an object's versions, the oldest first; ErrNotFound if
	// there is none. A place without versions answers with one.
	Versions(ctx context.Context, name string) ([]Version, error)
	// GetVersion reads one version whole.
	GetVersion(ctx context.Context, name, id string) ([]byte, error)
}

// Retainer is a place that can refuse to delete an object before a date.
type Retainer interface {
	// ExtendRetention keeps an object until a time at least. It never shortens
	// anything; repeating it is harmless.
	ExtendRetention(ctx context.Context, name string, until time.Time) error
}

// Locker is a place that locks objects as they are written, once it was told to.
type Locker interface {
	// Lockable asks the place whether it locks objects; ErrNoLock if it does not.
	Lockable(ctx context.Context) error
	// LockObjects locks, from now on, each object that this process writes:
	// "governance" or "compliance", for so many days.
	LockObjects(mode string, days int) error
	// LockEnd is the end of such a lock that begins now, by the place's clock.
	LockEnd() (time.Time, error)
}

// WriterLocker is a place with a lock for the one writer, to be held where
// SingleWriter says that there may be one only.
type WriterLocker interface {
	// LockWriter takes the lock at once or fails. It ends with the process too.
	LockWriter(ctx context.Context) (unlock func() error, err error)
}
