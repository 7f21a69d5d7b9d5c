package machine

import (
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/spec"
)

// maxDepth is how many snapshots may stand in one chain.
const maxDepth = 32

// snapshots are the snapshots of one VM.
type snapshots struct {
	all      []*snapshot
	current  *snapshot
	nextID   int32
	loose    bool // disks need consolidation
	stuck    int  // removals that will leave it so
	noVSS    []types.BaseMethodFault
	fileKeys map[string]int32 // keys of layoutEx
}

type snapshot struct {
	ref      types.ManagedObjectReference
	tree     types.VirtualMachineSnapshotTree
	parent   *snapshot
	config   types.VirtualMachineConfigInfo
	disks    []int32 // keys of the disks that it froze
	dataFile string
}

func (s *snapshots) find(ref types.ManagedObjectReference) *snapshot {
	for _, x := range s.all {
		if x.ref == ref {
			return x
		}
	}
	return nil
}

// tree is the snapshot property of the VM, with the roots' references.
func (s *snapshots) tree() (*types.VirtualMachineSnapshotInfo, []types.ManagedObjectReference) {
	info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: s.below(nil)}
	if s.current != nil {
		info.CurrentSnapshot = &s.current.ref
	}
	roots := []types.ManagedObjectReference{}
	for _, r := range info.RootSnapshotList {
		roots = append(roots, r.Snapshot)
	}
	return info, roots
}

func (s *snapshots) below(parent *snapshot) (out []types.VirtualMachineSnapshotTree) {
	for _, x := range s.all {
		if x.parent == parent {
			t := x.tree
			t.ChildSnapshotList = s.below(x)
			out = append(out, t)
		}
	}
	return out
}

// FailQuiesce makes the next n quiesced snapshots end with fault, as
// *types.ApplicationQuiesceFault or *types.FilesystemQuiesceFault.
func (vm *VM) FailQuiesce(n int, fault types.BaseMethodFault) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for range n {
		vm.shots.noVSS = append(vm.shots.noVSS, fault)
	}
}

// FailConsolidation makes the next n removals of snapshots leave the disks unmerged
// with runtime.consolidationNeeded set; so do as many calls of ConsolidateVMDisks_Task.
func (vm *VM) FailConsolidation(n int) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.shots.stuck = n
}

// vmWrapper overrides methods of a VM.
type vmWrapper struct {
	*simulator.VirtualMachine
	inv *Inventory
}

// snapshotWrapper overrides methods of a snapshot.
type snapshotWrapper struct {
	*simulator.VirtualMachineSnapshot
	inv *Inventory
}

// run is a task on the VM: held or failed on demand, the VM busy meanwhile, what
// changed published.
func (w *vmWrapper) run(ctx *simulator.Context, name, method string, fn func(vm *VM) (types.AnyType, types.BaseMethodFault)) types.ManagedObjectReference {
	vm := w.inv.Of(w.Self)
	vm.setBusy(1)
	return simulator.CreateTask(w.VirtualMachine, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		defer vm.setBusy(-1)
		if fault := w.inv.opt.Trouble.InTask(method, vm.Name()); fault != nil {
			return nil, fault
		}
		res, fault := fn(vm)
		vm.publish(ctx, w.VirtualMachine)
		return res, fault
	}).Run(ctx)
}

// CreateSnapshotTask is the old form, whose quiescing has no settings.
func (w *vmWrapper) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	ex := types.CreateSnapshotEx_Task{Name: req.Name, Description: req.Description, Memory: req.Memory}
	if req.Quiesce {
		ex.QuiesceSpec = &types.VirtualMachineGuestQuiesceSpec{}
	}
	ref := w.run(ctx, "createSnapshot", "CreateSnapshot_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		return vm.snapshot(ctx, w.VirtualMachine, &ex)
	})
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: ref}}
}

