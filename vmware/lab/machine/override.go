package machine

import (
	"errors"
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/spec"
)

// stun lets change tracking that was configured take effect. vcsim's lock of the VM is
// held.
func (w *vmWrapper) stun() {
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.applyTracking(w.VirtualMachine)
}

// PowerOnVMTask refuses while a lease holds the VM.
func (w *vmWrapper) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	if fault := w.leased(); fault != nil {
		return &methods.PowerOnVM_TaskBody{Fault_: fault}
	}
	w.stun()
	return w.VirtualMachine.PowerOnVMTask(ctx, req)
}

// PowerOffVMTask stops the VM.
func (w *vmWrapper) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	w.stun()
	return w.VirtualMachine.PowerOffVMTask(ctx, req)
}

// ShutdownGuest needs running tools.
func (w *vmWrapper) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	without := vm.on && vm.spec.Tools != spec.ToolsRunning
	vm.mu.Unlock()
	if without {
		return &methods.ShutdownGuestBody{Fault_: simulator.Fault("", &types.ToolsUnavailable{})}
	}
	w.stun()
	return w.VirtualMachine.ShutdownGuest(ctx, req)
}

// RefreshStorageInfo does what publishing did already.
func (w *vmWrapper) RefreshStorageInfo(ctx *simulator.Context, _ *types.RefreshStorageInfo) soap.HasFault {
	w.inv.Of(w.Self).publish(ctx, w.VirtualMachine)
	return &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
}

// ReconfigVMTask checks what vcsim does not: that a new name is free, that a disk with
// snapshots keeps its size, that an attached disk is whole, and that datastores and
// networks exist.
func (w *vmWrapper) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	vm := w.inv.Of(w.Self)
	if on := req.Spec.ChangeTrackingEnabled; on != nil && *on {
		if w.Config.Version < "vmx-07" { // change tracking came with hardware version 7
			return &methods.ReconfigVM_TaskBody{Fault_: simulator.Fault("", &types.NotSupported{})}
		}
		vm.mu.Lock()
		vm.blind = len(vm.shots.all) > 0
		vm.mu.Unlock()
	}
	if fault := w.inv.site.FreeName(ctx, w.Self, w.Parent, req.Spec.Name); fault != nil {
		return &methods.ReconfigVM_TaskBody{Fault_: simulator.Fault("", fault)}
	}
	for _, change := range req.Spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		fault := w.inv.site.Known(c.Device)
		if vd, ok := c.Device.(*types.VirtualDisk); ok && fault == nil {
			fault = vm.checkDisk(c, vd)
		}
		if fault != nil {
			return &methods.ReconfigVM_TaskBody{Fault_: simulator.Fault("", fault)}
		}
	}
	return w.VirtualMachine.ReconfigVMTask(ctx, req)
}

func (vm *VM) checkDisk(c *types.VirtualDeviceConfigSpec, vd *types.VirtualDisk) types.BaseMethodFault {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch {
	case c.Operation == types.VirtualDeviceConfigSpecOperationAdd && c.FileOperation == "":
		file, ok := vm.inv.Resolve(basePath(vd))
		if !ok {
			return &types.InvalidDatastorePath{DatastorePath: basePath(vd)}
		}
		size, err := spec.FlatSize(file)
		if errors.Is(err, os.ErrNotExist) {
			return &types.FileNotFound{FileFault: types.FileFault{File: basePath(vd)}}
		}
		if err != nil || vd.CapacityInBytes > 0 && vd.CapacityInBytes != size || vd.CapacityInKB > 0 && vd.CapacityInKB != size>>10 {
			return &types.InvalidDeviceBacking{}
		}
		// A caller that attaches a disk need not know its size; vCenter reads the descriptor.
		vd.CapacityInBytes, vd.CapacityInKB = size, size>>10
	case c.Operation == types.VirtualDeviceConfigSpecOperationAdd:
		return vm.inv.site.Place(vd, spec.DatastoreOf(vm.home), spec.PathOf(vm.home), vm.name, len(vm.keys))
	case c.Operation == types.VirtualDeviceConfigSpecOperationEdit:
		d := vm.disks[vd.Key]
		grown := d != nil && (vd.CapacityInBytes > d.Size() || vd.CapacityInKB > d.Size()>>10)
		if grown && len(vm.shots.all) > 0 {
			return &types.InvalidDeviceOperation{}
		}
	}
	return nil
}

