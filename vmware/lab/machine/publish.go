package machine

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/guest"
	"holdfast/vmware/lab/spec"
)

// publish writes what the laboratory knows of a VM into vcsim's object: disks with
// their chains, files with their sizes, snapshots, the state of the guest. vcsim's lock
// of the VM is held.
func (vm *VM) publish(c *simulator.Context, o *simulator.VirtualMachine) {
	vm.mu.Lock()
	if !vm.on {
		vm.applyTracking(o)
	}
	devices := vm.devices(o.Config.Hardware.Device, "")
	snapshots, roots := vm.shots.tree()
	// One update for all of it, so that whoever waits for a change sees them together.
	changes := []types.PropertyChange{
		{Name: "config.hardware.device", Val: devices},
		{Name: "rootSnapshot", Val: roots},
		{Name: "runtime.consolidationNeeded", Val: vm.shots.loose},
		{Name: "snapshot", Val: nil},
	}
	if len(roots) > 0 {
		changes[3].Val = snapshots
	}
	changes = append(changes, guest.State(vm.spec, vm.on, &vm.inside)...)
	vm.writeConfigFiles(o)
	layout := vm.layout(o)
	changes = append(changes, types.PropertyChange{Name: "layoutEx", Val: &layout})
	vm.mu.Unlock()
	c.Update(o, changes)
	vm.takeDirty() // this change needs no publishing
}

// applyTracking makes the configured change tracking effective, as a stun does.
func (vm *VM) applyTracking(o *simulator.VirtualMachine) {
	want := o.Config.ChangeTrackingEnabled != nil && *o.Config.ChangeTrackingEnabled
	for _, d := range vm.disks {
		if !d.excluded {
			d.Track(want, vm.blind)
		}
	}
}

// devices copies a device list with the disks as they are at a snapshot, or live when
// id is "". Devices that vcsim holds are never changed, for a reader may have them.
func (vm *VM) devices(old []types.BaseVirtualDevice, id string) []types.BaseVirtualDevice {
	out := slices.Clone(old)
	// A disk that the laboratory could not open keeps the backing that it came with.
	for i, dev := range out {
		vd, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		d := vm.disks[vd.Key]
		if d == nil {
			continue
		}
		now := *vd
		now.CapacityInBytes = d.Size()
		now.CapacityInKB = now.CapacityInBytes >> 10
		now.DiskObjectId = fmt.Sprintf("%s-%d", strings.TrimPrefix(vm.ref.Value, "vm-"), vd.Key)
		switch b := vd.Backing.(type) {
		case *types.VirtualDiskFlatVer2BackingInfo:
			at := id
			if d.excluded {
				at = ""
			}
			now.Backing = backing(*b, d, d.Chain(at), d.ChangeID(at))
		case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
			raw := *b
			raw.ChangeId = d.ChangeID(id)
			now.Backing = &raw
		}
		out[i] = &now
	}
	return out
}

// backing makes the backing of a chain's last link, with its parents.
func backing(like types.VirtualDiskFlatVer2BackingInfo, d *disk, links []chain.Layer, changeID string) *types.VirtualDiskFlatVer2BackingInfo {
	var top *types.VirtualDiskFlatVer2BackingInfo
	// Base first, each link the parent of the next; only the last has a change ID, because that
	// is where a snapshot's configuration carries it.
	for _, link := range links {
		b := like
		b.FileName = spec.Sibling(d.path, link.Descriptor)
		b.Parent, b.ChangeId, b.DeltaDiskFormat = top, "", ""
		if link.Delta {
			b.DeltaDiskFormat = string(types.VirtualDiskDeltaDiskFormatSeSparseFormat)
		}
		top = &b
	}
	if top != nil {
		top.ChangeId = changeID
	}
	return top
}

// fileTypes are the types of a VM's own files in layoutEx.
var fileTypes = map[string]types.VirtualMachineFileLayoutExFileType{
	".vmx": types.VirtualMachineFileLayoutExFileTypeConfig, ".vmxf": types.VirtualMachineFileLayoutExFileTypeExtendedConfig,
	".nvram": types.VirtualMachineFileLayoutExFileTypeNvram, ".log": types.VirtualMachineFileLayoutExFileTypeLog,
	".vmsd": types.VirtualMachineFileLayoutExFileTypeSnapshotList, ".vmsn": types.VirtualMachineFileLayoutExFileTypeSnapshotData,
}

