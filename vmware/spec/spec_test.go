package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func saved() *types.VirtualMachineConfigInfo {
	unit := func(n int32) *int32 { return &n }
	scsi := &types.ParaVirtualSCSIController{}
	scsi.Key, scsi.BusNumber = 1001, 1
	ide := &types.VirtualIDEController{}
	ide.Key = 200
	flat := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent"}
	flat.FileName = "[old] vm/vm.vmdk"
	disk := &types.VirtualDisk{CapacityInBytes: 1 << 20}
	disk.Key, disk.ControllerKey, disk.UnitNumber, disk.Backing = 2016, 1001, unit(3), flat
	card := &types.VirtualVmxnet3{}
	card.Key, card.MacAddress, card.AddressType = 4000, "00:50:56:01:02:03", "assigned"
	card.DeviceInfo = &types.Description{Label: "Network adapter 1"}
	card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: "pg-1"}}
	cd := &types.VirtualCdrom{}
	cd.Key, cd.ControllerKey = 3000, 200
	tpm := &types.VirtualTPM{}
	tpm.Key = 11000
	gpu := &types.VirtualPCIPassthrough{}
	gpu.Key, gpu.DeviceInfo = 13000, &types.Description{Label: "PCI device 0"}
	return &types.VirtualMachineConfigInfo{
		Name: "old", GuestId: "ubuntu64Guest", Version: "vmx-19", Firmware: "efi", Annotation: "a",
		Hardware: types.VirtualHardware{NumCPU: 2, MemoryMB: 1024, Device: []types.BaseVirtualDevice{ide, scsi, disk, card, cd, tpm, gpu}},
		ExtraConfig: []types.BaseOptionValue{
			&types.OptionValue{Key: "scsi1:3.ctkEnabled", Value: "TRUE"}, &types.OptionValue{Key: "my.setting", Value: "1"},
			&types.OptionValue{Key: "migrate.hostlog", Value: "x"}, &types.OptionValue{Key: "nvram", Value: "old.nvram"}, &types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"},
		},
	}
}

func options() Options {
	return Options{
		Name: "new", Home: "ds", Datastores: map[string]string{"old": "other"}, PortGroups: map[string]string{"pg-1": "LAN"},
		Backing: func(name string) (types.BaseVirtualDeviceBackingInfo, error) {
			if name != "LAN" {
				return nil, ErrNetwork
			}
			return &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name}}, nil
		},
	}
}

func TestBuild(t *testing.T) {
	res, err := Build(saved(), options())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[int32]string{}
	for _, c := range res.Spec.DeviceChange {
		v := c.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice()
		if v.Key >= 0 || keys[v.Key] != "" {
			t.Fatalf("key %d", v.Key)
		}
		keys[v.Key] = "taken"
	}
	if len(keys) != 4 { // controller, disk, card, cdrom
		t.Fatalf("%d devices", len(keys))
	}
	d := res.Spec.DeviceChange[1].GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk)
	b := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if b.FileName != "[other]" || *d.UnitNumber != 3 || d.ControllerKey != res.Spec.DeviceChange[0].GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Key {
		t.Fatalf("%+v %+v", d, b)
	}
	if res.Disks[0].Slot != "ParaVirtualSCSIController1:3" {
		t.Fatalf("%+v", res.Disks)
	}
	if c := res.Cards[0]; c.Network != "LAN" || c.Kept {
		t.Fatalf("%+v", c)
	}
	text := strings.Join(res.Warnings, "\n")
	for _, want := range []string{"TPM", "PCI device 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing is said of %s: %s", want, text)
		}
	}
	var extra []string
	for _, o := range res.Spec.ExtraConfig {
		extra = append(extra, o.GetOptionValue().Key)
	}
	if strings.Join(extra, " ") != "my.setting disk.EnableUUID" {
		t.Fatalf("advanced settings %v", extra)
	}
}

// The saved configuration is not touched: it may be shown beside the plan.
func TestBuildLeavesTheSavedConfigurationAlone(t *testing.T) {
	c := saved()
	if _, err := Build(c, options()); err != nil {
		t.Fatal(err)
	}
	card := c.Hardware.Device[3].(*types.VirtualVmxnet3)
	if card.Key != 4000 || card.MacAddress == "" || card.DeviceInfo == nil || c.Hardware.Device[1].GetVirtualDevice().Key != 1001 {
		t.Fatalf("%+v", card)
	}
}

func TestUnknownNetworkIsAnError(t *testing.T) {
	o := options()
	o.PortGroups = nil
	if _, err := Build(saved(), o); !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "pg-1") {
		t.Fatalf("got %v", err)
	}
}

func TestMACKept(t *testing.T) {
	o := options()
	o.KeepMAC = func(mac string) bool { return mac == "00:50:56:01:02:03" }
	res, err := Build(saved(), o)
	if err != nil || !res.Cards[0].Kept {
		t.Fatalf("%+v %v", res.Cards, err)
	}
}

func TestDiskLeftOutIsSaid(t *testing.T) {
	o := options()
	o.Disks = func(int32) bool { return false }
	res, err := Build(saved(), o)
	if err != nil || len(res.Disks) != 0 || !strings.Contains(strings.Join(res.Warnings, " "), "disk 2016") {
		t.Fatalf("%+v %v", res, err)
	}
}
