package lab_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
	"holdfast/vmware/vmdk"
)

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func (c *caller) export(s types.ManagedObjectReference) (*nfc.Lease, *nfc.LeaseInfo) {
	c.t.Helper()
	res, err := methods.ExportSnapshot(c.ctx, c.c.Client, &types.ExportSnapshot{This: s})
	must(c.t, err)
	l := nfc.NewLease(c.c.Client, res.Returnval)
	info, err := l.Wait(c.ctx, nil)
	must(c.t, err)
	return l, info
}

func transfer(t *testing.T, method, u string, body io.Reader) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u, body)
	must(t, err)
	return do(t, req)
}

func TestExportIsARealDisk(t *testing.T) {
	qemu := part(t, "qemu-img")
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: 8 * mib}, {Bytes: 3*mib + 3584*2}}, PoweredOn: true})
	must(t, vm.WriteDisk(0, 100_000, fill(mib, 1)))
	must(t, vm.WriteDisk(1, 3*mib, fill(5000, 2)))
	want := [][]byte{content(t, vm, 0), content(t, vm, 1)}
	s := c.snapshot(o, "s")
	must(t, vm.WriteDisk(0, 0, fill(4*mib, 3)))
	l, info := c.export(s.Self)
	dir := t.TempDir()
	disks := 0
	for _, item := range info.Items {
		code, data := transfer(t, "GET", item.URL.String(), nil)
		if code != 200 {
			t.Fatalf("%s: %d", item.URL, code)
		}
		if filepath.Ext(item.Path) != ".vmdk" {
			continue
		}
		raw, sparse := filepath.Join(dir, fmt.Sprint(disks, ".raw")), filepath.Join(dir, fmt.Sprint(disks, ".vmdk"))
		must(t, os.WriteFile(raw, want[disks], 0o600))
		must(t, os.WriteFile(sparse, data, 0o600))
		if out, err := exec.CommandContext(c.ctx, qemu, "compare", "-f", "raw", "-F", "vmdk", raw, sparse).CombinedOutput(); err != nil {
			t.Errorf("disk %d: %s", disks, out)
		}
		disks++
	}
	if disks != 2 {
		t.Errorf("%d disks", disks)
	}
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.PowerOn(c.ctx); !isFault[*types.TaskInProgress](err) {
		t.Errorf("power on under a lease: %v", err)
	}
	must(t, l.Complete(c.ctx))
	if code, _ := transfer(t, "GET", info.Items[0].URL.String(), nil); code != 404 {
		t.Errorf("after the lease: %d", code)
	}
	must(t, vm.PowerOn())
}

func TestLeaseTimesOutWithoutProgress(t *testing.T) {
	c := start(t, lab.Options{LeaseTimeout: 300 * time.Millisecond})
	_, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}})
	l, info := c.export(c.snapshot(o, "s").Self)
	must(t, l.Progress(c.ctx, 1))
	var state types.HttpNfcLeaseState
	must(t, property.Wait(c.ctx, property.DefaultCollector(c.c.Client), l.Reference(), []string{"state"}, func(pc []types.PropertyChange) bool {
		for _, p := range pc {
			if s, ok := p.Val.(types.HttpNfcLeaseState); ok {
				state = s
			}
		}
		return state == types.HttpNfcLeaseStateError
	}))
	if err := l.Progress(c.ctx, 2); err == nil {
		t.Error("progress after the end")
	}
	if code, _ := transfer(t, "GET", info.Items[0].URL.String(), nil); code != 404 {
		t.Errorf("after the end: %d", code)
	}
}

