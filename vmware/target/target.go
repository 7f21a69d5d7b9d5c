// Package target makes a vCenter a place where virtual machines are restored
// to: a restore.Target.
//
// A restore is planned first, and the plan is a value that can be shown: where
// everything goes, what the new VM will be, what stands in the way. Create then
// imports an empty VM of that specification under a lease, each disk is streamed
// into it, read back and compared, and only Commit gives it the name that was
// asked for, when an old VM has it. Until then the old one is not touched.
// Whatever fails, Abort takes back what was made.
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

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/inventory"
	"holdfast/vmware/spec"
	"holdfast/vmware/task"
)

var (
	// ErrExists means that the target has a VM of that name, and nobody said
	// that it may be replaced.
	ErrExists = errors.New("a virtual machine of that name exists")
	// ErrPlace means that a datastore, host, folder, pool or network for the new
	// VM was not found, or that several would do.
	ErrPlace = errors.New("no place for the virtual machine")
	// ErrConfig means that the point has no usable configuration of a VM.
	ErrConfig = errors.New("recovery point has no usable configuration")
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
	// Run tells apart what this restore makes; required.
	Run        string
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
	ImportName string      `json:"import_name"` // until Commit, when an old VM has the name
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
	PowerOn    bool        `json:"power_on"`
	Warnings   []string    `json:"warnings,omitempty"`
	// Conflicts stand in the way: Create fails with the first of them.
	Conflicts []string        `json:"conflicts,omitempty"`
	Spec      json.RawMessage `json:"spec"` // VirtualMachineConfigSpec with type names

	errs   []error
	config types.VirtualMachineConfigSpec
	at     place
	old    *vmware.VM
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
	plan, err := t.plan(ctx, p, p.Items)
	if err != nil {
		return Plan{}, fmt.Errorf("plan restore of %s: %w", p.Source, err)
	}
	return plan, nil
}

func (t *Target) plan(ctx context.Context, p *recovery.Point, items []recovery.Item) (Plan, error) {
	saved, attrs, err := t.configuration(ctx, p)
	if err != nil {
		return Plan{}, err
	}
	vms, err := t.session.VMs(ctx)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Point: p.ID, Name: t.opt.Name, PowerOn: t.opt.PowerOn}
	if plan.Name == "" {
		plan.Name = attrs.Name
	}
	world, err := readWorld(ctx, t.session)
	if err != nil {
		return Plan{}, err
	}
	t.replace(&plan, vms, attrs)
	if plan.at, err = world.place(t.opt, attrs); err != nil {
		plan.conflict(err)
		return plan, nil
	}
	at := plan.at
	plan.Datacenter, plan.Folder, plan.NewFolders, plan.Pool, plan.Host, plan.Home = at.datacenter, at.folderPath, at.missing, at.poolName, at.hostName, at.home
	t.twins(&plan, vms)
	identity(&plan, t.opt.UUID, vms, attrs)
	return plan, t.specify(ctx, &plan, world, items, saved, attrs)
}

// twins is a conflict with a VM of that name that is not to be replaced. Names
// are unique in a folder only, but two machines of one name are a trap.
func (t *Target) twins(plan *Plan, vms []vmware.VM) {
	for i, vm := range vms {
		if vm.Name == plan.Name && (plan.old == nil || plan.old.Ref != vm.Ref) {
			plan.conflict(fmt.Errorf("restore as %q: %s: %w", plan.Name, vms[i].Path, ErrExists))
		}
	}
}

// replace finds the VM that the new one takes the place of.
func (t *Target) replace(plan *Plan, vms []vmware.VM, attrs vmware.VMAttrs) {
	plan.ImportName = plan.Name
	for i, vm := range vms {
		original := t.opt.To == ToOriginal && vm.InstanceUUID == attrs.InstanceUUID
		named := t.opt.Overwrite && vm.Name == plan.Name
		if original || named && plan.old == nil {
			plan.old = &vms[i]
		}
	}
	if plan.old == nil {
		return
	}
	if t.opt.To == ToOriginal && t.opt.Name == "" {
		plan.Name = plan.old.Name
	}
	plan.Replaces = plan.old.Path
	plan.ImportName = plan.Name + "-holdfast-" + t.opt.Run
	plan.OldBecomes = freeName(plan.Name+"-old", vms)
	if t.opt.DeleteOld {
		plan.OldBecomes = "deleted"
	}
	if plan.old.Power == string(types.VirtualMachinePowerStatePoweredOn) {
		plan.conflict(fmt.Errorf("replace %s: %w", plan.old.Path, ErrRunning))
	}
}

func freeName(name string, vms []vmware.VM) string {
	taken := map[string]bool{}
	for _, vm := range vms {
		taken[vm.Name] = true
	}
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", name, n)
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
	res, err := spec.Build(saved, spec.Options{
		Name: plan.ImportName, InstanceUUID: plan.UUID, BiosUUID: plan.BiosUUID,
		Home: plan.Home, Datastores: plan.at.stores, PortGroups: attrs.PortGroups,
		Disks:   func(key int32) bool { return t.wanted(items, key) },
		KeepMAC: func(mac string) bool { return t.opt.MAC == PolicyKeep || t.opt.MAC == PolicyAuto && !macs[mac] },
		Backing: func(network string) (types.BaseVirtualDeviceBackingInfo, error) {
			name := network
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

// macs are the addresses that VMs of the target have, without the old VM's,
// which leaves its place.
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
			if plan.old == nil || o != plan.old.Ref || !t.opt.DeleteOld {
				out[mac] = true
			}
		}
	}
	return out, nil
}

// Create implements restore.Target. Disks that are neither among items nor in
// Options.DiskKeys are not made.
func (t *Target) Create(ctx context.Context, p *recovery.Point, items []recovery.Item) (restore.Placed, error) {
	plan, err := t.plan(ctx, p, items)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", p.Source, err)
	}
	if err := plan.Err(); err != nil {
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