// CreateSnapshotExTask takes a snapshot.
func (w *vmWrapper) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	if q := req.QuiesceSpec; q != nil {
		if t := q.GetVirtualMachineGuestQuiesceSpec().Timeout; t != 0 && (t < 5 || t > 240) {
			return &methods.CreateSnapshotEx_TaskBody{Fault_: invalid("quiesceSpec.timeout")}
		}
	}
	ref := w.run(ctx, "createSnapshotEx", "CreateSnapshotEx_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		return vm.snapshot(ctx, w.VirtualMachine, req)
	})
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: ref}}
}

func (vm *VM) snapshot(ctx *simulator.Context, o *simulator.VirtualMachine, req *types.CreateSnapshotEx_Task) (types.AnyType, types.BaseMethodFault) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if fault := vm.mayFreeze(); fault != nil {
		return nil, fault
	}
	level, fault := vm.quiesce(req.QuiesceSpec)
	if fault != nil {
		return nil, fault
	}
	vm.shots.nextID++
	s := &snapshot{parent: vm.shots.current, dataFile: fmt.Sprintf("%s-Snapshot%d.vmsn", vm.name, vm.shots.nextID)}
	obj := &simulator.VirtualMachineSnapshot{VirtualMachineSnapshot: mo.VirtualMachineSnapshot{Vm: vm.ref}}
	ctx.Map.Put(obj)
	s.ref = obj.Self
	for _, key := range vm.keys {
		d := vm.disks[key]
		if d.excluded {
			continue
		}
		if err := d.Freeze(s.ref.Value, level == spec.ApplicationVSS); err != nil {
			return nil, &types.SnapshotFault{VimFault: types.VimFault{MethodFault: types.MethodFault{FaultMessage: []types.LocalizableMessage{{Message: err.Error()}}}}}
		}
		s.disks = append(s.disks, key)
	}
	// The configuration is taken after the freeze: its disks must be the frozen links, with
	// the change IDs of this moment.
	manifest := vm.writeManifest(o, level)
	s.config = *o.Config
	s.config.ExtraConfig = slices.Clone(o.Config.ExtraConfig)
	s.config.Hardware.Device = vm.devices(o.Config.Hardware.Device, s.ref.Value)
	s.tree = types.VirtualMachineSnapshotTree{
		Snapshot: s.ref, Vm: vm.ref, Name: req.Name, Description: req.Description, Id: vm.shots.nextID,
		CreateTime: vm.inv.opt.Now().UTC().Round(0), State: types.VirtualMachinePowerStatePoweredOff,
		Quiesced: level >= 0, BackupManifest: manifest, ReplaySupported: types.NewBool(false),
	}
	if req.Memory && vm.on {
		s.tree.State = types.VirtualMachinePowerStatePoweredOn
	}
	vm.writeSnapshotFile(o, s, true)
	ctx.WithLock(obj, func() { ctx.Update(obj, []types.PropertyChange{{Name: "config", Val: s.config}}) })
	vm.shots.all = append(vm.shots.all, s)
	vm.shots.current = s
	vm.applyTracking(o) // the snapshot that stuns the VM is itself still without a map
	return s.ref, nil
}

// mayFreeze refuses a snapshot for want of room or for depth.
func (vm *VM) mayFreeze() types.BaseMethodFault {
	depth := 0
	for s := vm.shots.current; s != nil; s = s.parent {
		depth++
	}
	if depth >= maxDepth {
		return &types.TooManySnapshotLevels{}
	}
	for _, d := range vm.disks {
		ds := spec.DatastoreOf(d.path)
		if !d.excluded && !vm.inv.opt.Trouble.Take(ds, 1<<20) { // what a new redo log takes
			return &types.NoDiskSpace{FileFault: types.FileFault{File: d.path}, Datastore: ds}
		}
	}
	return nil
}

// quiesce brings the guest to rest and returns how far: -1 is not at all. Without
// running tools the wish is ignored silently, as the documentation of
// CreateSnapshotEx_Task says.
func (vm *VM) quiesce(wish types.BaseVirtualMachineGuestQuiesceSpec) (spec.VSS, types.BaseMethodFault) {
	if wish == nil || !vm.on || vm.spec.Tools != spec.ToolsRunning {
		return -1, nil
	}
	if n := len(vm.shots.noVSS); n > 0 {
		fault := vm.shots.noVSS[0]
		vm.shots.noVSS = vm.shots.noVSS[1:]
		return -1, fault
	}
	if win, ok := wish.(*types.VirtualMachineWindowsQuiesceSpec); ok && vm.spec.VSS == spec.ApplicationVSS {
		if win.VssBackupContext == string(types.VirtualMachineWindowsQuiesceSpecVssBackupContextCtx_file_share_backup) {
			return spec.FileSystemVSS, nil
		}
	}
	return vm.spec.VSS, nil
}

