package guest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// State is what vCenter knows of a guest without entering it. What Tools tell is up to
// half a minute old, and empty while they do not run.
type State struct {
	On           bool
	ToolsRunning bool
	ToolsVersion string // as Tools count it, "12352"
	ToolsStatus  string // guestToolsCurrent, guestToolsNeedUpgrade, guestToolsUnmanaged, guestToolsNotInstalled …
	Ready        bool   // guest operations can work
	System       string // windows, linux, or another word of VMware's
	Addresses    []string
	Disks        []Disk
}

// Disk is a file system as Tools tell it.
type Disk struct {
	Path        string // C:\ or /
	Bytes, Free int64
}

// Look asks vCenter for a machine's guest. It needs no login to the guest.
func Look(ctx context.Context, client *vim25.Client, vm types.ManagedObjectReference) (*State, error) {
	var m mo.VirtualMachine
	err := property.DefaultCollector(client).RetrieveOne(ctx, vm, []string{"guest", "config.guestId", "runtime.powerState"}, &m)
	if err != nil {
		return nil, fmt.Errorf("ask for the guest's properties: %w", err)
	}
	s := &State{On: m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn}
	family := ""
	if g := m.Guest; g != nil {
		s.ToolsRunning = g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		s.ToolsVersion, s.ToolsStatus = g.ToolsVersion, g.ToolsVersionStatus2
		s.Ready = g.GuestOperationsReady != nil && *g.GuestOperationsReady
		family = g.GuestFamily
		s.Addresses = addresses(g)
		for _, d := range g.Disk {
			s.Disks = append(s.Disks, Disk{Path: d.DiskPath, Bytes: d.Capacity, Free: d.FreeSpace})
		}
	}
	if m.Config != nil && family == "" { // Tools have not told yet
		if family = "linuxGuest"; strings.HasPrefix(m.Config.GuestId, "win") {
			family = "windowsGuest"
		}
	}
	s.System = strings.TrimSuffix(family, "Guest")
	return s, nil
}

// addresses are those that Tools tell, IPv4 first, without those of one link only.
func addresses(g *types.GuestInfo) []string {
	list := []string{g.IpAddress}
	for _, n := range g.Net {
		list = append(list, n.IpAddress...)
	}
	list = slices.DeleteFunc(list, func(a string) bool {
		ip := net.ParseIP(a)
		return ip == nil || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
	})
	slices.SortStableFunc(list, func(a, b string) int {
		return strings.Count(a, ":") - strings.Count(b, ":")
	})
	return slices.Compact(list)
}

// Holds is the file system that a path lies on: the longest that it begins with.
func (s *State) Holds(path string) (Disk, bool) {
	best, found := Disk{}, false
	for _, d := range s.Disks {
		if len(path) >= len(d.Path) && strings.EqualFold(path[:len(d.Path)], d.Path) && len(d.Path) > len(best.Path) {
			best, found = d, true
		}
	}
	return best, found
}
