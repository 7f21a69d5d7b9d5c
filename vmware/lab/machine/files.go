package machine

import (
	"path/filepath"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/spec"
)

// IsOn says whether the VM runs.
func (vm *VM) IsOn() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.on
}

// Owner finds the disk that a file belongs to, and whether a running VM writes into it.
func (inv *Inventory) Owner(file string) (vm *VM, d *chain.Disk, live bool) {
	for _, vm := range inv.list() {
		if d, leaf := vm.part(file); d != nil {
			return vm, d.Disk, leaf && vm.IsOn()
		}
	}
	return nil, nil, false
}

func (vm *VM) part(file string) (d *disk, leaf bool) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, d := range vm.disks {
		home, ok := vm.inv.Resolve(spec.Sibling(d.path, "x"))
		if !ok || filepath.Dir(home) != filepath.Dir(file) {
			continue
		}
		if ours, leaf := d.Part(filepath.Base(file)); ours {
			return d, leaf
		}
	}
	return nil, false
}
