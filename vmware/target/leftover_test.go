package target_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware"
	"holdfast/vmware/lab"
	"holdfast/vmware/leftover"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/target"
	"holdfast/vmware/task"
)

var (
	errKilled = errors.New("killed")
	none      = func(snapshot.Run) bool { return false }
	fast      = task.Retry{Tries: 3, First: time.Millisecond, Limit: 10 * time.Millisecond}
)

// killed restores up to its last step and stops there as kill -9 does: nothing is
// taken back. It returns the VM that is left.
func (b *bench) killed(opt target.Options) vmware.VM {
	b.t.Helper()
	b.keep = true
	_, err := b.restore(opt, func(step string) error {
		if step == "verified" {
			return errKilled
		}
		return nil
	})
	b.keep = false
	if !errors.Is(err, errKilled) {
		b.t.Fatal(err)
	}
	return b.leftover()
}

// leftover is the only VM with a marker.
func (b *bench) leftover() vmware.VM {
	b.t.Helper()
	vms, err := b.session.VMs(b.ctx)
	must(b.t, err)
	found, err := leftover.Find(b.ctx, b.session.Client(), vms, leftover.Options{Host: "h", Alive: none})
	must(b.t, err)
	if len(found) != 1 {
		b.t.Fatalf("%d VMs have a marker: %+v", len(found), found)
	}
	return found[0].VM
}

func (b *bench) clean(opt vmware.CleanupOptions) vmware.Cleaned {
	b.t.Helper()
	if opt.Host == "" {
		opt.Host = "h"
	}
	opt.Retry = fast
	done, err := b.session.Cleanup(b.ctx, opt)
	must(b.t, err)
	if len(done) != 1 || done[0].Kind != leftover.KindVM {
		b.t.Fatalf("cleanup found %+v", done)
	}
	return done[0]
}

func (b *bench) rename(vm vmware.VM, name string) {
	b.t.Helper()
	res, err := methods.Rename_Task(b.ctx, b.session.Client(), &types.Rename_Task{This: vm.Ref, NewName: name})
	must(b.t, err)
	_, err = task.Wait(b.ctx, b.session.Client(), res.Returnval)
	must(b.t, err)
}

// settings are a VM's advanced settings.
func (b *bench) settings(ref types.ManagedObjectReference) map[string]string {
	b.t.Helper()
	var m mo.VirtualMachine
	must(b.t, property.DefaultCollector(b.session.Client()).RetrieveOne(b.ctx, ref, []string{"config.extraConfig"}, &m))
	out := map[string]string{}
	for _, s := range m.Config.ExtraConfig {
		o := s.GetOptionValue()
		out[o.Key] = fmt.Sprint(o.Value)
	}
	return out
}

// TestNothingHasTheNameBeforeItIsVerified at any step, and what is being restored
// says whose it is. Afterwards nothing tells of the restore any more.
func TestNothingHasTheNameBeforeItIsVerified(t *testing.T) {
	b := newBench(t)
	steps := 0
	_, err := b.restore(target.Options{Name: "new"}, func(step string) error {
		steps++
		if b.lab.VM("new") != nil {
			return fmt.Errorf("%s: there is a VM of that name already", step)
		}
		vm := b.leftover()
		m, ours := leftover.ParseMarker(b.settings(vm.Ref)[leftover.Key])
		if !ours || m.Name != "new" || m.Run.ID != "r1" || m.Point != "p1" || m.Created.IsZero() || vm.Name != "new-holdfast-r1" {
			return fmt.Errorf("%s: %s says %+v", step, vm.Name, m)
		}
		return nil
	})
	must(t, err)
	if steps != 4 {
		t.Fatalf("looked %d times", steps)
	}
	s := b.settings(b.find("new").Ref)
	if _, marked := s[leftover.Key]; marked || s["answer"] != "42" || s["nvram"] == "" {
		t.Errorf("the restored VM has the settings %v", s)
	}
	if n := b.lab.Counts().Calls["Rename_Task"]; n != 0 {
		t.Errorf("name and marker did not change in one step: %d renames", n)
	}
}