// writeManifest leaves the VSS manifest in the snapshot directory and returns its name
// there, "" without VSS, which is also what a caller sees of a VSS that failed.
func (vm *VM) writeManifest(o *simulator.VirtualMachine, level spec.VSS) string {
	manifest, err := spec.Manifest(level)
	name := fmt.Sprintf("%s-vss_manifests%d.zip", vm.name, vm.shots.nextID)
	file, ok := vm.inv.Resolve(o.Config.Files.SnapshotDirectory + "/" + name)
	if err != nil || manifest == nil || !ok || os.WriteFile(file, manifest, 0o600) != nil {
		return ""
	}
	return name
}

// writeSnapshotFile makes or deletes the .vmsn of a snapshot, with its manifest.
func (vm *VM) writeSnapshotFile(o *simulator.VirtualMachine, s *snapshot, keep bool) {
	file, _ := vm.inv.Resolve(spec.Sibling(o.Config.Files.VmPathName, s.dataFile))
	if keep {
		_ = os.WriteFile(file, []byte("vmsn "+s.tree.Name), 0o600)
		return
	}
	_ = os.Remove(file)
	if s.tree.BackupManifest != "" {
		manifest, _ := vm.inv.Resolve(o.Config.Files.SnapshotDirectory + "/" + s.tree.BackupManifest)
		_ = os.Remove(manifest)
	}
}

// owner is the wrapper of the snapshot's VM, or nil when it is gone.
func (w *snapshotWrapper) owner(ctx *simulator.Context) *vmWrapper {
	o, ok := ctx.Map.Get(w.Vm).(*simulator.VirtualMachine)
	if !ok || w.inv.Of(w.Vm) == nil {
		return nil
	}
	return &vmWrapper{o, w.inv}
}

// RemoveSnapshotTask removes the snapshot, and those below it when asked.
func (w *snapshotWrapper) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	o := w.owner(ctx)
	if o == nil {
		return &methods.RemoveSnapshot_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: w.Self})}
	}
	ref := o.run(ctx, "removeSnapshot", "RemoveSnapshot_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		return nil, vm.remove(ctx, o.VirtualMachine, w.Self, req.RemoveChildren, req.Consolidate == nil || *req.Consolidate)
	})
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: ref}}
}

// RemoveAllSnapshotsTask removes every snapshot.
func (w *vmWrapper) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	ref := w.run(ctx, "removeAllSnapshots", "RemoveAllSnapshots_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		vm.mu.Lock()
		all := slices.Clone(vm.shots.all)
		vm.mu.Unlock()
		for _, s := range all {
			if fault := vm.remove(ctx, w.VirtualMachine, s.ref, false, req.Consolidate == nil || *req.Consolidate); fault != nil {
				return nil, fault
			}
		}
		return nil, nil
	})
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: ref}}
}