// layouter collects files under keys that stay the same as long as the file does.
type layouter struct {
	vm  *VM
	out types.VirtualMachineFileLayoutEx
}

func (b *layouter) add(dsPath string, kind types.VirtualMachineFileLayoutExFileType) (int32, bool) {
	for _, f := range b.out.File {
		if f.Name == dsPath {
			return f.Key, true
		}
	}
	file, _ := b.vm.inv.Resolve(dsPath)
	fi, err := os.Stat(file)
	if err != nil {
		return 0, false
	}
	key, ok := b.vm.shots.fileKeys[dsPath]
	if !ok {
		key = int32(len(b.vm.shots.fileKeys))
		if b.vm.shots.fileKeys == nil {
			b.vm.shots.fileKeys = map[string]int32{}
		}
		b.vm.shots.fileKeys[dsPath] = key
	}
	b.out.File = append(b.out.File, types.VirtualMachineFileLayoutExFileInfo{
		Key: key, Name: dsPath, Type: string(kind), Size: fi.Size(), UniqueSize: fi.Size(), Accessible: types.NewBool(true),
	})
	return key, true
}

// disks lists the chains of all disks, base first, at a snapshot or live.
func (b *layouter) disks(id string) (out []types.VirtualMachineFileLayoutExDiskLayout) {
	for _, key := range b.vm.keys {
		d := b.vm.disks[key]
		at := id
		if d.excluded {
			at = ""
		}
		disk := types.VirtualMachineFileLayoutExDiskLayout{Key: key}
		for _, link := range d.Chain(at) {
			var unit types.VirtualMachineFileLayoutExDiskUnit
			if k, ok := b.add(spec.Sibling(d.path, link.Descriptor), types.VirtualMachineFileLayoutExFileTypeDiskDescriptor); ok {
				unit.FileKey = append(unit.FileKey, k)
			}
			if !d.raw {
				if k, ok := b.add(spec.Sibling(d.path, link.Extent), types.VirtualMachineFileLayoutExFileTypeDiskExtent); ok {
					unit.FileKey = append(unit.FileKey, k)
				}
			}
			disk.Chain = append(disk.Chain, unit)
		}
		out = append(out, disk)
	}
	return out
}

// layout lists the files of the VM.
func (vm *VM) layout(o *simulator.VirtualMachine) types.VirtualMachineFileLayoutEx {
	b := &layouter{vm: vm}
	b.out.Timestamp = time.Now()
	home := path.Dir(o.Config.Files.VmPathName)
	dir, _ := vm.inv.Resolve(home)
	entries, _ := os.ReadDir(dir) // a directory that is gone has no files
	for _, e := range entries {
		if kind, ok := fileTypes[path.Ext(e.Name())]; ok {
			b.add(home+"/"+e.Name(), kind)
		}
	}
	b.out.Disk = b.disks("")
	for _, s := range vm.shots.all {
		key, _ := b.add(spec.Sibling(o.Config.Files.VmPathName, s.dataFile), types.VirtualMachineFileLayoutExFileTypeSnapshotData)
		b.out.Snapshot = append(b.out.Snapshot, types.VirtualMachineFileLayoutExSnapshotLayout{
			Key: s.ref, DataKey: key, MemoryKey: -1, Disk: b.disks(s.ref.Value),
		})
	}
	return b.out
}

// writeConfigFiles writes the .vmx and .vmxf as far as a reader of a backup would look
// at them.
func (vm *VM) writeConfigFiles(o *simulator.VirtualMachine) {
	file, ok := vm.inv.Resolve(o.Config.Files.VmPathName)
	if !ok {
		return
	}
	var disks []string
	for _, key := range vm.keys {
		links := vm.disks[key].Chain("")
		disks = append(disks, links[len(links)-1].Descriptor)
	}
	vmx, vmxf := spec.ConfigFiles(o.Config, o.Name, disks)
	_ = os.WriteFile(file, []byte(vmx), 0o600) // a VM whose directory was deleted has no files to keep
	_ = os.WriteFile(strings.TrimSuffix(file, ".vmx")+".vmxf", []byte(vmxf), 0o600)
}
