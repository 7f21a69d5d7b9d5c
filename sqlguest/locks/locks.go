// Package locks keeps other runs away from a database while something is decided on it and
// done to it.
package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// Locks keep other runs away from a database while something is decided on it and done
// to it. The zero value holds none.
type Locks struct {
	server server.Server
	name   string // the database's
	names  []string
	held   []func() error
	lost   int // how often they were
}

// maxLost is how often a run takes lost locks again. Sessions that die time after time
// are somebody's doing.
const maxLost = 3

// New are those of a database of ours: that of the database itself keeps away every
// run of every repository, that of the identity the restores and what else this
// repository's runs do.
func New(s server.Server, d *facts.Database, id string) *Locks {
	return &Locks{server: s, name: d.Name, names: []string{Name(d), "holdfast " + id}}
}

// Take takes all of them or none.
func (l *Locks) Take(ctx context.Context) error {
	for _, name := range l.names {
		release, err := l.server.Hold(ctx, name)
		if err != nil {
			_ = l.Drop() // the others go with their sessions in any case
			if errors.Is(err, server.ErrHeld) {
				return fmt.Errorf("lock database %s: %w", l.name, server.ErrHeld) // the lock's own name is two GUIDs
			}
			return err
		}
		l.held = append(l.held, release)
	}
	return nil
}

// Drop lets go of them, the newest first.
func (l *Locks) Drop() (err error) {
	for _, release := range slices.Backward(l.held) {
		err = errors.Join(err, release())
	}
	l.held = nil
	return err
}

// Sure is true if the locks were held from when they were taken until now: what was read
// meanwhile may be acted upon. If one was lost they are taken again, and everything must
// be read anew; an error if that cannot be, server.ErrHeld if another run has come.
func (l *Locks) Sure(ctx context.Context) (bool, error) {
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
		_ = l.Drop() // of which one says that it was lost
		if err := l.Take(ctx); err != nil {
			return false, fmt.Errorf("take a lost lock again: %w", err)
		}
		return false, nil
	}
	return true, nil
}

// Name is the lock under which a database is backed up, by whichever repository:
// sp_getapplock's resource on its server.
func Name(d *facts.Database) string { return "holdfast " + d.Family + "/" + d.GUID }
