package machine

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// watcher is called by vcsim's registry for each change of an object.
type watcher struct {
	inv  *Inventory
	Self types.ManagedObjectReference
}

// Reference makes the watcher an object of the registry.
func (w *watcher) Reference() types.ManagedObjectReference { return w.Self }

// PutObject is not needed: a new VM has no disks yet.
func (w *watcher) PutObject(*simulator.Context, mo.Reference) {}

// UpdateObject gives the disks of a changed VM their bytes. The caller holds the VM's
// lock.
func (w *watcher) UpdateObject(ctx *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	if m, ok := o.(*mo.VirtualMachine); ok && ctx.Map.Get(m.Self) != nil { // vcsim goes on changing a VM that it has removed
		w.inv.observe(m, changes)
	}
}

// RemoveObject lets go of a VM.
func (w *watcher) RemoveObject(ctx *simulator.Context, ref types.ManagedObjectReference) {
	w.inv.mu.Lock()
	vm := w.inv.vms[ref]
	delete(w.inv.vms, ref)
	w.inv.mu.Unlock()
	if vm != nil {
		vm.gone(ctx)
	}
}

// disksWrapper makes disks that are created without a VM as long as they say they are.
type disksWrapper struct {
	*simulator.VirtualDiskManager
	inv *Inventory
}

// CreateVirtualDiskTask gives the new flat file its length.
func (d *disksWrapper) CreateVirtualDiskTask(ctx *simulator.Context, req *types.CreateVirtualDisk_Task) soap.HasFault {
	task := simulator.CreateTask(d, "createVirtualDisk", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		inner := d.VirtualDiskManager.CreateVirtualDiskTask(ctx, req).(*methods.CreateVirtualDisk_TaskBody)
		t := ctx.Map.Get(inner.Res.Returnval).(*simulator.Task)
		t.Wait()
		if t.Info.Error != nil {
			return nil, t.Info.Error.Fault
		}
		return req.Name, d.inv.sizeFlat(req)
	})
	return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: task.Run(ctx)}}
}

// folderWrapper overrides methods of a folder.
type folderWrapper struct {
	*simulator.Folder
	inv *Inventory
}

// CreateVMTask goes the way of all new VMs.
func (w *folderWrapper) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	task := simulator.CreateTask(w.Folder, "createVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		ref, fault := w.inv.Create(ctx, w.Folder, *req)
		if fault != nil {
			return nil, fault
		}
		return ref, nil
	})
	return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task.Run(ctx)}}
}
