package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"go.uber.org/goleak"

	"holdfast/vmware/lab"
)

func TestFolderNeedsSession(t *testing.T) {
	c := start(t, lab.Options{})
	c.add(lab.VMSpec{Name: "vm"})
	if code, _ := c.http("GET", "[datastore1] vm/vm.vmx", "", nil); code != 200 {
		t.Errorf("with session: %d", code)
	}
	u := object.NewDatastoreURL(*c.lab.URL(), lab.Datacenter, lab.Datastore1, "vm/vm.vmx")
	get := func(cookie *http.Cookie) int {
		req, err := http.NewRequestWithContext(c.ctx, "GET", u.String(), nil)
		must(t, err)
		if cookie != nil {
			req.AddCookie(cookie)
		}
		code, _ := do(t, req)
		return code
	}
	if code := get(nil); code != 401 {
		t.Errorf("without a cookie: %d", code)
	}
	if code := get(&http.Cookie{Name: soap.SessionCookieName, Value: "made-up"}); code != 401 {
		t.Errorf("with a made-up cookie: %d", code)
	}
	ticket, err := session.NewManager(c.c.Client).AcquireGenericServiceTicket(c.ctx, &types.SessionManagerHttpServiceRequestSpec{Url: u.String(), Method: "httpGet"})
	must(t, err)
	k := &http.Cookie{Name: "vmware_cgi_ticket", Value: ticket.Id}
	if first, second := get(k), get(k); first != 200 || second != 401 {
		t.Errorf("ticket: %d, then %d", first, second)
	}
	ticket, err = session.NewManager(c.c.Client).AcquireGenericServiceTicket(c.ctx, &types.SessionManagerHttpServiceRequestSpec{Url: u.String() + "x", Method: "httpGet"})
	must(t, err)
	if code := get(&http.Cookie{Name: "vmware_cgi_ticket", Value: ticket.Id}); code != 401 {
		t.Errorf("ticket for another file: %d", code)
	}
	s, err := session.NewManager(c.c.Client).UserSession(c.ctx)
	must(t, err)
	if s == nil || s.UserName != c.lab.User() {
		t.Errorf("session after tickets: %+v", s)
	}
}

func TestFolderMethods(t *testing.T) {
	c := start(t, lab.Options{})
	c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	const file = "[datastore1] vm/extra.bin"
	want := fill(3000, 1)
	for _, step := range []struct {
		method, path, rng string
		body              []byte
		code              int
		answer            []byte
	}{
		{"GET", file, "", nil, 404, nil},
		{"PUT", file, "", want, 201, nil},
		{"GET", file, "", nil, 200, want},
		{"GET", file, "bytes=100-199", nil, 206, want[100:200]},
		{"GET", file, "bytes=2900-", nil, 206, want[2900:]},
		{"GET", file, "bytes=9000-9001", nil, 416, nil},
		{"HEAD", file, "", nil, 200, []byte{}},
		{"PUT", file, "", want[:10], 200, nil},
		{"POST", file, "", want, 409, nil},
		{"DELETE", file, "", nil, 204, nil},
		{"DELETE", file, "", nil, 404, nil},
		{"PUT", "[datastore1] no such directory/x", "", want, 404, nil},
		{"GET", "[no such datastore] x", "", nil, 404, nil},
		{"GET", "[datastore1] vm", "", nil, 404, nil},
		{"HEAD", "[datastore1] vm/vm-flat.vmdk", "", nil, 500, nil},
		{"PUT", "[datastore1] vm/vm-flat.vmdk", "", want, 500, nil},
		{"DELETE", "[datastore1] vm/vm-flat.vmdk", "", nil, 500, nil},
		{"GET", "[datastore1] vm/vm.vmdk", "", nil, 200, nil},
	} {
		code, got := c.http(step.method, step.path, step.rng, bytes.NewReader(step.body))
		if code != step.code || step.answer != nil && !bytes.Equal(got, step.answer) {
			t.Errorf("%s %s %s: %d with %d bytes, want %d", step.method, step.path, step.rng, code, len(got), step.code)
		}
	}
	if n := c.lab.Counts().Served[file]; n != 3000+100+100 {
		t.Errorf("%d bytes counted", n)
	}
}

