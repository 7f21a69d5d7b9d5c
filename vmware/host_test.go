package vmware_test

import (
	"context"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
	"holdfast/vmware/lab"
)

// hosts changes what the server says about the product of its hosts: another
// version, or, for an account without the right, nothing.
type hosts struct {
	soap.RoundTripper
	version string // "" withholds everything about a host
	asked   int
}

func (h *hosts) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	err := h.RoundTripper.RoundTrip(ctx, req, res)
	body, ok := res.(*methods.RetrievePropertiesExBody)
	if err != nil || !ok || body.Res == nil || body.Res.Returnval == nil {
		return err
	}
	for i := range body.Res.Returnval.Objects {
		o := &body.Res.Returnval.Objects[i]
		if o.Obj.Type != "HostSystem" {
			continue
		}
		h.asked++
		if h.version == "" {
			for _, p := range o.PropSet {
				denied := &types.NoPermission{PrivilegeId: "System.View"}
				o.MissingSet = append(o.MissingSet, types.MissingProperty{Path: p.Name, Fault: types.LocalizedMethodFault{Fault: denied}})
			}
			o.PropSet = nil
		}
		for j := range o.PropSet {
			if about, ok := o.PropSet[j].Val.(types.AboutInfo); ok {
				about.Version = h.version
				o.PropSet[j].Val = about
			}
		}
	}
	return nil
}

// on puts the VMs of the laboratory on hosts of that version.
func (b *bench) on(version string) *hosts {
	c := b.session.Client()
	if h, ok := c.RoundTripper.(*hosts); ok {
		h.version = version
		return h
	}
	h := &hosts{RoundTripper: c.RoundTripper, version: version}
	c.RoundTripper = h
	return h
}

// ESXi 6.0 forgets what was written during a consolidation (KB 2136854): its
// maps are not believed, not even for the first backup's written areas.
func TestCBT19HostOfVersion60IsReadInFull(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	h := b.on("6.0.0")
	first := b.backup(found, nil)
	mode(t, first, recovery.ReadFull, cbt.NoParent)
	if h.asked != 1 {
		t.Fatalf("the host was asked %d times", h.asked)
	}
	vm.LieCBT(100) // as such a host does
	b.write(vm, 0, mib, 9000)
	second := b.backup(found, first)
	mode(t, second, recovery.ReadFull, cbt.LossyHost)
	b.equal(second, vm, 0)
	b.equal(second, vm, 1)
	if n := b.lab.Counts().Calls["QueryChangedDiskAreas"]; n != 0 {
		t.Fatalf("the map was asked %d times", n)
	}
	if d := second.Disks()[0]; !strings.Contains(d.Reason, "KB 2136854") {
		t.Fatalf("the reason is %q", d.Reason)
	}
	a, err := vmware.ParseVMAttrs(second.Attrs)
	must(t, err)
	if a.HostVersion != "6.0.0" || len(a.Doubts) != 2 {
		t.Fatalf("%+v", a)
	}
}

// The VM moves to a host of version 6.5 and takes its map along, with what it
// lost: neither --full nor a backup without the disk makes it good.
func TestCBT19MapStaysDoubtedAfterMigrationUntilItsReset(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	b.on("6.0.0")
	p := b.backup(found, nil)
	b.on("6.5.0")
	p = b.backup(found, p)
	mode(t, p, recovery.ReadFull, cbt.LossyHost)
	p = b.backup(found, p, func(o *vmware.SourceOptions) { o.Full = true })
	mode(t, p, recovery.ReadFull, cbt.AskedFull)
	p = b.backup(found, p, func(o *vmware.SourceOptions) { o.ExcludeDisks = []string{found.Disks[0].Label} })
	mode(t, p, recovery.ReadFull, cbt.LossyHost)
	p = b.backup(found, p)
	if d := p.Disks(); d[0].Rule != cbt.NewDisk || d[0].ReadMode != recovery.ReadFull || d[1].Rule != cbt.LossyHost {
		t.Fatalf("%s %s, %s", d[0].Rule, d[0].ReadMode, d[1].Rule)
	}
	p = b.backup(found, p)
	mode(t, p, recovery.ReadFull, cbt.LossyHost)

	must(t, b.session.CBTReset(b.ctx, found, vmware.CBTOptions{Run: b.options().Run, Retry: fast}))
	p = b.backup(found, p)
	mode(t, p, recovery.ReadFull, cbt.OtherUUID)
	b.write(vm, 0, mib, 9000)
	p = b.backup(found, p)
	mode(t, p, recovery.ReadCBT, cbt.Use)
	b.equal(p, vm, 0)
	b.equal(p, vm, 1)
}

// A map that verification caught stays doubted when a full read comes between.
func TestCBT18StaysAfterAFullRead(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	p := b.backup(found, nil)
	for i := range p.Items {
		if p.Items[i].IsDisk() {
			p.Items[i].Rule = "CBT-MISS" // as the engine writes it
		}
	}
	p = b.backup(found, p, func(o *vmware.SourceOptions) { o.Full = true })
	mode(t, p, recovery.ReadFull, cbt.AskedFull)
	mode(t, b.backup(found, p), recovery.ReadFull, cbt.Missed)
}

// Whoever may not see the host goes on as on any other, and is told.
func TestCBT19HostThatCannotBeSeenIsAWarning(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	first := b.backup(found, nil)
	b.on("")
	b.write(vm, 0, mib, 9000)
	p := b.backup(found, first)
	mode(t, p, recovery.ReadCBT, cbt.Use)
	b.equal(p, vm, 0)
	if len(p.Tags) != 0 || !strings.Contains(strings.Join(p.Warnings, "\n"), "KB 2136854") {
		t.Fatalf("tags %v, warnings %v", p.Tags, p.Warnings)
	}
	if text := strings.Join(first.Warnings, "\n"); strings.Contains(text, "KB 2136854") {
		t.Fatalf("a host that is seen: %s", text)
	}
}

// A parent whose attributes are damaged may have held doubts that are lost now.
func TestParentWithoutReadableAttributesIsReadInFull(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	p := b.backup(found, nil)
	p.Attrs = []byte(`{"cbt_doubts":7}`)
	mode(t, b.backup(found, p), recovery.ReadFull, cbt.BadAttrs)
}