func TestRestoreOfADeadRunIsRemovedByCleanup(t *testing.T) {
	b := newBench(t)
	left := b.killed(target.Options{Name: "new"})
	before := b.names()
	f := b.clean(vmware.CleanupOptions{Alive: none, DryRun: true})
	if f.Removed || f.VM != left.Name || f.Restores != "new" || b.names() != before {
		t.Fatalf("dry run: %+v; VMs are %s", f, b.names())
	}
	if f = b.clean(vmware.CleanupOptions{Alive: none}); !f.Removed || b.names() != "web01" {
		t.Fatalf("%+v; VMs are %s", f, b.names())
	}
	b.same("web01")
}

// TestCleanupSparesRestoresThatMayLive by the rules that it has for snapshots.
func TestCleanupSparesRestoresThatMayLive(t *testing.T) {
	b := newBench(t)
	b.killed(target.Options{Name: "new"})
	before := b.names()
	for what, opt := range map[string]vmware.CleanupOptions{
		"alive":                           {Alive: func(r snapshot.Run) bool { return r.ID == "r1" }},
		"of another machine":              {Host: "elsewhere", Alive: none},
		"of another machine, and younger": {Host: "elsewhere", Alive: none, OlderThan: time.Hour},
	} {
		if f := b.clean(opt); f.Removed || f.Reason == "" || b.names() != before {
			t.Fatalf("%s: %+v; VMs are %s", what, f, b.names())
		}
	}
	if f := b.clean(vmware.CleanupOptions{Host: "elsewhere", Alive: none, OlderThan: time.Nanosecond}); !f.Removed || b.names() != "web01" {
		t.Fatalf("of another machine, and older: %+v; VMs are %s", f, b.names())
	}
}

func TestAdoptedRestoreIsNeverRemoved(t *testing.T) {
	for what, adopt := range map[string]func(*bench, vmware.VM){
		"started": func(b *bench, vm vmware.VM) { must(b.t, b.lab.VM(vm.Name).PowerOn()) },
		"renamed": func(b *bench, vm vmware.VM) { b.rename(vm, "mine") },
		"given another's disk": func(b *bench, vm vmware.VM) {
			must(b.t, b.vm.PowerOff())
			d := &types.VirtualDisk{}
			unit := int32(5)
			d.Key, d.ControllerKey, d.UnitNumber = -1, 1000, &unit
			backing := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent"}
			backing.FileName = b.find("web01").Disks[0].File
			d.Backing = backing
			must(b.t, b.session.Reconfigure(b.ctx, vm.Ref, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
				&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d},
			}}))
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			adopt(b, b.killed(target.Options{Name: "new"}))
			before := b.names()
			f := b.clean(vmware.CleanupOptions{Alive: none, Host: "h"})
			if f.Removed || f.Reason == "" || b.names() != before {
				t.Fatalf("%+v; VMs are %s", f, b.names())
			}
			_, err := b.restore(target.Options{Name: "other", Alive: none, Run: snapshot.Run{Host: "h", ID: "r2"}})
			must(t, err)
			b.leftover() // still there
		})
	}
}

// TestNextRestoreRemovesWhatADeadOneLeft and gets its identity, which that one had.
func TestNextRestoreRemovesWhatADeadOneLeft(t *testing.T) {
	b := newBench(t)
	old := b.find("web01")
	b.delete()
	b.killed(target.Options{})
	next := target.Options{Alive: none, Run: snapshot.Run{Host: "h", ID: "r2"}}
	plan, err := target.New(b.session, next).Plan(b.ctx, b.point)
	must(t, err)
	must(t, plan.Err())
	if len(plan.Removes) != 1 || plan.UUID != old.InstanceUUID || !plan.Cards[0].Kept || b.names() != "web01-holdfast-r1" {
		t.Fatalf("%+v; VMs are %s", plan, b.names())
	}
	_, err = b.restore(next)
	must(t, err)
	if vm := b.find("web01"); b.names() != "web01" || vm.InstanceUUID != old.InstanceUUID || vm.BiosUUID != old.BiosUUID {
		t.Fatalf("VMs are %s, %+v", b.names(), vm)
	}
	b.same("web01")
}

