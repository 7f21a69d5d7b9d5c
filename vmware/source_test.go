package vmware_test

import (
	"testing"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/vmware/cbt"
	"holdfast/vmware/lab"
)

func TestFullThenIncrementalWhileTheGuestWrites(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	frozen := [][]byte{content(t, vm, 0), content(t, vm, 1)}
	full, err := b.try(b.ctx, found, nil, b.options(), func(backup.Frozen) {
		b.write(vm, 0, 64*kib, 200*kib)
		b.write(vm, 1, 3*mib, 4096)
	})
	must(t, err)
	b.clean(found)
	for i, key := range []string{"disk-2000", "disk-2001"} {
		if full.Disks()[i].Name != key {
			key = full.Disks()[i].Name
		}
		same(t, key, b.saved[full.ID][key], frozen[i])
	}
	if !b.find("web01").CBT {
		t.Fatal("tracking was not enabled")
	}
	mode(t, full, recovery.ReadAllocated, cbt.NoParent)

	incremental := b.backup(found, full)
	mode(t, incremental, recovery.ReadCBT, cbt.Use)
	b.equal(incremental, vm, 0)
	b.equal(incremental, vm, 1)

	unchanged := b.backup(found, incremental)
	mode(t, unchanged, recovery.ReadCBT, cbt.Use)
	b.equal(unchanged, vm, 0)
	b.clean(found)
}
