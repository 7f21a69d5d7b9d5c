package machine

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/spec"
)

// A Part is one file of a VM that a lease carries.
type Part struct {
	URL       types.HttpNfcLeaseDeviceUrl // without the URL itself
	Frozen    *chain.Frozen               // a disk to download
	File      string                      // or a file to download as it is
	Disk      *chain.Disk                 // or a disk to fill
	Datastore string                      // where that disk lies
}

// Bytes is the capacity of the disk, 0 for another file.
func (p Part) Bytes() int64 {
	switch {
	case p.Frozen != nil:
		return p.Frozen.Bytes
	case p.Disk != nil:
		return p.Disk.Size()
	}
	return 0
}

// deviceURL names a device as vCenter does: "/vm-12/ParaVirtualSCSIController0:1".
func deviceURL(vm *VM, devices object.VirtualDeviceList, vd *types.VirtualDisk, n int) types.HttpNfcLeaseDeviceUrl {
	at := fmt.Sprintf("disk%d", n)
	if c, ok := devices.FindByKey(vd.ControllerKey).(types.BaseVirtualController); ok && vd.UnitNumber != nil {
		kind := strings.TrimPrefix(fmt.Sprintf("%T", c), "*types.")
		at = fmt.Sprintf("%s%d:%d", kind, c.GetVirtualController().BusNumber, *vd.UnitNumber)
	}
	return types.HttpNfcLeaseDeviceUrl{
		Key: fmt.Sprintf("/%s/%s", vm.ref.Value, at), ImportKey: fmt.Sprintf("/%s/%s", vm.Name(), at),
		Disk: types.NewBool(true), TargetId: fmt.Sprintf("disk-%d.vmdk", n),
	}
}

// ExportSnapshot is the leases' affair.
func (w *snapshotWrapper) ExportSnapshot(ctx *simulator.Context, _ *types.ExportSnapshot) soap.HasFault {
	o := w.owner(ctx)
	if o == nil {
		return &methods.ExportSnapshotBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: w.Self})}
	}
	return w.inv.opt.Export(ctx, w.inv.Of(o.Self), w.Self)
}

// Exports are the disks that a snapshot froze, and the NVRAM. The caller holds vcsim's
// lock of the VM.
func (vm *VM) Exports(ref types.ManagedObjectReference, o *simulator.VirtualMachine) (out []Part) {
	devices := object.VirtualDeviceList(o.Config.Hardware.Device)
	for i, key := range vm.DiskKeys() {
		d, err := vm.disk(int(key))
		if err != nil {
			continue
		}
		frozen, err := d.At(ref.Value)
		vd, ok := devices.FindByKey(key).(*types.VirtualDisk)
		if err != nil || !ok {
			continue // independent disks are not in the snapshot
		}
		u := deviceURL(vm, devices, vd, i)
		u.ImportKey = ""
		out = append(out, Part{Frozen: frozen, URL: u})
	}
	for _, f := range o.LayoutEx.File {
		if f.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram) {
			file, _ := vm.inv.Resolve(f.Name)
			out = append(out, Part{File: file, URL: types.HttpNfcLeaseDeviceUrl{
				Key: "/" + vm.ref.Value + "/nvram", Disk: types.NewBool(false), TargetId: "nvram", FileSize: f.Size}})
		}
	}
	return out
}

// Imports are the disks of a new VM that wait for content. The caller holds vcsim's
// lock of the VM.
func (vm *VM) Imports(o *simulator.VirtualMachine) (out []Part) {
	devices := object.VirtualDeviceList(o.Config.Hardware.Device)
	for i, key := range vm.DiskKeys() {
		d, err := vm.disk(int(key))
		vd, ok := devices.FindByKey(key).(*types.VirtualDisk)
		if err == nil && ok {
			out = append(out, Part{Disk: d.Disk, Datastore: spec.DatastoreOf(d.path), URL: deviceURL(vm, devices, vd, i)})
		}
	}
	return out
}

// Lease notes that so many more leases are open on the VM, which it cannot be started
// or deleted under.
func (vm *VM) Lease(by int) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.leases += by
}

// Destroy deletes the VM and its files.
func (vm *VM) Destroy() {
	var task types.ManagedObjectReference
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) {
		task = (&vmWrapper{o, vm.inv}).DestroyTask(c, &types.Destroy_Task{This: vm.ref}).(*methods.Destroy_TaskBody).Res.Returnval
	})
	if task.Value != "" {
		vm.inv.Await(task)
	}
}
