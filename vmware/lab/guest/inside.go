package guest

import (
	"cmp"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/spec"
)

// guestBytes is the size of a guest's file system; half of it is free unless somebody
// has set that.
const guestBytes = 40 << 30

// Inside is what a test has set about the inside of a VM. The zero value has room and
// no virus scanner.
type Inside struct {
	mu      sync.Mutex
	limited bool
	room    int64
	scan    func(path string, data []byte) []byte
}

// SetRoom lets the file system take so many bytes more; negative means no limit.
func (i *Inside) SetRoom(bytes int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.limited, i.room = bytes >= 0, bytes
}

// SetScan sets what becomes of files that are copied in, nil if a file is taken away.
func (i *Inside) SetScan(scan func(path string, data []byte) []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.scan = scan
}

func (i *Inside) scanner() func(path string, data []byte) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.scan
}

func (i *Inside) free() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.limited {
		return i.room
	}
	return guestBytes / 2
}

// take uses room, and says whether there was enough and whether less is left.
func (i *Inside) take(bytes int64) (enough, changed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.limited {
		return true, false
	}
	if enough = bytes <= i.room; enough {
		i.room -= bytes
	}
	return enough, enough
}

// State is what vCenter reports of a VM's guest.
func State(vm spec.VM, on bool, inside *Inside) []types.PropertyChange {
	running, status, version, two := "guestToolsNotRunning", "toolsNotRunning", cmp.Or(vm.ToolsVersion, "12352"), "guestToolsCurrent"
	state, ready := "notRunning", false
	if on {
		state = "running"
	}
	switch {
	case vm.Tools == spec.ToolsNotInstalled:
		status, version, two = "toolsNotInstalled", "0", "guestToolsNotInstalled"
	case on && vm.Tools == spec.ToolsRunning:
		running, status, ready = "guestToolsRunning", "toolsOk", true
	}
	family := "linuxGuest"
	switch {
	case strings.HasPrefix(vm.Guest, "windows"):
		family = "windowsGuest"
	case strings.HasPrefix(vm.Guest, "freebsd"):
		family = "otherGuestFamily"
	}
	return append(told(vm, ready, family, inside), []types.PropertyChange{
		{Name: "guest.toolsRunningStatus", Val: running},
		{Name: "guest.toolsStatus", Val: types.VirtualMachineToolsStatus(status)},
		{Name: "guest.toolsVersion", Val: version},
		{Name: "guest.toolsVersionStatus2", Val: two},
		{Name: "guest.guestState", Val: state},
		{Name: "guest.guestFamily", Val: family},
		{Name: "guest.guestOperationsReady", Val: ready},
	}...)
}

// told is what Tools tell of network and file systems while they run.
func told(vm spec.VM, ready bool, family string, inside *Inside) []types.PropertyChange {
	nets, disks, address := []types.GuestNicInfo{}, []types.GuestDiskInfo{}, ""
	if ready {
		root := "/"
		if family == "windowsGuest" {
			root = `C:\`
		}
		disks = append(disks, types.GuestDiskInfo{DiskPath: root, Capacity: guestBytes, FreeSpace: inside.free()})
		if address = vm.GuestAddress; address != "" {
			nets = append(nets, types.GuestNicInfo{Network: "VM Network", Connected: true, IpAddress: []string{address}})
		}
	}
	return []types.PropertyChange{{Name: "guest.ipAddress", Val: address}, {Name: "guest.net", Val: nets}, {Name: "guest.disk", Val: disks}}
}
