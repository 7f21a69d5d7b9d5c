// Package spec makes of the configuration that a recovery point kept
// (ConfigInfo, what a VM is) the specification of a new VM (ConfigSpec, what it
// is to be).
//
// The two look alike and are not: keys become temporary negative numbers, files
// become wishes for a datastore, devices that every VM has must not be asked
// for, identities must be chosen anew. What cannot be brought back is named in a
// warning; nothing is dropped silently. Build is pure.
package spec

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/disk"
)

// ErrNetwork means that a network card's network does not exist at the target.
var ErrNetwork = errors.New("network does not exist")

// Options say how the new VM differs from the saved one.
type Options struct {
	Name         string // unescaped
	InstanceUUID string // "" lets the server choose
	BiosUUID     string // "" lets the server choose
	Home         string // datastore of the configuration, and of disks without another
	// Datastores maps a saved disk's datastore to that of the new one; without an
	// entry the disk goes to Home.
	Datastores map[string]string
	// Disks to make, by device key; nil makes all that the point has.
	Disks func(key int32) bool
	// Backing gives the connection of a card that was on the named network, or
	// ErrNetwork. PortGroups are the saved names of distributed port groups.
	Backing    func(network string) (types.BaseVirtualDeviceBackingInfo, error)
	PortGroups map[string]string
	// KeepMAC decides about each card's address; nil lets the server choose all.
	KeepMAC func(mac string) bool
}

// Disk is a disk of the new VM.
type Disk struct {
	Key       int32  `json:"key"` // device key in the saved configuration
	Label     string `json:"label"`
	Slot      string `json:"slot"` // controller, bus and unit, as a transfer names it
	Bytes     int64  `json:"bytes"`
	Datastore string `json:"datastore"`
}

// Card is a network card of the new VM.
type Card struct {
	Label   string `json:"label"`
	Network string `json:"network"` // saved name
	MAC     string `json:"mac"`     // saved address
	Kept    bool   `json:"mac_kept"`
}

// Result is what Build makes.
type Result struct {
	Spec     types.VirtualMachineConfigSpec
	Disks    []Disk // in the order of their devices in Spec
	Cards    []Card
	Warnings []string
}

// Build makes the specification. Errors wrap ErrNetwork.
func Build(saved *types.VirtualMachineConfigInfo, opt Options) (Result, error) {
	b := builder{opt: opt, keys: map[int32]int32{}, next: -1000}
	b.Spec = machine(saved, opt)
	b.leftOut(saved)
	for _, o := range saved.ExtraConfig {
		if v := o.GetOptionValue(); !denied(v.Key) {
			b.Spec.ExtraConfig = append(b.Spec.ExtraConfig, &types.OptionValue{Key: v.Key, Value: v.Value})
		}
	}
	// Controllers first: what hangs at them names their new keys.
	for _, d := range saved.Hardware.Device {
		b.controller(d)
	}
	all := map[int32]disk.Device{}
	for _, d := range disk.Devices(saved.Hardware.Device) {
		all[d.Key] = d
	}
	for _, d := range saved.Hardware.Device {
		if err := b.device(d, all); err != nil {
			return Result{}, err
		}
	}
	return b.Result, nil
}

