package local

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
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
	kind := map[uint32]string{
		unix.NFS_SUPER_MAGIC:  "NFS",
		unix.SMB_SUPER_MAGIC:  "SMB",
		unix.CIFS_SUPER_MAGIC: "SMB",
		smb2Magic:             "SMB",
		unix.AFS_SUPER_MAGIC:  "AFS",
		unix.CODA_SUPER_MAGIC: "Coda",
		unix.V9FS_MAGIC:       "9P",
		unix.FUSE_SUPER_MAGIC: "FUSE",
	}[uint32(s.Type)]
	if kind == "" {
		return ""
	}
	return singleWriter(kind)
}

func singleWriter(kind string) string {
	return fmt.Sprintf("a directory on %s: each host caches listings for itself; for many hosts use S3", kind)
}
