package disk

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Device is a virtual disk as the configuration of a VM or a snapshot shows it.
type Device struct {
	Key   int32 // device key: the same as long as the disk stays attached
	Label string
	Bytes int64 // capacity

	Controller int32 // key of the controller
	Bus        int32 // bus number of the controller
	Slot       string
	Unit       int32

	UUID     string // of the backing; stays when the disk moves
	ObjectID string // diskObjectId of the virtual disk
	ChangeID string // of changed-block tracking; only in a snapshot's configuration
	// Chain are the backing files, [datastore] path, from the one written to
	// down to the base.
	Chain []string
	// Mode is persistent, independent_persistent …
	Mode string
	// PhysicalRDM is set for a raw device that snapshots cannot freeze.
	PhysicalRDM bool
	// RDM is set for any raw device mapping.
	RDM bool
	// Kind of backing, as vSphere names its type: FlatVer2, SeSparse …
	Kind string
	// Datastore of the leaf.
	Datastore string
}

// File is the file that is written to, or that a snapshot froze.
func (d *Device) File() string {
	if len(d.Chain) == 0 {
		return ""
	}
	return d.Chain[0]
}

// Unprotected says why snapshots cannot freeze this disk, or is empty.
func (d *Device) Unprotected() string {
	switch {
	case d.PhysicalRDM:
		return "raw device mapping in physical mode: snapshots do not include it"
	case strings.HasPrefix(d.Mode, "independent"):
		return "independent disk: snapshots do not include it"
	case len(d.Chain) == 0:
		return fmt.Sprintf("backing %s is no file", d.Kind)
	}
	return ""
}

// Devices are the virtual disks among the devices of a VM, in their order.
func Devices(devices []types.BaseVirtualDevice) []Device {
	controllers := map[int32]types.BaseVirtualController{}
	for _, d := range devices {
		if c, ok := d.(types.BaseVirtualController); ok {
			controllers[c.GetVirtualController().Key] = c
		}
	}
	var out []Device
	for _, d := range devices {
		if v, ok := d.(*types.VirtualDisk); ok {
			out = append(out, describe(v, controllers[v.ControllerKey]))
		}
	}
	return out
}

func describe(v *types.VirtualDisk, controller types.BaseVirtualController) Device {
	d := Device{Key: v.Key, Controller: v.ControllerKey, ObjectID: v.DiskObjectId, Bytes: v.CapacityInBytes}
	if d.Bytes == 0 {
		d.Bytes = v.CapacityInKB << 10
	}
	if v.UnitNumber != nil {
		d.Unit = *v.UnitNumber
	}
	if v.DeviceInfo != nil {
		d.Label = v.DeviceInfo.GetDescription().Label
	}
	if controller != nil {
		d.Bus = controller.GetVirtualController().BusNumber
		d.Slot = fmt.Sprintf("%s%d:%d", strings.TrimPrefix(fmt.Sprintf("%T", controller), "*types."), d.Bus, d.Unit)
	}
	d.backing(v.Backing)
	if p, err := ParsePath(d.File()); err == nil {
		d.Datastore = p.Datastore
	}
	return d
}

// backing reads the chain. The five kinds differ only in their names; a kind
// that is not known leaves the chain empty, so that the disk is reported.
func (d *Device) backing(b types.BaseVirtualDeviceBackingInfo) {
	d.Kind = strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", b), "*types.VirtualDisk"), "BackingInfo")
	for first := true; b != nil; first = false {
		file, uuid, change, mode, parent := unwrap(b)
		if first {
			d.UUID, d.ChangeID, d.Mode = uuid, change, mode
			if r, ok := b.(*types.VirtualDiskRawDiskMappingVer1BackingInfo); ok {
				d.RDM = true
				d.PhysicalRDM = r.CompatibilityMode != string(types.VirtualDiskCompatibilityModeVirtualMode)
			}
		}
		if file == "" {
			return
		}
		d.Chain = append(d.Chain, file)
		b = parent
	}
}

// unwrap opens one link. parent is nil, not a typed nil, at the base.
func unwrap(b types.BaseVirtualDeviceBackingInfo) (file, uuid, change, mode string, parent types.BaseVirtualDeviceBackingInfo) {
	switch b := b.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		file, uuid, change, mode = b.FileName, b.Uuid, b.ChangeId, b.DiskMode
		if b.Parent != nil {
			parent = b.Parent
		}
	case *types.VirtualDiskSeSparseBackingInfo:
		file, uuid, change, mode = b.FileName, b.Uuid, b.ChangeId, b.DiskMode
		if b.Parent != nil {
			parent = b.Parent
		}
	case *types.VirtualDiskSparseVer2BackingInfo:
		file, uuid, change, mode = b.FileName, b.Uuid, b.ChangeId, b.DiskMode
		if b.Parent != nil {
			parent = b.Parent
		}
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		file, uuid, change, mode = b.FileName, b.Uuid, b.ChangeId, b.DiskMode
		if b.Parent != nil {
			parent = b.Parent
		}
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		file, uuid, change = b.DescriptorFileName, b.Uuid, b.ChangeId
	}
	return file, uuid, change, mode, parent
}

// Path is a file on a datastore.
type Path struct{ Datastore, File string }

// ParsePath reads "[datastore] folder/file".
func ParsePath(text string) (Path, error) {
	rest, ok := strings.CutPrefix(text, "[")
	name, file, closed := strings.Cut(rest, "]")
	if !ok || !closed || name == "" {
		return Path{}, fmt.Errorf("parse datastore path %q: want [datastore] file", text)
	}
	return Path{name, strings.TrimPrefix(file, " ")}, nil
}

// String is the inverse of ParsePath.
func (p Path) String() string { return "[" + p.Datastore + "] " + p.File }

// Join is the file of that name beside or below, when p is a directory.
func (p Path) Join(name string) Path {
	return Path{p.Datastore, strings.TrimSuffix(p.File, "/") + "/" + name}
}

// Sibling is the file of that name in p's directory.
func (p Path) Sibling(name string) Path {
	if i := strings.LastIndexByte(p.File, '/'); i >= 0 {
		return Path{p.Datastore, p.File[:i+1] + name}
	}
	return Path{p.Datastore, name}
}
