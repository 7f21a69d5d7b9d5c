//go:build linux || darwin

package local

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// SyncDir makes the folder's entries durable. File systems that cannot sync a
// folder (some network and FUSE ones) answer EINVAL or ENOTSUP; they offer
// nothing better, so that is no error.
func (r *rootFS) SyncDir(name string) error {
	d, err := r.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDirFile(d)
}

// syncPath is SyncDir for a folder outside the root.
func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDirFile(d)
}

func syncDirFile(d *os.File) error {
	err := d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// RenameNew works on folder handles that os.Root has opened, so no path is
// resolved outside its care.
func (r *rootFS) RenameNew(from, to string) error {
	fromDir, err := r.root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := r.root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = renameNoReplace(int(fromDir.Fd()), path.Base(from), int(toDir.Fd()), path.Base(to))
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// lockFile takes flock(2): it belongs to the open file, so two backends of one
// process exclude each other too, and it ends with the process.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		case err != nil:
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// allocated is how many bytes of blocks a file has, or its length where the
// file system does not say.
func allocated(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512 // of this size whatever Blksize is: stat(2)
	}
	return info.Size()
}

func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// unreachable tells the errors of a network or FUSE mount whose far end is
// gone, and a refused access, from those of a sick disk.
func unreachable(err error) bool {
	for _, e := range []error{unix.ESTALE, unix.ETIMEDOUT, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENOTCONN, fs.ErrPermission} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
