package vmware_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/lab"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
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
	for i, d := range full.Disks() {
		same(t, d.Name, b.saved[full.ID][d.Name], frozen[i])
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

// The laboratory answers at most three areas at a time, and with a fault when
// asked at the capacity.
func TestCBTInManyAnswers(t *testing.T) {
	b := newBench(t, lab.Options{MaxExtents: 3})
	vm, found := b.web01()
	full := b.backup(found, nil)
	for i := range 20 {
		b.write(vm, 0, int64(i)*300*kib, 100)
	}
	b.write(vm, 0, 8*mib-512, 512)
	p := b.backup(found, full)
	mode(t, p, recovery.ReadCBT, cbt.Use)
	b.equal(p, vm, 0)
}

// What happened to the VM between two backups, and the rule that must notice.
func TestDoubtsReadEverything(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		do         func(b *bench, vm *lab.VM, found vmware.VM)
	}{
		{"TestCBTReset", cbt.OtherUUID, func(_ *bench, vm *lab.VM, _ vmware.VM) { vm.ResetCBT() }},
		{"TestMapDamaged", cbt.QueryFault, func(_ *bench, vm *lab.VM, _ vmware.VM) { vm.LoseCBT() }},
		{"TestDiskExtended", cbt.Resized, func(b *bench, vm *lab.VM, _ vmware.VM) {
			must(b.t, vm.ExtendDisk(0, 9*mib))
			must(b.t, vm.ExtendDisk(1, 5*mib))
		}},
		{"TestUserSnapshotTaken", cbt.Chain, func(b *bench, _ *lab.VM, found vmware.VM) { b.userSnapshot(found) }},
		{"TestOwnReset", cbt.OtherUUID, func(b *bench, _ *lab.VM, found vmware.VM) {
			must(b.t, b.session.CBTReset(b.ctx, found, vmware.CBTOptions{Run: b.options().Run, Retry: fast}))
		}},
		{"TestCallFaulted", cbt.QueryFault, func(b *bench, _ *lab.VM, _ vmware.VM) {
			b.lab.FailSOAP(lab.SOAPFault{Method: "QueryChangedDiskAreas", Count: -1, Fault: &types.InvalidArgument{InvalidProperty: "changeId"}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, lab.Options{})
			b.t = t
			vm, found := b.web01()
			full := b.backup(found, nil)
			c.do(b, vm, found)
			b.write(vm, 0, mib, 5000)
			p := b.backup(found, full)
			for _, d := range p.Disks() {
				if d.Rule != c.rule || d.ReadMode == recovery.ReadCBT {
					t.Fatalf("%s: %s by %s (%s)", d.Name, d.ReadMode, d.Rule, d.Reason)
				}
			}
			b.equal(p, vm, 0)
			b.equal(p, vm, 1)
		})
	}
}

// userSnapshot is taken by an administrator.
func (b *bench) userSnapshot(vm vmware.VM) types.ManagedObjectReference {
	b.t.Helper()
	res, err := methods.CreateSnapshot_Task(b.ctx, b.session.Client(), &types.CreateSnapshot_Task{This: vm.Ref, Name: "before update"})
	must(b.t, err)
	ref, err := task.Wait(b.ctx, b.session.Client(), res.Returnval)
	must(b.t, err)
	return ref.(types.ManagedObjectReference)
}

func (b *bench) revert(ref types.ManagedObjectReference) {
	b.t.Helper()
	res, err := methods.RevertToSnapshot_Task(b.ctx, b.session.Client(), &types.RevertToSnapshot_Task{This: ref})
	must(b.t, err)
	_, err = task.Wait(b.ctx, b.session.Client(), res.Returnval)
	must(b.t, err)
}

// After a revert the map goes on from the snapshot's sequence under the same
// uuid. When other snapshots let it overtake the parent's, only the files and
// the lineage still tell.
func TestRevertWithOvertakenSequence(t *testing.T) {
	for _, overtake := range []int{0, 6} {
		b := newBench(t, lab.Options{})
		vm, found := b.web01()
		b.backup(found, nil)
		users := b.userSnapshot(found)
		b.write(vm, 0, 3*mib, 9000)
		parent := b.backup(found, nil) // knows what the revert will undo
		b.equal(parent, vm, 0)
		must(t, vm.PowerOff())
		b.revert(users)
		for range overtake {
			ref := b.userSnapshot(found)
			must(t, snapshot.VM{Client: b.session.Client(), Ref: found.Ref, Retry: fast, Log: b.options().Log}.Remove(b.ctx, ref))
		}
		p := b.backup(found, parent)
		b.equal(p, vm, 0)
		for _, d := range p.Disks() {
			if d.ReadMode == recovery.ReadCBT {
				t.Fatalf("overtaken by %d: a reverted disk was read by its map", overtake)
			}
			if overtake > 0 && d.Rule != cbt.Chain && d.Rule != cbt.Lineage {
				t.Fatalf("rule %s (%s)", d.Rule, d.Reason)
			}
		}
	}
}

func TestForeignSnapshotStaysAndTrackingGoesOn(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	b.backup(found, nil)
	b.userSnapshot(found)
	first := b.backup(found, nil)
	if !strings.Contains(strings.Join(first.Warnings, "\n"), "before update") {
		t.Fatalf("no word about the user's snapshot: %v", first.Warnings)
	}
	b.write(vm, 0, 4*mib, 9000)
	second := b.backup(found, first)
	mode(t, second, recovery.ReadCBT, cbt.Use)
	b.equal(second, vm, 0)
	if now := b.find("web01"); len(now.Snapshots) != 1 || now.Snapshots[0].Name != "before update" {
		t.Fatalf("snapshots are %+v", now.Snapshots)
	}
	for _, d := range second.Disks() {
		a, err := cbt.ParseAttrs(d.Attrs)
		must(t, err)
		if a.Transport != disk.HTTPS || len(a.Snapshot) != 2 {
			t.Fatalf("a chain of two was read by %s: %v", a.Transport, a.Snapshot)
		}
	}
}

func TestChangeIDNil(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	off := func(o *vmware.SourceOptions) { o.CBT = cbt.Off }
	p := b.backup(found, nil, off)
	mode(t, p, recovery.ReadFull, cbt.PolicyOff)
	if b.find("web01").CBT {
		t.Fatal("--cbt off touched the configuration")
	}
	next := b.backup(found, p) // enables tracking; the parent has no change id
	mode(t, next, recovery.ReadAllocated, cbt.ParentNil)
	b.equal(next, vm, 0)
	mode(t, b.backup(found, next), recovery.ReadCBT, cbt.Use)
}

func TestCBTRequired(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	require := func(o *vmware.SourceOptions) { o.CBT = cbt.Require }
	first := b.backup(found, nil, require)
	vm.ResetCBT()
	opt := b.options()
	require(&opt)
	if _, err := b.try(b.ctx, found, first, opt, nil); !errors.Is(err, cbt.ErrRequired) {
		t.Fatalf("got %v", err)
	}
	b.clean(found)
}

func TestTrackingNotEnabledUnderASnapshot(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.userSnapshot(found)
	mode(t, b.backup(found, nil), recovery.ReadFull, cbt.NoParent)
	if b.find("web01").CBT {
		t.Fatal("tracking was enabled while the VM had a snapshot")
	}
}

func TestFullOnDemand(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	first := b.backup(found, nil)
	mode(t, b.backup(found, first, func(o *vmware.SourceOptions) { o.Full = true }), recovery.ReadAllocated, cbt.AskedFull)
}

func TestIndependentDiskExcludedAndReported(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01(func(s *lab.VMSpec) {
		s.Disks = append(s.Disks, lab.DiskSpec{Bytes: mib * 4, Independent: true}, lab.DiskSpec{Bytes: 4 * mib, RDM: "physical"})
	})
	p := b.backup(found, nil)
	if len(p.Disks()) != 2 || len(p.Tags) != 1 {
		t.Fatalf("%d disks, tags %v", len(p.Disks()), p.Tags)
	}
	text := strings.Join(p.Warnings, "\n")
	if !strings.Contains(text, "independent disk") || !strings.Contains(text, "physical mode") {
		t.Fatalf("warnings are %q", text)
	}
	a, err := vmware.ParseVMAttrs(p.Attrs)
	must(t, err)
	if len(a.LeftOut) != 2 {
		t.Fatalf("left out: %v", a.LeftOut)
	}
	b.equal(p, vm, 0)
}

func TestDiskExcludedOnDemandIsNoDowngrade(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	p := b.backup(found, nil, func(o *vmware.SourceOptions) { o.ExcludeDisks = []string{found.Disks[1].Label} })
	if len(p.Disks()) != 1 || len(p.Tags) != 0 {
		t.Fatalf("%d disks, %v", len(p.Disks()), p.Tags)
	}
}

func TestDiskAddedAndRemoved(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	one := b.backup(found, nil, func(o *vmware.SourceOptions) { o.ExcludeDisks = []string{found.Disks[1].Label} })
	two := b.backup(found, one)
	if d := two.Disks(); d[0].ReadMode != recovery.ReadCBT || d[1].Rule != cbt.NewDisk {
		t.Fatalf("%s %s", d[0].Rule, d[1].Rule)
	}
	b.equal(two, vm, 1)
}

func TestNamesWithPlusPercentSpaceUnicode(t *testing.T) {
	b := newBench(t, lab.Options{})
	for _, name := range []string{"a+b", "100% sure", "ünï cödé 機", "a/b\\c", "sp ace"} {
		vm, err := b.lab.AddVM(lab.VMSpec{Name: name, Folder: "x + y", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
		must(t, err)
		b.write(vm, 0, 1000, 5000)
		found := b.find(name)
		if found.Name != name || found.Path != "/DC0/vm/x + y/"+name {
			t.Fatalf("%q is %q at %q", name, found.Name, found.Path)
		}
		p := b.backup(found, nil)
		b.equal(p, vm, 0)
		if p.Source != "vm/"+name || p.Item(vmware.ItemNVRAM) == nil || p.Item(vmware.ItemVMX) == nil {
			t.Fatalf("%q: %s, items %d, %v", name, p.Source, len(p.Items), p.Warnings)
		}
		b.clean(found)
	}
}

func TestExportTransport(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	p := b.backup(found, nil, func(o *vmware.SourceOptions) { o.Transport = disk.Export })
	b.equal(p, vm, 0)
	b.equal(p, vm, 1)
	b.clean(found)
	if n := b.lab.Counts().Requests["GET /nfc"]; n != 2 {
		t.Fatalf("%d downloads", n)
	}
}

// A virtual RDM has no extent to fetch: auto exports it, https refuses.
func TestTransportFallsBackToExport(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01(func(s *lab.VMSpec) { s.Disks[1].RDM = "virtual" })
	p := b.backup(found, nil)
	b.equal(p, vm, 1)
	a, err := cbt.ParseAttrs(p.Disks()[1].Attrs)
	must(t, err)
	if a.Transport != disk.Export || a.Why == "" {
		t.Fatalf("%+v", a)
	}
	for _, asked := range []string{disk.HTTPS, disk.NBD} {
		opt := b.options()
		opt.Transport = asked
		if _, err := b.try(b.ctx, found, nil, opt, nil); !errors.Is(err, disk.ErrTransport) {
			t.Fatalf("%s: %v", asked, err)
		}
		b.clean(found)
	}
}

func TestSessionExpiresMidDisk(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	p, err := b.try(b.ctx, found, nil, b.options(), func(backup.Frozen) { b.lab.ExpireSessions() })
	must(t, err)
	b.equal(p, vm, 0)
	b.clean(found)
	if n := b.session.Logins(); n != 2 {
		t.Fatalf("%d logins, want 2", n)
	}
	b.lab.ExpireSessions()
	b.equal(b.backup(found, p), vm, 1)
}

// Damage that a network does once is healed by asking again; nothing wrong is
// ever taken for data.
func TestTransferDamage(t *testing.T) {
	for name, f := range map[string]lab.HTTPFault{
		"busy": {Status: 503}, "cut": {CutAfter: 1000}, "short": {Short: 7}, "whole file": {IgnoreRange: true}, "locked": {Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, lab.Options{})
			vm, found := b.web01()
			f.Path, f.Method, f.Count = "-flat.vmdk", "GET", 2
			p, err := b.try(b.ctx, found, nil, b.options(), func(backup.Frozen) { b.lab.FailHTTP(f) })
			must(t, err)
			b.equal(p, vm, 0)

			f.Count = -1
			if _, err := b.try(b.ctx, found, nil, b.options(), func(backup.Frozen) { b.lab.FailHTTP(f) }); err == nil {
				t.Fatal("a damage that stays was not noticed")
			}
			b.clean(found)
		})
	}
}

// kill -9 leaves the snapshot; the next run of this machine finds it by its name.
func TestDeadRunIsCleanedByTheNext(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	parent := b.backup(found, nil)
	opt := b.options()
	_, err := vmware.NewSource(b.session, found, opt).Freeze(b.ctx, parent)
	must(t, err) // and never released
	b.write(vm, 0, mib, 7000)

	alive := b.options()
	alive.Alive = func(r snapshot.Run) bool { return r.ID == opt.Run.ID }
	if _, err := b.try(b.ctx, found, parent, alive, nil); !errors.Is(err, vmware.ErrBusy) {
		t.Fatalf("a living run's VM: %v", err)
	}
	p := b.backup(found, parent)
	mode(t, p, recovery.ReadCBT, cbt.Use)
	b.equal(p, vm, 0)
	b.clean(found)
	if !strings.Contains(strings.Join(p.Warnings, " "), opt.Run.Name()) {
		t.Fatalf("nothing was said: %v", p.Warnings)
	}
}

// TestSnapshotRemovedUnderTheBackupIsNoticed: somebody takes our snapshot away
// while disks are read, so the files that we read move on.
func TestSnapshotRemovedUnderTheBackupIsNoticed(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	frozen, err := vmware.NewSource(b.session, found, b.options()).Freeze(b.ctx, nil)
	must(t, err)
	holder, ok := frozen.(backup.Holder)
	if !ok {
		t.Fatal("a frozen VM does not say whether it holds")
	}
	must(t, holder.Holds(b.ctx))
	_, err = vmware.NewSource(b.session, found, b.options()).Freeze(b.ctx, nil) // takes the first for a dead run's
	must(t, err)
	if err := holder.Holds(b.ctx); err == nil {
		t.Error("the snapshot is gone and nobody noticed")
	}
}

func TestStaleSnapshotCleanupSparesForeign(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.userSnapshot(found)
	other := b.options()
	other.Run.Host = "elsewhere"
	for _, opt := range []vmware.SourceOptions{b.options(), other} {
		_, err := snapshot.VM{Client: b.session.Client(), Ref: found.Ref, Retry: fast, Log: opt.Log}.Take(b.ctx, opt.Run, nil)
		must(t, err)
	}
	done, err := b.session.Cleanup(b.ctx, vmware.CleanupOptions{Host: "tester", Retry: fast})
	must(t, err)
	if len(done) != 2 || !done[0].Removed == !done[1].Removed {
		t.Fatalf("%+v", done)
	}
	var left []string
	for _, s := range b.find("web01").Snapshots {
		left = append(left, s.Name)
	}
	if strings.Join(left, " ") != "before update "+other.Run.Name() {
		t.Fatalf("left are %q", left)
	}
	b.backup(found, nil)
	if n := len(b.find("web01").Snapshots); n != 2 {
		t.Fatalf("%d snapshots are left after a backup", n)
	}
}

func TestConsolidationNeededIsDone(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	b.backup(found, nil)
	vm.FailConsolidation(2)
	b.backup(found, nil)
	var m mo.VirtualMachine
	must(t, property.DefaultCollector(b.session.Client()).RetrieveOne(b.ctx, found.Ref, []string{"runtime"}, &m))
	if m.Runtime.ConsolidationNeeded || b.lab.Counts().Calls["ConsolidateVMDisks_Task"] < 2 {
		t.Fatalf("consolidation needed: %v", m.Runtime.ConsolidationNeeded)
	}
}

func TestTaskInProgressIsTriedAgain(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "CreateSnapshotEx_Task", Count: 2, Fault: &types.TaskInProgress{}})
	b.lab.FailSOAP(lab.SOAPFault{Method: "RemoveSnapshot_Task", Count: 3, Fault: &types.TaskInProgress{}})
	b.backup(found, nil)
	b.clean(found)
}
