package local

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_EXCL)
}

// Allocate asks by F_PREALLOCATE, which leaves the length alone, and then sets that.
func (f diskFile) Allocate(bytes int64) (granted bool, err error) {
	want := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: bytes}
	err = unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &want)
	switch {
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("allocate: %w", err)
	}
	return true, f.Truncate(bytes)
}

// networkPlace tells by statfs(2) whether dir lies on a mount that is not of
// this machine's own disks; such mounts cache listings, so two hosts may not
// both write.
func networkPlace(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Flags&unix.MNT_LOCAL != 0 {
		return ""
	}
	return fmt.Sprintf("a directory on %s: each host caches listings for itself; for many hosts use S3",
		unix.ByteSliceToString(s.Fstypename[:]))
}
