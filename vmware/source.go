package vmware

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/quiesce"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
)

var (
	// ErrBusy means that another run of ours, alive on this machine, holds the VM.
	ErrBusy = errors.New("virtual machine is being backed up by another run")
	// ErrQuiesce means that the guest did not come to the rest that was demanded.
	ErrQuiesce = errors.New("guest could not be quiesced as demanded")
)

// cleanupLimit bounds what is done for a clean end after a failure.
const cleanupLimit = 10 * time.Minute

// SourceOptions say how a VM is backed up. Run.Host and Run.ID are required;
// everything else has a default.
type SourceOptions struct {
	Run snapshot.Run // of the process that asks
	// Alive tells whether an earlier run of this host still lives. Without it
	// every such run counts as dead.
	Alive func(snapshot.Run) bool

	Consistency string // level wanted: recovery.Application (default), FileSystem or Crash
	// MustQuiesce makes less than the level wanted an error, not a downgrade.
	MustQuiesce    bool
	QuiesceTimeout time.Duration // of the guest's part, 5 min to 4 h; 0 is 15 min
	QuiesceTries   int           // of each step of the ladder; 0 is 2

	Transport    string     // disk.Auto (default), HTTPS, Export
	CBT          cbt.Policy // default cbt.Auto
	Full         bool       // read everything, whatever tracking says
	ExcludeDisks []string   // device keys or labels
	Apps         *Apps      // nil: nobody backed up applications first
	TempDir      string     // for exported disks
	Retry        task.Retry // of what the server refuses because it is busy
	LeaseEvery   time.Duration
	Log          *slog.Logger
}

// NewSource makes a VM a source of backups.
func NewSource(s *Session, vm VM, opt SourceOptions) backup.Source {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Consistency == "" {
		opt.Consistency = recovery.Application
	}
	if opt.CBT == "" {
		opt.CBT = cbt.Auto
	}
	if opt.QuiesceTries <= 0 {
		opt.QuiesceTries = 2
	}
	return &source{session: s, vm: vm, opt: opt}
}

type source struct {
	session *Session
	vm      VM
	opt     SourceOptions
}

func (s *source) Kind() recovery.Kind { return recovery.VM }
func (s *source) Name() string        { return "vm/" + s.vm.Name }
func (s *source) Identity() string    { return "vm:" + s.vm.InstanceUUID }

func (s *source) snapshots() snapshot.VM {
	return snapshot.VM{Client: s.session.client, Ref: s.vm.Ref, Retry: s.opt.Retry, Log: s.opt.Log}
}

var freezeProperties = []string{
	"name", "config", "layoutEx", "snapshot", "runtime", "guest", "capability", "parent", "resourcePool",
	"datastore", "network", "customValue", "availableField",
}

func (s *Session) readVM(ctx context.Context, ref types.ManagedObjectReference, props ...string) (*mo.VirtualMachine, error) {
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(s.client).RetrieveOne(ctx, ref, props, &vm); err != nil {
		if fault.Is(err, &types.ManagedObjectNotFound{}) {
			return nil, fmt.Errorf("read virtual machine %s: %w", ref.Value, ErrNotFound)
		}
		return nil, fmt.Errorf("read virtual machine %s: %w", ref.Value, err)
	}
	return &vm, nil
}

// Freeze takes the snapshot and decides how each disk is read.
func (s *source) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	f := &frozen{source: s, parent: parent}
	if err := f.prepare(ctx); err != nil {
		return nil, fmt.Errorf("freeze %s: %w", s.Name(), err)
	}
	err := f.take(ctx)
	if err == nil {
		err = f.look(ctx)
	}
	if err == nil {
		return f, nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	return nil, fmt.Errorf("freeze %s: %w", s.Name(), errors.Join(err, f.Release(clean)))
}

