package local

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
}

// Allocate asks by fallocate(2). ZFS grants it and reserves nothing: whoever
// needs the blocks looks at them afterwards.
func (f diskFile) Allocate(bytes int64) (granted bool, err error) {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, bytes)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("allocate: %w", err)
		}
		return true, nil
	}
}

// smb2Magic is missing in older kernel headers (fs/smb/client/cifsfs.c).
const smb2Magic = 0xfe534d42

// networkPlace tells by statfs(2) whether dir lies on a file system whose
// listings each host caches for itself, so that two hosts may not both write.
// Cluster file systems that promise one view to all hosts (Ceph, GFS2, Lustre)
// are not among them; FUSE says nothing of what is behind it, so it is.
func networkPlace(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return ""
	}
	return networkKind(uint32(s.Type))
}

// networkKind is networkPlace for the number that statfs(2) gives.
func networkKind(magic uint32) string {
	kind := map[uint32]string{
		unix.NFS_SUPER_MAGIC:  "NFS",
		unix.SMB_SUPER_MAGIC:  "SMB",
		unix.CIFS_SUPER_MAGIC: "SMB",
		smb2Magic:             "SMB",
		unix.AFS_SUPER_MAGIC:  "AFS",
		unix.CODA_SUPER_MAGIC: "Coda",
		unix.V9FS_MAGIC:       "9P",
		unix.FUSE_SUPER_MAGIC: "FUSE",
	}[magic]
	if kind == "" {
		return ""
	}
	return singleWriter(kind)
}

func singleWriter(kind string) string {
	return fmt.Sprintf("a directory on %s: each host caches listings for itself; for many hosts use S3", kind)
}
