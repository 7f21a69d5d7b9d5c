package runlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/repo/ledger"
)

// Sessions are the locks of the sessions that runs of this machine have open in
// one repository: a file each, held while the run lives. A prune on this machine
// learns from them which of its open sessions are dead. They prove nothing of a
// session that has no file here, whatever its record says of its host, nor does a
// file of a user who is neither this one nor the system's.
type Sessions struct {
	Shared     string          // a directory that all runs of this host share (Shared); "" if there is none
	Own        string          // one of this user's, for where there is no other; made when needed; "": none
	Repository string          // its id: others keep locks in the shared directory, too
	Warn       func(err error) // told when no lock can be taken: prune will not know of a run that dies; may be nil
}

// Hold takes the lock of a new session. It goes away with release; a run that dies
// leaves the file without its lock.
func (s Sessions) Hold(sid string) (release func(), err error) {
	var errs []error
	for _, path := range s.paths(sid) {
		if filepath.Dir(path) == s.Own {
			if err := os.MkdirAll(s.Own, 0o700); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		f, err := hold(path)
		if err == nil {
			return func() { letGo(f, path) }, nil
		}
		errs = append(errs, err)
	}
	err = errors.Join(append(errs, ErrNowhere)...)
	if s.Warn != nil {
		s.Warn(err)
	}
	return nil, err
}

// ErrNowhere: there is no directory in which a session's lock can be taken.
var ErrNowhere = errors.New("no directory for the lock of a session")

// hold makes the file of a lock and takes it. No such file can be there: a name in
// the way is somebody's trap, and is not followed. All may read it, for only who can
// open it can see that the lock is free; so any user of this host can make a dead
// run seem to live, by taking its lock, and prune wait for it.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	err = f.Chmod(0o644) // whatever the umask
	if err == nil {
		var free bool
		if free, err = tryLock(f); err == nil && !free {
			err = ErrHeld
		}
	}
	if err != nil {
		letGo(f, path)
		return nil, fmt.Errorf("hold %s: %w", path, err)
	}
	return f, nil
}

// paths are where the session's lock may lie.
func (s Sessions) paths(sid string) (paths []string) {
	if s.Shared != "" {
		paths = append(paths, filepath.Join(s.Shared, "holdfast-"+s.Repository+"-"+sid+".lock"))
	}
	if s.Own != "" {
		paths = append(paths, filepath.Join(s.Own, sid+".lock"))
	}
	return paths
}

// State tells whether the session's run lives on this machine.
func (s Sessions) State(sid string) ledger.Lock {
	for _, path := range s.paths(sid) {
		if lock := state(path); lock != ledger.LockUnknown {
			return lock
		}
	}
	return ledger.LockUnknown
}

func state(path string) ledger.Lock {
	f, err := openLock(path)
	if err != nil {
		return ledger.LockUnknown
	}
	defer f.Close()
	if current, err := isNamed(f, path); err != nil || !current {
		return ledger.LockUnknown
	}
	if trusted, err := isTrusted(f); err != nil || !trusted {
		return ledger.LockUnknown
	}
	free, err := tryLock(f)
	if err != nil {
		return ledger.LockUnknown
	}
	current, err := isNamed(f, path)
	switch {
	case err != nil || !current:
		return ledger.LockUnknown // its run has just ended and says so itself
	case free:
		return ledger.LockFree
	}
	return ledger.LockHeld
}

// Settled removes what a dead run has left of its lock: nobody asks again. Another
// user's stays until the host starts anew.
func (s Sessions) Settled(sid string) {
	for _, path := range s.paths(sid) {
		os.Remove(path)
	}
}
