package target_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/lab"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/target"
	"holdfast/vmware/task"
)

const (
	mib        = 1 << 20
	chunkBytes = 64 << 10
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a laboratory with a VM and a point of it.
type bench struct {
	t       *testing.T
	ctx     context.Context
	lab     *lab.Lab
	session *vmware.Session
	vm      *lab.VM
	point   *recovery.Point
	disks   map[string][]byte
	keep    bool // a failed restore takes nothing back, as one that was killed
}

func newBench(t *testing.T, change ...func(*lab.VMSpec)) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, lab.Options{})
	must(t, err)
	t.Cleanup(l.Close)
	pin, _ := l.Thumbprint()
	s, err := vmware.Connect(ctx, vmware.Options{URL: l.URL().String(), User: l.User(), Password: []byte(l.Password()), Thumbprint: pin})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	b := &bench{t: t, ctx: ctx, lab: l, session: s, disks: map[string][]byte{}}
	spec := lab.VMSpec{
		Name: "web01", Guest: "ubuntu64Guest", PoweredOn: true, CPUs: 2, MemoryMB: 512, Annotation: "ünï", Firmware: "efi",
		NVRAM: []byte("what the firmware remembers"), Networks: []string{lab.Network, lab.SecondNetwork},
		ExtraConfig: map[string]string{"answer": "42", "scsi0:0.ctkEnabled": "TRUE"},
		Disks:       []lab.DiskSpec{{Bytes: 6 * mib}, {Bytes: 3 * mib}},
	}
	for _, c := range change {
		c(&spec)
	}
	b.vm, err = l.AddVM(spec)
	must(t, err)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range spec.Disks {
		p := make([]byte, 200<<10)
		for j := range p {
			p[j] = byte(r.Uint32())
		}
		must(t, b.vm.WriteDisk(i, 0, p))
		must(t, b.vm.WriteDisk(i, 2*mib-512, p[:100<<10]))
	}
	b.back()
	return b
}

// back makes the point.
func (b *bench) back() {
	b.t.Helper()
	vm, err := b.session.FindVM(b.ctx, b.vm.Name())
	must(b.t, err)
	src := vmware.NewSource(b.session, vm, vmware.SourceOptions{Run: snapshot.Run{Host: "h", ID: "backup"}})
	f, err := src.Freeze(b.ctx, nil)
	must(b.t, err)
	state := f.State()
	p := &recovery.Point{ID: "p1", Kind: src.Kind(), Source: src.Name(), Identity: src.Identity(), Attrs: state.Attrs}
	for _, it := range f.Items() {
		out := recovery.Item{Name: it.Name, Label: it.Label, Key: it.Key, Attrs: it.Attrs}
		if it.Disk != nil {
			out.Bytes, out.Disk = it.Disk.Bytes, &image.Map{Bytes: it.Disk.Bytes, ChunkBytes: chunkBytes}
			b.disks[it.Name] = b.whole(it.Disk)
		} else {
			r, err := it.Stream.Open(b.ctx)
			must(b.t, err)
			out.Inline, err = io.ReadAll(r)
			must(b.t, err)
		}
		p.Items = append(p.Items, out)
	}
	must(b.t, f.Release(b.ctx))
	b.point = p
}

func (b *bench) whole(d *backup.Disk) []byte {
	b.t.Helper()
	r, err := d.Open(b.ctx)
	must(b.t, err)
	defer r.Close()
	p := make([]byte, d.Bytes)
	must(b.t, r.ReadAt(b.ctx, p, 0))
	return p
}

// memory is a point's disk.
type memory struct{ *bytes.Reader }

func (m memory) Sequential(context.Context) (io.ReaderAt, func(), error) { return m, func() {}, nil }

func (m memory) all() []byte {
	p := make([]byte, m.Size())
	_, _ = m.ReadAt(p, 0)
	return p
}

