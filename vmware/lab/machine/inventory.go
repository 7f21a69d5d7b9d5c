// Package machine is the laboratory's virtual machines: vcsim's, with disks that have
// bytes, snapshots, change tracking and a guest.
//
// An Inventory knows every VM of a vCenter, however it came to be, because it watches
// vcsim's registry: when the devices of a VM change it opens the disks they name.
// Overridden methods are in wrappers (override.go, snapshot.go), which the laboratory's
// dispatcher puts before vcsim's objects. What a caller may read (devices with chains,
// files with sizes, snapshots) is written into vcsim's objects by publish.
package machine

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/spec"
	"holdfast/vmware/lab/template"
	"holdfast/vmware/lab/trouble"
)

// Options connect an Inventory with its vCenter. All are required.
type Options struct {
	Context    func() *simulator.Context // fresh for each use: vcsim's locks belong to contexts
	Datacenter types.ManagedObjectReference
	Dir        string   // holds one directory for each datastore, and "guests"
	Datastores []string // names, the first is the default
	Trouble    *trouble.Set
	Block      int64 // bytes of a tracked block
	MaxExtents int   // in one answer of QueryChangedDiskAreas
	Now        func() time.Time
	// Export answers ExportSnapshot. The snapshot belongs to vm, whose lock is not
	// held.
	Export func(ctx *simulator.Context, vm *VM, snapshot types.ManagedObjectReference) soap.HasFault
}

// Inventory is all VMs of one vCenter.
type Inventory struct {
	opt  Options
	site spec.Site

	mu  sync.Mutex
	vms map[types.ManagedObjectReference]*VM
}

// New watches the vCenter's registry from now on.
func New(opt Options) *Inventory {
	inv := &Inventory{opt: opt, vms: map[types.ManagedObjectReference]*VM{}}
	reg := opt.Context().Map
	inv.site = spec.Site{Registry: reg, Datacenter: opt.Datacenter, Dir: opt.Dir, Datastores: opt.Datastores}
	disks := reg.VirtualDiskManager().(*simulator.VirtualDiskManager)
	reg.Put(&disksWrapper{disks, inv}) // asserted by interface only, so it may be replaced
	reg.AddHandler(&watcher{inv: inv, Self: types.ManagedObjectReference{Type: "Laboratory", Value: "watcher"}})
	return inv
}

// Close closes the files of all disks.
func (inv *Inventory) Close() {
	inv.mu.Lock()
	vms := inv.vms
	inv.vms = map[types.ManagedObjectReference]*VM{}
	inv.mu.Unlock()
	for _, vm := range vms {
		_ = vm.closeDisks(false) // the files go anyway
	}
}

// Wrap puts a wrapper with the overridden methods of a VM, a snapshot or a folder into
// a session's registry, where it wins over vcsim's object.
func (inv *Inventory) Wrap(ctx *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type != "VirtualMachine" && ref.Type != "VirtualMachineSnapshot" && ref.Type != "Folder" {
		return
	}
	reg := ctx.Session.Registry
	global := ctx.Map.Get(ref)
	if global == nil {
		reg.Remove(ctx, ref) // a wrapper must not outlive its object
		return
	}
	if vm := inv.Of(ref); vm != nil {
		vm.made() // whoever calls it knows it from the end of the task that made it
	}
	if reg.Get(ref) != nil {
		return
	}
	switch o := global.(type) {
	case *simulator.Folder:
		reg.Put(&folderWrapper{o, inv})
	case *simulator.VirtualMachine:
		reg.Put(&vmWrapper{o, inv})
	case *simulator.VirtualMachineSnapshot:
		reg.Put(&snapshotWrapper{o, inv})
	}
}

// Await waits for a vcsim task and returns how it ended.
func (inv *Inventory) Await(ref types.ManagedObjectReference) types.TaskInfo {
	c := inv.opt.Context()
	task := c.Map.Get(ref).(*simulator.Task)
	task.Wait()
	var info types.TaskInfo
	c.WithLock(task, func() { info = task.Info })
	return info
}