// machine copies what is not a device.
func machine(c *types.VirtualMachineConfigInfo, opt Options) types.VirtualMachineConfigSpec {
	yes := func(p *bool) *bool { return p }
	s := types.VirtualMachineConfigSpec{
		Name: opt.Name, InstanceUuid: opt.InstanceUUID, Uuid: opt.BiosUUID,
		Annotation: c.Annotation, GuestId: c.GuestId, Version: c.Version, Firmware: c.Firmware,
		Files:   &types.VirtualMachineFileInfo{VmPathName: "[" + opt.Home + "]"},
		NumCPUs: c.Hardware.NumCPU, MemoryMB: int64(c.Hardware.MemoryMB),
		MemoryHotAddEnabled: yes(c.MemoryHotAddEnabled), CpuHotAddEnabled: yes(c.CpuHotAddEnabled), CpuHotRemoveEnabled: yes(c.CpuHotRemoveEnabled),
		VirtualICH7MPresent: yes(c.Hardware.VirtualICH7MPresent), VirtualSMCPresent: yes(c.Hardware.VirtualSMCPresent),
		NestedHVEnabled: yes(c.NestedHVEnabled), VPMCEnabled: yes(c.VPMCEnabled),
		CpuAllocation: c.CpuAllocation, MemoryAllocation: c.MemoryAllocation,
		MemoryReservationLockedToMax: yes(c.MemoryReservationLockedToMax), LatencySensitivity: c.LatencySensitivity,
	}
	if c.Hardware.NumCoresPerSocket != nil {
		s.NumCoresPerSocket = c.Hardware.NumCoresPerSocket
	}
	if strings.HasPrefix(c.GuestId, "other") {
		s.AlternateGuestName = c.AlternateGuestName
	}
	s.Flags = &types.VirtualMachineFlagInfo{
		EnableLogging: c.Flags.EnableLogging, DiskUuidEnabled: c.Flags.DiskUuidEnabled,
		VirtualMmuUsage: c.Flags.VirtualMmuUsage, VirtualExecUsage: c.Flags.VirtualExecUsage,
		VbsEnabled: c.Flags.VbsEnabled, VvtdEnabled: c.Flags.VvtdEnabled,
	}
	if t := c.Tools; t != nil {
		s.Tools = &types.ToolsConfigInfo{
			AfterPowerOn: t.AfterPowerOn, AfterResume: t.AfterResume, BeforeGuestStandby: t.BeforeGuestStandby,
			BeforeGuestShutdown: t.BeforeGuestShutdown, ToolsUpgradePolicy: t.ToolsUpgradePolicy, SyncTimeWithHost: t.SyncTimeWithHost,
		}
	}
	if o := c.BootOptions; o != nil {
		s.BootOptions = &types.VirtualMachineBootOptions{
			BootDelay: o.BootDelay, EnterBIOSSetup: o.EnterBIOSSetup, BootRetryEnabled: o.BootRetryEnabled,
			BootRetryDelay: o.BootRetryDelay, NetworkBootProtocol: o.NetworkBootProtocol, EfiSecureBootEnabled: o.EfiSecureBootEnabled,
		}
	}
	p := c.DefaultPowerOps
	s.PowerOpInfo = &p
	return s
}

// leftOut warns of what the new VM will not have.
func (b *builder) leftOut(c *types.VirtualMachineConfigInfo) {
	if c.KeyId != nil {
		b.warn("the VM was encrypted; the new one is not")
	}
	if c.ManagedBy != nil {
		b.warn("the VM was managed by %s (%s); the new one is not", c.ManagedBy.ExtensionKey, c.ManagedBy.Type)
	}
	if c.FtInfo != nil {
		b.warn("fault tolerance is not restored")
	}
	if c.VAppConfig != nil {
		b.warn("vApp properties are not restored")
	}
	if o := c.BootOptions; o != nil && len(o.BootOrder) > 0 {
		b.warn("the boot order of devices is not restored; the firmware's own is, with the NVRAM")
	}
}

// deniedKeys are advanced settings that belong to the old VM or its place.
var deniedKeys = []string{
	"*.ctkenabled", "ctk*", "sched.swap.derivedname", "sched.swap.file", "migrate.*", "vmotion.*", "nvram", "uuid.*", "vc.uuid",
	"*.pcislotnumber", "toolsinstallmanager.*", "vmware.tools.*", "guestinfo.vmtools.*", "guestinfo.appinfo", "guestinfo.detailed.data",
	"softpoweroff", "monitor.*", "numa.autosize.*", "holdfast.*", "replay.*", "snapshot.*", "checkpoint.*", "cleanshutdown", "config.readonly",
	"*.generatedaddress*", "*.address", "dataset*.*", "*.dekfingerprint", "encryption.*", "tpm*",
}

