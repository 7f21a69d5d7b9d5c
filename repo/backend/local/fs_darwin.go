package local

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_EXCL)
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
