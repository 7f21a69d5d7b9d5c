// Package spec describes the laboratory's virtual machines: what a caller asks for, and
// the CreateVM_Task argument it becomes. It also does what a vCenter does with the
// configuration of a new VM before a host sees it: it chooses directories, file names
// and unit numbers, and refuses datastores and networks that are not there.
package spec

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// VSS is what quiescing brings about inside a guest.
type VSS int

// A guest without VSS is quiesced by freezing its file systems and leaves no manifest;
// a Windows guest leaves one, with the writers' documents only when applications were
// quiesced.
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

// VM describes a VM to add; only Name is required.
type VM struct {
	Name            string // any characters, vSphere's escapes are made here
	Folder          string // path below the datacenter's VM folder, made when missing
	Datastore       string // of the VM's home, default datastore1
	Guest           string // guest ID, default otherGuest64
	Firmware        string // bios or efi, default bios
	HardwareVersion string // as vmx-19, vcsim's default when empty
	CPUs            int32  // default 1
	MemoryMB        int64  // default 256
	Disks           []Disk
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
	// GuestUser and GuestPassword are the only login that guest operations accept,
	// default Administrator and "secret".
	GuestUser, GuestPassword string
	// GuestFiltered says that the login's token is filtered, as User Account Control
	// does it: the guest's own programs refuse what needs an administrator.
	GuestFiltered bool
	// GuestAddress is what Tools tell of the guest's network; none if empty.
	GuestAddress string
}

// Disk describes a disk; only Bytes is required, a multiple of 1024.
type Disk struct {
	Bytes       int64
	Label       string // device label, default "Hard disk n"
	Datastore   string // default the VM's
	Independent bool   // independent-persistent: snapshots leave it out
	RDM         string // "physical" (snapshots leave it out) or "virtual": a raw device mapping, no extent in /folder
}

// Site is where VMs are made.
type Site struct {
	Registry   *simulator.Registry
	Datacenter types.ManagedObjectReference
	Dir        string   // holds one directory for each datastore
	Datastores []string // names, the first is the default
}

// Specials are what vSphere escapes in inventory names.
const Specials = `%/\`

// Escape is the inventory name of a VM called name.
func Escape(name string) string { return escaper.Replace(name) }

var escaper = strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c")

// Config makes the CreateVM_Task argument of a VM.
func (s Site) Config(spec VM) types.VirtualMachineConfigSpec {
	ds := or(spec.Datastore, s.Datastores[0])
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
		networks = []string{"VM Network"}
	}
	for i, name := range networks {
		card := &types.VirtualVmxnet3{}
		card.Key = int32(-200 - i)
		card.Backing = s.networkBacking(name)
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

func diskDevice(i int, d Disk, ds string, controller int32) *types.VirtualDisk {
	// Unit 7 is the controller itself on a SCSI bus.
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
			LunUuid: "0200000000" + RandomHex(16), DeviceName: "vml.0200000000" + RandomHex(16),
		}
		return dev
	}
	dev.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: file, DiskMode: mode, ThinProvisioned: types.NewBool(true),
	}
	return dev
}

func (s Site) networkBacking(name string) types.BaseVirtualDeviceBackingInfo {
	reg := s.Registry
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

// Complete fills in what vCenter chooses itself: the VM's directory, the names of its
// disks and their unit numbers. The name may come escaped or not. It refuses what would
// make vcsim panic.
func (s Site) Complete(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	spec.Name = Unescape(spec.Name)
	stem := escaper.Replace(spec.Name)
	var vmx object.DatastorePath
	if spec.Name == "" || spec.Files == nil || !vmx.FromString(spec.Files.VmPathName) {
		return &types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}
	}
	if !slices.Contains(s.Datastores, vmx.Datastore) {
		return &types.InvalidDatastore{Name: vmx.Datastore}
	}
	// "[datastore]" alone leaves the directory to vCenter, which takes the VM's name, with a
	// number when there is such a directory already.
	dir := path.Dir(vmx.Path)
	if vmx.Path == "" {
		dir = s.freeDir(vmx.Datastore, stem)
		spec.Files.VmPathName = fmt.Sprintf("[%s] %s/%s.vmx", vmx.Datastore, dir, stem)
	}
	n := 0
	units := map[int32]int32{}
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		if fault := s.Known(c.Device); fault != nil {
			return fault
		}
		vd, ok := c.Device.(*types.VirtualDisk)
		if !ok || c.FileOperation != types.VirtualDeviceConfigSpecFileOperationCreate {
			continue
		}
		if fault := s.Place(vd, vmx.Datastore, dir, stem, n); fault != nil {
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

// Known refuses a device on a network that is not there.
func (s Site) Known(dev types.BaseVirtualDevice) types.BaseMethodFault {
	b, ok := dev.GetVirtualDevice().Backing.(*types.VirtualEthernetCardNetworkBackingInfo)
	if !ok {
		return nil
	}
	reg := s.Registry
	if reg.FindByName(b.DeviceName, reg.Get(s.Datacenter).(*simulator.Datacenter).Network) == nil {
		return &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{
			InvalidVmConfig: types.InvalidVmConfig{Property: "configSpec.deviceChange.device.backing"}}}
	}
	return nil
}

// Place names the n-th new disk when the caller did not.
func (s Site) Place(vd *types.VirtualDisk, ds, dir, stem string, n int) types.BaseMethodFault {
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
	file, ok := s.Resolve(path.Dir(info.FileName))
	if !ok {
		return &types.InvalidDatastore{Name: p.Datastore}
	}
	if err := os.MkdirAll(file, 0o700); err != nil {
		return &types.FileFault{File: info.FileName}
	}
	return nil
}

func (s Site) freeDir(ds, stem string) string {
	for n := 0; ; n++ {
		dir := stem
		if n > 0 {
			dir = fmt.Sprintf("%s_%d", stem, n)
		}
		file, _ := s.Resolve("[" + ds + "] " + dir)
		if _, err := os.Stat(file); err != nil {
			return dir
		}
	}
}

var unescaper = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

// Unescape undoes vSphere's escapes in inventory names.
func Unescape(name string) string { return unescaper.Replace(name) }

// Resolve turns "[ds] dir/file" into a file of this machine.
func (s Site) Resolve(dsPath string) (string, bool) {
	var p object.DatastorePath
	if !p.FromString(dsPath) || !slices.Contains(s.Datastores, p.Datastore) || !filepath.IsLocal(filepath.FromSlash(or(p.Path, "."))) {
		return "", false
	}
	return filepath.Join(filepath.Join(s.Dir, p.Datastore), filepath.FromSlash(p.Path)), true
}

func or[T comparable](v, fallback T) T {
	var none T
	if v == none {
		return fallback
	}
	return v
}

// RandomHex is n random bytes in hex.
func RandomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