func importSpec(disks ...int64) *types.VirtualMachineImportSpec {
	var devices object.VirtualDeviceList
	scsi, _ := devices.CreateSCSIController("pvscsi")
	devices = append(devices, scsi)
	for i, size := range disks {
		d := &types.VirtualDisk{CapacityInKB: size >> 10}
		d.Key, d.ControllerKey, d.UnitNumber = int32(-10-i), scsi.GetVirtualDevice().Key, types.NewInt32(int32(i))
		d.Backing = &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", ThinProvisioned: types.NewBool(true)}
		devices = append(devices, d)
	}
	cs := types.VirtualMachineConfigSpec{Name: "re/stored", GuestId: "otherGuest64", NumCPUs: 1, MemoryMB: 128,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[datastore2]"}}
	cs.DeviceChange, _ = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	return &types.VirtualMachineImportSpec{ConfigSpec: cs}
}

func (c *caller) imports(spec *types.VirtualMachineImportSpec) (*nfc.Lease, *nfc.LeaseInfo, error) {
	c.t.Helper()
	f := find.NewFinder(c.c.Client)
	pool, err := f.ResourcePool(c.ctx, lab.ResourcePool)
	must(c.t, err)
	folder, err := f.Folder(c.ctx, "/DC0/vm")
	must(c.t, err)
	l, err := pool.ImportVApp(c.ctx, spec, folder, nil)
	must(c.t, err)
	info, err := l.Wait(c.ctx, nil)
	return l, info, err
}

func stream(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := vmdk.WriteStream(t.Context(), &b, bytes.NewReader(data), int64(len(data)), vmdk.StreamOptions{})
	must(t, err)
	return b.Bytes()
}

func TestImportStoresWhatIsPosted(t *testing.T) {
	c := start(t, lab.Options{})
	want := [][]byte{fill(2*mib, 1), fill(mib+1024, 2)}
	clear(want[0][300_000:900_000])
	l, info, err := c.imports(importSpec(2*mib, mib+1024))
	must(t, err)
	var m mo.HttpNfcLease
	must(t, property.DefaultCollector(c.c.Client).RetrieveOne(c.ctx, l.Reference(), []string{"info"}, &m))
	if k := m.Info.DeviceUrl[1].ImportKey; k != "/re%2fstored/ParaVirtualSCSIController0:1" {
		t.Errorf("import key %q", k)
	}
	for i, item := range info.Items {
		body := io.MultiReader(bytes.NewReader(stream(t, want[i]))) // no length: chunked
		if code, msg := transfer(t, "POST", item.URL.String(), body); code != 201 {
			t.Fatalf("post: %d %s", code, msg)
		}
	}
	vm := c.lab.VM("re/stored")
	if vm == nil {
		t.Fatal("no VM")
	}
	o := object.NewVirtualMachine(c.c.Client, vm.Ref())
	if _, err := o.PowerOn(c.ctx); !isFault[*types.TaskInProgress](err) {
		t.Errorf("power on under the lease: %v", err)
	}
	must(t, l.Complete(c.ctx))
	for i := range want {
		if !bytes.Equal(content(t, vm, i), want[i]) {
			t.Errorf("disk %d differs", i)
		}
	}
	if code, _ := c.http("PUT", vm.Home()+"/re%2fstored.nvram", "", bytes.NewReader([]byte("NV"))); code != 200 {
		t.Errorf("nvram: %d", code)
	}
	must(t, vm.PowerOn())
}

func TestImportGoneAfterBadStreamAbortAndTimeout(t *testing.T) {
	c := start(t, lab.Options{LeaseTimeout: 10 * time.Second})
	good := stream(t, fill(mib, 1))
	for name, body := range map[string][]byte{
		"truncated": good[:len(good)-1024], "garbage": fill(4096, 9), "too large": stream(t, fill(2*mib, 1)), "too small": stream(t, fill(mib/2, 1)), "empty": {},
	} {
		l, info, err := c.imports(importSpec(mib))
		must(t, err)
		if code, _ := transfer(t, "POST", info.Items[0].URL.String(), bytes.NewReader(body)); code != 500 {
			t.Errorf("%s: %d", name, code)
		}
		var m mo.HttpNfcLease
		must(t, property.DefaultCollector(c.c.Client).RetrieveOne(c.ctx, l.Reference(), []string{"state", "error"}, &m))
		if m.State != types.HttpNfcLeaseStateError || m.Error == nil || c.lab.VM("re/stored") != nil {
			t.Errorf("%s: lease is %s, VM %v", name, m.State, c.lab.VM("re/stored"))
		}
	}
	l, _, err := c.imports(importSpec(mib))
	must(t, err)
	must(t, l.Abort(c.ctx, nil))
	if c.lab.VM("re/stored") != nil {
		t.Error("aborted import left the VM")
	}
	c.lab.FailHTTP(lab.HTTPFault{Path: "/nfc/", CutAfter: 1000})
	_, info, err := c.imports(importSpec(mib))
	must(t, err)
	req, err := http.NewRequestWithContext(c.ctx, "POST", info.Items[0].URL.String(), bytes.NewReader(good))
	must(t, err)
	if resp, err := (&http.Client{Transport: insecure()}).Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("cut upload went through")
	}
	c.lab.SetFreeSpace(lab.Datastore2, 100_000)
	l, info, err = c.imports(importSpec2(mib))
	must(t, err)
	if code, _ := transfer(t, "POST", info.Items[0].URL.String(), bytes.NewReader(good)); code != 500 {
		t.Errorf("full: %d", code)
	}
	var m mo.HttpNfcLease
	must(t, property.DefaultCollector(c.c.Client).RetrieveOne(c.ctx, l.Reference(), []string{"error"}, &m))
	if _, ok := m.Error.Fault.(*types.NoDiskSpace); !ok {
		t.Errorf("full: %T", m.Error.Fault)
	}
}