func TestFolderPowerStateIsTheLock(t *testing.T) {
	c := start(t, lab.Options{})
	vm, _ := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	must(t, vm.WriteDisk(0, 5, []byte("hello")))
	if code, _ := c.http("GET", "[datastore1] vm/vm-flat.vmdk", "", nil); code != 500 {
		t.Errorf("powered on: %d", code)
	}
	must(t, vm.PowerOff())
	code, got := c.http("GET", "[datastore1] vm/vm-flat.vmdk", "bytes=5-9", nil)
	if code != 206 || string(got) != "hello" {
		t.Errorf("powered off: %d %q", code, got)
	}
}

// TestNamesWithPlusPercentSpaceUnicode: what a name needs in the inventory, in a
// datastore path and in a URL are three things.
func TestNamesWithPlusPercentSpaceUnicode(t *testing.T) {
	c := start(t, lab.Options{Datastores: []string{"datastore 1+ü%"}})
	for _, name := range []string{"a+b", "50% off", "two words", "Bäckerei ☃", "slash/back\\slash", "q'uote\"d", "a&b=c?d#e"} {
		t.Run(name, func(t *testing.T) {
			vm, o := c.add(lab.VMSpec{Name: name, Disks: []lab.DiskSpec{{Bytes: mib}}})
			must(t, vm.WriteDisk(0, 0, []byte(name)))
			m := c.props(o)
			escaped := strings.NewReplacer("%", "%25", "/", "%2f", "\\", "%5c").Replace(name)
			if m.Name != escaped || c.lab.VM(name) != vm || c.lab.VM(m.Name) != vm {
				t.Errorf("inventory name %q", m.Name)
			}
			found, err := find.NewFinder(c.c.Client).VirtualMachineList(c.ctx, "/DC0/vm/*")
			must(t, err)
			if !slices.ContainsFunc(found, func(f *object.VirtualMachine) bool { return f.Reference() == vm.Ref() }) {
				t.Error("not in the inventory")
			}
			for _, f := range m.LayoutEx.File {
				if code, _ := c.http("GET", f.Name, "", nil); code != 200 {
					t.Errorf("%s answers %d", f.Name, code)
				}
			}
			code, got := c.http("GET", flat(backing(t, m.Config.Hardware.Device, vm.DiskKeys()[0]).FileName), fmt.Sprintf("bytes=0-%d", len(name)-1), nil)
			if code != 206 || string(got) != name {
				t.Errorf("flat: %d %q", code, got)
			}
			s := c.snapshot(o, "s")
			c.remove(s.Self)
			c.done(o.Destroy(c.ctx))
		})
	}
}

