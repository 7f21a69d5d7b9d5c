package machine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/guest"
	"holdfast/vmware/lab/spec"
)

// VM is a virtual machine of the laboratory, however it was created.
type VM struct {
	inv *Inventory
	ref types.ManagedObjectReference

	mu         sync.Mutex
	name       string // as the inventory has it
	spec       spec.VM
	home       string // datastore path of the directory, "[ds] dir"
	on         bool
	busy       int
	dirty      bool
	inside     guest.Inside
	fresh      bool // vcsim is still making it, without its lock
	destroying bool
	leases     int             // open on it
	keys       []int32         // of the disks, in order
	disks      map[int32]*disk // by device key
	parked     map[string]*disk
	shots      snapshots
	lies, lost int
	blind      bool // change tracking was configured while there were snapshots
}

// disk is a device's disk.
type disk struct {
	*chain.Disk
	path     string // datastore path of the base descriptor
	excluded bool   // snapshots leave it out
	raw      bool   // a raw device: no extents on the datastore
}

// Name is the VM's inventory name, with vSphere's escapes.
func (vm *VM) Name() string {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.name
}

// Ref is the VM's managed object reference.
func (vm *VM) Ref() types.ManagedObjectReference { return vm.ref }

// Home is the datastore path of the VM's directory, "[datastore1] name".
func (vm *VM) Home() string {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.home
}

// DiskKeys are the device keys of the disks, in the order of the devices.
func (vm *VM) DiskKeys() []int32 {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return slices.Clone(vm.keys)
}

// disk finds a disk by index (0, 1, …) or by device key (≥ 1000).
func (vm *VM) disk(n int) (*disk, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if n >= 0 && n < len(vm.keys) {
		n = int(vm.keys[n])
	}
	d, ok := vm.disks[int32(n)]
	if !ok {
		return nil, fmt.Errorf("find disk %d of %s: no such disk", n, vm.name)
	}
	return d, nil
}

// WriteDisk writes as the guest does. n is the disk's index or its device key.
func (vm *VM) WriteDisk(n int, off int64, p []byte) error {
	d, err := vm.disk(n)
	if err != nil {
		return err
	}
	_, err = d.WriteAt(p, off)
	return err
}

// ReadDisk reads what the guest sees now. It follows io.ReaderAt.
func (vm *VM) ReadDisk(n int, p []byte, off int64) (int, error) {
	d, err := vm.disk(n)
	if err != nil {
		return 0, err
	}
	return d.ReadAt(p, off)
}

// DiskSize is the capacity in bytes.
func (vm *VM) DiskSize(n int) (int64, error) {
	d, err := vm.disk(n)
	if err != nil {
		return 0, err
	}
	return d.Size(), nil
}

// DiskSHA256 hashes what the guest sees now, all bytes of the capacity.
func (vm *VM) DiskSHA256(n int) ([32]byte, error) {
	d, err := vm.disk(n)
	if err != nil {
		return [32]byte{}, err
	}
	return d.SHA256()
}

// ExtendDisk makes a disk larger, in the VM's configuration as well. It fails while
// there are snapshots.
func (vm *VM) ExtendDisk(n int, bytes int64) error {
	d, err := vm.disk(n)
	if err != nil {
		return err
	}
	if err := d.Extend(bytes); err != nil {
		return err
	}
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
	return nil
}

// PowerOn starts the VM; it is no error when it runs.
func (vm *VM) PowerOn() error { return vm.power(true) }

// PowerOff stops the VM as pulling the plug does; it is no error when it is off.
func (vm *VM) PowerOff() error { return vm.power(false) }

func (vm *VM) power(on bool) error {
	vm.mu.Lock()
	same := vm.on == on
	vm.mu.Unlock()
	if same {
		return nil
	}
	var task types.ManagedObjectReference
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) {
		w := &vmWrapper{o, vm.inv}
		if on {
			task = w.PowerOnVMTask(c, &types.PowerOnVM_Task{This: vm.ref}).(*methods.PowerOnVM_TaskBody).Res.Returnval
		} else {
			task = w.PowerOffVMTask(c, &types.PowerOffVM_Task{This: vm.ref}).(*methods.PowerOffVM_TaskBody).Res.Returnval
		}
	})
	info := vm.inv.Await(task)
	vm.inv.Settle()
	if info.Error != nil {
		return fmt.Errorf("switch power of %s: %T", vm.Name(), info.Error.Fault)
	}
	return nil
}

