package runlock

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// ErrHeld: another run that lives holds the file.
var ErrHeld = errors.New("another run is at it")

// Hold takes the lock of the file at path, which is made for that and goes away
// with release. A process that dies leaves the file, but not its lock, so what a
// run did under it can be undone by the next one that holds it. Errors: ErrHeld, or
// why there can be no such file or lock there; nothing is proven then.
func Hold(path string) (release func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("hold: %w", err)
		}
		free, err := tryLock(f)
		if err == nil && !free {
			err = ErrHeld
		}
		var current bool
		if err == nil {
			current, err = isNamed(f, path)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("hold %s: %w", path, err)
		}
		if current {
			return sync.OnceFunc(func() { letGo(f, path) }), nil
		}
		f.Close() // its holder has removed it since it was opened
	}
}

// isNamed reports whether path still names the open file.
func isNamed(f *os.File, path string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !named.Mode().IsRegular() {
		return false, errors.New("it is no regular file")
	}
	return os.SameFile(opened, named), nil
}

// letGo removes the file and gives the lock back. A file that stays is nobody's
// and harms nobody: the next holder takes it over.
func letGo(f *os.File, path string) {
	if runtime.GOOS == "windows" {
		f.Close() // an open file keeps its name there
		os.Remove(path)
		return
	}
	os.Remove(path) // first: once the lock is free the name may be another's
	f.Close()
}