func (m memory) Extents(_ context.Context, fn func(start, length int64) error) error {
	p := m.all()
	for at := 0; at < len(p); at += chunkBytes {
		if c := p[at:min(at+chunkBytes, len(p))]; len(bytes.Trim(c, "\x00")) > 0 {
			if err := fn(int64(at), int64(len(c))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m memory) Copy(context.Context, func(int64, []byte) error) error { return errors.ErrUnsupported }

func (m memory) Matches(_ context.Context, off int64, data []byte) (bool, error) {
	if off%chunkBytes != 0 || len(data)%chunkBytes != 0 && off+int64(len(data)) != m.Size() {
		return false, fmt.Errorf("%d bytes at %d are not whole chunks", len(data), off)
	}
	p := make([]byte, len(data))
	_, err := m.ReadAt(p, off)
	return bytes.Equal(p, data), err
}

// restore drives the target as the engine does.
func (b *bench) restore(opt target.Options, between ...func(step string) error) (how []string, err error) {
	if opt.Run.ID == "" {
		opt.Run = snapshot.Run{Host: "h", ID: "r1"}
	}
	opt.Retry = task.Retry{Tries: cmp.Or(opt.Retry.Tries, 5), First: time.Millisecond, Limit: 10 * time.Millisecond}
	step := func(name string) error {
		for _, f := range between {
			if err := f(name); err != nil {
				return err
			}
		}
		return nil
	}
	placed, err := target.New(b.session, opt).Create(b.ctx, b.point, b.point.Items)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && !b.keep {
			err = errors.Join(err, placed.Abort(context.Background()))
		}
	}()
	if err := step("created"); err != nil {
		return nil, err
	}
	// All is written before anything is verified: that is the engine's order.
	var disks []recovery.Item
	for _, it := range b.point.Items {
		if !it.IsDisk() {
			if err := placed.WriteStream(b.ctx, it, bytes.NewReader(it.Inline)); err != nil {
				return nil, err
			}
			continue
		}
		if opt.DiskKeys != nil && it.Key != opt.DiskKeys[0] {
			continue
		}
		if err := placed.WriteDisk(b.ctx, it, b.source(it)); err != nil {
			return nil, err
		}
		if err := step(fmt.Sprint("written ", len(disks))); err != nil {
			return nil, err
		}
		disks = append(disks, it)
	}
	for _, it := range disks {
		text, err := placed.Verify(b.ctx, it, b.source(it))
		if err != nil {
			return nil, err
		}
		how = append(how, text)
	}
	if err := step("verified"); err != nil {
		return nil, err
	}
	return how, placed.Commit(b.ctx)
}

func (b *bench) source(it recovery.Item) memory { return memory{bytes.NewReader(b.disks[it.Name])} }

func (b *bench) find(name string) vmware.VM {
	b.t.Helper()
	vm, err := b.session.FindVM(b.ctx, name)
	must(b.t, err)
	return vm
}

// same fails the test unless the lab's VM holds the point's disks.
func (b *bench) same(name string) {
	b.t.Helper()
	vm := b.lab.VM(name)
	if vm == nil {
		b.t.Fatalf("no vm %q", name)
	}
	i := 0
	for _, it := range b.point.Disks() {
		got := make([]byte, len(b.disks[it.Name]))
		if _, err := vm.ReadDisk(i, got, 0); err != nil && err != io.EOF {
			b.t.Fatal(err)
		}
		if !bytes.Equal(got, b.disks[it.Name]) {
			b.t.Fatalf("%s of %s differs", it.Name, name)
		}
		i++
	}
}

// names are the VMs that the server knows.
func (b *bench) names() string {
	b.t.Helper()
	vms, err := b.session.VMs(context.Background())
	must(b.t, err)
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	return strings.Join(names, " ")
}

func TestRestoreAsNewVM(t *testing.T) {
	b := newBench(t)
	how, err := b.restore(target.Options{Name: "web01-restored"})
	must(t, err)
	b.same("web01-restored")
	for _, h := range how {
		if !strings.Contains(h, "read back") {
			t.Fatalf("verified only by %q", h)
		}
	}
	old, vm := b.find("web01"), b.find("web01-restored")
	if vm.InstanceUUID == old.InstanceUUID || vm.BiosUUID == old.BiosUUID {
		t.Fatalf("two VMs have one identity: %+v", vm)
	}
	if vm.Power != "poweredOff" || old.Power != "poweredOn" {
		t.Fatalf("new is %s, old is %s", vm.Power, old.Power)
	}
	must(t, b.lab.VM("web01-restored").PowerOn())
}

func TestNvramRestored(t *testing.T) {
	b := newBench(t)
	_, err := b.restore(target.Options{Name: "n"})
	must(t, err)
	vm := b.find("n")
	src := vmware.NewSource(b.session, vm, vmware.SourceOptions{Run: snapshot.Run{Host: "h", ID: "again"}})
	f, err := src.Freeze(b.ctx, nil)
	must(t, err)
	defer f.Release(b.ctx)
	for _, it := range f.Items() {
		if it.Name == vmware.ItemNVRAM {
			r, err := it.Stream.Open(b.ctx)
			must(t, err)
			got, _ := io.ReadAll(r)
			if string(got) != "what the firmware remembers" {
				t.Fatalf("nvram is %q", got)
			}
			return
		}
	}
	t.Fatal("the restored VM has no nvram")
}

func TestExistingNameIsRefused(t *testing.T) {
	b := newBench(t)
	before := b.names()
	if _, err := b.restore(target.Options{}); !errors.Is(err, target.ErrExists) {
		t.Fatalf("got %v", err)
	}
	if b.names() != before {
		t.Fatalf("VMs are now %s", b.names())
	}
}

func TestOverwriteOfARunningVMIsRefused(t *testing.T) {
	b := newBench(t)
	if _, err := b.restore(target.Options{Overwrite: true}); !errors.Is(err, target.ErrRunning) {
		t.Fatalf("got %v", err)
	}
}

func TestRestoreToOriginalSwapsAfterVerify(t *testing.T) {
	for _, drop := range []bool{false, true} {
		b := newBench(t)
		must(t, b.vm.PowerOff())
		_, err := b.restore(target.Options{To: target.ToOriginal, DeleteOld: drop}, func(step string) error {
			if b.find("web01").Ref != b.vm.Ref() {
				return fmt.Errorf("%s: the old VM lost its name before the new one is verified", step)
			}
			return nil
		})
		must(t, err)
		b.same("web01")
		want := "web01 web01-old"
		if drop {
			want = "web01"
		}
		if got := b.names(); got != want {
			t.Fatalf("VMs are %s, want %s", got, want)
		}
	}
}

// Whatever step a restore fails at, nothing of it is left and the old VM is as
// it was.
func TestAbortTakesEverythingBack(t *testing.T) {
	broken := errors.New("broken")
	for _, at := range []string{"created", "written 0", "written 1", "verified"} {
		t.Run(at, func(t *testing.T) {
			b := newBench(t)
			must(t, b.vm.PowerOff())
			_, err := b.restore(target.Options{Overwrite: true, Folder: "a/b"}, func(step string) error {
				if step == at {
					return broken
				}
				return nil
			})
			if !errors.Is(err, broken) || b.names() != "web01" || b.find("web01").Ref != b.vm.Ref() {
				t.Fatalf("%v; VMs are %s", err, b.names())
			}
			b.same("web01")
			if b.find("web01").Path != "/DC0/vm/web01" {
				t.Fatalf("path is %s", b.find("web01").Path)
			}
		})
	}
}

// The new VM's name fails when the old one has left it: everything goes back.
func TestFailedRenameGivesTheOldVMItsNameBack(t *testing.T) {
	b := newBench(t)
	must(t, b.vm.PowerOff())
	b.lab.FailSOAP(lab.SOAPFault{Method: "ReconfigVM_Task", Skip: 1, Fault: &types.NoPermission{}})
	if _, err := b.restore(target.Options{Overwrite: true}); err == nil {
		t.Fatal("no error")
	}
	if b.names() != "web01" || b.find("web01").Ref != b.vm.Ref() {
		t.Fatalf("VMs are %s", b.names())
	}
}

func TestDiskFullAtRestoreLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.lab.SetFreeSpace(lab.Datastore1, 128<<10)
	if _, err := b.restore(target.Options{Name: "full"}); err == nil {
		t.Fatal("no error")
	}
	if b.names() != "web01" {
		t.Fatalf("VMs are %s", b.names())
	}
}

func TestUploadCutLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.lab.FailHTTP(lab.HTTPFault{Path: "/nfc/", CutAfter: 100 << 10})
	if _, err := b.restore(target.Options{Name: "cut"}); err == nil {
		t.Fatal("no error")
	}
	if b.names() != "web01" {
		t.Fatalf("VMs are %s", b.names())
	}
}

