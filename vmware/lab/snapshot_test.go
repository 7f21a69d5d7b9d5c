package lab_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
)

// part skips a test without a real part, or fails when parts are demanded.
func part(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err == nil {
		return p
	}
	if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func TestSnapshotFreezesWhileGuestWrites(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: 2 * mib}}, PoweredOn: true})
	key := vm.DiskKeys()[0]
	must(t, vm.WriteDisk(0, 0, fill(2*mib, 1)))
	before := content(t, vm, 0)
	s := c.snapshot(o, "s")
	must(t, vm.WriteDisk(0, 1000, fill(mib, 2)))
	frozen := backing(t, s.Config.Hardware.Device, key)
	live := backing(t, c.props(o).Config.Hardware.Device, key)
	if live.FileName != "[datastore1] vm/vm-000001.vmdk" || live.Parent == nil || live.Parent.FileName != frozen.FileName {
		t.Fatalf("live backing %+v", live)
	}
	if code, got := c.http("GET", flat(frozen.FileName), "", nil); code != 200 || !bytes.Equal(got, before) {
		t.Errorf("frozen file answers %d with other content", code)
	}
	if code, _ := c.http("GET", "[datastore1] vm/vm-000001-sesparse.vmdk", "", nil); code != 500 {
		t.Errorf("live delta answers %d", code)
	}
	now := content(t, vm, 0)
	c.remove(s.Self)
	if !bytes.Equal(content(t, vm, 0), now) {
		t.Error("consolidation changed the content")
	}
	if code, _ := c.http("GET", "[datastore1] vm/vm-000001.vmdk", "", nil); code != 404 {
		t.Errorf("delta still there: %d", code)
	}
}

// TestNestedChainReadByQemu: the files of a chain are real, a stranger reads them.
func TestNestedChainReadByQemu(t *testing.T) {
	qemu := part(t, "qemu-img")
	dir := t.TempDir()
	c := start(t, lab.Options{Dir: dir})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: 8 * mib}}, PoweredOn: true})
	for i := range 3 {
		must(t, vm.WriteDisk(0, int64(i)*mib+77, fill(2*mib, uint64(i))))
		c.snapshot(o, fmt.Sprint(i))
	}
	want := filepath.Join(dir, "want.raw")
	must(t, os.WriteFile(want, content(t, vm, 0), 0o600))
	leaf := filepath.Join(dir, lab.Datastore1, "vm", "vm-000003.vmdk")
	if out, err := exec.CommandContext(c.ctx, qemu, "compare", "-U", "-f", "raw", "-F", "vmdk", want, leaf).CombinedOutput(); err != nil {
		t.Errorf("qemu-img compare: %s", out)
	}
}

func TestRevertRestoresContent(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	must(t, vm.WriteDisk(0, 0, fill(mib, 1)))
	before := content(t, vm, 0)
	s := c.snapshot(o, "s")
	must(t, vm.WriteDisk(0, 0, fill(mib, 2)))
	c.done(o.RevertToSnapshot(c.ctx, s.Self.Value, true))
	if !bytes.Equal(content(t, vm, 0), before) {
		t.Error("content differs after the revert")
	}
	m := c.props(o)
	if m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		t.Error("a snapshot without memory reverts to a stopped VM")
	}
	if m.Snapshot.CurrentSnapshot == nil || *m.Snapshot.CurrentSnapshot != s.Self {
		t.Error("current snapshot is another")
	}
}

func TestSnapshotTree(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	a := c.snapshot(o, "a")
	must(t, vm.WriteDisk(0, 0, fill(5000, 1)))
	b := c.snapshot(o, "b")
	must(t, vm.WriteDisk(0, 100_000, fill(5000, 2)))
	c.done(o.RevertToSnapshot(c.ctx, a.Self.Value, true))
	d := c.snapshot(o, "d") // a has two children now
	must(t, vm.WriteDisk(0, 200_000, fill(5000, 3)))
	now := content(t, vm, 0)
	m := c.props(o)
	if n := len(m.Snapshot.RootSnapshotList[0].ChildSnapshotList); n != 2 {
		t.Fatalf("a has %d children", n)
	}
	c.remove(a.Self)
	c.remove(b.Self)
	if !bytes.Equal(content(t, vm, 0), now) {
		t.Error("removing others changed the content")
	}
	c.remove(d.Self)
	m = c.props(o)
	if m.Snapshot != nil || len(m.RootSnapshot) != 0 || !bytes.Equal(content(t, vm, 0), now) {
		t.Errorf("after the last removal: %+v", m.Snapshot)
	}
	if b := backing(t, m.Config.Hardware.Device, vm.DiskKeys()[0]); b.Parent != nil {
		t.Errorf("disk still has a parent: %s", b.FileName)
	}
}

