package cbt

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"

	"holdfast/vmware/disk"
)

// minHardware is the first virtual hardware version with tracking (KB 1020128).
const minHardware = 7

// Unsupported says why changes of this VM cannot be tracked, or is empty.
func Unsupported(vm *mo.VirtualMachine) string {
	if vm.Config == nil {
		return "the configuration cannot be read"
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(vm.Config.Version, "vmx-")); err != nil || n < minHardware {
		return fmt.Sprintf("virtual hardware %s is older than vmx-%02d", vm.Config.Version, minHardware)
	}
	if !vm.Capability.ChangeTrackingSupported {
		return "the host does not support it for this VM"
	}
	return ""
}

// Enable reports whether a backup may switch tracking on, and if not, why.
// With a snapshot present the map would not know what was written before.
func Enable(vm *mo.VirtualMachine) (ok bool, why string) {
	if why := Unsupported(vm); why != "" {
		return false, why
	}
	if on := vm.Config.ChangeTrackingEnabled; on != nil && *on {
		return false, ""
	}
	if vm.Snapshot != nil && len(vm.Snapshot.RootSnapshotList) > 0 {
		return false, "tracking is off, and is not enabled while the VM has a snapshot"
	}
	for _, d := range disk.Devices(vm.Config.Hardware.Device) {
		if d.Unprotected() == "" {
			return true, ""
		}
	}
	return false, "no disk can be tracked"
}