func TestSessionExpires(t *testing.T) {
	now := time.Now()
	c := start(t, lab.Options{SessionTimeout: 10 * time.Minute, Now: func() time.Time { return now }})
	_, o := c.add(lab.VMSpec{Name: "vm"})
	step := func(d time.Duration) error {
		now = now.Add(d)
		_, err := o.PowerState(c.ctx)
		return err
	}
	must(t, step(9*time.Minute))
	must(t, step(9*time.Minute))
	now = now.Add(9 * time.Minute)
	if code, _ := c.http("GET", "[datastore1] vm/vm.vmx", "", nil); code != 200 {
		t.Errorf("file door after 9 minutes: %d", code)
	}
	now = now.Add(2 * time.Minute) // reading files kept nothing alive
	if code, _ := c.http("GET", "[datastore1] vm/vm.vmx", "", nil); code != 401 {
		t.Errorf("file door after 11 minutes: %d", code)
	}
	if err := step(0); !isFault[*types.NotAuthenticated](err) {
		t.Errorf("call after 11 minutes: %v", err)
	}
	if n := c.lab.Counts().Sessions; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestExpireSessionsAndLogout(t *testing.T) {
	c := start(t, lab.Options{})
	_, o := c.add(lab.VMSpec{Name: "vm"})
	c.lab.ExpireSessions()
	if _, err := o.PowerState(c.ctx); !isFault[*types.NotAuthenticated](err) {
		t.Errorf("after ExpireSessions: %v", err)
	}
	again, err := login(c.ctx, c.lab, c.lab.User(), c.lab.Password())
	must(t, err)
	if n := c.lab.Counts().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
	must(t, again.Logout(c.ctx))
	if n := c.lab.Counts().Sessions; n != 0 {
		t.Errorf("%d sessions after logout", n)
	}
}

func TestSOAPFaultsOnDemand(t *testing.T) {
	c := start(t, lab.Options{})
	_, a := c.add(lab.VMSpec{Name: "a", Disks: []lab.DiskSpec{{Bytes: mib}}})
	_, b := c.add(lab.VMSpec{Name: "b", Disks: []lab.DiskSpec{{Bytes: mib}}})
	c.lab.FailSOAP(lab.SOAPFault{Method: "CreateSnapshot_Task", VM: "a", Skip: 1, Fault: &types.ResourceInUse{}})
	c.snapshot(a, "skipped")
	c.snapshot(b, "another VM")
	if _, err := a.CreateSnapshot(c.ctx, "due", "", false, false); !isFault[*types.ResourceInUse](err) {
		t.Errorf("due: %v", err)
	}
	s := c.snapshot(a, "over")
	c.lab.FailSOAP(lab.SOAPFault{Method: "RemoveSnapshot_Task", InTask: true, Count: 2, Fault: &types.FileLocked{}})
	for range 2 {
		res, err := methods.RemoveSnapshot_Task(c.ctx, c.c.Client, &types.RemoveSnapshot_Task{This: s.Self})
		must(t, err)
		if _, err := c.wait(object.NewTask(c.c.Client, res.Returnval), nil); !isFault[*types.FileLocked](err) {
			t.Errorf("in task: %v", err)
		}
	}
	c.remove(s.Self)
	if n := c.lab.Counts().Calls["RemoveSnapshot_Task"]; n != 3 {
		t.Errorf("%d calls counted", n)
	}
}

func TestHTTPFaultsOnDemand(t *testing.T) {
	c := start(t, lab.Options{})
	vm, _ := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}})
	must(t, vm.WriteDisk(0, 0, fill(mib, 1)))
	want := content(t, vm, 0)
	get := func() (int, []byte) {
		return c.http("GET", "[datastore1] vm/vm-flat.vmdk", "bytes=1000-1999", nil)
	}
	for _, tc := range []struct {
		name  string
		fault lab.HTTPFault
		code  int
		bytes []byte
	}{
		{"status", lab.HTTPFault{Path: "-flat.vmdk", Status: 503}, 503, nil},
		{"cut", lab.HTTPFault{Path: "-flat.vmdk", CutAfter: 300}, -206, want[1000:1300]},
		{"short", lab.HTTPFault{Path: "-flat.vmdk", Short: 1}, 206, want[1000:1999]},
		{"range ignored", lab.HTTPFault{Method: "GET", IgnoreRange: true}, 200, want},
		{"delay", lab.HTTPFault{Delay: time.Millisecond}, 206, want[1000:2000]},
	} {
		c.lab.FailHTTP(tc.fault)
		if code, got := get(); code != tc.code || tc.bytes != nil && !bytes.Equal(got, tc.bytes) {
			t.Errorf("%s: %d with %d bytes", tc.name, code, len(got))
		}
		if code, got := get(); code != 206 || !bytes.Equal(got, want[1000:2000]) {
			t.Errorf("after %s: %d", tc.name, code)
		}
	}
	c.lab.SetFreeSpace(lab.Datastore1, 100)
	if code, _ := c.http("PUT", "[datastore1] vm/big", "", bytes.NewReader(want)); code != 507 {
		t.Errorf("full datastore: %d", code)
	}
}

// TestAttachRestoredDisk is a single disk's way back: create it, fill it through the
// file door, attach it.
func TestAttachRestoredDisk(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	dc, err := find.NewFinder(c.c.Client).Datacenter(c.ctx, lab.Datacenter)
	must(t, err)
	const name = "[datastore1] vm/restored.vmdk"
	c.done(object.NewVirtualDiskManager(c.c.Client).CreateVirtualDisk(c.ctx, name, dc, &types.FileBackedVirtualDiskSpec{
		VirtualDiskSpec: types.VirtualDiskSpec{DiskType: "thin", AdapterType: "lsiLogic"}, CapacityKb: 2048}))
	want := fill(2*mib, 5)
	clear(want[mib : mib+500_000])
	if code, _ := c.http("PUT", flat(name), "", bytes.NewReader(want)); code != 200 {
		t.Fatalf("put: %d", code)
	}
	devices, err := o.Device(c.ctx)
	must(t, err)
	ctl, err := devices.FindDiskController("")
	must(t, err)
	short := devices.CreateDisk(ctl, types.ManagedObjectReference{}, name)
	short.CapacityInKB = 1024
	short.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Datastore = nil
	if err := o.AddDevice(c.ctx, short); err == nil {
		t.Error("attached with another capacity")
	}
	must(t, o.AddDevice(c.ctx, devices.CreateDisk(ctl, types.ManagedObjectReference{}, name)))
	if got := content(t, vm, 1); !bytes.Equal(got, want) {
		t.Error("attached disk has other content")
	}
	if code, _ := c.http("GET", flat(name), "", nil); code != 500 {
		t.Errorf("attached to a running VM: %d", code)
	}
	s := c.snapshot(o, "s")
	if b := backing(t, s.Config.Hardware.Device, vm.DiskKeys()[1]); b.FileName != name {
		t.Errorf("snapshot's backing %s", b.FileName)
	}
}

