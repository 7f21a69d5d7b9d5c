package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/vmware/lab/chain"
)

// flatSize is the length of the flat file beside a descriptor.
func flatSize(descriptor string) (int64, error) {
	if _, err := os.Stat(descriptor); err != nil {
		return 0, err
	}
	fi, err := os.Stat(strings.TrimSuffix(descriptor, ".vmdk") + "-flat.vmdk")
	if err != nil {
		return 0, err
	}
	if fi.Size()%512 != 0 || fi.Size() == 0 {
		return 0, fmt.Errorf("read flat file: %d bytes are no disk", fi.Size())
	}
	return fi.Size(), nil
}

// DatastoreOf is the datastore's name in "[ds] dir/file".
func DatastoreOf(dsPath string) string {
	ds, _, _ := strings.Cut(strings.TrimPrefix(dsPath, "["), "]")
	return ds
}

func pathOf(dsPath string) string {
	_, p, _ := strings.Cut(dsPath, "] ")
	return p
}

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
		home, ok := vm.inv.Resolve(sibling(d.path, "x"))
		if !ok || filepath.Dir(home) != filepath.Dir(file) {
			continue
		}
		if ours, leaf := d.Part(filepath.Base(file)); ours {
			return d, leaf
		}
	}
	return nil, false
}