func TestSnapshotDepthLimit(t *testing.T) {
	c := start(t, lab.Options{})
	_, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}})
	for i := range 32 {
		c.snapshot(o, fmt.Sprint(i))
	}
	if _, err := c.wait(o.CreateSnapshot(c.ctx, "33", "", false, false)); !isFault[*types.TooManySnapshotLevels](err) {
		t.Errorf("33rd snapshot: %v", err)
	}
	c.done(o.RemoveAllSnapshot(c.ctx, types.NewBool(true)))
	if m := c.props(o); m.Snapshot != nil {
		t.Error("snapshots left")
	}
}

func (c *caller) quiesced(o *object.VirtualMachine, spec types.BaseVirtualMachineGuestQuiesceSpec) (types.VirtualMachineSnapshotTree, error) {
	c.t.Helper()
	res, err := methods.CreateSnapshotEx_Task(c.ctx, c.c.Client, &types.CreateSnapshotEx_Task{This: o.Reference(), Name: "q", QuiesceSpec: spec})
	if err != nil {
		return types.VirtualMachineSnapshotTree{}, err
	}
	if _, err = c.wait(object.NewTask(c.c.Client, res.Returnval), nil); err != nil {
		return types.VirtualMachineSnapshotTree{}, err
	}
	return c.props(o).Snapshot.RootSnapshotList[0], nil
}

// TestManifestTellsAppFromFS: what quiescing reached is in the VSS manifest, and
// nowhere else.
func TestManifestTellsAppFromFS(t *testing.T) {
	share := &types.VirtualMachineWindowsQuiesceSpec{VssBackupContext: "ctx_file_share_backup"}
	auto := &types.VirtualMachineWindowsQuiesceSpec{VssBackupContext: "ctx_auto", VssBackupType: 5}
	for _, tc := range []struct {
		name     string
		spec     lab.VMSpec
		wish     types.BaseVirtualMachineGuestQuiesceSpec
		quiesced bool
		docs     int
	}{
		{"application", lab.VMSpec{VSS: lab.ApplicationVSS, PoweredOn: true}, auto, true, 3},
		{"application asked for files", lab.VMSpec{VSS: lab.ApplicationVSS, PoweredOn: true}, share, true, 1},
		{"file system", lab.VMSpec{VSS: lab.FileSystemVSS, PoweredOn: true}, auto, true, 1},
		{"linux", lab.VMSpec{PoweredOn: true}, &types.VirtualMachineGuestQuiesceSpec{Timeout: 15}, true, 0},
		{"powered off", lab.VMSpec{VSS: lab.ApplicationVSS}, auto, false, 0},
		{"no tools", lab.VMSpec{VSS: lab.ApplicationVSS, PoweredOn: true, Tools: lab.ToolsNotRunning}, auto, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t, lab.Options{})
			tc.spec.Name, tc.spec.Disks = "vm", []lab.DiskSpec{{Bytes: mib}}
			vm, o := c.add(tc.spec)
			must(t, vm.WriteDisk(0, 0, fill(1000, 1)))
			tree, err := c.quiesced(o, tc.wish)
			must(t, err)
			if tree.Quiesced != tc.quiesced || (tree.BackupManifest != "") != (tc.docs > 0) {
				t.Fatalf("quiesced %v, manifest %q", tree.Quiesced, tree.BackupManifest)
			}
			if tc.docs == 0 {
				return
			}
			code, data := c.http("GET", c.props(o).Config.Files.SnapshotDirectory+"/"+tree.BackupManifest, "", nil)
			z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil || len(z.File) != tc.docs {
				t.Fatalf("manifest: %d, %v", code, err)
			}
			chain := backing(t, c.shot(tree.Snapshot).Config.Hardware.Device, vm.DiskKeys()[0])
			if second := chain.Parent != nil; second != (tc.docs == 3) {
				t.Errorf("snapshot's backing is %s", chain.FileName)
			}
			now := content(t, vm, 0)
			c.remove(tree.Snapshot)
			if !bytes.Equal(content(t, vm, 0), now) || backing(t, c.props(o).Config.Hardware.Device, vm.DiskKeys()[0]).Parent != nil {
				t.Error("removal left something")
			}
		})
	}
}

func TestQuiesceFaultsOnDemand(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true, VSS: lab.ApplicationVSS})
	vm.FailQuiesce(1, &types.ApplicationQuiesceFault{})
	vm.FailQuiesce(1, &types.FilesystemQuiesceFault{})
	spec := &types.VirtualMachineGuestQuiesceSpec{}
	if _, err := c.quiesced(o, spec); !isFault[*types.ApplicationQuiesceFault](err) {
		t.Errorf("first: %v", err)
	}
	if _, err := c.quiesced(o, spec); !isFault[*types.FilesystemQuiesceFault](err) {
		t.Errorf("second: %v", err)
	}
	if c.props(o).Snapshot != nil {
		t.Error("a failed snapshot is there")
	}
	_, err := c.quiesced(o, spec)
	must(t, err)
	if _, err := c.quiesced(o, &types.VirtualMachineGuestQuiesceSpec{Timeout: 3}); !isFault[*types.InvalidArgument](err) {
		t.Errorf("timeout of 3 minutes: %v", err)
	}
}

