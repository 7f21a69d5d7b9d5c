package leftover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/inventory"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
)

// ErrLeft means that a virtual machine of a restore that is dead or has failed could
// not be removed and is still there.
var ErrLeft = errors.New("virtual machine of an unfinished restore could not be removed")

// Options say what may be removed. Host is required.
type Options struct {
	Host  string                  // this machine, as in Run.Host
	Alive func(snapshot.Run) bool // of this machine's runs; nil means none lives
	// OlderThan spares what is younger. What other machines left is only removed
	// by age, for whether their runs live cannot be known: it is spared when
	// OlderThan is zero.
	OlderThan time.Duration
	DryRun    bool
	Retry     task.Retry
	Log       *slog.Logger
}

// Kinds of leftovers.
const (
	KindSnapshot = "snapshot"
	KindVM       = "vm"
)

// Found is a leftover, and what became of it.
type Found struct {
	Kind     string    `json:"kind"`     // KindSnapshot or KindVM
	VM       string    `json:"vm"`       // name
	Snapshot string    `json:"snapshot"` // name; empty for a VM
	Restores string    `json:"restores"` // what a VM was to be called; empty for a snapshot
	Created  time.Time `json:"created"`  // by the server's clock
	Removed  bool      `json:"removed"`
	Reason   string    `json:"reason"`
}

// VM is a virtual machine with a marker of ours.
type VM struct {
	inventory.VM
	Marker Marker
	Remove bool   // it is a leftover
	Reason string // why, or why not
}

// Clean looks through the whole inventory for what runs of ours have left and
// removes what the dead ones did. Age is measured by the server's clock. A VM that
// fails does not stop the others; all errors come back together with what was
// done. They wrap ErrLeft or snapshot.ErrLeft.
func Clean(ctx context.Context, c *vim25.Client, opt Options) ([]Found, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	vms, err := inventory.List(ctx, c)
	if err != nil {
		return nil, err
	}
	marked, err := Find(ctx, c, vms, opt)
	if err != nil {
		return nil, err
	}
	now, err := methods.GetCurrentTime(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("read the server's time: %w", err)
	}
	var out []Found
	var errs []error
	gone := map[types.ManagedObjectReference]bool{}
	for _, vm := range marked {
		f := Found{Kind: KindVM, VM: vm.Name, Restores: vm.Marker.Name, Created: vm.Marker.Created, Reason: vm.Reason}
		if vm.Remove && !opt.DryRun && ctx.Err() == nil {
			err := Remove(ctx, c, vm, vms, opt.Retry)
			errs = append(errs, err)
			f.Removed = err == nil
		}
		gone[vm.Ref] = vm.Remove // with its snapshots
		out = append(out, f)
	}
	for _, vm := range vms {
		if len(vm.Snapshots) == 0 || gone[vm.Ref] || ctx.Err() != nil {
			continue
		}
		done, err := snapshots(ctx, c, vm, *now, opt)
		out = append(out, done...)
		errs = append(errs, err)
	}
	return out, errors.Join(append(errs, context.Cause(ctx))...)
}

// snapshots removes those that dead runs left on a VM.
func snapshots(ctx context.Context, c *vim25.Client, vm inventory.VM, now time.Time, opt Options) ([]Found, error) {
	var m mo.VirtualMachine
	if err := property.DefaultCollector(c).RetrieveOne(ctx, vm.Ref, []string{"snapshot"}, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", vm.Name, err)
	}
	v := snapshot.VM{Client: c, Ref: vm.Ref, Retry: opt.Retry, Log: opt.Log}
	var out []Found
	for _, t := range snapshot.Flat(m.Snapshot) {
		run, ours := snapshot.Parse(t)
		if !ours {
			continue
		}
		f := Found{Kind: KindSnapshot, VM: vm.Name, Snapshot: t.Name, Created: t.CreateTime}
		var remove bool
		remove, f.Reason = dead(run, now.Sub(t.CreateTime), opt)
		if remove && !opt.DryRun {
			if err := v.Remove(ctx, t.Snapshot); err != nil {
				return append(out, f), fmt.Errorf("clean %s: %w", vm.Name, err)
			}
			f.Removed = true
		}
		out = append(out, f)
	}
	return out, nil
}

