package mount

import "golang.org/x/sys/unix"

// smb2Magic is missing in older kernel headers (fs/smb/client/cifsfs.c).
const smb2Magic = 0xfe534d42

// Network tells by statfs(2) whether dir lies on a file system whose
// listings each host caches for itself, so that two hosts may not both write.
// Cluster file systems that promise one view to all hosts (Ceph, GFS2, Lustre)
// are not among them; FUSE says nothing of what is behind it, so it is.
func Network(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return ""
	}
	return network(uint32(s.Type))
}

// network is Network for the number that statfs(2) gives.
func network(magic uint32) string {
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