// TestLeftoverThatCannotBeRemovedStopsNoRestore: the new VM gets another identity.
func TestLeftoverThatCannotBeRemovedStopsNoRestore(t *testing.T) {
	b := newBench(t)
	old := b.find("web01")
	b.delete()
	b.killed(target.Options{})
	b.lab.FailSOAP(lab.SOAPFault{Method: "Destroy_Task", Count: -1, Fault: &types.NoPermission{}})
	_, err := b.restore(target.Options{Alive: none, Run: snapshot.Run{Host: "h", ID: "r2"}})
	must(t, err)
	if vm := b.find("web01"); b.names() != "web01 web01-holdfast-r1" || vm.InstanceUUID == old.InstanceUUID {
		t.Fatalf("VMs are %s, %+v", b.names(), vm)
	}
}

// TestRestoreInTheMakingIsNobodysOriginal, though it has the identity already.
func TestRestoreInTheMakingIsNobodysOriginal(t *testing.T) {
	b := newBench(t)
	b.delete()
	making := b.killed(target.Options{})
	alive := func(snapshot.Run) bool { return true }
	_, err := b.restore(target.Options{To: target.ToOriginal, Alive: alive, Run: snapshot.Run{Host: "h", ID: "r2"}})
	must(t, err)
	if b.names() != "web01 web01-holdfast-r1" || b.leftover().Ref != making.Ref {
		t.Fatalf("VMs are %s", b.names())
	}
}

// TestNameTakenDuringTheRestoreIsAnHonestFailure in whatever folder, unless it may
// be replaced.
func TestNameTakenDuringTheRestoreIsAnHonestFailure(t *testing.T) {
	for _, c := range []struct {
		folder    string
		overwrite bool
	}{{"", false}, {"team", false}, {"", true}, {"team", true}} {
		b := newBench(t)
		_, err := b.restore(target.Options{Name: "new", Overwrite: c.overwrite}, func(step string) error {
			if step == "verified" {
				_, err := b.lab.AddVM(lab.VMSpec{Name: "new", Folder: c.folder})
				return err
			}
			return nil
		})
		if c.overwrite {
			must(t, err)
			b.same("new")
			if b.names() != "new new-old web01" {
				t.Fatalf("VMs are %s", b.names())
			}
			continue
		}
		if !errors.Is(err, target.ErrExists) || b.names() != "new web01" || len(b.find("new").Disks) != 0 {
			t.Fatalf("%v; VMs are %s", err, b.names())
		}
	}
}

// The server finds the name taken after we found it free.
func TestNameTakenInTheLastMomentIsAnHonestFailure(t *testing.T) {
	b := newBench(t)
	b.lab.FailSOAP(lab.SOAPFault{Method: "ReconfigVM_Task", Fault: &types.DuplicateName{Name: "new"}})
	if _, err := b.restore(target.Options{Name: "new"}); !errors.Is(err, target.ErrExists) || b.names() != "web01" {
		t.Fatalf("%v; VMs are %s", err, b.names())
	}
}

func TestOldVMStartedDuringTheRestoreIsNotReplaced(t *testing.T) {
	b := newBench(t)
	must(t, b.vm.PowerOff())
	_, err := b.restore(target.Options{Overwrite: true}, func(step string) error {
		if step == "verified" {
			return b.vm.PowerOn()
		}
		return nil
	})
	if !errors.Is(err, target.ErrRunning) || b.names() != "web01" || b.find("web01").Power != "poweredOn" {
		t.Fatalf("%v; VMs are %s", err, b.names())
	}
}

