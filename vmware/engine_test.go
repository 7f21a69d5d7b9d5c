package vmware_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/lab"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// chunkBytes of the test's repository.
const chunkBytes = 64 * kib

// bench is a laboratory with a session, and an engine that keeps points in
// memory: as strict as the real one, and it reads nothing but what the driver names.
type bench struct {
	t       testing.TB
	ctx     context.Context
	lab     *lab.Lab
	session *vmware.Session
	log     *bytes.Buffer
	saved   map[string]map[string][]byte // point id → item → bytes
	run     int
	wire    *sync.Mutex // of the calls of rivals
}

func newBench(t testing.TB, opt lab.Options) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, opt)
	must(t, err)
	t.Cleanup(l.Close)
	b := &bench{t: t, ctx: ctx, lab: l, log: &bytes.Buffer{}, saved: map[string]map[string][]byte{}, wire: &sync.Mutex{}}
	b.session = b.connect(vmware.Options{})
	return b
}

// connect logs in with the laboratory's pin, unless options say otherwise.
func (b *bench) connect(opt vmware.Options) *vmware.Session {
	b.t.Helper()
	opt.URL, opt.User, opt.Password = b.lab.URL().String(), b.lab.User(), []byte(b.lab.Password())
	if opt.Thumbprint == "" {
		opt.Thumbprint, _ = b.lab.Thumbprint()
	}
	s, err := vmware.Connect(b.ctx, opt)
	must(b.t, err)
	b.t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fast makes the driver's patience short.
var fast = task.Retry{Tries: 6, First: time.Millisecond, Limit: 20 * time.Millisecond}

func (b *bench) options() vmware.SourceOptions {
	b.run++
	return vmware.SourceOptions{
		Run:   snapshot.Run{Host: "tester", ID: fmt.Sprintf("run%04d", b.run), PID: 1, Repository: "r"},
		Retry: fast, TempDir: b.t.TempDir(), Log: slog.New(slog.DiscardHandler),
	}
}

func (b *bench) add(spec lab.VMSpec) (*lab.VM, vmware.VM) {
	b.t.Helper()
	vm, err := b.lab.AddVM(spec)
	must(b.t, err)
	return vm, b.find(spec.Name)
}

func (b *bench) find(name string) vmware.VM {
	b.t.Helper()
	vm, err := b.session.FindVM(b.ctx, name)
	must(b.t, err)
	return vm
}

// web01 is a running VM with two disks that hold something.
func (b *bench) web01(more ...func(*lab.VMSpec)) (*lab.VM, vmware.VM) {
	b.t.Helper()
	spec := lab.VMSpec{
		Name: "web01", Guest: "ubuntu64Guest", PoweredOn: true,
		Disks: []lab.DiskSpec{{Bytes: 8 * mib}, {Bytes: 4 * mib}},
	}
	for _, change := range more {
		change(&spec)
	}
	vm, found := b.add(spec)
	for i := range len(spec.Disks) {
		b.write(vm, i, 0, 300*kib)
		b.write(vm, i, 2*mib+512, 100*kib)
	}
	return vm, found
}

// write lets the guest write random bytes.
func (b *bench) write(vm *lab.VM, disk int, off int64, n int) {
	b.t.Helper()
	must(b.t, vm.WriteDisk(disk, off, random(n, uint64(off)+uint64(b.run)<<40)))
}

func random(n int, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func content(t testing.TB, vm *lab.VM, disk int) []byte {
	t.Helper()
	size, err := vm.DiskSize(disk)
	must(t, err)
	p := make([]byte, size)
	if _, err := vm.ReadDisk(disk, p, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return p
}

// backup runs a whole backup and fails the test when anything goes wrong.
func (b *bench) backup(vm vmware.VM, parent *recovery.Point, change ...func(*vmware.SourceOptions)) *recovery.Point {
	b.t.Helper()
	opt := b.options()
	for _, c := range change {
		c(&opt)
	}
	p, err := b.try(b.ctx, vm, parent, opt, nil)
	must(b.t, err)
	return p
}

// try runs a backup; frozen is called when everything stands still.
func (b *bench) try(ctx context.Context, vm vmware.VM, parent *recovery.Point, opt vmware.SourceOptions, frozen func(backup.Frozen)) (_ *recovery.Point, err error) {
	src := vmware.NewSource(b.session, vm, opt)
	f, err := src.Freeze(ctx, parent)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := f.Release(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	if frozen != nil {
		frozen(f)
	}
	state := f.State()
	p := &recovery.Point{
		ID: opt.Run.ID, Kind: src.Kind(), Source: src.Name(), Identity: src.Identity(), Time: state.Time,
		Consistency: state.Consistency, Warnings: state.Warnings, Attrs: state.Attrs,
	}
	if state.Downgraded {
		p.Tags = append(p.Tags, "downgraded")
	}
	b.saved[p.ID] = map[string][]byte{}
	for _, item := range f.Items() {
		saved, content, err := b.item(ctx, item, parent)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Name, err)
		}
		p.Items = append(p.Items, saved)
		b.saved[p.ID][item.Name] = content
	}
	return p, f.Committed(ctx, p)
}

func (b *bench) item(ctx context.Context, item backup.Item, parent *recovery.Point) (recovery.Item, []byte, error) {
	out := recovery.Item{Name: item.Name, Label: item.Label, Key: item.Key, Attrs: item.Attrs}
	if item.Stream != nil {
		r, err := item.Stream.Open(ctx)
		if err != nil {
			return out, nil, err
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		out.Inline, out.Bytes = content, int64(len(content))
		return out, content, err
	}
	d := item.Disk
	out.Bytes, out.ReadMode, out.Rule, out.Reason = d.Bytes, d.ReadMode, d.Rule, d.Reason
	out.Disk = &image.Map{Bytes: d.Bytes, ChunkBytes: chunkBytes}
	content := make([]byte, d.Bytes)
	if d.Incremental {
		copy(content, b.saved[parent.ID][item.Name])
	}
	extents := d.Extents
	if extents == nil {
		extents = []image.Extent{{Length: d.Bytes}}
	}
	r, err := d.Open(ctx)
	if err != nil {
		return out, nil, err
	}
	defer r.Close()
	for _, e := range extents {
		for at := e.Start; at < e.Start+e.Length; at += mib {
			n := min(mib, e.Start+e.Length-at)
			if err := r.ReadAt(ctx, content[at:at+n], at); err != nil {
				return out, nil, err
			}
		}
	}
	return out, content, nil
}

// equal fails the test unless the point holds the disk as it is now.
func (b *bench) equal(p *recovery.Point, vm *lab.VM, disk int) {
	b.t.Helper()
	name := fmt.Sprintf("disk-%d", vm.DiskKeys()[disk])
	same(b.t, name, b.saved[p.ID][name], content(b.t, vm, disk))
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d bytes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s differs at %d", what, i)
		}
	}
}

// clean fails the test if a VM has any snapshot.
func (b *bench) clean(vm vmware.VM) {
	b.t.Helper()
	if now := b.find(vm.Ref.Value); len(now.Snapshots) != 0 {
		b.t.Fatalf("snapshots were left: %+v", now.Snapshots)
	}
}

// mode fails the test unless every disk was read that way and by that rule.
func mode(t testing.TB, p *recovery.Point, want, rule string) {
	t.Helper()
	for _, d := range p.Disks() {
		if d.ReadMode != want || d.Rule != rule || d.Reason == "" {
			t.Fatalf("%s was read by %s, %s (%s); want %s, %s", d.Name, d.ReadMode, d.Rule, d.Reason, want, rule)
		}
	}
}

var _ types.BaseMethodFault = (*types.TaskInProgress)(nil)
