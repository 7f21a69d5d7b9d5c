package lab

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/chain"
)

type soapBody = soap.HasFault

// VSS is what quiescing brings about inside a guest.
type VSS int

// A guest without VSS is quiesced by freezing its file systems and leaves no manifest; a Windows guest leaves one, with the writers'
// documents only when applications were quiesced.
const (
	NoVSS VSS = iota
	FileSystemVSS
	ApplicationVSS
)

// Tools is the state of VMware Tools in a powered-on guest.
type Tools int

// The states that make a difference.
const (
	ToolsRunning Tools = iota
	ToolsNotRunning
	ToolsNotInstalled
)

// VMSpec describes a VM to add; only Name is required.
type VMSpec struct {
	Name            string // any characters, vSphere's escapes are made here
	Folder          string // path below the datacenter's VM folder, made when missing
	Datastore       string // of the VM's home, default datastore1
	Guest           string // guest ID, default otherGuest64
	Firmware        string // bios or efi, default bios
	HardwareVersion string // as vmx-19, vcsim's default when empty
	CPUs            int32  // default 1
	MemoryMB        int64  // default 256
	Disks           []DiskSpec
	Networks        []string // one card each, default one on "VM Network"
	NVRAM           []byte   // content of the .nvram file, some bytes when nil
	NoNVRAM         bool     // never started: there is no .nvram
	PoweredOn       bool
	Tools           Tools
	ToolsVersion    string // default 12352
	VSS             VSS
	CBT             bool // change tracking on from the beginning
	Annotation      string
	ExtraConfig     map[string]string
	// GuestUser and GuestPassword are the only login that guest operations accept, default Administrator and "secret".
	GuestUser, GuestPassword string
}

// DiskSpec describes a disk; only Bytes is required, a multiple of 1024.
type DiskSpec struct {
	Bytes       int64
	Label       string // device label, default "Hard disk n"
	Datastore   string // default the VM's
	Independent bool   // independent-persistent: snapshots leave it out
	RDM         string // "physical" (snapshots leave it out) or "virtual": a raw device mapping, no extent in /folder
}

// VM is a virtual machine of the laboratory, however it was created.
type VM struct {
	lab *Lab
	ref types.ManagedObjectReference

	mu         sync.Mutex
	name       string // as the inventory has it
	spec       VMSpec
	home       string // datastore path of the directory, "[ds] dir"
	on         bool
	busy       int
	dirty      bool
	destroying bool
	leases     int             // open on it
	keys       []int32         // of the disks, in order
	disks      map[int32]*disk // by device key
	parked     map[string]*disk
	shots      snapshots
	lies, lost int
}

// disk is a device's disk.
type disk struct {
	*chain.Disk
	path     string // datastore path of the base descriptor
	excluded bool   // snapshots leave it out
	raw      bool   // a raw device: no extents on the datastore
}

// AddVM creates a VM through vcsim and gives its disks bytes.
func (l *Lab) AddVM(spec VMSpec) (*VM, error) {
	folder, err := l.folderPath(spec.Folder)
	if err != nil {
		return nil, fmt.Errorf("add vm %s: %w", spec.Name, err)
	}
	pool := l.svc.Context.Map.Any("ResourcePool").Reference()
	ref, fault := l.createVM(l.ctx(), folder, types.CreateVM_Task{This: folder.Self, Config: l.configSpec(spec), Pool: pool})
	if fault != nil {
		return nil, fmt.Errorf("add vm %s: %T %+v", spec.Name, fault, fault)
	}
	vm := l.vmOf(ref)
	if vm == nil {
		return nil, fmt.Errorf("add vm %s: vm vanished", spec.Name)
	}
	vm.mu.Lock()
	vm.spec = spec
	vm.mu.Unlock()
	if err := vm.writeNVRAM(spec); err != nil {
		return nil, fmt.Errorf("add vm %s: %w", spec.Name, err)
	}
	if spec.PoweredOn {
		if err := vm.PowerOn(); err != nil {
			return nil, fmt.Errorf("add vm %s: %w", spec.Name, err)
		}
	}
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
	return vm, nil
}

// folderPath finds or makes the VM folder.
func (l *Lab) folderPath(p string) (*simulator.Folder, error) {
	reg := l.svc.Context.Map
	at := reg.Get(reg.Get(l.dcRef).(*simulator.Datacenter).VmFolder).(*simulator.Folder)
	for _, name := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) {
		if next, ok := reg.FindByName(name, at.ChildEntity).(*simulator.Folder); ok {
			at = next
			continue
		}
		c := l.ctx()
		var res soap.HasFault
		c.WithLock(at, func() { res = at.CreateFolder(c, &types.CreateFolder{This: at.Self, Name: name}) })
		body := res.(*methods.CreateFolderBody)
		if body.Fault_ != nil {
			return nil, fmt.Errorf("create folder %s: %s", name, body.Fault_.String)
		}
		at = reg.Get(body.Res.Returnval).(*simulator.Folder)
	}
	return at, nil
}