// DestroyTask deletes the VM with its files, and directories that are empty then.
func (w *vmWrapper) DestroyTask(ctx *simulator.Context, _ *types.Destroy_Task) soap.HasFault {
	if fault := w.leased(); fault != nil {
		return &methods.Destroy_TaskBody{Fault_: fault}
	}
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	vm.destroying = !vm.on
	room, dirs := map[types.ManagedObjectReference]int64{}, []string{vm.home}
	for _, d := range vm.disks {
		dirs = append(dirs, path.Dir(d.path))
	}
	for _, dev := range w.Config.Hardware.Device {
		if vd, ok := dev.(*types.VirtualDisk); ok {
			if b, ok := vd.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok && b.GetVirtualDeviceFileBackingInfo().Datastore != nil {
				room[*b.GetVirtualDeviceFileBackingInfo().Datastore] += vd.CapacityInBytes
			}
		}
	}
	vm.mu.Unlock()
	// Not vcsim's own: that deletes the directory in a task which nobody waits for, and which
	// would take the files of the next VM of this name with it.
	task := simulator.CreateTask(w.VirtualMachine, "destroy", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if r := w.UnregisterVM(ctx, &types.UnregisterVM{This: w.Self}); r.Fault() != nil {
			return nil, r.Fault().VimFault().(types.BaseMethodFault)
		}
		if err := w.inv.site.RemoveFiles(dirs[0], dirs[1:]...); err != nil {
			return nil, &types.FileFault{File: dirs[0]}
		}
		w.inv.giveBack(ctx, room)
		return nil, nil
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task.Run(ctx)}}
}

// giveBack counts the room of deleted disks as free again.
func (inv *Inventory) giveBack(ctx *simulator.Context, room map[types.ManagedObjectReference]int64) {
	for ref, bytes := range room {
		if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
			ctx.WithLock(ds, func() {
				ds.Summary.FreeSpace += bytes
				ds.Info.GetDatastoreInfo().FreeSpace = ds.Summary.FreeSpace
			})
		}
	}
}

// leased is the fault while a lease is open.
func (w *vmWrapper) leased() *soap.Fault {
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.leases > 0 {
		return simulator.Fault("", &types.TaskInProgress{Task: w.Self})
	}
	return nil
}

// QueryChangedDiskAreas answers from the disk's tracking, at most Options.MaxExtents at
// a time.
func (w *vmWrapper) QueryChangedDiskAreas(_ *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := &methods.QueryChangedDiskAreasBody{}
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	d, lost := vm.disks[req.DeviceKey], vm.lost
	shot := req.Snapshot != nil && vm.shots.find(*req.Snapshot) != nil
	vm.mu.Unlock()
	switch {
	case req.Snapshot == nil:
		body.Fault_ = invalid("snapshot")
		return body
	case !shot:
		body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: *req.Snapshot})
		return body
	case d == nil:
		body.Fault_ = invalid("deviceKey")
		return body
	}
	// Independent disks were not frozen, so for them there is no such point: FileFault, as for
	// a disk without tracking.
	areas, length, err := d.Changed(req.Snapshot.Value, req.ChangeId, req.StartOffset, w.inv.opt.MaxExtents)
	switch {
	case lost > 0, errors.Is(err, chain.ErrNotTracking), errors.Is(err, chain.ErrNoPoint):
		body.Fault_ = simulator.Fault("Error caused by file "+d.path, &types.FileFault{File: d.path})
		return body
	case errors.Is(err, chain.ErrStart):
		body.Fault_ = invalid("startOffset")
		return body
	case err != nil:
		body.Fault_ = invalid("changeId")
		return body
	}
	info := types.DiskChangeInfo{StartOffset: req.StartOffset, Length: length}
	for _, a := range vm.lie(areas) {
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: a.Start, Length: a.Length})
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: info}
	return body
}

// ResetCBT begins change tracking anew on all disks, as a host does after a power loss:
// other uuids, old change IDs are refused.
func (vm *VM) ResetCBT() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.lost = 0
	for _, d := range vm.disks {
		d.Reset()
	}
}

// LoseCBT makes every QueryChangedDiskAreas fail with FileFault until ResetCBT, as when
// the map's file is damaged.
func (vm *VM) LoseCBT() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.lost = 1
}

// LieCBT makes the next n answers of QueryChangedDiskAreas that have an area leave out
// the last one: the bugs of KB 317933 and its kin.
func (vm *VM) LieCBT(n int) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.lies = n
}

func (vm *VM) lie(areas []chain.Extent) []chain.Extent {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.lies == 0 || len(areas) == 0 {
		return areas
	}
	vm.lies--
	return areas[:len(areas)-1]
}

// invalid is the fault for a bad argument.
func invalid(property string) *soap.Fault {
	return simulator.Fault("A specified parameter was not correct: "+property, &types.InvalidArgument{InvalidProperty: property})
}