func TestTaskInProgress(t *testing.T) {
	c := start(t, lab.Options{})
	_, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	entered, release := c.lab.Hold("CreateSnapshot_Task")
	task, err := o.CreateSnapshot(c.ctx, "slow", "", false, false)
	must(t, err)
	<-entered
	if _, err := o.CreateSnapshot(c.ctx, "second", "", false, false); !isFault[*types.TaskInProgress](err) {
		t.Errorf("second snapshot: %v", err)
	}
	release()
	must(t, task.Wait(c.ctx))
	c.snapshot(o, "third")
}

func TestConsolidationNeeded(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	s := c.snapshot(o, "s")
	must(t, vm.WriteDisk(0, 0, fill(1000, 1)))
	now := content(t, vm, 0)
	vm.FailConsolidation(1)
	c.remove(s.Self)
	m := c.props(o)
	if m.Snapshot != nil || !m.Runtime.ConsolidationNeeded {
		t.Fatalf("after the removal: %+v", m.Runtime.ConsolidationNeeded)
	}
	if b := backing(t, m.Config.Hardware.Device, vm.DiskKeys()[0]); b.Parent == nil {
		t.Error("disk was merged")
	}
	res, err := methods.ConsolidateVMDisks_Task(c.ctx, c.c.Client, &types.ConsolidateVMDisks_Task{This: o.Reference()})
	must(t, err)
	c.done(object.NewTask(c.c.Client, res.Returnval), nil)
	m = c.props(o)
	if m.Runtime.ConsolidationNeeded || backing(t, m.Config.Hardware.Device, vm.DiskKeys()[0]).Parent != nil || !bytes.Equal(now, content(t, vm, 0)) {
		t.Error("not consolidated")
	}
}

func TestIndependentAndRawDisksStayOut(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", PoweredOn: true, CBT: true, Disks: []lab.DiskSpec{
		{Bytes: mib}, {Bytes: mib, Independent: true}, {Bytes: mib, RDM: "physical"}, {Bytes: mib, RDM: "virtual"}}})
	must(t, vm.WriteDisk(1, 0, fill(1000, 1)))
	s := c.snapshot(o, "s")
	keys := vm.DiskKeys()
	if b := backing(t, c.props(o).Config.Hardware.Device, keys[1]); b.Parent != nil || b.DiskMode != "independent_persistent" {
		t.Errorf("independent disk %+v", b)
	}
	for _, k := range []int32{keys[1], keys[2]} {
		if _, err := c.changed(o, s.Self, k, 0, "*"); !isFault[*types.FileFault](err) {
			t.Errorf("disk %d: %v", k, err)
		}
	}
	raw := object.VirtualDeviceList(s.Config.Hardware.Device).FindByKey(keys[3]).(*types.VirtualDisk).Backing.(*types.VirtualDiskRawDiskMappingVer1BackingInfo)
	if raw.ChangeId == "" {
		t.Error("virtual raw disk has no change id")
	}
	for _, d := range c.props(o).LayoutEx.Disk[2:] {
		for _, u := range d.Chain {
			if len(u.FileKey) > 1 {
				t.Errorf("raw disk %d lists an extent", d.Key)
			}
		}
	}
}

func TestSnapshotNeedsRoom(t *testing.T) {
	c := start(t, lab.Options{})
	_, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}})
	c.lab.SetFreeSpace(lab.Datastore1, 1000)
	if _, err := c.wait(o.CreateSnapshot(c.ctx, "s", "", false, false)); !isFault[*types.NoDiskSpace](err) {
		t.Errorf("snapshot on a full datastore: %v", err)
	}
	c.lab.ClearFaults()
	c.snapshot(o, "s")
}

func TestDestroyRemovesEveryFile(t *testing.T) {
	dir := t.TempDir()
	c := start(t, lab.Options{Dir: dir})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}, {Bytes: mib, Datastore: lab.Datastore2}}, PoweredOn: true})
	c.snapshot(o, "s")
	if _, err := c.wait(o.Destroy(c.ctx)); !isFault[*types.InvalidPowerState](err) {
		t.Errorf("destroy of a running VM: %v", err)
	}
	must(t, vm.PowerOff())
	c.done(o.Destroy(c.ctx))
	var left []string
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			left = append(left, p)
		}
		return nil
	})
	if len(left) != 0 {
		t.Errorf("files left: %s", strings.Join(left, " "))
	}
}
