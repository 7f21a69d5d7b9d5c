// Package target makes a vCenter a place where virtual machines are restored
// to: a restore.Target.
//
// A restore is planned first, and the plan is a value that can be shown: where
// everything goes, what the new VM will be, what stands in the way. Create then
// imports an empty VM of that specification under a lease and a working name, each
// disk is streamed into it, read back and compared, and only Commit gives it the
// name that was asked for. Until then an old VM of that name is not touched.
// Whatever fails, Abort takes back what was made; what a killed restore leaves has
// its working name and a marker, by which it is found and removed (package
// leftover).
package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/inventory"
	"holdfast/vmware/leftover"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/spec"
	"holdfast/vmware/task"
)

var (
	// ErrExists means that the target has a VM of that name, and nobody said
	// that it may be replaced. Commit says so, too, when somebody made one during
	// the restore.
	ErrExists = errors.New("a virtual machine of that name exists")
	// ErrPlace means that a datastore, host, folder, pool or network for the new
	// VM was not found, or that several would do.
	ErrPlace = errors.New("no place for the virtual machine")
	// ErrConfig means that the point has no usable configuration of a VM.
	ErrConfig = errors.New("recovery point has no usable configuration")
	// ErrName means that vCenter does not take the name of the new VM.
	ErrName = errors.New("a virtual machine cannot have that name")
	// ErrRunning means that the VM to be replaced is powered on.
	ErrRunning = errors.New("the virtual machine to be replaced is powered on")
	// ErrMismatch means that what was read back is not what the point holds.
	ErrMismatch = errors.New("restored disk differs from the recovery point")
)

// Identity policies of UUID and MAC.
const (
	PolicyAuto = "auto" // keep, unless somebody else has it
	PolicyKeep = "keep"
	PolicyNew  = "new"
)

// Where a restore goes.
const (
	ToNew      = "new"      // a VM of its own
	ToOriginal = "original" // in the place of the saved one
)

// Options say where and as what a VM comes back. The zero value restores it
// under its own name where it was, and refuses if it still exists.
type Options struct {
	Name         string            // default: the saved name
	Host         string            // name of a host
	Datastore    string            // for everything; default: where each disk was
	Folder       string            // inventory path below the datacenter; made when missing
	ResourcePool string            // name
	Networks     map[string]string // saved name → new name
	DiskKeys     []int32           // device keys to restore; nil: all that the point has
	UUID, MAC    string            // PolicyAuto (default), PolicyKeep, PolicyNew
	To           string            // ToNew (default), ToOriginal
	Overwrite    bool              // replace a VM of that name: it is renamed once the new one is verified
	DeleteOld    bool              // and deleted then
	PowerOn      bool
	// Read opens an item of the point that is not inline in its manifest. It is
	// needed for the configuration, which may be too large for that.
	Read func(ctx context.Context, item recovery.Item) (io.ReadCloser, error)
	// Incomplete is told, in a sentence, what a restore that is done all the same did
	// not do of what was asked for. May be nil. It is called during Commit.
	Incomplete func(reason string)
	// Made is told the VM that a restore has made, once it is complete and has its name.
	// May be nil.
	Made func(vm vmware.VM)
	// Run is who restores; its ID is required and tells apart what this restore makes.
	Run snapshot.Run
	// Alive tells which runs of this machine live. With it, what dead restores of
	// this machine left is removed first; nil leaves it alone.
	Alive      func(snapshot.Run) bool
	LeaseEvery time.Duration
	Retry      task.Retry
	Log        *slog.Logger
}

// Target restores to a vCenter or host. It implements restore.Target.
type Target struct {
	session *vmware.Session
	opt     Options
}

// New makes a target.
func New(s *vmware.Session, opt Options) *Target {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	for _, p := range []*string{&opt.UUID, &opt.MAC} {
		if *p == "" {
			*p = PolicyAuto
		}
	}
	if opt.Incomplete == nil {
		opt.Incomplete = func(string) {}
	}
	if opt.To == "" {
		opt.To = ToNew
	}
	return &Target{s, opt}
}

