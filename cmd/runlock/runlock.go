// Package runlock tells the runs of this machine apart: which of them live, and
// which died and may have left a snapshot behind. A run is known by a file of
// its own that the operating system locks as long as the process lives and no
// longer, so nothing ever has to be cleared by hand.
package runlock

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/vmware/snapshot"
)

// Lock is the life sign of a run.
type Lock struct {
	// Run is what the lock speaks for; it goes into the snapshots of the run.
	Run  snapshot.Run
	file *os.File
	dir  string
}

// New begins a run: run is given an id and this process's number, and its lock
// is taken in the folder dir, which is made if it is missing.
func New(dir string, run snapshot.Run) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for run locks: %w", err)
	}
	raw := make([]byte, 8)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("name the run: %w", err)
	}
	run.ID, run.PID = hex.EncodeToString(raw), os.Getpid()
	l := &Lock{dir: dir, Run: run}
	file, err := os.OpenFile(filepath.Join(dir, run.ID), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run: %w", err)
	}
	if ok, err := tryLock(file); err != nil || !ok {
		file.Close()
		return nil, fmt.Errorf("lock the run %s: %w", file.Name(), err)
	}
	l.file = file
	return l, nil
}

// Alive reports whether a run of this machine still lives. One whose lock can
// be taken died. One without a file ended, or keeps its file elsewhere (another
// cache directory, another user): then it lives if its process does. A number
// that somebody else's process has by now spares a leftover, never a life.
func (l *Lock) Alive(run snapshot.Run) bool {
	if run.ID == l.Run.ID {
		return true
	}
	f, err := os.OpenFile(filepath.Join(l.dir, filepath.Base(run.ID)), os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return run.PID != os.Getpid() && processExists(run.PID)
	}
	if err != nil {
		return true // it cannot be told, so it is spared
	}
	defer f.Close()
	free, err := tryLock(f)
	return err != nil || !free
}

// Close ends the run.
func (l *Lock) Close() error {
	os.Remove(l.file.Name()) // first: on some systems a closed lock is another's chance
	return l.file.Close()
}

// Prune removes the files of runs that died before olderThan.
func (l *Lock) Prune(olderThan time.Time) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(olderThan) && !l.Alive(snapshot.Run{ID: e.Name()}) {
			os.Remove(filepath.Join(l.dir, e.Name()))
		}
	}
}
