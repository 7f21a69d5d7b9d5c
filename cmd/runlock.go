package cmd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/vmware/snapshot"
)

// runLock says, to other processes of this machine, that this run lives: the
// operating system holds the lock as long as the process does and no longer,
// so nothing ever has to be cleared by hand.
type runLock struct {
	run  snapshot.Run
	file *os.File
	dir  string
}

// newRun begins a run with an id of its own and takes its lock.
func (a *app) newRun(repository string) (*runLock, error) {
	dir, err := a.runsDir()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 8)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("name the run: %w", err)
	}
	l := &runLock{dir: dir, run: snapshot.Run{
		Host: a.options().Host, ID: hex.EncodeToString(raw), PID: os.Getpid(), Started: a.now(), Repository: repository,
	}}
	l.file, err = os.OpenFile(filepath.Join(dir, l.run.ID), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run: %w", err)
	}
	if ok, err := tryLock(l.file); err != nil || !ok {
		l.file.Close()
		return nil, fmt.Errorf("lock the run %s: %w", l.file.Name(), err)
	}
	return l, nil
}

// runsDir is the folder of this user's run locks.
func (a *app) runsDir() (string, error) {
	dir, err := a.settings.CacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder for run locks: %w", err)
	}
	return dir, nil
}

// Alive reports whether an earlier run of this machine still lives. A run
// whose file is gone ended; one whose lock can be taken died.
func (l *runLock) Alive(run snapshot.Run) bool {
	if run.ID == l.run.ID {
		return true
	}
	f, err := os.OpenFile(filepath.Join(l.dir, filepath.Base(run.ID)), os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return false
	}
	if err != nil {
		return true // it cannot be told, so it is spared
	}
	defer f.Close()
	free, err := tryLock(f)
	return err != nil || !free
}

// Close ends the run.
func (l *runLock) Close() error {
	os.Remove(l.file.Name())
	return l.file.Close()
}

// prune removes files of runs that died, once their snapshots are cleaned up.
func (l *runLock) prune(olderThan time.Time) {
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