// Plan is what a restore would do. It is plain data, to be printed; Create
// makes it anew, for the world may have changed.
type Plan struct {
	Point      string      `json:"point"`
	Name       string      `json:"name"`
	ImportName string      `json:"import_name"` // until Commit
	Datacenter string      `json:"datacenter"`
	Folder     string      `json:"folder"`
	NewFolders []string    `json:"new_folders,omitempty"` // to be made in it
	Pool       string      `json:"resource_pool"`
	Host       string      `json:"host,omitempty"` // empty: the cluster chooses
	Home       string      `json:"datastore"`
	Disks      []spec.Disk `json:"disks"`
	Cards      []spec.Card `json:"networks"`
	BiosUUID   string      `json:"bios_uuid,omitempty"`     // empty: new
	UUID       string      `json:"instance_uuid,omitempty"` // empty: new
	Replaces   string      `json:"replaces,omitempty"`      // path of the old VM
	OldBecomes string      `json:"old_becomes,omitempty"`   // its new name, or "deleted"
	Removes    []string    `json:"removes,omitempty"`       // paths of VMs that dead restores left
	PowerOn    bool        `json:"power_on"`
	Warnings   []string    `json:"warnings,omitempty"`
	// Conflicts stand in the way: Create fails with the first of them.
	Conflicts []string        `json:"conflicts,omitempty"`
	Spec      json.RawMessage `json:"spec"` // VirtualMachineConfigSpec with type names

	errs   []error
	config types.VirtualMachineConfigSpec
	at     place
	old    *vmware.VM
	attrs  vmware.VMAttrs
	left   []leftover.VM                         // to be removed first
	all    []vmware.VM                           // of the server, with those
	making map[types.ManagedObjectReference]bool // VMs that are being restored: they have identities, and are nobody's original
}

// Err is the first conflict as an error, or nil.
func (p *Plan) Err() error {
	if len(p.errs) == 0 {
		return nil
	}
	return p.errs[0]
}

func (p *Plan) conflict(err error) {
	p.errs = append(p.errs, err)
	p.Conflicts = append(p.Conflicts, err.Error())
}

// Plan looks at the point and at the target and says what would be done. It
// changes nothing. A conflict is part of the plan; an error means that no plan
// could be made.
func (t *Target) Plan(ctx context.Context, p *recovery.Point) (Plan, error) {
	plan, err := t.plan(ctx, p, p.Items, t.opt.Alive != nil)
	if err != nil {
		return Plan{}, fmt.Errorf("plan restore of %s: %w", p.Source, err)
	}
	return plan, nil
}

// plan makes the plan; with sweep it counts on the removal of what dead restores left.
func (t *Target) plan(ctx context.Context, p *recovery.Point, items []recovery.Item, sweep bool) (Plan, error) {
	saved, attrs, err := t.configuration(ctx, p)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Point: p.ID, Name: t.opt.Name, PowerOn: t.opt.PowerOn, attrs: attrs}
	if plan.Name == "" {
		plan.Name = attrs.Name
	}
	vms, err := t.inventory(ctx, &plan, sweep)
	if err != nil {
		return Plan{}, err
	}
	world, err := readWorld(ctx, t.session)
	if err != nil {
		return Plan{}, err
	}
	t.replace(&plan, vms)
	if plan.at, err = world.place(t.opt, attrs); err != nil {
		plan.conflict(err)
		return plan, nil
	}
	at := plan.at
	plan.Datacenter, plan.Folder, plan.NewFolders, plan.Pool, plan.Host, plan.Home = at.datacenter, at.folderPath, at.missing, at.poolName, at.hostName, at.home
	plan.twins(vms)
	plan.named(world)
	identity(&plan, t.opt.UUID, vms, attrs)
	return plan, t.specify(ctx, &plan, world, items, saved, attrs)
}

// inventory lists the VMs of the server, without those that will be removed first.
func (t *Target) inventory(ctx context.Context, plan *Plan, sweep bool) ([]vmware.VM, error) {
	all, err := t.session.VMs(ctx)
	if err != nil {
		return nil, err
	}
	marked, err := leftover.Find(ctx, t.session.Client(), all, leftover.Options{Host: t.opt.Run.Host, Alive: t.opt.Alive})
	if err != nil {
		return nil, err
	}
	plan.all, plan.making = all, map[types.ManagedObjectReference]bool{}
	vms := slices.Clone(all)
	for _, vm := range marked {
		plan.making[vm.Ref] = vm.Name == vm.Marker.WorkingName
		if vm.Remove && sweep {
			plan.left, plan.Removes = append(plan.left, vm), append(plan.Removes, vm.Path)
			vms = slices.DeleteFunc(vms, func(other vmware.VM) bool { return other.Ref == vm.Ref })
		}
	}
	return vms, nil
}

// named are the conflicts of the name alone. Commit would meet them as well, but
// only after everything was sent.
func (p *Plan) named(w *world) {
	if n := utf8.RuneCountInString(p.Name); n > leftover.MaxName {
		p.conflict(fmt.Errorf("restore as %q: it has %d characters, and %d are allowed: %w", p.Name, n, leftover.MaxName, ErrName))
	}
	same := func(e mo.ManagedEntity) bool { return e.Name == p.Name && e.Parent != nil && *e.Parent == p.at.folder }
	if len(p.NewFolders) == 0 && len(w.find(same, "Folder")) > 0 {
		p.conflict(fmt.Errorf("restore as %q: %s has a folder of that name: %w", p.Name, p.Folder, ErrName))
	}
}

