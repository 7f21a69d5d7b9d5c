// Package inventory finds virtual machines: it lists what a vCenter has, knows a
// VM by name, path, UUID or reference, and chooses those that a run is about.
//
// Names are shown as people see them. vSphere itself keeps three characters
// escaped (%2f, %5c, %25), in every name it returns and in every name it is given;
// Unescape and Escape stand at that border. Only List and MACs ask a server.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/disk"
)

var (
	// ErrNotFound means that no VM answers to that name, path, UUID or reference.
	ErrNotFound = errors.New("no such virtual machine")
	// ErrAmbiguous means that several do; the message lists their paths.
	ErrAmbiguous = errors.New("several virtual machines have that name")
)

// VM is what the inventory says about a virtual machine.
type VM struct {
	Ref          types.ManagedObjectReference
	Name         string // as people see it: %2f, %5c and %25 are undone
	Path         string // /datacenter/vm/folder/name, with escapes undone as well
	InstanceUUID string // identity in a vCenter; survives renaming and moving
	BiosUUID     string
	Power        string // poweredOn, poweredOff, suspended
	Hardware     string // vmx-19
	Template     bool
	Tools        string // guestToolsRunning …, empty when not known
	CBT          bool   // changed-block tracking is asked for in the configuration
	Disks        []DiskInfo
	Snapshots    []SnapshotInfo // depth first, parents before children
}

// DiskInfo is a disk of a VM.
type DiskInfo struct {
	Key   int32
	Label string
	Bytes int64
	File  string // [datastore] path of the descriptor that the VM writes to
}

// SnapshotInfo is a snapshot of a VM.
type SnapshotInfo struct {
	Ref   types.ManagedObjectReference
	Name  string
	Depth int
}

// unescape undoes the three escapes of vSphere's inventory names; everything
// else, a plus sign or a lone percent, stands for itself.
var unescape = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

// Unescape makes an inventory name what people see.
func Unescape(name string) string { return unescape.Replace(name) }

var escaper = strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c")

// Escape is the inverse of Unescape, for names that are given to the server.
func Escape(name string) string { return escaper.Replace(name) }

var vmProperties = []string{
	"name", "parent", "parentVApp", "snapshot", "runtime.powerState", "guest.toolsRunningStatus",
	"config.instanceUuid", "config.uuid", "config.version", "config.template", "config.changeTrackingEnabled", "config.hardware.device",
}

// List lists all virtual machines, sorted by path.
func List(ctx context.Context, c *vim25.Client) ([]VM, error) {
	vms, err := list(ctx, c)
	if fault.Is(err, &types.ManagedObjectNotFound{}) {
		// The view died with an expired session, or a VM while it was read.
		vms, err = list(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("list virtual machines: %w", err)
	}
	return vms, nil
}

func list(ctx context.Context, c *vim25.Client) ([]VM, error) {
	kinds := []string{"VirtualMachine", "Folder", "Datacenter", "VirtualApp"}
	v, err := view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, kinds, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var entities []mo.ManagedEntity
	if err := v.Retrieve(ctx, kinds[1:], []string{"name", "parent"}, &entities); err != nil {
		return nil, err
	}
	places := map[types.ManagedObjectReference]mo.ManagedEntity{}
	for _, e := range entities {
		places[e.Self] = e
	}
	var found []mo.VirtualMachine
	if err := v.Retrieve(ctx, kinds[:1], vmProperties, &found); err != nil {
		return nil, err
	}
	vms := make([]VM, 0, len(found))
	for i := range found {
		vms = append(vms, describe(&found[i], places))
	}
	slices.SortFunc(vms, func(a, b VM) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Ref.Value, b.Ref.Value)) })
	return vms, nil
}

func describe(m *mo.VirtualMachine, places map[types.ManagedObjectReference]mo.ManagedEntity) VM {
	vm := VM{Ref: m.Self, Name: unescape.Replace(m.Name), Power: string(m.Runtime.PowerState)}
	vm.Path = path.Join("/", placePath(cmp.Or(m.Parent, m.ParentVApp), places)) + "/" + vm.Name
	if m.Guest != nil {
		vm.Tools = m.Guest.ToolsRunningStatus
	}
	if c := m.Config; c != nil {
		vm.InstanceUUID, vm.BiosUUID, vm.Hardware, vm.Template = c.InstanceUuid, c.Uuid, c.Version, c.Template
		vm.CBT = c.ChangeTrackingEnabled != nil && *c.ChangeTrackingEnabled
		for _, d := range disk.Devices(c.Hardware.Device) {
			vm.Disks = append(vm.Disks, DiskInfo{Key: d.Key, Label: d.Label, Bytes: d.Bytes, File: d.File()})
		}
	}
	if m.Snapshot != nil {
		vm.Snapshots = flatten(m.Snapshot.RootSnapshotList, 0)
	}
	return vm
}