// VM finds a VM by its inventory name, as a client sees it or unescaped; nil when there is none.
func (l *Lab) VM(name string) *VM {
	l.settle()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, vm := range l.vms {
		if n := vm.Name(); n == name || unescape(n) == name {
			return vm
		}
	}
	return nil
}

// VMs lists the names of all VMs, sorted.
func (l *Lab) VMs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, vm := range l.vms {
		names = append(names, vm.Name())
	}
	slices.Sort(names)
	return names
}

var unescaper = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

// unescape undoes vSphere's escapes in inventory names.
func unescape(name string) string { return unescaper.Replace(name) }

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

// ExtendDisk makes a disk larger, in the VM's configuration as well. It fails while there are snapshots.
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
		w := &vmWrapper{o, vm.lab}
		if on {
			task = w.PowerOnVMTask(c, &types.PowerOnVM_Task{This: vm.ref}).(*methods.PowerOnVM_TaskBody).Res.Returnval
		} else {
			task = w.PowerOffVMTask(c, &types.PowerOffVM_Task{This: vm.ref}).(*methods.PowerOffVM_TaskBody).Res.Returnval
		}
	})
	info := vm.lab.await(task)
	vm.lab.settle()
	if info.Error != nil {
		return fmt.Errorf("switch power of %s: %T", vm.Name(), info.Error.Fault)
	}
	return nil
}

// locked runs fn under vcsim's lock of the VM; a VM that is gone is skipped.
func (vm *VM) locked(fn func(*simulator.Context, *simulator.VirtualMachine)) {
	c := vm.lab.ctx()
	o, ok := c.Map.Get(vm.ref).(*simulator.VirtualMachine)
	if ok {
		c.WithLock(o, func() { fn(c, o) })
	}
}

func (vm *VM) isBusy() bool {
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
	was := vm.dirty
	vm.dirty = false
	return was
}

// observe takes note of a VM's change. vcsim's lock of the VM is held.
func (l *Lab) observe(m *mo.VirtualMachine, changes []types.PropertyChange) {
	if m.Config == nil || m.Runtime.Host == nil {
		return // vcsim is still making it
	}
	l.mu.Lock()
	vm, ok := l.vms[m.Self]
	if !ok {
		vm = &VM{lab: l, ref: m.Self, disks: map[int32]*disk{}, parked: map[string]*disk{}}
		l.vms[m.Self] = vm
	}
	l.mu.Unlock()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.name, vm.on = m.Name, m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	vm.home = path.Dir(m.Config.Files.VmPathName)
	for _, c := range changes {
		if strings.HasPrefix(c.Name, "config") || strings.HasPrefix(c.Name, "runtime") {
			vm.dirty = true
		}
	}
	vm.adopt(m)
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
	file, ok := vm.lab.resolve(p)
	if !ok {
		return nil
	}
	size := vd.CapacityInBytes
	c, err := chain.Open(file, size, chain.Options{Block: vm.lab.opt.CBTBlock, NewID: newChangeUUID})
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

// resolve turns "[ds] dir/file" into a file of this machine.
func (l *Lab) resolve(dsPath string) (string, bool) {
	var p object.DatastorePath
	if !p.FromString(dsPath) || !slices.Contains(l.opt.Datastores, p.Datastore) || !filepath.IsLocal(filepath.FromSlash(or(p.Path, "."))) {
		return "", false
	}
	return filepath.Join(l.datastoreDir(p.Datastore), filepath.FromSlash(p.Path)), true
}

// sizeFlat gives the flat file of a new disk without VM its length.
func (l *Lab) sizeFlat(req *types.CreateVirtualDisk_Task) types.BaseMethodFault {
	spec, ok := req.Spec.(types.BaseFileBackedVirtualDiskSpec)
	file, ok2 := l.resolve(req.Name)
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

func (vm *VM) writeNVRAM(spec VMSpec) error {
	file, ok := vm.lab.resolve(vm.Home() + "/" + vm.Name() + ".nvram")
	if !ok {
		return errors.New("resolve home directory: outside the datastore")
	}
	if spec.NoNVRAM {
		return os.Remove(file)
	}
	data := spec.NVRAM
	if data == nil {
		data = append([]byte("MRVN\x01\x00\x00\x00"), []byte(randomHex(4092))...)
	}
	return os.WriteFile(file, data, 0o600)
}

// guestVM tells guest operations about a VM: its directory, its login, and whether it can be worked in.
func (l *Lab) guestVM(ref types.ManagedObjectReference) (id, user, password string, ready bool) {
	vm := l.vmOf(ref)
	if vm == nil {
		return "", "", "", false
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return ref.Value, or(vm.spec.GuestUser, "Administrator"), or(vm.spec.GuestPassword, "secret"), vm.on && vm.spec.Tools == ToolsRunning
}

// GuestDir is the directory that plays the guest's drive C: (and root).
func (vm *VM) GuestDir() string { return vm.lab.guestDir(vm.ref.Value) }

func (l *Lab) guestDir(id string) string { return filepath.Join(l.dir, "guests", id) }