// twins is a conflict with a VM of that name that is not to be replaced. Names
// are unique in a folder only, but two machines of one name are a trap.
func (p *Plan) twins(vms []vmware.VM) {
	for _, vm := range vms {
		if vm.Name == p.Name && (p.old == nil || p.old.Ref != vm.Ref) {
			p.conflict(fmt.Errorf("restore as %q: %s: %w", p.Name, vm.Path, ErrExists))
		}
	}
}

// replace finds the VM that the new one takes the place of, and names what is made.
func (t *Target) replace(plan *Plan, vms []vmware.VM) {
	for i, vm := range vms {
		original := t.opt.To == ToOriginal && vm.InstanceUUID == plan.attrs.InstanceUUID && !plan.making[vm.Ref]
		named := t.opt.Overwrite && vm.Name == plan.Name
		if original || named && plan.old == nil {
			plan.old = &vms[i]
		}
	}
	if plan.old != nil && t.opt.To == ToOriginal && t.opt.Name == "" {
		plan.Name = plan.old.Name
	}
	plan.ImportName = leftover.WorkingName(plan.Name, t.opt.Run.ID)
	if plan.old == nil {
		return
	}
	plan.Replaces = plan.old.Path
	plan.OldBecomes = freeName(plan.Name, vms)
	if t.opt.DeleteOld {
		plan.OldBecomes = "deleted"
	}
	if plan.old.Power == string(types.VirtualMachinePowerStatePoweredOn) {
		plan.conflict(fmt.Errorf("replace %s: %w", plan.old.Path, ErrRunning))
	}
}

// freeName is NAME-old, or NAME-old-2 … when that is taken.
func freeName(name string, vms []vmware.VM) string {
	taken := map[string]bool{}
	for _, vm := range vms {
		taken[vm.Name] = true
	}
	free := leftover.Fit(name, "-old")
	for n := 2; taken[free]; n++ {
		free = leftover.Fit(name, fmt.Sprintf("-old-%d", n))
	}
	return free
}

// identity chooses the UUIDs. The instance UUID is the vCenter's key for a VM:
// it comes back only when nobody has it any more.
func identity(plan *Plan, policy string, vms []vmware.VM, attrs vmware.VMAttrs) {
	biosTaken, instanceTaken := false, false
	for _, vm := range vms {
		biosTaken = biosTaken || vm.BiosUUID == attrs.BiosUUID
		instanceTaken = instanceTaken || vm.InstanceUUID == attrs.InstanceUUID
	}
	if policy == PolicyKeep || policy == PolicyAuto && !biosTaken {
		plan.BiosUUID = attrs.BiosUUID
	}
	if policy != PolicyNew && !instanceTaken {
		plan.UUID = attrs.InstanceUUID
	}
	if policy == PolicyKeep && biosTaken {
		plan.Warnings = append(plan.Warnings, "another VM has the same BIOS UUID: software that is licensed to it may object")
	}
}

// specify makes the new VM's specification.
func (t *Target) specify(ctx context.Context, plan *Plan, w *world, items []recovery.Item, saved *types.VirtualMachineConfigInfo, attrs vmware.VMAttrs) error {
	macs, err := t.macs(ctx, plan)
	if err != nil {
		return err
	}
	var saw []string
	res, err := spec.Build(saved, spec.Options{
		Name: plan.ImportName, InstanceUUID: plan.UUID, BiosUUID: plan.BiosUUID,
		Home: plan.Home, Datastores: plan.at.stores, PortGroups: attrs.PortGroups,
		Disks:   func(key int32) bool { return t.wanted(items, key) },
		KeepMAC: func(mac string) bool { return t.opt.MAC == PolicyKeep || t.opt.MAC == PolicyAuto && !macs[mac] },
		Backing: func(network string) (types.BaseVirtualDeviceBackingInfo, error) {
			name := network
			saw = append(saw, network)
			if to := t.opt.Networks[network]; to != "" {
				name = to
			}
			backing, err := w.backing(ctx, plan.at, name)
			if errors.Is(err, spec.ErrNetwork) {
				err = fmt.Errorf("%q; --network '%s=OTHER' maps it: %w", name, network, spec.ErrNetwork)
			}
			return backing, err
		},
	})
	if errors.Is(err, spec.ErrNetwork) {
		plan.conflict(fmt.Errorf("%w: %w", ErrPlace, err))
		return nil
	}
	if err != nil {
		return err
	}
	for old := range t.opt.Networks {
		// A VM that was meant for another network must not come up on the old one.
		if !slices.Contains(saw, old) {
			plan.conflict(fmt.Errorf("no network card of the saved VM is on %q (they are on %q): %w: %w", old, saw, ErrPlace, spec.ErrNetwork))
		}
	}
	plan.config, plan.Disks, plan.Cards = res.Spec, res.Disks, res.Cards
	plan.Warnings = append(plan.Warnings, res.Warnings...)
	plan.Warnings = append(plan.Warnings, plan.at.warnings...)
	plan.Spec, err = encode(res.Spec)
	return err
}