// dead decides about one run of ours, which left something so long ago.
func dead(run snapshot.Run, age time.Duration, opt Options) (bool, string) {
	here := run.Host == opt.Host
	switch {
	case here && opt.Alive != nil && opt.Alive(run):
		return false, "its run is alive"
	case here && opt.Alive != nil:
		return true, "its run is dead" // known for certain, whatever its age
	case age < opt.OlderThan:
		return false, fmt.Sprintf("younger than %s", opt.OlderThan)
	case here:
		return true, "its run is dead"
	case opt.OlderThan == 0:
		return false, "of machine " + run.Host + ": give an age to remove it"
	}
	return true, "of machine " + run.Host + ", older than " + opt.OlderThan.String()
}

// Find lists those of the VMs that carry a marker of ours, in their order, and
// judges each. It changes nothing.
func Find(ctx context.Context, c *vim25.Client, vms []inventory.VM, opt Options) ([]VM, error) {
	kind := []string{"VirtualMachine"}
	v, err := view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, kind, true)
	if err != nil {
		return nil, fmt.Errorf("find what restores left: %w", err)
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var found []mo.VirtualMachine
	if err := v.Retrieve(ctx, kind, []string{"config.extraConfig", "config.files.vmPathName"}, &found); err != nil {
		return nil, fmt.Errorf("find what restores left: %w", err)
	}
	now, err := methods.GetCurrentTime(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("read the server's time: %w", err)
	}
	var out []VM
	for _, vm := range vms {
		i := slices.IndexFunc(found, func(m mo.VirtualMachine) bool { return m.Self == vm.Ref })
		if i < 0 || found[i].Config == nil {
			continue
		}
		marker, ours := markerOf(found[i].Config.ExtraConfig)
		if !ours {
			continue
		}
		l := VM{VM: vm, Marker: marker, Reason: Adopted(vm, found[i].Config.Files.VmPathName, marker)}
		if l.Reason == "" {
			l.Remove, l.Reason = dead(marker.Run, now.Sub(marker.Created), opt)
		}
		out = append(out, l)
	}
	return out, nil
}

func markerOf(settings []types.BaseOptionValue) (Marker, bool) {
	for _, s := range settings {
		if o := s.GetOptionValue(); strings.EqualFold(o.Key, Key) {
			value, _ := o.Value.(string)
			return ParseMarker(value)
		}
	}
	return Marker{}, false
}

// Remove deletes a leftover with its files. If it was about to take the place of
// an old VM, that one gets its name back; vms is the inventory as it was before.
// A VM that was renamed or started in the meantime is left alone. Errors wrap
// ErrLeft.
func Remove(ctx context.Context, c *vim25.Client, vm VM, vms []inventory.VM, retry task.Retry) error {
	err := retry.Do(ctx, task.Busy, func(ctx context.Context) error {
		var m mo.VirtualMachine
		if err := property.DefaultCollector(c).RetrieveOne(ctx, vm.Ref, []string{"name"}, &m); err != nil {
			return err
		}
		if inventory.Unescape(m.Name) != vm.Marker.WorkingName {
			return errors.New("it has another name now")
		}
		res, err := methods.Destroy_Task(ctx, c, &types.Destroy_Task{This: vm.Ref}) // refused while it runs
		if err == nil {
			_, err = task.Wait(ctx, c, res.Returnval)
		}
		return err
	})
	if err != nil && !fault.Is(err, &types.ManagedObjectNotFound{}) {
		return fmt.Errorf("remove %s: %w: %w", vm.Name, ErrLeft, err)
	}
	if err := nameBack(ctx, c, vm.Marker, vms); err != nil {
		return fmt.Errorf("name %s as before: %w", vm.Marker.Aside, err)
	}
	return nil
}

// nameBack renames the VM that was moved aside, if it still is and its name is free.
func nameBack(ctx context.Context, c *vim25.Client, m Marker, vms []inventory.VM) error {
	moved := slices.IndexFunc(vms, func(vm inventory.VM) bool { return vm.Ref.Value == m.Old && vm.Name == m.Aside })
	taken := slices.ContainsFunc(vms, func(vm inventory.VM) bool { return vm.Name == m.OldName })
	if m.Old == "" || m.OldName == "" || moved < 0 || taken {
		return nil
	}
	res, err := methods.Rename_Task(ctx, c, &types.Rename_Task{This: vms[moved].Ref, NewName: inventory.Escape(m.OldName)})
	if err == nil {
		_, err = task.Wait(ctx, c, res.Returnval)
	}
	return err
}
