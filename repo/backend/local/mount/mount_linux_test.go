package mount

import (
	"strings"
	"testing"
)

// TestNetworkFileSystemsAreKnown: by their numbers, and no local one is among them.
func TestNetworkFileSystemsAreKnown(t *testing.T) {
	for magic, name := range map[uint32]string{0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x65735546: "FUSE", 0x01021997: "9P"} {
		if why := network(magic); !strings.Contains(why, name) || !strings.Contains(why, "S3") {
			t.Errorf("%x: %q, want %s", magic, why, name)
		}
	}
	for _, magic := range []uint32{0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1, 0x794c7630, 0x00c36400} { // ext4, XFS, Btrfs, tmpfs, ZFS, overlay, Ceph
		if why := network(magic); why != "" {
			t.Errorf("%x: %q", magic, why)
		}
	}
}
