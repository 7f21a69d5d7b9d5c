package lab_test

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
)

func tracked(t *testing.T, opt lab.Options, bytes int64) (*caller, *lab.VM, *object.VirtualMachine, int32) {
	t.Helper()
	c := start(t, opt)
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: bytes}}, PoweredOn: true})
	c.track(o)
	return c, vm, o, vm.DiskKeys()[0]
}

func (c *caller) changeID(s types.ManagedObjectReference, key int32) string {
	c.t.Helper()
	return backing(c.t, c.shot(s).Config.Hardware.Device, key).ChangeId
}

// TestCBTNeedsStun: switching it on does nothing to a running VM until it is stunned,
// and the snapshot that stuns it has no change ID yet.
func TestCBTNeedsStun(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	key := vm.DiskKeys()[0]
	c.done(o.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
	s := c.snapshot(o, "first")
	if id := c.changeID(s.Self, key); id != "" {
		t.Errorf("change id before the stun: %q", id)
	}
	c.remove(s.Self)
	id := c.changeID(c.snapshot(o, "second").Self, key)
	uuid, seq, ok := strings.Cut(id, "/")
	if !ok || len(uuid) != 47 || seq == "" {
		t.Errorf("change id %q", id)
	}
}

// TestCBTPoweredOffAtOnce: a VM that is off needs no stun.
func TestCBTPoweredOffAtOnce(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}})
	c.done(o.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
	if id := c.changeID(c.snapshot(o, "first").Self, vm.DiskKeys()[0]); id == "" {
		t.Error("no change id")
	}
}

func TestCBTStopsAtCapacity(t *testing.T) {
	c, _, o, key := tracked(t, lab.Options{}, mib)
	s := c.snapshot(o, "s")
	for _, at := range []int64{mib, mib + 1, -1} {
		if _, err := c.changed(o, s.Self, key, at, "*"); !isFault[*types.InvalidArgument](err) {
			t.Errorf("start %d: %v", at, err)
		}
	}
	info, err := c.changed(o, s.Self, key, mib-1, "*")
	must(t, err)
	if info.Length != 1 || len(info.ChangedArea) != 0 {
		t.Errorf("last byte: %+v", info)
	}
}

func TestCBTMoreThan2000Extents(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{CBTBlock: 4096}, 64*mib)
	const n = 4500
	for i := range n {
		must(t, vm.WriteDisk(0, int64(i)*8192, []byte{1}))
	}
	s := c.snapshot(o, "s")
	first, err := c.changed(o, s.Self, key, 0, "*")
	must(t, err)
	if len(first.ChangedArea) != 2000 || first.Length != 1999*8192+4096 {
		t.Fatalf("first answer has %d extents over %d bytes", len(first.ChangedArea), first.Length)
	}
	areas, calls := c.all(o, s.Self, key, 64*mib, "*")
	if len(areas) != n || calls != 3 {
		t.Errorf("%d extents in %d calls", len(areas), calls)
	}
}

func TestCBTRefusesForeignAndFutureIDs(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{}, mib)
	s := c.snapshot(o, "s")
	id := c.changeID(s.Self, key)
	uuid, _, _ := strings.Cut(id, "/")
	for _, bad := range []string{"", "nonsense", uuid, uuid + "/x", uuid + "/0", uuid + "/99", "52 00 00 00 00 00 00 00-00 00 00 00 00 00 00 00/1"} {
		if _, err := c.changed(o, s.Self, key, 0, bad); !isFault[*types.InvalidArgument](err) {
			t.Errorf("change id %q: %v", bad, err)
		}
	}
	if _, err := c.changed(o, s.Self, 4711, 0, "*"); !isFault[*types.InvalidArgument](err) {
		t.Errorf("foreign device: %v", err)
	}
	c.remove(s.Self)
	vm.ResetCBT()
	s = c.snapshot(o, "after reset")
	if _, err := c.changed(o, s.Self, key, 0, id); !isFault[*types.InvalidArgument](err) {
		t.Errorf("change id from before the reset: %v", err)
	}
}

func TestCBTOffAndOnHasNewUUID(t *testing.T) {
	c, _, o, key := tracked(t, lab.Options{}, mib)
	s := c.snapshot(o, "s")
	before, _, _ := strings.Cut(c.changeID(s.Self, key), "/")
	c.remove(s.Self)
	c.done(o.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(false)}))
	s = c.snapshot(o, "s")
	c.remove(s.Self)
	s = c.snapshot(o, "off")
	if id := c.changeID(s.Self, key); id != "" {
		t.Errorf("change id %q while off", id)
	}
	c.remove(s.Self)
	c.track(o)
	after, _, _ := strings.Cut(c.changeID(c.snapshot(o, "s").Self, key), "/")
	if after == "" || after == before {
		t.Errorf("uuid %q then %q", before, after)
	}
}

