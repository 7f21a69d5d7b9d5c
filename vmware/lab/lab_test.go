package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
)

const mib = 1 << 20

// A caller is an honest client: plain govmomi over the network.
type caller struct {
	t   *testing.T
	ctx context.Context
	lab *lab.Lab
	c   *govmomi.Client
}

func start(t *testing.T, opt lab.Options) *caller {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, opt)
	must(t, err)
	t.Cleanup(l.Close)
	c := &caller{t: t, ctx: ctx, lab: l}
	c.c, err = login(ctx, l, l.User(), l.Password())
	must(t, err)
	return c
}

func login(ctx context.Context, l *lab.Lab, user, password string) (*govmomi.Client, error) {
	u := l.URL()
	u.User = url.UserPassword(user, password)
	return govmomi.NewClient(ctx, u, true)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *caller) add(spec lab.VMSpec) (*lab.VM, *object.VirtualMachine) {
	c.t.Helper()
	vm, err := c.lab.AddVM(spec)
	must(c.t, err)
	return vm, object.NewVirtualMachine(c.c.Client, vm.Ref())
}

func (c *caller) props(vm *object.VirtualMachine) mo.VirtualMachine {
	c.t.Helper()
	var m mo.VirtualMachine
	must(c.t, vm.Properties(c.ctx, vm.Reference(), []string{"name", "config", "layoutEx", "snapshot", "runtime", "guest", "rootSnapshot"}, &m))
	return m
}

func (c *caller) wait(task *object.Task, err error) (*types.TaskInfo, error) {
	if err != nil {
		return nil, err
	}
	return task.WaitForResult(c.ctx)
}

func (c *caller) done(task *object.Task, err error) {
	c.t.Helper()
	_, err = c.wait(task, err)
	must(c.t, err)
}

// snapshot takes a snapshot and returns it with its configuration.
func (c *caller) snapshot(vm *object.VirtualMachine, name string) mo.VirtualMachineSnapshot {
	c.t.Helper()
	info, err := c.wait(vm.CreateSnapshot(c.ctx, name, "", false, false))
	must(c.t, err)
	return c.shot(info.Result.(types.ManagedObjectReference))
}

func (c *caller) shot(ref types.ManagedObjectReference) mo.VirtualMachineSnapshot {
	c.t.Helper()
	var s mo.VirtualMachineSnapshot
	must(c.t, property.DefaultCollector(c.c.Client).RetrieveOne(c.ctx, ref, nil, &s))
	return s
}

func (c *caller) remove(ref types.ManagedObjectReference) {
	c.t.Helper()
	res, err := methods.RemoveSnapshot_Task(c.ctx, c.c.Client, &types.RemoveSnapshot_Task{This: ref, Consolidate: types.NewBool(true)})
	must(c.t, err)
	c.done(object.NewTask(c.c.Client, res.Returnval), nil)
}