// TestKillBetweenTheRenamesIsPutRight: the old VM is aside, the new one not yet in
// its place. Cleanup, or the next restore, gives the old one its name back.
func TestKillBetweenTheRenamesIsPutRight(t *testing.T) {
	for _, next := range []bool{false, true} {
		b := newBench(t)
		must(t, b.vm.PowerOff())
		b.keep = true
		b.lab.FailSOAP(lab.SOAPFault{Method: "ReconfigVM_Task", Skip: 1, Fault: &types.NoPermission{}})
		if _, err := b.restore(target.Options{Overwrite: true}); err == nil {
			t.Fatal("no error")
		}
		b.keep = false
		if b.names() != "web01-holdfast-r1 web01-old" {
			t.Fatalf("VMs are %s", b.names())
		}
		if !next {
			if f := b.clean(vmware.CleanupOptions{Alive: none}); !f.Removed || b.names() != "web01" || b.find("web01").Ref != b.vm.Ref() {
				t.Fatalf("%+v; VMs are %s", f, b.names())
			}
			continue
		}
		_, err := b.restore(target.Options{Overwrite: true, Alive: none, Run: snapshot.Run{Host: "h", ID: "r2"}})
		must(t, err)
		if b.names() != "web01 web01-old" || b.find("web01-old").Ref != b.vm.Ref() {
			t.Fatalf("VMs are %s", b.names())
		}
	}
}

// TestLongNamesAreRestored: the working name is cut, not the VM's own.
func TestLongNamesAreRestored(t *testing.T) {
	b := newBench(t)
	long := strings.Repeat("ü", 35) + strings.Repeat("x", 45)
	_, err := b.restore(target.Options{Name: long}, func(string) error {
		if n := len(b.leftover().Name); n > leftover.MaxName {
			return fmt.Errorf("the working name has %d bytes", n)
		}
		return nil
	})
	must(t, err)
	b.same(long)
	_, err = b.restore(target.Options{Name: long, Overwrite: true, Run: snapshot.Run{Host: "h", ID: "r2"}})
	must(t, err)
	if len(b.find(long).Disks) != 2 || len(strings.Fields(b.names())) != 3 {
		t.Fatalf("VMs are %s", b.names())
	}
	if _, err := b.restore(target.Options{Name: long + "x"}); !errors.Is(err, target.ErrName) {
		t.Fatalf("a name that vCenter does not take: %v", err)
	}
}

// TestNameOfAFolderIsRefusedBeforeAnythingIsSent: vCenter would refuse it last.
func TestNameOfAFolderIsRefusedBeforeAnythingIsSent(t *testing.T) {
	b := newBench(t)
	_, err := b.lab.AddVM(lab.VMSpec{Name: "inside", Folder: "team"})
	must(t, err)
	plan, err := target.New(b.session, target.Options{Name: "team", Run: snapshot.Run{ID: "r"}}).Plan(b.ctx, b.point)
	must(t, err)
	if !errors.Is(plan.Err(), target.ErrName) {
		t.Fatalf("got %v", plan.Err())
	}
}

// TestMarkerIsNotBackedUp: a backup of a VM that is being restored makes no point
// whose restore would be taken for a leftover.
func TestMarkerIsNotBackedUp(t *testing.T) {
	b := newBench(t)
	left := b.killed(target.Options{Name: "new"})
	b.vm = b.lab.VM(left.Name)
	b.back()
	_, err := b.restore(target.Options{Name: "again", Run: snapshot.Run{Host: "h", ID: "r2"}})
	must(t, err)
	if _, marked := b.settings(b.find("again").Ref)[leftover.Key]; marked {
		t.Error("the restored VM carries a marker")
	}
}

// TestOldVMThatCannotBeDeletedIsTold: the restore is done, but not all that was
// asked for, and the operator must hear what is left under which name.
func TestOldVMThatCannotBeDeletedIsTold(t *testing.T) {
	b := newBench(t)
	must(t, b.vm.PowerOff())
	b.lab.FailSOAP(lab.SOAPFault{Method: "Destroy_Task", VM: "web01-replaced-r1", Count: -1, Fault: &types.NoPermission{}})
	var left []string
	_, err := b.restore(target.Options{Overwrite: true, DeleteOld: true, Incomplete: func(reason string) { left = append(left, reason) }})
	must(t, err)
	if len(left) != 1 || !strings.Contains(left[0], "/DC0/vm/web01-replaced-r1") || !strings.Contains(left[0], "NoPermission") {
		t.Errorf("told was %q", left)
	}
	if b.names() != "web01 web01-replaced-r1" || b.find("web01-replaced-r1").Ref != b.vm.Ref() {
		t.Fatalf("VMs are %s", b.names())
	}
	b.same("web01")
}

