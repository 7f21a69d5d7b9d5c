package machine

import (
	"cmp"
	"path/filepath"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/guest"
	"holdfast/vmware/lab/spec"
)

// SetTools starts or stops VMware Tools in the guest.
func (vm *VM) SetTools(state spec.Tools) {
	vm.mu.Lock()
	vm.spec.Tools = state
	vm.mu.Unlock()
	vm.republish()
}

// SetGuestRoom lets the guest's file system take so many bytes more; negative means no
// limit.
func (vm *VM) SetGuestRoom(bytes int64) {
	vm.inside.SetRoom(bytes)
	vm.republish()
}

// Scan sets what looks at every file that was copied into the guest, as a virus scanner
// does: it returns what becomes of the bytes, nil if the file is taken away.
func (vm *VM) Scan(look func(path string, data []byte) []byte) { vm.inside.SetScan(look) }

func (vm *VM) republish() {
	vm.locked(func(c *simulator.Context, o *simulator.VirtualMachine) { vm.publish(c, o) })
}

// GuestDir is the directory that plays the guest's drive C: (and root).
func (vm *VM) GuestDir() string { return vm.inv.GuestDir(vm.ref.Value) }

// GuestDir is the directory of a guest by its name.
func (inv *Inventory) GuestDir(id string) string { return filepath.Join(inv.opt.Dir, "guests", id) }

// Guest tells guest operations about a VM: its login, and whether and how it can be
// worked in.
func (inv *Inventory) Guest(ref types.ManagedObjectReference) guest.Account {
	vm := inv.Of(ref)
	if vm == nil {
		return guest.Account{}
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return guest.Account{
		ID: ref.Value, User: cmp.Or(vm.spec.GuestUser, "Administrator"), Password: cmp.Or(vm.spec.GuestPassword, "secret"),
		Ready: vm.on && vm.spec.Tools == spec.ToolsRunning, Filtered: vm.spec.GuestFiltered, Inside: &vm.inside, Used: vm.republish,
	}
}
