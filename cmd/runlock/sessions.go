package runlock

import (
	"os"
	"path/filepath"

	"holdfast/repo/ledger"
)

// Sessions are the locks of the sessions that runs of this machine have open in
// one repository: a file each, held while the run lives. A prune on this machine
// learns from them which of its open sessions are dead. They prove nothing of a
// session that has no file here, whatever its record says of its host.
type Sessions struct {
	Dir string // made when needed
}

// Hold takes the lock of a new session. It goes away with release; a run that dies
// leaves the file without its lock.
func (s Sessions) Hold(sid string) (release func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	return Hold(s.path(sid))
}

func (s Sessions) path(sid string) string { return filepath.Join(s.Dir, sid+".lock") }

// State tells whether the session's run lives on this machine.
func (s Sessions) State(sid string) ledger.Lock {
	f, err := os.OpenFile(s.path(sid), os.O_RDWR, 0)
	if err != nil {
		return ledger.LockUnknown
	}
	defer f.Close()
	free, err := tryLock(f)
	if err != nil {
		return ledger.LockUnknown
	}
	current, err := isNamed(f, s.path(sid))
	switch {
	case err != nil || !current:
		return ledger.LockUnknown // its run has just ended and says so itself
	case free:
		return ledger.LockFree
	}
	return ledger.LockHeld
}

// Settled removes what a dead run has left of its lock: nobody asks again.
func (s Sessions) Settled(sid string) { os.Remove(s.path(sid)) }
