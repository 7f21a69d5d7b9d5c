// Package disk carries the bytes of virtual disks between a vSphere server and
// us. There is one interface, Reader, and one file for each way to travel:
//
//   - https: the datastore's file door, random access by ranges on port 443, the
//     chain of deltas put together here. VMFS and NFS only.
//   - export: an NFC lease that streams whole disks as streamOptimized VMDK.
//     Every kind of datastore, full transfers only.
//
// Choose picks one for a disk and says why. Device is the view of a disk that
// the rest of the driver works with. A Lease keeps an NFC transfer alive, for
// exports here and for imports at a restore.
package disk

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// ErrTransport means that no transport, or not the one asked for, can read this
// disk. The message has the reasons.
var ErrTransport = errors.New("disk cannot be transported")

// Names of transports.
const (
	Auto   = "auto"
	HTTPS  = "https"
	Export = "export"
	NBD    = "nbd"
)

// Reader reads a frozen disk at any offset, from several goroutines at once.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) error // all of p or an error
	Close() error
}

// Surroundings are what Choose looks at besides the disk.
type Surroundings struct {
	Layout *types.VirtualMachineFileLayoutEx
	// StoreTypes is summary.type of each datastore by name: VMFS, NFS, vsan …
	StoreTypes map[string]string
}

// Choose picks the transport for a disk: what was asked for, or for auto the
// first that can. The reason says why, and why not another. A transport that
// was asked for and cannot is ErrTransport.
func Choose(asked string, d Device, s Surroundings) (transport, reason string, err error) {
	obstacle := httpsObstacle(d, s)
	switch asked {
	case Auto, "":
		if obstacle == "" {
			return HTTPS, "all extents are listed on a datastore that serves files", nil
		}
		return Export, "not https: " + obstacle, nil
	case HTTPS:
		if obstacle != "" {
			return "", "", fmt.Errorf("read %s over https: %s: %w", d.File(), obstacle, ErrTransport)
		}
		return HTTPS, "asked for", nil
	case Export:
		return Export, "asked for", nil
	case NBD:
		return "", "", fmt.Errorf("read %s over nbd: nbd needs VMware's VDDK behind an NBD server, which this build cannot reach; use https or export: %w", d.File(), ErrTransport)
	}
	return "", "", fmt.Errorf("transport %q is not auto, https, export or nbd: %w", asked, ErrTransport)
}

// httpsObstacle says why the file door cannot give this disk, or is empty. A
// chain of which a file is not listed is on object storage, a raw device, or
// out of the VM's sight.
func httpsObstacle(d Device, s Surroundings) string {
	if d.RDM {
		return "the disk is a raw device mapping, which has no file"
	}
	for _, file := range d.Chain {
		p, err := ParsePath(file)
		if err != nil {
			return "a backing has no datastore path"
		}
		if kind := s.StoreTypes[p.Datastore]; ServesNoFiles(kind) {
			return "datastore " + p.Datastore + " is " + kind + ", which serves no files"
		}
		if path.Dir(file) != path.Dir(d.File()) {
			return "the chain spans several directories"
		}
	}
	return unlisted(d, s.Layout)
}

// ServesNoFiles is true for kinds of datastores (summary.type) on which a disk is
// an object and not a file.
func ServesNoFiles(kind string) bool {
	switch strings.ToLower(kind) {
	case "vsan", "vsand", "vvol", "pmem":
		return true
	}
	return false
}

// unlisted looks for the extents of the disk's chain in the VM's file layout.
func unlisted(d Device, layout *types.VirtualMachineFileLayoutEx) string {
	if layout == nil {
		return "the VM's file layout is not known"
	}
	files := map[int32]types.VirtualMachineFileLayoutExFileInfo{}
	listed := map[string]bool{} // descriptors that have an extent beside them
	for _, f := range layout.File {
		files[f.Key] = f
	}
	for _, l := range layout.Disk {
		for _, unit := range l.Chain {
			descriptor, extent := "", false
			for _, key := range unit.FileKey {
				switch f := files[key]; f.Type {
				case string(types.VirtualMachineFileLayoutExFileTypeDiskDescriptor):
					descriptor = f.Name
				case string(types.VirtualMachineFileLayoutExFileTypeDiskExtent):
					extent = true
				}
			}
			if extent {
				listed[descriptor] = true
			}
		}
	}
	if i := slices.IndexFunc(d.Chain, func(f string) bool { return !listed[f] }); i >= 0 {
		return "no extent of " + d.Chain[i] + " is listed"
	}
	return ""
}