// Of is the VM of a call to it or to one of its snapshots, or nil.
func (inv *Inventory) Of(ref types.ManagedObjectReference) *VM {
	if ref.Type == "VirtualMachineSnapshot" {
		s, ok := inv.opt.Context().Map.Get(ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			return nil
		}
		ref = s.Vm // set once, before the snapshot is known to anyone
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.vms[ref]
}

// Settle publishes what changed in VMs since the last call, so that every caller sees
// sizes and files as they are.
func (inv *Inventory) Settle() {
	for _, vm := range inv.list() {
		if vm.takeDirty() {
			vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
		}
	}
}

// list copies the VMs. The lock of the inventory is never held while that of a VM is
// taken, for a VM removes snapshots under its own.
func (inv *Inventory) list() []*VM {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return slices.Collect(maps.Values(inv.vms))
}

// Add creates a VM through vcsim and gives its disks bytes.
func (inv *Inventory) Add(s spec.VM) (*VM, error) {
	folder, err := inv.site.Folder(inv.opt.Context(), s.Folder)
	if err != nil {
		return nil, fmt.Errorf("add vm %s: %w", s.Name, err)
	}
	pool := inv.opt.Context().Map.Any("ResourcePool").Reference()
	ref, fault := inv.Create(inv.opt.Context(), folder, types.CreateVM_Task{This: folder.Self, Config: inv.site.Config(s), Pool: pool})
	if fault != nil {
		return nil, fmt.Errorf("add vm %s: %T %+v", s.Name, fault, fault)
	}
	vm := inv.Of(ref)
	if vm == nil {
		return nil, fmt.Errorf("add vm %s: vm vanished", s.Name)
	}
	vm.mu.Lock()
	vm.spec = s
	vm.mu.Unlock()
	if err := vm.writeNVRAM(s); err != nil {
		return nil, fmt.Errorf("add vm %s: %w", s.Name, err)
	}
	if s.PoweredOn {
		if err := vm.PowerOn(); err != nil {
			return nil, fmt.Errorf("add vm %s: %w", s.Name, err)
		}
	}
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
	return vm, nil
}

// VM finds a VM by its inventory name, as a client sees it or unescaped; nil when there
// is none.
func (inv *Inventory) VM(name string) *VM {
	inv.Settle()
	for _, vm := range inv.list() {
		if n := vm.Name(); n == name || spec.Unescape(n) == name {
			return vm
		}
	}
	return nil
}

// VMs lists the names of all VMs, sorted.
func (inv *Inventory) VMs() []string {
	var names []string
	for _, vm := range inv.list() {
		names = append(names, vm.Name())
	}
	slices.Sort(names)
	return names
}

// observe takes note of a VM's change. vcsim's lock of the VM is held.
func (inv *Inventory) observe(m *mo.VirtualMachine, changes []types.PropertyChange) {
	if m.Config == nil || m.Runtime.Host == nil {
		return // vcsim is still making it
	}
	inv.mu.Lock()
	vm, ok := inv.vms[m.Self]
	if !ok {
		vm = &VM{inv: inv, ref: m.Self, fresh: true, disks: map[int32]*disk{}, parked: map[string]*disk{}}
		inv.vms[m.Self] = vm
	}
	inv.mu.Unlock()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	// What other goroutines need to know is mirrored, for vcsim's object may only be read
	// under vcsim's lock, and a request for a file does not want to wait for a task.
	vm.name, vm.on = m.Name, m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	vm.home = path.Dir(m.Config.Files.VmPathName)
	for _, c := range changes {
		if strings.HasPrefix(c.Name, "config") || strings.HasPrefix(c.Name, "runtime") {
			vm.dirty = true
		}
	}
	vm.adopt(m)
}

// Resolve turns "[ds] dir/file" into a file of this machine.
func (inv *Inventory) Resolve(dsPath string) (string, bool) { return inv.site.Resolve(dsPath) }

// sizeFlat gives the flat file of a new disk without VM its length.
func (inv *Inventory) sizeFlat(req *types.CreateVirtualDisk_Task) types.BaseMethodFault {
	spec, ok := req.Spec.(types.BaseFileBackedVirtualDiskSpec)
	file, ok2 := inv.Resolve(req.Name)
	if !ok || !ok2 {
		return &types.InvalidArgument{InvalidProperty: "spec"}
	}
	size := spec.GetFileBackedVirtualDiskSpec().CapacityKb << 10
	d, err := chain.Open(file, size, chain.Options{})
	if err == nil {
		err = d.Close()
	}
	if err != nil {
		return &types.FileFault{File: req.Name}
	}
	return nil
}

// Create runs CreateVM_Task in the caller's context and waits. vcsim mixes up the
// devices of a spec whose name needs escapes, so such a VM gets its name afterwards.
func (inv *Inventory) Create(c *simulator.Context, folder *simulator.Folder, req types.CreateVM_Task) (types.ManagedObjectReference, types.BaseMethodFault) {
	var none types.ManagedObjectReference
	if fault := inv.site.Complete(&req.Config); fault != nil {
		return none, fault
	}
	name := spec.Escape(req.Config.Name)
	if e := c.Map.FindByName(name, folder.ChildEntity); e != nil {
		return none, &types.DuplicateName{Name: name, Object: e.Reference()}
	}
	odd := strings.ContainsAny(req.Config.Name, spec.Specials)
	if odd { // vcsim decodes such a spec over itself, which doubles the list of devices
		req.Config.Name = "unnamed-" + spec.RandomHex(8)
	}
	var ref types.ManagedObjectReference
	var info types.TaskInfo
	var vm *simulator.VirtualMachine
	err := template.Alone(func() (err error) {
		c.WithLock(folder, func() { ref = folder.CreateVMTask(c, &req).(*methods.CreateVM_TaskBody).Res.Returnval })
		if info = inv.Await(ref); info.Error != nil {
			return nil
		}
		vm = c.Map.Get(info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
		c.WithLock(vm, func() { err = template.Own(vm.Config) })
		return err
	})
	if info.Error != nil {
		return none, info.Error.Fault
	} else if err != nil {
		return none, &types.InvalidArgument{InvalidProperty: err.Error()}
	}
	c.WithLock(vm, func() { inv.observe(&vm.VirtualMachine, []types.PropertyChange{{Name: "config"}}) })
	// Until now vcsim worked on the VM without its lock, so nobody else could touch it.
	defer inv.Of(vm.Self).made()
	if odd {
		c.WithLock(vm, func() {
			old, _ := inv.Resolve(path.Dir(vm.Config.Files.VmPathName) + "/" + vm.Name + ".nvram")
			_ = os.Rename(old, strings.TrimSuffix(old, vm.Name+".nvram")+name+".nvram")
			ref = vm.ReconfigVMTask(c, &types.ReconfigVM_Task{This: vm.Self, Spec: types.VirtualMachineConfigSpec{Name: name}}).(*methods.ReconfigVM_TaskBody).Res.Returnval
		})
		inv.Await(ref)
	}
	return vm.Self, nil
}
