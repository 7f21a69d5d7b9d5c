package spec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// ownFiles are the endings of the files that a VM has beside its disks.
var ownFiles = []string{".vmx", ".vmxf", ".vmsd", ".vmsn", ".vmss", ".vswp", ".nvram", ".log", ".zip"}

// RemoveFiles deletes what a VM has in its home besides disks, then its home and the
// directories of its disks as far as they are empty. What somebody else put there stays,
// as on a host.
func (s Site) RemoveFiles(home string, others ...string) error {
	dir, ok := s.Resolve(home)
	entries, err := os.ReadDir(dir)
	if !ok || errors.Is(err, os.ErrNotExist) {
		entries, err = nil, nil
	}
	errs := []error{err}
	for _, e := range entries {
		if slices.Contains(ownFiles, filepath.Ext(e.Name())) || strings.HasPrefix(e.Name(), "vmware") {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	for _, d := range append(others, home) {
		if dir, ok := s.Resolve(d); ok {
			_ = os.Remove(dir) // one that is not empty stays
		}
	}
	return errors.Join(errs...)
}

// FreeName refuses a new name that somebody else in the VM's folder has. An empty name
// asks for no change.
func (s Site) FreeName(c *simulator.Context, vm types.ManagedObjectReference, parent *types.ManagedObjectReference, name string) (fault types.BaseMethodFault) {
	if name == "" || parent == nil {
		return nil
	}
	folder, ok := c.Map.Get(*parent).(*simulator.Folder)
	if !ok {
		return nil
	}
	c.WithLock(folder, func() {
		if e := c.Map.FindByName(name, folder.ChildEntity); e != nil && e.Reference() != vm {
			fault = &types.DuplicateName{Name: name, Object: e.Reference()}
		}
	})
	return fault
}
