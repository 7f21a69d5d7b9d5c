package vmware_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/lab"
)

func TestQuiesceDowngradeIsRecorded(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01(func(s *lab.VMSpec) {
		s.Guest, s.VSS = "windows2019srv_64Guest", lab.ApplicationVSS
		s.ExtraConfig = map[string]string{"disk.EnableUUID": "TRUE"}
	})
	p := b.backup(found, nil)
	if p.Consistency != recovery.Application || len(p.Tags) != 0 || p.Item(vmware.ItemManifest) == nil {
		t.Fatalf("%s %v %v", p.Consistency, p.Tags, p.Warnings)
	}
	vm.FailQuiesce(2, &types.ApplicationQuiesceFault{})
	p = b.backup(found, nil)
	if p.Consistency != recovery.FileSystem || len(p.Tags) != 1 {
		t.Fatalf("V23: %s %v", p.Consistency, p.Tags)
	}
	vm.FailQuiesce(4, &types.ApplicationQuiesceFault{})
	if p = b.backup(found, nil); p.Consistency != recovery.Crash || len(p.Tags) != 1 {
		t.Fatalf("V23: %s %v", p.Consistency, p.Tags)
	}
	vm.FailQuiesce(9, &types.ApplicationQuiesceFault{})
	opt := b.options()
	opt.MustQuiesce = true
	if _, err := b.try(b.ctx, found, nil, opt, nil); !errors.Is(err, vmware.ErrQuiesce) {
		t.Fatalf("got %v", err)
	}
	b.clean(found)
}

func TestV28MissingEnableUUIDIsNamed(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01(func(s *lab.VMSpec) { s.Guest, s.VSS = "windows2019srv_64Guest", lab.ApplicationVSS })
	p := b.backup(found, nil)
	if p.Consistency != recovery.FileSystem || len(p.Tags) != 1 || !strings.Contains(strings.Join(p.Warnings, " "), "V28") {
		t.Fatalf("%s %v %v", p.Consistency, p.Tags, p.Warnings)
	}
}

// Quiescing is silently ignored without running Tools, and when the VM is off.
func TestSilentlyIgnoredQuiescingIsNotClaimed(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01(func(s *lab.VMSpec) { s.Tools = lab.ToolsNotRunning })
	if p := b.backup(found, nil); p.Consistency != recovery.Crash || len(p.Tags) != 1 {
		t.Fatalf("no tools: %s %v", p.Consistency, p.Tags)
	}
	vm, err := b.lab.AddVM(lab.VMSpec{Name: "off", Disks: []lab.DiskSpec{{Bytes: mib}}, NoNVRAM: true})
	must(t, err)
	p := b.backup(b.find("off"), nil)
	if p.Consistency != recovery.Crash || len(p.Tags) != 0 {
		t.Fatalf("powered off: %s %v", p.Consistency, p.Tags)
	}
	b.equal(p, vm, 0)
}