func TestLoseCBTIsFileFaultUntilReset(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{}, mib)
	s := c.snapshot(o, "s")
	vm.LoseCBT()
	if _, err := c.changed(o, s.Self, key, 0, "*"); !isFault[*types.FileFault](err) {
		t.Errorf("lost map: %v", err)
	}
	vm.ResetCBT()
	c.remove(s.Self)
	_, err := c.changed(o, c.snapshot(o, "s").Self, key, 0, "*")
	must(t, err)
}

func TestLieCBTOmitsOneExtent(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{}, 4*mib)
	for _, at := range []int64{0, mib, 2 * mib} {
		must(t, vm.WriteDisk(0, at, []byte{1}))
	}
	s := c.snapshot(o, "s")
	vm.LieCBT(1)
	lie, err := c.changed(o, s.Self, key, 0, "*")
	must(t, err)
	truth, err := c.changed(o, s.Self, key, 0, "*")
	must(t, err)
	if len(lie.ChangedArea) != 2 || len(truth.ChangedArea) != 3 {
		t.Errorf("%d extents, then %d", len(lie.ChangedArea), len(truth.ChangedArea))
	}
}

// TestChangeIDSeqBackwards: a revert takes the sequence back under the same uuid, and
// it may overtake what a caller has recorded. Then the answer misses what the revert
// undid; only the other leaf file tells.
func TestChangeIDSeqBackwards(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{}, 4*mib)
	user := c.snapshot(o, "the user's own")
	leaf := backing(t, c.props(o).Config.Hardware.Device, key).FileName
	must(t, vm.WriteDisk(0, mib, []byte{1}))
	s := c.snapshot(o, "backup")
	recorded := c.changeID(s.Self, key)
	c.remove(s.Self)
	c.done(o.RevertToSnapshot(c.ctx, user.Self.Value, true))
	if now := backing(t, c.props(o).Config.Hardware.Device, key).FileName; now == leaf {
		t.Errorf("leaf is %s before and after the revert", now)
	}
	s = c.snapshot(o, "backup 2")
	if id := c.changeID(s.Self, key); id != recorded {
		t.Fatalf("sequence after the revert: %q, recorded %q", id, recorded)
	}
	c.remove(s.Self)
	must(t, vm.WriteDisk(0, 3*mib, []byte{1}))
	s = c.snapshot(o, "overtaken")
	info, err := c.changed(o, s.Self, key, 0, recorded)
	must(t, err)
	if len(info.ChangedArea) != 1 || info.ChangedArea[0].Start != 3*mib {
		t.Errorf("areas %+v", info.ChangedArea)
	}
}

func TestDiskExtended(t *testing.T) {
	c, vm, o, key := tracked(t, lab.Options{}, mib)
	s := c.snapshot(o, "s")
	if err := vm.ExtendDisk(0, 2*mib); err == nil {
		t.Error("extended under a snapshot")
	}
	vd := object.VirtualDeviceList(c.props(o).Config.Hardware.Device).FindByKey(key).(*types.VirtualDisk)
	vd.CapacityInKB, vd.CapacityInBytes = 2048, 2*mib
	if err := o.EditDevice(c.ctx, vd); !isFault[*types.InvalidDeviceOperation](err) {
		t.Errorf("edit under a snapshot: %v", err)
	}
	c.remove(s.Self)
	vd = object.VirtualDeviceList(c.props(o).Config.Hardware.Device).FindByKey(key).(*types.VirtualDisk)
	vd.CapacityInKB, vd.CapacityInBytes = 2048, 2*mib
	must(t, o.EditDevice(c.ctx, vd))
	must(t, vm.WriteDisk(0, 2*mib-1, []byte{1}))
	if size, err := vm.DiskSize(0); err != nil || size != 2*mib {
		t.Errorf("size %d %v", size, err)
	}
	s = c.snapshot(o, "s")
	if vd := object.VirtualDeviceList(s.Config.Hardware.Device).FindByKey(key).(*types.VirtualDisk); vd.CapacityInBytes != 2*mib {
		t.Errorf("snapshot has %d bytes", vd.CapacityInBytes)
	}
}

func TestCBTNeedsHardwareVersion7(t *testing.T) {
	c := start(t, lab.Options{})
	_, o := c.add(lab.VMSpec{Name: "old", HardwareVersion: "vmx-04", Disks: []lab.DiskSpec{{Bytes: mib}}})
	if _, err := c.wait(o.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)})); !isFault[*types.NotSupported](err) {
		t.Errorf("hardware version 4: %v", err)
	}
}