func TestRestoreMacConflict(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		policy string
		gone   bool
		kept   bool
	}{{"", false, false}, {target.PolicyKeep, false, true}, {target.PolicyNew, false, false}} {
		plan, err := target.New(b.session, target.Options{Name: "m", MAC: c.policy, Run: snapshot.Run{Host: "h", ID: "r"}}).Plan(b.ctx, b.point)
		must(t, err)
		must(t, plan.Err())
		if len(plan.Cards) != 2 || plan.Cards[0].Kept != c.kept {
			t.Fatalf("policy %q: %+v", c.policy, plan.Cards)
		}
	}
}

func TestIdentityComesBackWhenTheOldVMIsGone(t *testing.T) {
	b := newBench(t)
	old := b.find("web01")
	b.delete()
	_, err := b.restore(target.Options{})
	must(t, err)
	vm := b.find("web01")
	if vm.InstanceUUID != old.InstanceUUID || vm.BiosUUID != old.BiosUUID {
		t.Fatalf("was %s %s, is %s %s", old.InstanceUUID, old.BiosUUID, vm.InstanceUUID, vm.BiosUUID)
	}
	plan, err := target.New(b.session, target.Options{Name: "x", Run: snapshot.Run{Host: "h", ID: "r"}}).Plan(b.ctx, b.point)
	must(t, err)
	if plan.UUID != "" || plan.BiosUUID != "" {
		t.Fatalf("an identity in use is planned: %+v", plan)
	}
	b.same("web01")
}