// wanted is true for the disks that are to be restored and that the operator
// named.
func (t *Target) wanted(items []recovery.Item, key int32) bool {
	has := slices.ContainsFunc(items, func(it recovery.Item) bool { return it.IsDisk() && it.Key == key })
	return has && (t.opt.DiskKeys == nil || slices.Contains(t.opt.DiskKeys, key))
}

// macs are the addresses that VMs of the target have, without those that leave: the
// old VM, if it is deleted, and what dead restores left.
func (t *Target) macs(ctx context.Context, plan *Plan) (map[string]bool, error) {
	if t.opt.MAC != PolicyAuto {
		return nil, nil
	}
	taken, err := inventory.MACs(ctx, t.session.Client())
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for mac, owners := range taken {
		for _, o := range owners {
			leaves := t.opt.DeleteOld && plan.old != nil && o == plan.old.Ref
			leaves = leaves || slices.ContainsFunc(plan.left, func(vm leftover.VM) bool { return vm.Ref == o })
			if !leaves {
				out[mac] = true
			}
		}
	}
	return out, nil
}

// Create implements restore.Target. Disks that are neither among items nor in
// Options.DiskKeys are not made.
func (t *Target) Create(ctx context.Context, p *recovery.Point, items []recovery.Item) (restore.Placed, error) {
	plan, err := t.prepare(ctx, p, items)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", p.Source, err)
	}
	for _, w := range plan.Warnings {
		t.opt.Log.Warn(w, "vm", plan.Name)
	}
	placed := &placed{target: t, plan: plan, point: p, todo: map[int32]bool{}, transfers: map[int32]*transfer{}}
	for _, d := range plan.Disks {
		placed.todo[d.Key] = true
	}
	if err := placed.create(ctx); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
		defer cancel()
		return nil, fmt.Errorf("restore %s: %w", p.Source, errors.Join(err, placed.Abort(clean)))
	}
	return placed, nil
}

// sweepTries are few: a leftover whose import lease is still open cannot be
// removed for minutes, and no restore waits for that.
const sweepTries = 2

// prepare makes a plan without conflicts. If dead restores left something it is
// removed, and the plan is made again: an old VM may have got its name back.
func (t *Target) prepare(ctx context.Context, p *recovery.Point, items []recovery.Item) (Plan, error) {
	plan, err := t.plan(ctx, p, items, t.opt.Alive != nil)
	if err == nil {
		err = plan.Err()
	}
	if err != nil || len(plan.left) == 0 {
		return plan, err
	}
	retry := t.opt.Retry
	retry.Tries = sweepTries
	for _, vm := range plan.left {
		t.opt.Log.Info("remove what a dead restore left", "vm", vm.Path, "restores", vm.Marker.Name)
		if err := leftover.Remove(ctx, t.session.Client(), vm, plan.all, retry); err != nil {
			t.opt.Log.Warn("what a dead restore left could not be removed", "vm", vm.Path, "error", err)
		}
	}
	if plan, err = t.plan(ctx, p, items, false); err == nil {
		err = plan.Err()
	}
	return plan, err
}

// configuration reads what the point kept.
func (t *Target) configuration(ctx context.Context, p *recovery.Point) (*types.VirtualMachineConfigInfo, vmware.VMAttrs, error) {
	attrs, err := vmware.ParseVMAttrs(p.Attrs)
	if err != nil {
		return nil, attrs, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	content, err := t.read(ctx, p, vmware.ItemConfig)
	if err != nil {
		return nil, attrs, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var saved types.VirtualMachineConfigInfo
	if err := decode(content, &saved); err != nil {
		return nil, attrs, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return &saved, attrs, nil
}

// maxItem bounds what is read into memory of a stream item.
const maxItem = 64 << 20

var errNoItem = errors.New("the point does not have it")

func (t *Target) read(ctx context.Context, p *recovery.Point, name string) ([]byte, error) {
	item := p.Item(name)
	switch {
	case item == nil:
		return nil, fmt.Errorf("read %s: %w", name, errNoItem)
	case item.Stream == nil:
		return item.Inline, nil
	case t.opt.Read == nil:
		return nil, fmt.Errorf("read %s: it is not in the manifest, and there is no way to the repository", name)
	}
	r, err := t.opt.Read(ctx, *item)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close() //nolint:errcheck // reading is over
	content, err := io.ReadAll(io.LimitReader(r, maxItem))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}

var _ restore.Target = (*Target)(nil)