func importSpec2(disks ...int64) *types.VirtualMachineImportSpec {
	s := importSpec(disks...)
	s.ConfigSpec.Name = "second"
	return s
}

func TestImportRefusals(t *testing.T) {
	c := start(t, lab.Options{})
	c.add(lab.VMSpec{Name: "re/stored"})
	if _, _, err := c.imports(importSpec(mib)); !isFault[*types.DuplicateName](err) {
		t.Errorf("same name: %v", err)
	}
	s := importSpec2(mib)
	s.ConfigSpec.Files.VmPathName = "[elsewhere]"
	if _, _, err := c.imports(s); !isFault[*types.InvalidDatastore](err) {
		t.Errorf("unknown datastore: %v", err)
	}
	s = importSpec2(mib)
	card := &types.VirtualVmxnet3{}
	card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "nowhere"}}
	s.ConfigSpec.DeviceChange = append(s.ConfigSpec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: "add", Device: card})
	if _, _, err := c.imports(s); !isFault[*types.InvalidDeviceBacking](err) {
		t.Errorf("unknown network: %v", err)
	}
	c.lab.FailSOAP(lab.SOAPFault{Method: "ImportVApp", InTask: true, Fault: &types.InsufficientStorageSpace{}})
	if _, _, err := c.imports(importSpec2(mib)); !isFault[*types.InsufficientStorageSpace](err) {
		t.Errorf("fault on demand: %v", err)
	}
	l, _, err := c.imports(importSpec2(mib))
	must(t, err)
	must(t, l.Abort(c.ctx, nil))
}

// TestAbortedImportLeavesNoDirectory: the directories of the VM and of its disks are
// deleted with it, as on a host, but not what somebody else put there.
func TestAbortedImportLeavesNoDirectory(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		dir := t.TempDir()
		c := start(t, lab.Options{Dir: dir})
		spec := importSpec(mib, mib)
		config := &spec.ConfigSpec
		config.Name = "new"
		for _, change := range config.DeviceChange {
			if d, ok := change.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok && *d.UnitNumber == 1 {
				d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName = "[datastore1]"
			}
		}
		l, _, err := c.imports(spec)
		must(t, err)
		if got := fmt.Sprint(entries(t, filepath.Join(dir, "datastore1")), entries(t, filepath.Join(dir, "datastore2"))); got != "[new] [new]" {
			t.Fatalf("the import made %s", got)
		}
		if foreign {
			must(t, os.WriteFile(filepath.Join(dir, "datastore2", "new", "notes.txt"), nil, 0o600))
		}
		must(t, l.Abort(c.ctx, nil))
		want := "[] []"
		if foreign {
			want = "[] [new]"
		}
		if got := fmt.Sprint(entries(t, filepath.Join(dir, "datastore1")), entries(t, filepath.Join(dir, "datastore2"))); got != want {
			t.Errorf("foreign file %v: %s is left, want %s", foreign, got, want)
		}
	}
}

func TestNameOfAnotherVMIsRefused(t *testing.T) {
	c := start(t, lab.Options{})
	_, a := c.add(lab.VMSpec{Name: "a"})
	c.add(lab.VMSpec{Name: "b"})
	if _, err := c.wait(a.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{Name: "b"})); !isFault[*types.DuplicateName](err) {
		t.Errorf("the name of another: %v", err)
	}
	for _, name := range []string{"a", "c"} {
		c.done(a.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{Name: name}))
	}
	if c.lab.VM("c") == nil || c.lab.VM("a") != nil {
		t.Errorf("the VMs are %v", c.lab.VMs())
	}
}