func TestPlanNamesWhatIsMissing(t *testing.T) {
	b := newBench(t)
	for _, o := range []target.Options{
		{Datastore: "nowhere"}, {Host: "nobody"}, {ResourcePool: "none"}, {Networks: map[string]string{lab.Network: "gone"}},
	} {
		o.Name, o.Run = "p", snapshot.Run{Host: "h", ID: "r"}
		plan, err := target.New(b.session, o).Plan(b.ctx, b.point)
		must(t, err)
		if !errors.Is(plan.Err(), target.ErrPlace) {
			t.Fatalf("%+v: %v", o, plan.Err())
		}
	}
}

func TestRestoreElsewhere(t *testing.T) {
	b := newBench(t)
	_, err := b.restore(target.Options{
		Name: "100% + a/b ünï", Datastore: lab.Datastore2, Folder: "new one/below", Host: "DC0_C0_H0",
		Networks: map[string]string{lab.Network: lab.SecondNetwork}, PowerOn: true,
	})
	must(t, err)
	vm := b.find("100% + a/b ünï")
	if vm.Path != "/DC0/vm/new one/below/100% + a/b ünï" || vm.Power != "poweredOn" || !strings.HasPrefix(vm.Disks[0].File, "[datastore2]") {
		t.Fatalf("%+v", vm)
	}
	b.same("100% + a/b ünï")
}

func TestOneDiskOfSeveral(t *testing.T) {
	b := newBench(t)
	key := b.point.Disks()[1].Key
	_, err := b.restore(target.Options{Name: "one", DiskKeys: []int32{key}})
	must(t, err)
	if got := b.find("one").Disks; len(got) != 1 || got[0].Bytes != 3*mib {
		t.Fatalf("%+v", got)
	}
}

func TestPointWithoutConfigurationIsRefused(t *testing.T) {
	b := newBench(t)
	p := *b.point
	p.Items = p.Disks()
	if _, err := target.New(b.session, target.Options{Name: "x", Run: snapshot.Run{Host: "h", ID: "r"}}).Plan(b.ctx, &p); !errors.Is(err, target.ErrConfig) {
		t.Fatalf("got %v", err)
	}
}

var _ restore.Disk = memory{}

// delete destroys the lab's VM as an administrator would.
func (b *bench) delete() {
	b.t.Helper()
	must(b.t, b.vm.PowerOff())
	res, err := methods.Destroy_Task(b.ctx, b.session.Client(), &types.Destroy_Task{This: b.vm.Ref()})
	must(b.t, err)
	_, err = task.Wait(b.ctx, b.session.Client(), res.Returnval)
	must(b.t, err)
}
