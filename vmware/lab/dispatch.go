package lab

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/guest"
)

// extend puts the laboratory between vcsim's dispatcher and its objects.
func (l *Lab) extend() {
	reg := l.svc.Context.Map
	l.guests = guest.New(guest.Options{Dir: l.guestDir, Find: l.guestVM})
	l.guests.Install(reg)
	disks := reg.VirtualDiskManager().(*simulator.VirtualDiskManager)
	reg.Put(&disksWrapper{disks, l}) // asserted by interface only, so it may be replaced
	reg.AddHandler(&watcher{lab: l, Self: types.ManagedObjectReference{Type: "Laboratory", Value: "watcher"}})
	reg.Handler = l.dispatch
}

// oneAtATime are the methods that a VM refuses with TaskInProgress while one of them runs.
var oneAtATime = map[string]bool{
	"CreateSnapshot_Task": true, "CreateSnapshotEx_Task": true, "RemoveSnapshot_Task": true, "RevertToSnapshot_Task": true,
	"RevertToCurrentSnapshot_Task": true, "RemoveAllSnapshots_Task": true, "ConsolidateVMDisks_Task": true,
	"ReconfigVM_Task": true, "Destroy_Task": true, "PowerOnVM_Task": true, "PowerOffVM_Task": true,
}

// dispatch sees every call before vcsim does. It may answer with a fault; or it puts a wrapper of the object into the
// session's registry, which the dispatcher asks before the global one.
func (l *Lab) dispatch(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	l.counts.add(func() { l.counts.calls[m.Name]++ })
	l.settle()
	vm := l.vmOf(m.This)
	name := ""
	if vm != nil {
		name = vm.Name()
	}
	if fault := l.faults.answer(m.Name, name, false); fault != nil {
		return nil, fault
	}
	if ctx.Session == nil {
		switch m.Name {
		case "RetrieveProperties", "RetrievePropertiesEx", "Fetch": // vcsim lets strangers read; a vCenter does not
			return nil, &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}}
		}
		return nil, nil
	}
	if vm != nil && oneAtATime[m.Name] && vm.isBusy() {
		return nil, &types.TaskInProgress{Task: vm.ref}
	}
	if m.Name == "Logout" {
		l.loggedOut(ctx.Session.Key)
	}
	l.wrap(ctx, m)
	return nil, nil
}

// wrap prepares the session's registry for a call of m.This.
func (l *Lab) wrap(ctx *simulator.Context, m *simulator.Method) {
	reg := ctx.Session.Registry
	global := ctx.Map.Get(m.This)
	if global == nil {
		if m.This.Type == "VirtualMachine" || m.This.Type == "VirtualMachineSnapshot" {
			reg.Remove(ctx, m.This) // a wrapper must not outlive its object
		}
		return
	}
	switch o := global.(type) {
	case *simulator.SessionManager:
		if m.Name == "AcquireGenericServiceTicket" {
			view := *o
			view.CurrentSession = &ctx.Session.UserSession
			reg.Put(&sessionsWrapper{&view, l})
		}
	case *simulator.VirtualMachine:
		if reg.Get(m.This) == nil {
			reg.Put(&vmWrapper{o, l})
		}
	case *simulator.VirtualMachineSnapshot:
		if reg.Get(m.This) == nil {
			reg.Put(&snapshotWrapper{o, l})
		}
	case *simulator.ResourcePool:
		if reg.Get(m.This) == nil {
			reg.Put(&poolWrapper{o, l})
		}
	}
}

// vmOf is the VM of a call to it or to one of its snapshots, or nil.
func (l *Lab) vmOf(ref types.ManagedObjectReference) *VM {
	if ref.Type == "VirtualMachineSnapshot" {
		s, ok := l.svc.Context.Map.Get(ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			return nil
		}
		ref = s.Vm // set once, before the snapshot is known to anyone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.vms[ref]
}

// settle publishes what changed in VMs since the last call, so that every caller sees sizes and files as they are.
func (l *Lab) settle() {
	l.mu.Lock()
	var dirty []*VM
	for _, vm := range l.vms {
		if vm.takeDirty() {
			dirty = append(dirty, vm)
		}
	}
	l.mu.Unlock()
	for _, vm := range dirty {
		vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
	}
}

// watcher is called by vcsim's registry for each change of an object.
type watcher struct {
	lab  *Lab
	Self types.ManagedObjectReference
}

// Reference makes the watcher an object of the registry.
func (w *watcher) Reference() types.ManagedObjectReference { return w.Self }

// PutObject is not needed: a new VM has no disks yet.
func (w *watcher) PutObject(*simulator.Context, mo.Reference) {}

// UpdateObject gives the disks of a changed VM their bytes. The caller holds the VM's lock.
func (w *watcher) UpdateObject(_ *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	if m, ok := o.(*mo.VirtualMachine); ok {
		w.lab.observe(m, changes)
	}
}

// RemoveObject lets go of a VM.
func (w *watcher) RemoveObject(ctx *simulator.Context, ref types.ManagedObjectReference) {
	w.lab.mu.Lock()
	vm := w.lab.vms[ref]
	delete(w.lab.vms, ref)
	w.lab.mu.Unlock()
	if vm != nil {
		vm.gone(ctx)
	}
}

// disksWrapper makes disks that are created without a VM as long as they say they are.
type disksWrapper struct {
	*simulator.VirtualDiskManager
	lab *Lab
}

// CreateVirtualDiskTask gives the new flat file its length.
func (d *disksWrapper) CreateVirtualDiskTask(ctx *simulator.Context, req *types.CreateVirtualDisk_Task) (res soapBody) {
	task := simulator.CreateTask(d, "createVirtualDisk", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		inner := d.VirtualDiskManager.CreateVirtualDiskTask(ctx, req).(*methods.CreateVirtualDisk_TaskBody)
		t := ctx.Map.Get(inner.Res.Returnval).(*simulator.Task)
		t.Wait()
		if t.Info.Error != nil {
			return nil, t.Info.Error.Fault
		}
		return req.Name, d.lab.sizeFlat(req)
	})
	return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: task.Run(ctx)}}
}
