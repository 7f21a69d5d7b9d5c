package mount

import "golang.org/x/sys/unix"

// Network tells by statfs(2) whether dir lies on a mount that is not of
// this machine's own disks; such mounts cache listings, so two hosts may not
// both write.
func Network(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Flags&unix.MNT_LOCAL != 0 {
		return ""
	}
	return singleWriter(unix.ByteSliceToString(s.Fstypename[:]))
}