// locked runs fn under vcsim's lock of the VM; a VM that is gone is skipped.
func (vm *VM) locked(fn func(*simulator.Context, *simulator.VirtualMachine)) {
	c := vm.inv.opt.Context()
	o, ok := c.Map.Get(vm.ref).(*simulator.VirtualMachine)
	if ok {
		c.WithLock(o, func() { fn(c, o) })
	}
}

// IsBusy says whether a task of the kind runs that a VM does one of at a time.
func (vm *VM) IsBusy() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.busy > 0
}

func (vm *VM) setBusy(by int) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.busy += by
}

func (vm *VM) takeDirty() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	was := vm.dirty && !vm.fresh
	vm.dirty = vm.dirty && vm.fresh
	return was
}

// made tells that vcsim has finished the VM.
func (vm *VM) made() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.fresh = false
}

// adopt opens the disks that the VM's devices name and lets go of those they do not.
func (vm *VM) adopt(m *mo.VirtualMachine) {
	now := map[int32]*disk{}
	vm.keys = vm.keys[:0]
	for _, dev := range m.Config.Hardware.Device {
		vd, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		d := vm.disks[vd.Key]
		if d == nil || d.path != basePath(vd) {
			d = vm.open(vd)
		}
		if d != nil {
			now[vd.Key] = d
			vm.keys = append(vm.keys, vd.Key)
			if d.Size() < vd.CapacityInBytes {
				_ = d.Extend(vd.CapacityInBytes) // refused before it came here when there are snapshots
			}
		}
	}
	for key, d := range vm.disks {
		if now[key] != d {
			vm.park(d)
		}
	}
	vm.disks = now
}

func (vm *VM) open(vd *types.VirtualDisk) *disk {
	p := basePath(vd)
	if d := vm.parked[p]; d != nil {
		delete(vm.parked, p)
		return d
	}
	file, ok := vm.inv.Resolve(p)
	if !ok {
		return nil
	}
	size := vd.CapacityInBytes
	// A disk on its own datastore directory, shared by nobody: vcsim has made the descriptor
	// and an empty flat file, or the caller has uploaded one.
	c, err := chain.Open(file, size, chain.Options{Block: vm.inv.opt.Block})
	if err != nil {
		return nil // the device stays without bytes, as one whose file was deleted behind vCenter's back
	}
	d := &disk{Disk: c, path: p}
	switch b := vd.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.excluded = strings.HasPrefix(b.DiskMode, "independent")
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		d.raw, d.excluded = true, b.CompatibilityMode == string(types.VirtualDiskCompatibilityModePhysicalMode)
	}
	return d
}

// park keeps a disk that left the VM as long as a snapshot may bring it back.
func (vm *VM) park(d *disk) {
	if len(vm.shots.all) > 0 {
		vm.parked[d.path] = d
		return
	}
	_ = d.Close()
}

// closeDisks closes all disks, and deletes their files when told to.
func (vm *VM) closeDisks(remove bool) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	var errs []error
	for _, d := range vm.disks {
		errs = append(errs, closeDisk(d, remove))
	}
	for _, d := range vm.parked {
		errs = append(errs, closeDisk(d, remove))
	}
	vm.disks, vm.parked, vm.keys = map[int32]*disk{}, map[string]*disk{}, nil
	return errors.Join(errs...)
}

func closeDisk(d *disk, remove bool) error {
	if remove {
		return d.Remove()
	}
	return d.Close()
}

// gone cleans up after a VM that left the inventory.
func (vm *VM) gone(ctx *simulator.Context) {
	vm.mu.Lock()
	destroyed, shots := vm.destroying, vm.shots.all
	vm.mu.Unlock()
	for _, s := range shots {
		ctx.Map.Remove(ctx, s.ref)
	}
	_ = vm.closeDisks(destroyed) // vcsim deletes the rest of the directory
}

// basePath is the datastore path of the disk's root descriptor.
func basePath(vd *types.VirtualDisk) string {
	if b, ok := vd.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		for b.Parent != nil {
			b = b.Parent
		}
		return b.FileName
	}
	if b, ok := vd.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return b.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

func (vm *VM) writeNVRAM(s spec.VM) error {
	file, ok := vm.inv.Resolve(vm.Home() + "/" + vm.Name() + ".nvram")
	if !ok {
		return errors.New("resolve home directory: outside the datastore")
	}
	if s.NoNVRAM {
		return os.Remove(file)
	}
	data := s.NVRAM
	if data == nil {
		data = append([]byte("MRVN\x01\x00\x00\x00"), []byte(spec.RandomHex(4092))...)
	}
	return os.WriteFile(file, data, 0o600)
}
