package sqlguest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// locks keep other runs away from a database while something is decided on it and done
// to it. The zero value holds none.
type locks struct {
	server server.Server
	names  []string
	held   []func() error
	lost   int // how often they were
}

// maxLost is how often a run takes lost locks again. Sessions that die time after time
// are somebody's doing.
const maxLost = 3

// newLocks are those of a database of ours: that of the database itself keeps away every
// run of every repository, that of the identity the restores and what else this
// repository's runs do.
func newLocks(s server.Server, d *facts.Database, id string) *locks {
	return &locks{server: s, names: []string{LockName(d), "holdfast " + id}}
}

// take takes all of them or none.
func (l *locks) take(ctx context.Context) error {
	for _, name := range l.names {
		release, err := l.server.Hold(ctx, name)
		if err != nil {
			_ = l.drop() // the others go with their sessions in any case
			return err
		}
		l.held = append(l.held, release)
	}
	return nil
}

// drop lets go of them, the newest first.
func (l *locks) drop() (err error) {
	for _, release := range slices.Backward(l.held) {
		err = errors.Join(err, release())
	}
	l.held = nil
	return err
}

// sure is true if the locks were held from when they were taken until now: what was read
// meanwhile may be acted upon. If one was lost they are taken again, and everything must
// be read anew; an error if that cannot be, server.ErrHeld if another run has come.
func (l *locks) sure(ctx context.Context) (bool, error) {
	if l == nil {
		return true, nil
	}
	for _, name := range l.names {
		err := l.server.Held(ctx, name)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, server.ErrLockLost):
			return false, err
		}
		if l.lost++; l.lost > maxLost {
			return false, err
		}
		_ = l.drop() // of which one says that it was lost
		if err := l.take(ctx); err != nil {
			return false, fmt.Errorf("take a lost lock again: %w", err)
		}
		return false, nil
	}
	return true, nil
}