// track switches change tracking on and goes through the stun that makes it effective.
func (c *caller) track(vm *object.VirtualMachine) {
	c.t.Helper()
	c.done(vm.Reconfigure(c.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
	c.remove(c.snapshot(vm, "stun").Self)
}

func backing(t *testing.T, devices []types.BaseVirtualDevice, key int32) *types.VirtualDiskFlatVer2BackingInfo {
	t.Helper()
	vd, ok := object.VirtualDeviceList(devices).FindByKey(key).(*types.VirtualDisk)
	if !ok {
		t.Fatalf("no disk %d", key)
	}
	return vd.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
}

// changed asks once.
func (c *caller) changed(vm *object.VirtualMachine, shot types.ManagedObjectReference, key int32, start int64, id string) (types.DiskChangeInfo, error) {
	res, err := methods.QueryChangedDiskAreas(c.ctx, c.c.Client, &types.QueryChangedDiskAreas{
		This: vm.Reference(), Snapshot: &shot, DeviceKey: key, StartOffset: start, ChangeId: id})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return res.Returnval, nil
}

// all asks until the capacity, as one must.
func (c *caller) all(vm *object.VirtualMachine, shot types.ManagedObjectReference, key int32, capacity int64, id string) (areas []types.DiskChangeExtent, calls int) {
	c.t.Helper()
	for at := int64(0); at < capacity; calls++ {
		info, err := c.changed(vm, shot, key, at, id)
		must(c.t, err)
		if info.StartOffset != at || info.Length <= 0 {
			c.t.Fatalf("window %+v for start %d", info, at)
		}
		for _, a := range info.ChangedArea {
			if a.Start < at || a.Start+a.Length > at+info.Length {
				c.t.Fatalf("area %+v outside of %d+%d", a, at, info.Length)
			}
		}
		areas = append(areas, info.ChangedArea...)
		at += info.Length
	}
	return areas, calls
}

// http does a request with the session's cookie.
func (c *caller) http(method, dsPath, rng string, body io.Reader) (int, []byte) {
	c.t.Helper()
	var p object.DatastorePath
	p.FromString(dsPath)
	u := object.NewDatastoreURL(*c.lab.URL(), "/"+lab.Datacenter, p.Datastore, p.Path)
	req, err := http.NewRequestWithContext(c.ctx, method, u.String(), body)
	must(c.t, err)
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	for _, k := range c.c.Jar.Cookies(c.lab.URL()) {
		req.AddCookie(k)
	}
	return do(c.t, req)
}

func insecure() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
}

func do(t *testing.T, req *http.Request) (int, []byte) {
	t.Helper()
	resp, err := (&http.Client{Transport: insecure()}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return -resp.StatusCode, b
	}
	return resp.StatusCode, b
}

func fill(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func content(t *testing.T, vm *lab.VM, n int) []byte {
	t.Helper()
	size, err := vm.DiskSize(n)
	must(t, err)
	b := make([]byte, size)
	_, err = vm.ReadDisk(n, b, 0)
	must(t, err)
	return b
}

func isFault[F types.BaseMethodFault](err error) bool {
	var f F
	_, ok := fault.As(err, &f)
	return ok
}

func TestWrongLoginRefused(t *testing.T) {
	c := start(t, lab.Options{})
	for _, p := range [][2]string{{c.lab.User(), "wrong"}, {"nobody", c.lab.Password()}, {"", ""}} {
		_, err := login(c.ctx, c.lab, p[0], p[1])
		if p[0] != "" && !isFault[*types.InvalidLogin](err) {
			t.Errorf("login %q: %v", p, err)
		}
	}
	if c.lab.URL().User != nil {
		t.Error("URL carries secrets")
	}
}

// TestThumbprint: the pinned hash is the served certificate's.
func TestThumbprint(t *testing.T) {
	c := start(t, lab.Options{})
	conn, err := tls.Dial("tcp", c.lab.URL().Host, &tls.Config{InsecureSkipVerify: true})
	must(t, err)
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	long, short := c.lab.Thumbprint()
	if got := soap.ThumbprintSHA1(cert); got != short {
		t.Errorf("SHA-1 %s, served %s", short, got)
	}
	sum := sha256.Sum256(cert.Raw)
	if got := strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":"); got != long {
		t.Errorf("SHA-256 %s, served %s", long, got)
	}
}

func TestInventory(t *testing.T) {
	c := start(t, lab.Options{Hosts: 2})
	vm, o := c.add(lab.VMSpec{Name: "web", Folder: "prod/linux", Disks: []lab.DiskSpec{{Bytes: 4 * mib}, {Bytes: mib, Datastore: lab.Datastore2, Label: "data"}}, PoweredOn: true})
	f := find.NewFinder(c.c.Client)
	found, err := f.VirtualMachine(c.ctx, "/DC0/vm/prod/linux/web")
	must(t, err)
	if found.Reference() != vm.Ref() {
		t.Error("found another VM")
	}
	for _, n := range []string{lab.Network, lab.SecondNetwork} {
		_, err := f.Network(c.ctx, n)
		must(t, err)
	}
	m := c.props(o)
	kinds := map[string]int64{}
	for _, file := range m.LayoutEx.File {
		kinds[file.Type] += file.Size
	}
	for _, k := range []string{"config", "extendedConfig", "nvram", "diskDescriptor", "log"} {
		if kinds[k] == 0 {
			t.Errorf("layoutEx has no %s: %v", k, kinds)
		}
	}
	if kinds["diskExtent"] != 5*mib {
		t.Errorf("extents have %d bytes", kinds["diskExtent"])
	}
	if m.Guest.ToolsRunningStatus != "guestToolsRunning" || m.Runtime.PowerState != "poweredOn" {
		t.Errorf("state %s %s", m.Guest.ToolsRunningStatus, m.Runtime.PowerState)
	}
	if b := backing(t, m.Config.Hardware.Device, vm.DiskKeys()[1]); b.FileName != "[datastore2] web/web_1.vmdk" {
		t.Errorf("second disk is %s", b.FileName)
	}
}

// TestBackupRun is the whole way of a backup as an honest client goes it.
func TestBackupRun(t *testing.T) {
	c := start(t, lab.Options{MaxExtents: 3})
	vm, o := c.add(lab.VMSpec{Name: "sql", Disks: []lab.DiskSpec{{Bytes: 40 * mib}, {Bytes: 40 * mib}}, PoweredOn: true})
	key := vm.DiskKeys()[0]
	for i := range 5 {
		must(t, vm.WriteDisk(0, int64(i)*7*mib+100, fill(100_000, uint64(i))))
	}
	live := backing(t, c.props(o).Config.Hardware.Device, key).FileName
	if code, _ := c.http("GET", flat(live), "", nil); code != 500 {
		t.Fatalf("live flat answers %d, want 500", code)
	}
	first := c.snapshot(o, "no cbt")
	if _, err := c.changed(o, first.Self, key, 0, "*"); !isFault[*types.FileFault](err) {
		t.Fatalf("query without tracking: %v", err)
	}
	c.remove(first.Self)
	c.track(o)
	before := content(t, vm, 0)
	s1 := c.snapshot(o, "one")
	b1 := backing(t, s1.Config.Hardware.Device, key)
	if b1.ChangeId == "" || b1.FileName != live {
		t.Fatalf("snapshot's backing %s, change id %q", b1.FileName, b1.ChangeId)
	}
	must(t, vm.WriteDisk(0, 20*mib, fill(5000, 99)))
	areas, calls := c.all(o, s1.Self, key, 40*mib, "*")
	if calls < 2 {
		t.Errorf("%d calls for more than 3 extents", calls)
	}
	image := make([]byte, 40*mib)
	for _, a := range areas {
		code, data := c.http("GET", flat(b1.FileName), fmt.Sprintf("bytes=%d-%d", a.Start, a.Start+a.Length-1), nil)
		if code != 206 || int64(len(data)) != a.Length {
			t.Fatalf("range answers %d with %d bytes", code, len(data))
		}
		copy(image[a.Start:], data)
	}
	if !bytes.Equal(image, before) {
		t.Fatal("full read differs from the frozen content")
	}
	c.remove(s1.Self)
	if got := backing(t, c.props(o).Config.Hardware.Device, key); got.FileName != live || got.Parent != nil {
		t.Fatalf("after consolidation the disk is %s", got.FileName)
	}
	must(t, vm.WriteDisk(0, 35*mib, fill(70_000, 7)))
	now := content(t, vm, 0)
	s2 := c.snapshot(o, "two")
	areas, _ = c.all(o, s2.Self, key, 40*mib, b1.ChangeId)
	var read int64
	for _, a := range areas {
		_, data := c.http("GET", flat(live), fmt.Sprintf("bytes=%d-%d", a.Start, a.Start+a.Length-1), nil)
		copy(image[a.Start:], data)
		read += a.Length
	}
	if !bytes.Equal(image, now) || read > mib {
		t.Fatalf("incremental of %d bytes gives another image", read)
	}
}

func flat(descriptor string) string { return descriptor[:len(descriptor)-5] + "-flat.vmdk" }