func TestDatastoreFileManager(t *testing.T) {
	c := start(t, lab.Options{})
	dc, err := find.NewFinder(c.c.Client).Datacenter(c.ctx, lab.Datacenter)
	must(t, err)
	fm := object.NewFileManager(c.c.Client)
	must(t, fm.MakeDirectory(c.ctx, "[datastore2] restore", dc, false))
	if code, _ := c.http("PUT", "[datastore2] restore/vm.nvram", "", strings.NewReader("nvram")); code != 201 {
		t.Fatal(code)
	}
	ds, err := find.NewFinder(c.c.Client).SetDatacenter(dc).Datastore(c.ctx, lab.Datastore2)
	must(t, err)
	b, err := ds.Browser(c.ctx)
	must(t, err)
	info, err := c.wait(b.SearchDatastore(c.ctx, "[datastore2] restore", &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}, Details: &types.FileQueryFlags{FileSize: true}}))
	must(t, err)
	if files := info.Result.(types.HostDatastoreBrowserSearchResults).File; len(files) != 1 || files[0].GetFileInfo().FileSize != 5 {
		t.Errorf("search: %+v", files)
	}
	c.done(fm.DeleteDatastoreFile(c.ctx, "[datastore2] restore", dc))
	if code, _ := c.http("GET", "[datastore2] restore/vm.nvram", "", nil); code != 404 {
		t.Errorf("after deletion: %d", code)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	l, err := lab.Start(context.Background(), lab.Options{Dir: dir})
	must(t, err)
	_, err = l.AddVM(lab.VMSpec{Name: "vm", Disks: []lab.DiskSpec{{Bytes: mib}}, PoweredOn: true})
	must(t, err)
	env := l.Env()
	for _, k := range []string{"URL", "USER", "PASSWORD", "THUMBPRINT"} {
		if env["HOLDFAST_VCENTER_"+k] == "" {
			t.Errorf("no %s in %v", k, env)
		}
	}
	c, err := login(t.Context(), l, l.User(), l.Password())
	must(t, err)
	_, err = find.NewFinder(c.Client).VirtualMachineList(t.Context(), "*")
	must(t, err)
	l.Close()
	l.Close()
	c.CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if left := entries(t, dir); len(left) != 0 {
		t.Errorf("left in the directory: %v", left)
	}
	if _, err := lab.Start(context.Background(), lab.Options{Listen: "256.0.0.1:1"}); err == nil {
		t.Error("listening on an impossible address")
	}
}

// TestHugeSparseDisk: a disk of 1 TiB costs what was written to it.
func TestHugeSparseDisk(t *testing.T) {
	c := start(t, lab.Options{})
	const tib = 1 << 40
	vm, o := c.add(lab.VMSpec{Name: "vm", CBT: true, Disks: []lab.DiskSpec{{Bytes: tib}}, PoweredOn: true})
	must(t, vm.WriteDisk(0, tib-5000, fill(5000, 1)))
	must(t, vm.WriteDisk(0, 1<<39, fill(5000, 2)))
	s := c.snapshot(o, "s")
	must(t, vm.WriteDisk(0, tib-4000, fill(4000, 3)))
	areas, calls := c.all(o, s.Self, vm.DiskKeys()[0], tib, "*")
	if len(areas) != 2 || calls != 1 {
		t.Errorf("%d areas in %d calls", len(areas), calls)
	}
	code, got := c.http("GET", "[datastore1] vm/vm-flat.vmdk", fmt.Sprintf("bytes=%d-", tib-5000), nil)
	if code != 206 || !bytes.Equal(got, fill(5000, 1)) {
		t.Errorf("end of the disk: %d", code)
	}
	_, info := c.export(s.Self)
	if code, data := transfer(t, "GET", info.Items[0].URL.String(), nil); code != 200 || len(data) > 2*mib {
		t.Errorf("export: %d with %d bytes", code, len(data))
	}
	c.remove(s.Self)
}