func denied(key string) bool {
	key = strings.ToLower(key)
	for _, pattern := range deniedKeys {
		if ok, err := path.Match(pattern, key); ok || err != nil {
			return true
		}
	}
	return key == ""
}

type builder struct {
	Result
	opt  Options
	keys map[int32]int32 // of controllers: saved → new
	next int32           // temporary keys are negative and unique
}

func (b *builder) warn(format string, args ...any) {
	b.Warnings = append(b.Warnings, fmt.Sprintf(format, args...))
}

func (b *builder) key() int32 {
	b.next--
	return b.next
}

func (b *builder) add(d types.BaseVirtualDevice, file types.VirtualDeviceConfigSpecFileOperation) {
	b.Spec.DeviceChange = append(b.Spec.DeviceChange, &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: file, Device: d,
	})
}

// controller adds a controller. Those that every VM has keep their fixed keys
// and are not asked for.
func (b *builder) controller(d types.BaseVirtualDevice) {
	c, ok := d.(types.BaseVirtualController)
	if !ok {
		return
	}
	old := c.GetVirtualController()
	var made types.BaseVirtualDevice
	switch c := d.(type) {
	case *types.VirtualIDEController, *types.VirtualPCIController, *types.VirtualSIOController, *types.VirtualPS2Controller:
		b.keys[old.Key] = old.Key
		return
	case *types.ParaVirtualSCSIController:
		n := *c
		made = &n
	case *types.VirtualLsiLogicController:
		n := *c
		made = &n
	case *types.VirtualLsiLogicSASController:
		n := *c
		made = &n
	case *types.VirtualBusLogicController:
		n := *c
		made = &n
	case *types.VirtualAHCIController:
		n := *c
		made = &n
	case *types.VirtualNVMEController:
		n := *c
		made = &n
	case *types.VirtualUSBController:
		n := *c
		made = &n
	case *types.VirtualUSBXHCIController:
		n := *c
		made = &n
	default:
		b.unknown(d)
		return
	}
	n := made.(types.BaseVirtualController).GetVirtualController()
	b.fresh(&n.VirtualDevice)
	n.Device = nil
	b.keys[old.Key] = n.Key
	b.add(made, "")
}

// fresh makes a copied device a new one.
func (b *builder) fresh(v *types.VirtualDevice) {
	v.Key = b.key()
	v.SlotInfo, v.DeviceGroupInfo, v.DeviceInfo, v.Connectable = nil, nil, nil, nil
}

func (b *builder) unknown(d types.BaseVirtualDevice) {
	v := d.GetVirtualDevice()
	label := fmt.Sprintf("key %d", v.Key)
	if v.DeviceInfo != nil {
		label = v.DeviceInfo.GetDescription().Label
	}
	b.warn("device %q (%s) is not restored", label, strings.TrimPrefix(fmt.Sprintf("%T", d), "*types."))
}

func (b *builder) device(d types.BaseVirtualDevice, disks map[int32]disk.Device) error {
	switch v := d.(type) {
	case *types.VirtualDisk:
		b.disk(v, disks[v.Key])
	case *types.VirtualCdrom:
		b.cdrom(v)
	case *types.VirtualTPM:
		b.warn("the virtual TPM is not restored: keys sealed in it (BitLocker) need their recovery key")
	case *types.VirtualKeyboard, *types.VirtualPointingDevice, *types.VirtualMachineVideoCard, *types.VirtualMachineVMCIDevice:
		// Every VM has or gets these.
	case types.BaseVirtualEthernetCard:
		return b.card(d, v.GetVirtualEthernetCard())
	case types.BaseVirtualController:
	default:
		b.unknown(d)
	}
	return nil
}