// placePath is the path of a folder, without the root folder's name.
func placePath(ref *types.ManagedObjectReference, places map[types.ManagedObjectReference]mo.ManagedEntity) string {
	var names []string
	for range 64 { // deeper than vSphere allows: a loop in what the server says ends
		if ref == nil {
			break
		}
		e, ok := places[*ref]
		if !ok {
			break
		}
		names = append(names, unescape.Replace(e.Name))
		ref = e.Parent
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

func flatten(trees []types.VirtualMachineSnapshotTree, depth int) []SnapshotInfo {
	var out []SnapshotInfo
	for _, t := range trees {
		out = append(out, SnapshotInfo{Ref: t.Snapshot, Name: unescape.Replace(t.Name), Depth: depth})
		out = append(out, flatten(t.ChildSnapshotList, depth+1)...)
	}
	return out
}

// Pick finds one VM by name, inventory path (or the end of one), instance UUID
// or managed object reference. Errors wrap ErrNotFound, whose message names what
// is near, or ErrAmbiguous.
func Pick(vms []VM, name string) (VM, error) {
	var hits []VM
	for _, vm := range vms {
		if answers(vm, name) {
			hits = append(hits, vm)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		hint := ""
		if near := nearNames(vms, name); len(near) > 0 {
			hint = fmt.Sprintf(" (near: %s)", strings.Join(near, ", "))
		}
		return VM{}, fmt.Errorf("find %q%s: %w", name, hint, ErrNotFound)
	}
	paths := make([]string, len(hits))
	for i, vm := range hits {
		paths[i] = vm.Path
	}
	return VM{}, fmt.Errorf("find %q: %w: %s", name, ErrAmbiguous, strings.Join(paths, ", "))
}

func answers(vm VM, name string) bool {
	switch {
	case name == "":
		return false
	case vm.Name == name, vm.Ref.Value == name, strings.EqualFold(vm.InstanceUUID, name), vm.Path == name:
		return true
	}
	return strings.Contains(name, "/") && strings.HasSuffix(vm.Path, "/"+strings.TrimPrefix(name, "/"))
}

// nearNames are up to three names that a typing error may have meant.
func nearNames(vms []VM, name string) []string {
	type near struct {
		name     string
		distance int
	}
	var all []near
	for _, vm := range vms {
		d := distance(strings.ToLower(vm.Name), strings.ToLower(path.Base(name)))
		if strings.Contains(strings.ToLower(vm.Name), strings.ToLower(name)) {
			d = min(d, 2)
		}
		if d <= max(2, len(name)/3) {
			all = append(all, near{vm.Name, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, n := range all[:min(3, len(all))] {
		names = append(names, n.name)
	}
	return names
}

// distance is the number of insertions, deletions and replacements between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := left
			if a[i] != b[j] {
				cost++
			}
			left = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// Selection says which VMs a run is about. Names must each find one VM; Tags
// and Folders add all VMs that carry the tag or lie below the folder.
type Selection struct {
	Names   []string
	All     bool     // every VM that is no template
	Tags    []string // names of vSphere tags, or category:name
	Folders []string // inventory paths, or ends of them
	// Exclude are names or paths, with * and ? as in path.Match, of VMs to leave out.
	Exclude []string
}

// Choose lists the chosen VMs, each once and in the order of vms. tagged are the
// references of the VMs that carry one of the selection's tags. A name that finds
// nothing is an error; so is a bad pattern. An empty answer is not.
func Choose(vms []VM, sel Selection, tagged map[string]bool) ([]VM, error) {
	named := map[string]bool{}
	for _, name := range sel.Names {
		vm, err := Pick(vms, name)
		if err != nil {
			return nil, err
		}
		named[vm.Ref.Value] = true
	}
	var out []VM
	for _, vm := range vms {
		wanted := named[vm.Ref.Value] || !vm.Template && (sel.All || tagged[vm.Ref.Value] || below(vm, sel.Folders))
		if !wanted {
			continue
		}
		left, err := excluded(vm, sel.Exclude)
		if err != nil {
			return nil, err
		}
		if !left {
			out = append(out, vm)
		}
	}
	return out, nil
}

func below(vm VM, folders []string) bool {
	dir := path.Dir(vm.Path) + "/"
	return slices.ContainsFunc(folders, func(f string) bool {
		f = strings.Trim(f, "/")
		return f != "" && strings.Contains(dir, "/"+f+"/")
	})
}

func excluded(vm VM, patterns []string) (bool, error) {
	for _, p := range patterns {
		byName, err := path.Match(p, vm.Name)
		if err != nil {
			return false, fmt.Errorf("parse pattern %q: %w", p, err)
		}
		byPath, _ := path.Match(p, vm.Path)
		if byName || byPath || vm.Path == p {
			return true, nil
		}
	}
	return false, nil
}

// MACs are the addresses of all network cards, each with the VMs that have it.
func MACs(ctx context.Context, c *vim25.Client) (map[string][]types.ManagedObjectReference, error) {
	kind := []string{"VirtualMachine"}
	v, err := view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, kind, true)
	if err != nil {
		return nil, fmt.Errorf("list network cards: %w", err)
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var vms []mo.VirtualMachine
	if err := v.Retrieve(ctx, kind, []string{"config.hardware.device"}, &vms); err != nil {
		return nil, fmt.Errorf("list network cards: %w", err)
	}
	out := map[string][]types.ManagedObjectReference{}
	for _, vm := range vms {
		if vm.Config == nil {
			continue
		}
		for _, d := range vm.Config.Hardware.Device {
			if c, ok := d.(types.BaseVirtualEthernetCard); ok {
				mac := c.GetVirtualEthernetCard().MacAddress
				out[mac] = append(out[mac], vm.Self)
			}
		}
	}
	return out, nil
}
