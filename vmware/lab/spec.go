package lab

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// specials are what vSphere escapes in inventory names.
const specials = `%/\`

var escaper = strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c")

// configSpec makes the CreateVM_Task argument of a VMSpec.
func (l *Lab) configSpec(spec VMSpec) types.VirtualMachineConfigSpec {
	ds := or(spec.Datastore, l.opt.Datastores[0])
	cs := types.VirtualMachineConfigSpec{
		Name: spec.Name, GuestId: or(spec.Guest, "otherGuest64"), Version: spec.HardwareVersion, Annotation: spec.Annotation,
		NumCPUs: or(spec.CPUs, 1), MemoryMB: or(spec.MemoryMB, 256), Firmware: or(spec.Firmware, "bios"),
		Files:                 &types.VirtualMachineFileInfo{VmPathName: "[" + ds + "]"},
		ChangeTrackingEnabled: &spec.CBT,
	}
	for k, v := range spec.ExtraConfig {
		cs.ExtraConfig = append(cs.ExtraConfig, &types.OptionValue{Key: k, Value: v})
	}
	var devices object.VirtualDeviceList
	scsi, _ := devices.CreateSCSIController("pvscsi") // fails for unknown names only
	devices = append(devices, scsi)
	for i, d := range spec.Disks {
		devices = append(devices, diskDevice(i, d, or(d.Datastore, ds), scsi.GetVirtualDevice().Key))
	}
	networks := spec.Networks
	if networks == nil {
		networks = []string{Network}
	}
	for i, name := range networks {
		card := &types.VirtualVmxnet3{}
		card.Key = int32(-200 - i)
		card.Backing = l.networkBacking(name)
		devices = append(devices, card)
	}
	cs.DeviceChange, _ = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	for _, c := range cs.DeviceChange { // the list above never comes with a file operation for raw devices
		if _, ok := c.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok {
			c.GetVirtualDeviceConfigSpec().FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
	}
	return cs
}

func diskDevice(i int, d DiskSpec, ds string, controller int32) *types.VirtualDisk {
	unit := int32(i)
	if unit >= 7 { // the controller's own
		unit++
	}
	dev := &types.VirtualDisk{CapacityInKB: d.Bytes >> 10, CapacityInBytes: d.Bytes}
	dev.Key, dev.ControllerKey, dev.UnitNumber = int32(-100-i), controller, &unit
	dev.DeviceInfo = &types.Description{Label: or(d.Label, fmt.Sprintf("Hard disk %d", i+1))}
	file := types.VirtualDeviceFileBackingInfo{FileName: "[" + ds + "]"}
	mode := string(types.VirtualDiskModePersistent)
	if d.Independent {
		mode = string(types.VirtualDiskModeIndependent_persistent)
	}
	if d.RDM != "" {
		dev.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: file, DiskMode: mode, CompatibilityMode: d.RDM + "Mode",
			LunUuid: "0200000000" + randomHex(16), DeviceName: "vml.0200000000" + randomHex(16),
		}
		return dev
	}
	dev.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: file, DiskMode: mode, ThinProvisioned: types.NewBool(true),
	}
	return dev
}

func (l *Lab) networkBacking(name string) types.BaseVirtualDeviceBackingInfo {
	reg := l.svc.Context.Map
	for _, e := range reg.All("DistributedVirtualPortgroup") {
		pg := e.(*simulator.DistributedVirtualPortgroup)
		if pg.Name == name {
			uuid := reg.Get(*pg.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch).Uuid
			return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
				Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: pg.Key, SwitchUuid: uuid},
			}
		}
	}
	return &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name},
	}
}

// complete fills in what vCenter chooses itself: the VM's directory, the names of its disks and their unit numbers.
// The name may come escaped or not. It refuses what would make vcsim panic.
func (l *Lab) complete(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	spec.Name = unescape(spec.Name)
	stem := escaper.Replace(spec.Name)
	var vmx object.DatastorePath
	if spec.Name == "" || spec.Files == nil || !vmx.FromString(spec.Files.VmPathName) {
		return &types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}
	}
	if !slices.Contains(l.opt.Datastores, vmx.Datastore) {
		return &types.InvalidDatastore{Name: vmx.Datastore}
	}
	dir := path.Dir(vmx.Path)
	if vmx.Path == "" {
		dir = l.freeDir(vmx.Datastore, stem)
		spec.Files.VmPathName = fmt.Sprintf("[%s] %s/%s.vmx", vmx.Datastore, dir, stem)
	}
	n := 0
	units := map[int32]int32{}
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		if fault := l.known(c.Device); fault != nil {
			return fault
		}
		vd, ok := c.Device.(*types.VirtualDisk)
		if !ok || c.FileOperation != types.VirtualDeviceConfigSpecFileOperationCreate {
			continue
		}
		if fault := l.place(vd, vmx.Datastore, dir, stem, n); fault != nil {
			return fault
		}
		if vd.UnitNumber == nil {
			vd.UnitNumber = types.NewInt32(units[vd.ControllerKey])
		}
		units[vd.ControllerKey] = *vd.UnitNumber + 1
		n++
	}
	return nil
}

// known refuses a device on a network that is not there.
func (l *Lab) known(dev types.BaseVirtualDevice) types.BaseMethodFault {
	b, ok := dev.GetVirtualDevice().Backing.(*types.VirtualEthernetCardNetworkBackingInfo)
	if !ok {
		return nil
	}
	reg := l.svc.Context.Map
	if reg.FindByName(b.DeviceName, reg.Get(l.dcRef).(*simulator.Datacenter).Network) == nil {
		return &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{
			InvalidVmConfig: types.InvalidVmConfig{Property: "configSpec.deviceChange.device.backing"}}}
	}
	return nil
}

// place names the n-th new disk when the caller did not.
func (l *Lab) place(vd *types.VirtualDisk, ds, dir, stem string, n int) types.BaseMethodFault {
	b, ok := vd.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return &types.InvalidVmConfig{Property: "configSpec.deviceChange.device.backing"}
	}
	info := b.GetVirtualDeviceFileBackingInfo()
	var p object.DatastorePath
	p.FromString(info.FileName)
	p.Datastore = or(p.Datastore, ds)
	if p.Path == "" {
		p.Path = dir + "/" + stem + ".vmdk"
		if n > 0 {
			p.Path = fmt.Sprintf("%s/%s_%d.vmdk", dir, stem, n)
		}
	}
	info.FileName = p.String()
	file, ok := l.resolve(path.Dir(info.FileName))
	if !ok {
		return &types.InvalidDatastore{Name: p.Datastore}
	}
	if err := os.MkdirAll(file, 0o700); err != nil {
		return &types.FileFault{File: info.FileName}
	}
	return nil
}

func (l *Lab) freeDir(ds, stem string) string {
	for n := 0; ; n++ {
		dir := stem
		if n > 0 {
			dir = fmt.Sprintf("%s_%d", stem, n)
		}
		file, _ := l.resolve("[" + ds + "] " + dir)
		if _, err := os.Stat(file); err != nil {
			return dir
		}
	}
}

// createVM runs CreateVM_Task in the caller's context and waits. vcsim mixes up the devices of a spec whose name needs
// escapes, so such a VM gets its name afterwards.
func (l *Lab) createVM(c *simulator.Context, folder *simulator.Folder, req types.CreateVM_Task) (types.ManagedObjectReference, types.BaseMethodFault) {
	var none types.ManagedObjectReference
	if fault := l.complete(&req.Config); fault != nil {
		return none, fault
	}
	name := escaper.Replace(req.Config.Name)
	if e := c.Map.FindByName(name, folder.ChildEntity); e != nil {
		return none, &types.DuplicateName{Name: name, Object: e.Reference()}
	}
	odd := strings.ContainsAny(req.Config.Name, specials)
	if odd {
		req.Config.Name = "unnamed-" + randomHex(8)
	}
	var ref types.ManagedObjectReference
	c.WithLock(folder, func() { ref = folder.CreateVMTask(c, &req).(*methods.CreateVM_TaskBody).Res.Returnval })
	info := l.await(ref)
	if info.Error != nil {
		return none, info.Error.Fault
	}
	made := info.Result.(types.ManagedObjectReference)
	if odd {
		vm := c.Map.Get(made).(*simulator.VirtualMachine)
		c.WithLock(vm, func() {
			old, _ := l.resolve(path.Dir(vm.Config.Files.VmPathName) + "/" + vm.Name + ".nvram")
			_ = os.Rename(old, strings.TrimSuffix(old, vm.Name+".nvram")+name+".nvram")
			ref = vm.ReconfigVMTask(c, &types.ReconfigVM_Task{This: made, Spec: types.VirtualMachineConfigSpec{Name: name}}).(*methods.ReconfigVM_TaskBody).Res.Returnval
		})
		l.await(ref)
	}
	return made, nil
}