// frozen is a VM with our snapshot.
type frozen struct {
	source *source
	parent *recovery.Point

	before  *mo.VirtualMachine // as it was before the snapshot
	live    []disk.Device
	lineage []string
	enabled bool // this run switched tracking on, with no snapshot present
	why     string
	plan    quiesce.Plan
	marker  string // in-place write since the parent

	parentErr error // the parent's attributes cannot be read

	ref      *types.ManagedObjectReference // our snapshot
	step     quiesce.Step
	shot     []disk.Device // disks in the snapshot's configuration
	layout   *types.VirtualMachineFileLayoutEx
	folder   *disk.Folder
	stores   map[string]string
	exporter *disk.Exporter
	manifest []byte
	about    VMAttrs

	state backup.State
	items []backup.Item
}

func (f *frozen) State() backup.State  { return f.state }
func (f *frozen) Items() []backup.Item { return f.items }

func (f *frozen) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	f.source.opt.Log.Warn(text, "vm", f.source.vm.Name)
	f.state.Warnings = append(f.state.Warnings, text)
}

// prepare does everything that comes before the snapshot: it clears away what
// dead runs left, switches tracking on where that is wanted and safe, and notes
// how disks and snapshots stand, for that is how they must stand afterwards.
func (f *frozen) prepare(ctx context.Context) error {
	s := f.source
	vm, err := s.session.readVM(ctx, s.vm.Ref, freezeProperties...)
	if err != nil {
		return err
	}
	if vm.Config == nil {
		return fmt.Errorf("read configuration: the VM is %s: %w", vm.Runtime.ConnectionState, ErrNotFound)
	}
	if vm, err = f.clear(ctx, vm); err != nil {
		return err
	}
	if err := f.track(ctx, vm); err != nil {
		return err
	}
	if f.enabled {
		// A run whose snapshot came under that of our stun gives up by itself.
		err = s.opt.Retry.Do(ctx, func(err error) bool { return errors.Is(err, ErrBusy) }, func(ctx context.Context) error {
			if vm, err = s.session.readVM(ctx, s.vm.Ref, freezeProperties...); err != nil {
				return err
			}
			return busy(snapshot.Judge(vm.Snapshot, s.opt.Run.Host, s.opt.Alive).Busy)
		})
		if err != nil {
			return err
		}
	}
	f.before, f.live, f.lineage = vm, disk.Devices(vm.Config.Hardware.Device), snapshot.Lineage(vm.Snapshot)
	f.marker = extraConfig(vm.Config, markerKey)
	f.plan = quiesce.Decide(s.opt.Consistency, quiesce.Gather(vm), s.opt.QuiesceTimeout)
	for _, finding := range f.plan.Findings {
		s.opt.Log.Info("quiescing: "+finding.String(), "vm", s.vm.Name)
	}
	if s.opt.MustQuiesce && f.plan.Downgraded(f.plan.Steps[0].Level) {
		return fmt.Errorf("reach %s: %s: %w", s.opt.Consistency, findings(f.plan), ErrQuiesce)
	}
	return nil
}

func findings(p quiesce.Plan) string {
	texts := make([]string, len(p.Findings))
	for i, x := range p.Findings {
		texts[i] = x.String()
	}
	return strings.Join(texts, "; ")
}

// busy is ErrBusy if there is such a run.
func busy(runs []snapshot.Run) error {
	if len(runs) == 0 {
		return nil
	}
	return fmt.Errorf("run %s, pid %d: %w", runs[0].ID, runs[0].PID, ErrBusy)
}

// yield gives way, with ErrBusy, to a run that took its snapshot before ours and
// after we had found the VM free.
func (s *source) yield(vm *mo.VirtualMachine, ours types.ManagedObjectReference) error {
	return busy(snapshot.Ahead(vm.Snapshot, ours, s.opt.Run, s.opt.Alive))
}

