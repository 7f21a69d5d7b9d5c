//go:build unix

package runlock

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Shared is the directory in which all runs of this host can keep locks, whoever's
// they are and wherever their caches lie. It belongs to the system and is sticky:
// nobody removes or renames there what is another's.
func Shared() (string, error) {
	for _, dir := range []string{"/run/lock", "/tmp", "/private/tmp"} { // no TMPDIR: that may differ from run to run
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Mode()&os.ModeSticky == 0 || info.Mode().Perm()&0o002 == 0 {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
			return dir, nil
		}
	}
	return "", errors.New("no directory that all users of this host share")
}

// openLock opens the lock of another run without following a link or waiting for
// what is no file.
func openLock(path string) (*os.File, error) {
	const safe = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	f, err := os.OpenFile(path, os.O_RDWR|safe, 0)
	if errors.Is(err, os.ErrPermission) { // another user's
		f, err = os.OpenFile(path, os.O_RDONLY|safe, 0)
	}
	return f, err
}

// isTrusted reports whether a lock was made by this user or by the system's: any
// other could have laid a free one for a session that lives.
func isTrusted(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false, fmt.Errorf("owner of %s: not told", f.Name())
	}
	return st.Uid == 0 || int(st.Uid) == os.Geteuid(), nil
}
