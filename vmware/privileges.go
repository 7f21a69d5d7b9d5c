package vmware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// Roles of an account.
const (
	RoleBackup  = "backup"
	RoleRestore = "restore"
	RoleGuest   = "guest" // working inside a guest through VMware Tools
)

// ErrRole means that there is no role of that name.
var ErrRole = errors.New("role is not backup, restore or guest")

var backupPrivileges = []string{
	"System.Anonymous", "System.View", "System.Read",
	"Datastore.Browse", "Datastore.FileManagement", // files of the datastore: disks, NVRAM, VSS manifest
	"VirtualMachine.Config.ChangeTracking",
	"VirtualMachine.Config.AdvancedConfig", // our mark of an in-place restore
	"VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot",
	"VirtualMachine.Provisioning.DiskRandomRead", // what changed
	"VirtualMachine.Provisioning.GetVmFiles",
	"VApp.Export", // leases of the export transport
	"Sessions.ValidateSession",
}

var restorePrivileges = []string{
	"Datastore.AllocateSpace", "Network.Assign", "Resource.AssignVMToPool", "VApp.Import", "Folder.Create", "Folder.Delete",
	"VirtualMachine.Inventory.Create", "VirtualMachine.Inventory.Register", "VirtualMachine.Inventory.Delete",
	"VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddRemoveDevice",
	"VirtualMachine.Config.RemoveDisk", "VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory",
	"VirtualMachine.Config.EditDevice", "VirtualMachine.Config.Resource", "VirtualMachine.Config.Settings",
	"VirtualMachine.Config.Rename", "VirtualMachine.Config.Annotation",
	"VirtualMachine.Provisioning.DiskRandomAccess", "VirtualMachine.Provisioning.PutVmFiles",
	"VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.DeviceConnection",
}

var guestPrivileges = []string{
	"VirtualMachine.GuestOperations.Query", "VirtualMachine.GuestOperations.Modify", "VirtualMachine.GuestOperations.Execute",
}

// Privileges lists what an account of a role needs, as the API names it. A
// restore needs what a backup needs, too: it reads back what it wrote. The error
// is ErrRole.
func Privileges(role string) ([]string, error) {
	switch role {
	case RoleBackup:
		return slices.Clone(backupPrivileges), nil
	case RoleRestore:
		return slices.Concat(backupPrivileges, restorePrivileges), nil
	case RoleGuest:
		return slices.Concat(backupPrivileges[:3], guestPrivileges), nil
	}
	return nil, fmt.Errorf("list privileges of %q: %w", role, ErrRole)
}

// MissingPrivileges lists which of a role's privileges the session's account
// lacks on an object: a VM, or the root folder.
func (s *Session) MissingPrivileges(ctx context.Context, role string, on types.ManagedObjectReference) ([]string, error) {
	wanted, err := Privileges(role)
	if err != nil {
		return nil, err
	}
	res, err := methods.HasUserPrivilegeOnEntities(ctx, s.client, &types.HasUserPrivilegeOnEntities{
		This: *s.client.ServiceContent.AuthorizationManager, Entities: []types.ManagedObjectReference{on}, UserName: s.user, PrivId: wanted,
	})
	if err != nil {
		return nil, fmt.Errorf("check privileges of %s: %w", s.user, err)
	}
	var missing []string
	for _, e := range res.Returnval {
		for _, p := range e.PrivAvailability {
			if !p.IsGranted {
				missing = append(missing, p.PrivId)
			}
		}
	}
	return missing, nil
}

// Clock is the server's time.
func (s *Session) Clock(ctx context.Context) (time.Time, error) {
	now, err := methods.GetCurrentTime(ctx, s.client)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the server's time: %w", err)
	}
	return *now, nil
}