// clear removes leftovers of our dead runs and speaks of other snapshots.
func (f *frozen) clear(ctx context.Context, vm *mo.VirtualMachine) (*mo.VirtualMachine, error) {
	s := f.source
	j := snapshot.Judge(vm.Snapshot, s.opt.Run.Host, s.opt.Alive)
	if err := busy(j.Busy); err != nil {
		return nil, err
	}
	for _, name := range j.Other {
		f.warn("snapshot %q was left by another machine; holdfast vm cleanup removes it", name)
	}
	if len(j.Foreign) > 0 {
		f.warn("the VM has %d snapshot(s) of others (%s); they are not touched", len(j.Foreign), strings.Join(j.Foreign, ", "))
	}
	if len(j.Remove) == 0 && !vm.Runtime.ConsolidationNeeded {
		return vm, nil
	}
	removed, err := s.snapshots().RemoveLeftovers(ctx, j.Remove)
	for _, name := range removed {
		f.warn("removed snapshot %q, which a run that died had left", name)
	}
	if err == nil && len(j.Foreign) == 0 {
		err = s.snapshots().Consolidate(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.session.readVM(ctx, s.vm.Ref, freezeProperties...)
}

// track switches changed-block tracking on if it may, and makes it effective by
// a snapshot that comes and goes: tracking begins with the next time that the VM
// is stunned.
func (f *frozen) track(ctx context.Context, vm *mo.VirtualMachine) error {
	s := f.source
	if s.opt.CBT == cbt.Off {
		return nil
	}
	ok, why := cbt.Enable(vm)
	if !ok {
		f.why = why
		return nil
	}
	if err := s.session.setTracking(ctx, s.vm.Ref, true); err != nil {
		f.why = "it could not be switched on: " + err.Error()
		f.warn("changed-block tracking could not be enabled: %v", err)
		return nil
	}
	f.enabled = true
	f.warn("changed-block tracking was off and is enabled now")
	return s.stun(ctx)
}

func (s *source) stun(ctx context.Context) error {
	ref, err := s.snapshots().Take(ctx, s.opt.Run, nil)
	if err != nil {
		return err
	}
	vm, err := s.session.readVM(ctx, s.vm.Ref, "snapshot")
	if err == nil {
		err = s.yield(vm, ref)
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	return errors.Join(err, s.snapshots().Remove(clean, ref))
}

// take goes down the ladder until a snapshot stands.
func (f *frozen) take(ctx context.Context) error {
	s := f.source
	for i, step := range f.plan.Steps {
		err := f.climb(ctx, step)
		if err == nil {
			f.step = step
			return nil
		}
		last := i == len(f.plan.Steps)-1
		if last || !quiesceFault(err) {
			return err
		}
		next := f.plan.Steps[i+1]
		if s.opt.MustQuiesce && f.plan.Downgraded(next.Level) {
			return fmt.Errorf("%w: %w", ErrQuiesce, err)
		}
		f.warn("quiescing for %s consistency failed (%v), trying %s", step.Level, err, next.Level)
	}
	return nil
}

// climb tries one step as often as allowed.
func (f *frozen) climb(ctx context.Context, step quiesce.Step) error {
	s := f.source
	tries := task.Retry{Tries: s.opt.QuiesceTries, First: s.opt.Retry.First, Limit: s.opt.Retry.Limit}
	return tries.Do(ctx, quiesceFault, func(ctx context.Context) error {
		ref, err := s.snapshots().Take(ctx, s.opt.Run, step.Spec)
		if err == nil {
			f.ref = &ref
		}
		return err
	})
}

func quiesceFault(err error) bool {
	for _, q := range []types.BaseMethodFault{
		&types.ApplicationQuiesceFault{}, &types.FilesystemQuiesceFault{}, &types.ToolsUnavailable{}, &types.QuiesceDatastoreIOForHAFailed{},
	} {
		if fault.Is(err, q) {
			return true
		}
	}
	return false
}

// look reads what the snapshot froze and makes the items of it.
func (f *frozen) look(ctx context.Context) error {
	s := f.source
	if err := f.snapshotConfig(ctx); err != nil {
		return err
	}
	if err := f.doors(ctx); err != nil {
		return err
	}
	if err := f.consistency(ctx); err != nil {
		return err
	}
	if err := f.configItems(ctx); err != nil {
		return err
	}
	f.exporter = &disk.Exporter{
		Client: s.session.client, Snapshot: *f.ref, Disks: f.shot, TempDir: s.opt.TempDir, Retry: s.opt.Retry, Log: s.opt.Log,
		Lease: disk.LeaseOptions{Every: s.opt.LeaseEvery, Log: s.opt.Log},
	}
	for _, live := range f.live {
		if err := f.disk(ctx, live); err != nil {
			return err
		}
	}
	// Last, for the disks have their word in it: which map is not believed.
	var err error
	f.state.Attrs, err = json.Marshal(f.about)
	return err
}

// snapshotConfig sees first, the snapshot being taken, whether the VM is ours
// alone. Then it reads the disks from the snapshot's own configuration: only
// there stand the frozen files and the change ids.
func (f *frozen) snapshotConfig(ctx context.Context) error {
	vm, err := f.source.session.readVM(ctx, f.source.vm.Ref, "layoutEx", "snapshot")
	if err != nil {
		return err
	}
	if err := f.source.yield(vm, *f.ref); err != nil {
		return err
	}
	var m mo.VirtualMachineSnapshot
	if err := property.DefaultCollector(f.source.session.client).RetrieveOne(ctx, *f.ref, []string{"config"}, &m); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	f.shot = disk.Devices(m.Config.Hardware.Device)
	f.layout = vm.LayoutEx
	if ours, ok := snapshot.Find(vm.Snapshot, *f.ref); ok {
		f.state.Time, f.before.Snapshot = ours.CreateTime, vm.Snapshot
	}
	return nil
}

// disk makes the item of one disk, or reports why there is none.
func (f *frozen) disk(ctx context.Context, live disk.Device) error {
	s := f.source
	label := fmt.Sprintf("disk %d (%s)", live.Key, live.Label)
	if slices.Contains(s.opt.ExcludeDisks, live.Label) || slices.Contains(s.opt.ExcludeDisks, strconv.Itoa(int(live.Key))) {
		s.opt.Log.Info("left out as asked: "+label, "vm", s.vm.Name)
		f.state.Warnings = append(f.state.Warnings, label+" is left out, as asked")
		return nil
	}
	i := slices.IndexFunc(f.shot, func(d disk.Device) bool { return d.Key == live.Key })
	why := live.Unprotected()
	if why == "" && i < 0 {
		why = "the snapshot does not have it"
	}
	if why != "" {
		f.warn("%s is left out: %s", label, why)
		f.state.Downgraded = true
		return nil
	}
	item, err := f.diskItem(ctx, live, f.shot[i])
	if err != nil {
		return err
	}
	f.items = append(f.items, item)
	return nil
}

// Committed implements backup.Frozen. A VM backup never truncates a log; all
// there is to do is to take away our mark of an in-place restore, now that a
// complete point is behind it.
func (f *frozen) Committed(ctx context.Context, _ *recovery.Point) error {
	if f.marker == "" {
		return nil
	}
	s := f.source.session
	now, err := s.readVM(ctx, f.source.vm.Ref, "config.extraConfig")
	if err != nil {
		return err
	}
	if extraConfig(now.Config, markerKey) != f.marker {
		return nil // somebody wrote again meanwhile
	}
	return s.setExtraConfig(ctx, f.source.vm.Ref, markerKey, "")
}

// Holds implements backup.Holder: our snapshot is still there. Whoever removed
// it has let the frozen files change under us.
func (f *frozen) Holds(ctx context.Context) error {
	if f.ref == nil {
		return nil
	}
	now, err := f.source.session.readVM(ctx, f.source.vm.Ref, "snapshot")
	if err != nil {
		return err
	}
	if _, ok := snapshot.Find(now.Snapshot, *f.ref); ok {
		return nil
	}
	return fmt.Errorf("snapshot %s of %s was removed by somebody else", f.ref.Value, f.source.vm.Name)
}

// Release ends transfers and removes the snapshot.
func (f *frozen) Release(ctx context.Context) error {
	var errs []error
	if f.exporter != nil {
		if err := f.exporter.Close(ctx); err != nil {
			f.source.opt.Log.Warn("end export", "error", err)
		}
	}
	if f.ref != nil {
		err := f.source.snapshots().Remove(ctx, *f.ref)
		if err == nil {
			f.ref = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