func (b *builder) disk(v *types.VirtualDisk, d disk.Device) {
	if b.opt.Disks != nil && !b.opt.Disks(v.Key) {
		b.warn("disk %d (%s) is not part of this restore", v.Key, d.Label)
		return
	}
	controller, ok := b.keys[v.ControllerKey]
	if !ok {
		b.warn("disk %d (%s) is not restored: its controller is not", v.Key, d.Label)
		return
	}
	store := b.opt.Datastores[d.Datastore]
	if store == "" {
		store = b.opt.Home
	}
	thin := true
	n := &types.VirtualDisk{CapacityInKB: d.Bytes >> 10, CapacityInBytes: d.Bytes, Shares: v.Shares}
	n.Key, n.ControllerKey = b.key(), controller
	if v.UnitNumber != nil {
		unit := *v.UnitNumber
		n.UnitNumber = &unit
	}
	backing := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: string(types.VirtualDiskModePersistent), ThinProvisioned: &thin}
	backing.FileName = "[" + store + "]"
	n.Backing = backing
	b.add(n, types.VirtualDeviceConfigSpecFileOperationCreate)
	b.Disks = append(b.Disks, Disk{Key: d.Key, Label: d.Label, Slot: d.Slot, Bytes: d.Bytes, Datastore: store})
}

// cdrom adds an empty drive: the image that lay in it may be anywhere.
func (b *builder) cdrom(v *types.VirtualCdrom) {
	controller, ok := b.keys[v.ControllerKey]
	if !ok {
		b.unknown(v)
		return
	}
	n := &types.VirtualCdrom{}
	n.Key, n.ControllerKey, n.UnitNumber = b.key(), controller, v.UnitNumber
	no := false
	n.Backing = &types.VirtualCdromRemoteAtapiBackingInfo{
		VirtualDeviceRemoteDeviceBackingInfo: types.VirtualDeviceRemoteDeviceBackingInfo{UseAutoDetect: &no},
	}
	n.Connectable = &types.VirtualDeviceConnectInfo{AllowGuestControl: true}
	b.add(n, "")
}

// card adds a network card of the saved kind on the network of the saved name.
func (b *builder) card(d types.BaseVirtualDevice, old *types.VirtualEthernetCard) error {
	var made types.BaseVirtualDevice
	switch c := d.(type) {
	case *types.VirtualVmxnet3:
		n := *c
		made = &n
	case *types.VirtualVmxnet2:
		n := *c
		made = &n
	case *types.VirtualE1000:
		n := *c
		made = &n
	case *types.VirtualE1000e:
		n := *c
		made = &n
	case *types.VirtualPCNet32:
		n := *c
		made = &n
	default:
		b.unknown(d)
		return nil
	}
	label := ""
	if old.DeviceInfo != nil {
		label = old.DeviceInfo.GetDescription().Label
	}
	network := b.network(old.Backing)
	backing, err := b.opt.Backing(network)
	if err != nil {
		return fmt.Errorf("connect %q to %q: %w", label, network, err)
	}
	n := made.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	b.fresh(&n.VirtualDevice)
	n.ControllerKey, n.UnitNumber, n.Backing, n.ExternalId = 0, nil, backing, ""
	n.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: false}
	if c := old.Connectable; c != nil {
		n.Connectable.StartConnected = c.StartConnected
	}
	kept := b.opt.KeepMAC != nil && old.MacAddress != "" && b.opt.KeepMAC(old.MacAddress)
	if !kept {
		n.MacAddress, n.AddressType = "", ""
	}
	b.add(made, "")
	b.Cards = append(b.Cards, Card{Label: label, Network: network, MAC: old.MacAddress, Kept: kept})
	return nil
}

// network is the name that a saved card's network had.
func (b *builder) network(backing types.BaseVirtualDeviceBackingInfo) string {
	switch v := backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return v.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		if name := b.opt.PortGroups[v.Port.PortgroupKey]; name != "" {
			return name
		}
		return v.Port.PortgroupKey
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		return v.OpaqueNetworkId
	}
	return ""
}