// TestInterruptAtTheDeletionOfTheOldVMIsTold, before the server heard of it. A
// deletion that has begun is waited for: then nothing is left, and nothing told.
func TestInterruptAtTheDeletionOfTheOldVMIsTold(t *testing.T) {
	for _, begun := range []bool{false, true} {
		b := newBench(t)
		must(t, b.vm.PowerOff())
		ctx, interrupt := context.WithCancel(b.ctx)
		b.ctx = ctx
		b.proxy(&soapProxy{
			before: func(req soap.HasFault) error {
				if _, ok := req.(*methods.Destroy_TaskBody); ok && !begun {
					interrupt()
					return context.Canceled
				}
				return nil
			},
			after: func(res soap.HasFault) {
				if _, ok := res.(*methods.Destroy_TaskBody); ok {
					interrupt()
				}
			},
		})
		var left []string
		_, err := b.restore(target.Options{Overwrite: true, DeleteOld: true, Incomplete: func(reason string) { left = append(left, reason) }})
		must(t, err)
		want := "web01 web01-replaced-r1"
		if begun {
			want = "web01"
		}
		if got := b.names(); got != want || len(left) != len(strings.Fields(want))-1 {
			t.Fatalf("begun %v: VMs are %s, told was %q", begun, got, left)
		}
		if !begun && !strings.Contains(left[0], "/DC0/vm/web01-replaced-r1") {
			t.Errorf("told was %q", left)
		}
	}
}

// TestOldVMThatSomebodyElseDeletedIsNoWarning: what is gone is not left.
func TestOldVMThatSomebodyElseDeletedIsNoWarning(t *testing.T) {
	b := newBench(t)
	must(t, b.vm.PowerOff())
	deleted := false
	b.proxy(&soapProxy{before: func(req soap.HasFault) error {
		if _, ok := req.(*methods.Destroy_TaskBody); ok && !deleted {
			deleted = true
			b.delete()
		}
		return nil
	}})
	var left []string
	_, err := b.restore(target.Options{Overwrite: true, DeleteOld: true, Incomplete: func(reason string) { left = append(left, reason) }})
	must(t, err)
	if b.names() != "web01" || len(left) != 0 {
		t.Fatalf("VMs are %s, told was %q", b.names(), left)
	}
}

// TestLostSessionOfAnUploadIsAnHonestFailure: the lease went with the session and
// nobody can end it. What it keeps from being removed is named, and not waited for.
func TestLostSessionOfAnUploadIsAnHonestFailure(t *testing.T) {
	b := newBench(t)
	_, err := b.restore(target.Options{Name: "new", Retry: task.Retry{Tries: 50}}, func(step string) error {
		if step == "created" {
			b.lab.ExpireSessions()
		}
		return nil
	})
	if !errors.Is(err, leftover.ErrLeft) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{`"new-holdfast-r1"`, "within minutes", "vm cleanup", "next restore"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	if n := b.lab.Counts().Calls["Destroy_Task"]; n < 2 || n > 3 {
		t.Errorf("the removal was tried %d times", n)
	}
	if b.leftover().Name != "new-holdfast-r1" || b.names() != "new-holdfast-r1 web01" {
		t.Errorf("VMs are %s", b.names())
	}
	// Another restore to the name need not wait either.
	_, err = b.restore(target.Options{Name: "new", Alive: none, Run: snapshot.Run{Host: "h", ID: "r2"}})
	must(t, err)
	b.same("new")
}

// TestBusyVMIsWaitedForWhenTheLeaseIsThere: only a lost lease makes that futile.
func TestBusyVMIsWaitedForWhenTheLeaseIsThere(t *testing.T) {
	b := newBench(t)
	b.lab.FailSOAP(lab.SOAPFault{Method: "Destroy_Task", Count: 10, Fault: &types.TaskInProgress{}})
	broken := errors.New("broken")
	_, err := b.restore(target.Options{Name: "new", Retry: task.Retry{Tries: 20}}, func(step string) error {
		if step == "verified" {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || errors.Is(err, leftover.ErrLeft) || b.names() != "web01" {
		t.Fatalf("%v; VMs are %s", err, b.names())
	}
}