func (vm *VM) remove(ctx *simulator.Context, o *simulator.VirtualMachine, ref types.ManagedObjectReference, children, merge bool) types.BaseMethodFault {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	s := vm.shots.find(ref)
	if s == nil {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	for _, x := range slices.Clone(vm.shots.all) {
		switch {
		case x == s || children && descends(x, s):
			vm.forget(ctx, o, x)
		case x.parent == s:
			x.parent = s.parent
		}
	}
	// The VM goes on from the nearest snapshot that is left above it.
	if c := vm.shots.current; c != nil && vm.shots.find(c.ref) == nil {
		vm.shots.current = s.parent
	}
	vm.applyTracking(o)
	if !merge {
		vm.shots.loose = true
		return nil
	}
	return vm.consolidate()
}

func descends(x, from *snapshot) bool {
	for p := x.parent; p != nil; p = p.parent {
		if p == from {
			return true
		}
	}
	return false
}

func (vm *VM) forget(ctx *simulator.Context, o *simulator.VirtualMachine, s *snapshot) {
	for _, d := range vm.disks {
		d.Release(s.ref.Value)
	}
	for _, d := range vm.parked {
		d.Release(s.ref.Value)
	}
	vm.shots.all = slices.DeleteFunc(vm.shots.all, func(x *snapshot) bool { return x == s })
	vm.writeSnapshotFile(o, s, false)
	ctx.Map.Remove(ctx, s.ref)
}

// consolidate merges, unless it was told to fail.
func (vm *VM) consolidate() types.BaseMethodFault {
	if vm.shots.stuck > 0 {
		vm.shots.stuck--
		vm.shots.loose = true
		return nil
	}
	// A disk that was removed while snapshots held it is merged when it comes back.
	for _, d := range vm.disks {
		if err := d.Consolidate(); err != nil {
			vm.shots.loose = true
			return &types.FileFault{File: d.path}
		}
	}
	vm.shots.loose = false
	return nil
}

// ConsolidateVMDisksTask merges what earlier removals left.
func (w *vmWrapper) ConsolidateVMDisksTask(ctx *simulator.Context, _ *types.ConsolidateVMDisks_Task) soap.HasFault {
	ref := w.run(ctx, "consolidateDisks", "ConsolidateVMDisks_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		vm.mu.Lock()
		defer vm.mu.Unlock()
		vm.applyTracking(w.VirtualMachine)
		return nil, vm.consolidate()
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: ref}}
}

// RevertToSnapshotTask goes back to the snapshot: configuration, disks and power state.
func (w *snapshotWrapper) RevertToSnapshotTask(ctx *simulator.Context, _ *types.RevertToSnapshot_Task) soap.HasFault {
	o := w.owner(ctx)
	if o == nil {
		return &methods.RevertToSnapshot_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: w.Self})}
	}
	ref := o.run(ctx, "revertToSnapshot", "RevertToSnapshot_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		return nil, vm.revert(ctx, o.VirtualMachine, w.Self)
	})
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: ref}}
}

// RevertToCurrentSnapshotTask goes back to the newest snapshot.
func (w *vmWrapper) RevertToCurrentSnapshotTask(ctx *simulator.Context, _ *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	vm := w.inv.Of(w.Self)
	vm.mu.Lock()
	current := vm.shots.current
	vm.mu.Unlock()
	if current == nil {
		return &methods.RevertToCurrentSnapshot_TaskBody{Fault_: simulator.Fault("snapshot not found", &types.NotFound{})}
	}
	ref := w.run(ctx, "revertToCurrentSnapshot", "RevertToCurrentSnapshot_Task", func(vm *VM) (types.AnyType, types.BaseMethodFault) {
		return nil, vm.revert(ctx, w.VirtualMachine, current.ref)
	})
	return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{Returnval: ref}}
}

func (vm *VM) revert(ctx *simulator.Context, o *simulator.VirtualMachine, ref types.ManagedObjectReference) types.BaseMethodFault {
	vm.mu.Lock()
	s := vm.shots.find(ref)
	if s == nil {
		vm.mu.Unlock()
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	vm.shots.current = s
	config, state := s.config, s.tree.State
	vm.mu.Unlock()
	config.Modified = time.Now()
	// vcsim's lock of the VM is held throughout, ours must not be: the observer takes it.
	ctx.Update(o, []types.PropertyChange{ // the observer opens the disks that the configuration names
		{Name: "config", Val: &config},
		{Name: "runtime.powerState", Val: state},
		{Name: "summary.runtime.powerState", Val: state},
		{Name: "config.hardware.device", Val: config.Hardware.Device},
	})
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, key := range s.disks {
		if d := vm.disks[key]; d != nil {
			if err := d.Revert(ref.Value); err != nil {
				return &types.FileFault{File: path.Base(d.path)}
			}
		}
	}
	vm.applyTracking(o)
	return nil
}
