// Package snapshot takes VMware snapshots and makes sure that they go away.
//
// Snapshots that backup tools leave behind are the most common complaint about
// them: they fill datastores and slow machines down. So a snapshot of ours
// carries the run's id in its name from the moment the server hears of it; a
// run that ends in whatever way removes it; what a killed run left is found by
// that name and removed by the next. A snapshot of somebody else is never
// touched, and none of ours is kept between runs.
package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/task"
)

// ErrLeft means that a snapshot of ours, or a disk that needs consolidation
// after it, could not be removed and is still there.
var ErrLeft = errors.New("snapshot could not be removed")

// prefix begins the name of every snapshot of ours.
const prefix = "holdfast-"

// undoLimit bounds the cleaning up after a run that was cancelled.
const undoLimit = 10 * time.Minute

// Run is who takes a snapshot. It is known before the snapshot is, and is found
// in it again.
type Run struct {
	Program    string    `json:"program"`    // holdfast; set by Take
	Host       string    `json:"host"`       // machine that runs us
	ID         string    `json:"run"`        // unique
	PID        int       `json:"pid"`        //
	Started    time.Time `json:"started"`    // of the process: a pid alone may be somebody else's by now
	Repository string    `json:"repository"` // id
}

// Name of the snapshot: holdfast-<host>-<run>. vSphere allows 80 characters.
func (r Run) Name() string {
	host := strings.Map(func(c rune) rune {
		if c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, r.Host)
	return prefix + host[:min(len(host), 40)] + "-" + r.ID[:min(len(r.ID), 24)]
}

func (r Run) description() string {
	r.Program = "holdfast"
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(b)
}

// Parse recognises a snapshot of ours: name and description must agree. A name
// alone is not enough, for anybody may choose it.
func Parse(t types.VirtualMachineSnapshotTree) (Run, bool) {
	var r Run
	if !strings.HasPrefix(t.Name, prefix) || json.Unmarshal([]byte(t.Description), &r) != nil {
		return Run{}, false
	}
	return r, r.Program == "holdfast" && r.ID != "" && r.Name() == t.Name
}

// Flat lists a VM's snapshots, parents before children.
func Flat(info *types.VirtualMachineSnapshotInfo) []types.VirtualMachineSnapshotTree {
	var out []types.VirtualMachineSnapshotTree
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(trees []types.VirtualMachineSnapshotTree) {
		for _, t := range trees {
			out = append(out, t)
			walk(t.ChildSnapshotList)
		}
	}
	if info != nil {
		walk(info.RootSnapshotList)
	}
	return out
}

// Find is the snapshot of that reference, with what is below it; false when the
// VM does not have it.
func Find(info *types.VirtualMachineSnapshotInfo, ref types.ManagedObjectReference) (types.VirtualMachineSnapshotTree, bool) {
	all := Flat(info)
	i := slices.IndexFunc(all, func(t types.VirtualMachineSnapshotTree) bool { return t.Snapshot == ref })
	if i < 0 {
		return types.VirtualMachineSnapshotTree{}, false
	}
	return all[i], true
}

// Lineage are the snapshots from the current one up to the root, each reference
// and creation time. It changes when a user reverts, takes or removes one.
func Lineage(info *types.VirtualMachineSnapshotInfo) []string {
	if info == nil || info.CurrentSnapshot == nil {
		return nil
	}
	var out []string
	for _, t := range upwards(info.RootSnapshotList, *info.CurrentSnapshot) {
		out = append(out, t.Snapshot.Value+"@"+t.CreateTime.UTC().Format(time.RFC3339Nano))
	}
	return out
}

// upwards is the way from a snapshot up to its root, both included; nil when the
// snapshot is not there.
func upwards(trees []types.VirtualMachineSnapshotTree, from types.ManagedObjectReference) []types.VirtualMachineSnapshotTree {
	for _, t := range trees {
		if below := upwards(t.ChildSnapshotList, from); below != nil || t.Snapshot == from {
			return append(below, t)
		}
	}
	return nil
}

// Judgement is what Judge says about a VM's snapshots.
type Judgement struct {
	Remove  []types.VirtualMachineSnapshotTree // left by dead runs of ours
	Busy    []Run                              // our runs that are alive: this VM is being backed up
	Foreign []string                           // names of everybody else's
	Other   []string                           // names of ours from other machines, which cannot be judged from here
}

// Judge sorts a VM's snapshots. Only a snapshot of ours, made on this host by a
// run that alive denies, is a leftover: from here nothing can be known about
// the processes of other hosts.
func Judge(info *types.VirtualMachineSnapshotInfo, host string, alive func(Run) bool) Judgement {
	var j Judgement
	for _, t := range Flat(info) {
		run, ours := Parse(t)
		switch {
		case !ours:
			j.Foreign = append(j.Foreign, t.Name)
		case run.Host != host:
			j.Other = append(j.Other, t.Name)
		case alive != nil && alive(run):
			j.Busy = append(j.Busy, run)
		default:
			j.Remove = append(j.Remove, t)
		}
	}
	return j
}

// Ahead lists the living runs of this host whose snapshots stand above ref, the
// snapshot of run: they were here first. Two runs that look at a VM in the same
// moment both find it free; only the order of their snapshots, which the server
// makes one after the other, tells who may go on. Of runs that hold a snapshot
// each, exactly the one on top has nobody ahead.
func Ahead(info *types.VirtualMachineSnapshotInfo, ref types.ManagedObjectReference, run Run, alive func(Run) bool) []Run {
	if info == nil || alive == nil {
		return nil
	}
	var out []Run
	for _, t := range upwards(info.RootSnapshotList, ref) {
		r, ours := Parse(t)
		if ours && r.ID != run.ID && r.Host == run.Host && alive(r) {
			out = append(out, r)
		}
	}
	return out
}

// VM is a virtual machine whose snapshots are handled.
type VM struct {
	Client *vim25.Client
	Ref    types.ManagedObjectReference
	Retry  task.Retry // of what a busy server refuses
	Log    *slog.Logger
}

// Take makes a snapshot without memory. A nil spec means that the guest is not
// asked to come to rest. If Take fails it has removed what the server may have
// made, even when ctx has ended or the server's answer was lost; when even that
// fails the error wraps ErrLeft.
func (v VM) Take(ctx context.Context, run Run, spec types.BaseVirtualMachineGuestQuiesceSpec) (types.ManagedObjectReference, error) {
	var ref types.ManagedObjectReference
	err := v.Retry.Do(ctx, task.Busy, func(ctx context.Context) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var err error
		ref, err = v.create(ctx, run, spec)
		return err
	})
	if err == nil {
		return ref, nil
	}
	err = fmt.Errorf("take snapshot %s: %w", run.Name(), err)
	if refused(err) {
		return ref, err
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	return ref, errors.Join(err, v.undo(undo, run))
}

// refused reports whether the server itself said no: then nothing was made.
func refused(err error) bool {
	answered := false
	fault.In(err, func(types.BaseMethodFault, string, []types.LocalizableMessage) bool {
		answered = true
		return true
	})
	return answered && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (v VM) create(ctx context.Context, run Run, spec types.BaseVirtualMachineGuestQuiesceSpec) (types.ManagedObjectReference, error) {
	var started types.ManagedObjectReference
	if version(v.Client.ServiceContent.About.ApiVersion) >= 605 {
		res, err := methods.CreateSnapshotEx_Task(ctx, v.Client, &types.CreateSnapshotEx_Task{
			This: v.Ref, Name: run.Name(), Description: run.description(), QuiesceSpec: spec,
		})
		if err != nil {
			return started, err
		}
		started = res.Returnval
	} else {
		res, err := methods.CreateSnapshot_Task(ctx, v.Client, &types.CreateSnapshot_Task{
			This: v.Ref, Name: run.Name(), Description: run.description(), Quiesce: spec != nil,
		})
		if err != nil {
			return started, err
		}
		started = res.Returnval
	}
	res, err := task.Wait(ctx, v.Client, started)
	if err != nil {
		return started, err
	}
	ref, ok := res.(types.ManagedObjectReference)
	if !ok {
		return started, fmt.Errorf("task %s has no snapshot as its result", started.Value)
	}
	return ref, nil
}

// version makes 605 of "6.5" and 800 of "8.0.2.0".
func version(text string) int {
	var major, minor int
	_, _ = fmt.Sscanf(text, "%d.%d", &major, &minor) // what is missing stays 0
	return major*100 + minor
}

// undo removes the run's snapshot, however late it appears: it waits for the
// VM's running tasks, looks, and looks once more, for a request whose answer was
// lost may have become a task only meanwhile.
func (v VM) undo(ctx context.Context, run Run) error {
	for range 2 {
		if err := v.settle(ctx); err != nil {
			return fmt.Errorf("%w: wait for tasks: %w", ErrLeft, err)
		}
		info, err := v.info(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLeft, err)
		}
		for _, t := range Flat(info) {
			if r, ours := Parse(t); ours && r.ID == run.ID {
				return v.Remove(ctx, t.Snapshot)
			}
		}
		if err := task.Sleep(ctx, cmp.Or(v.Retry.First, time.Second)); err != nil {
			return fmt.Errorf("%w: %w", ErrLeft, err)
		}
	}
	return nil
}

// settle waits until none of the VM's tasks is running.
func (v VM) settle(ctx context.Context) error {
	var m mo.VirtualMachine
	if err := v.read(ctx, &m, "recentTask"); err != nil {
		return err
	}
	for _, ref := range m.RecentTask {
		_, err := task.Wait(ctx, v.Client, ref)
		if ctx.Err() != nil {
			return err
		}
		// Any other error is that of a task of the past.
	}
	return nil
}

func (v VM) read(ctx context.Context, m *mo.VirtualMachine, props ...string) error {
	if err := property.DefaultCollector(v.Client).RetrieveOne(ctx, v.Ref, props, m); err != nil {
		return fmt.Errorf("read virtual machine: %w", err)
	}
	return nil
}

func (v VM) info(ctx context.Context) (*types.VirtualMachineSnapshotInfo, error) {
	var m mo.VirtualMachine
	err := v.read(ctx, &m, "snapshot")
	return m.Snapshot, err
}

// Remove removes one snapshot, not its children, and merges its disks. It tries
// again while the server is busy, looks whether the snapshot is really gone,
// and consolidates what the server left unmerged. Errors wrap ErrLeft.
func (v VM) Remove(ctx context.Context, ref types.ManagedObjectReference) error {
	merge := true
	err := v.Retry.Do(ctx, again, func(ctx context.Context) error {
		res, err := methods.RemoveSnapshot_Task(ctx, v.Client, &types.RemoveSnapshot_Task{This: ref, Consolidate: &merge})
		if err == nil {
			_, err = task.Wait(ctx, v.Client, res.Returnval)
		}
		if err == nil || fault.Is(err, &types.ManagedObjectNotFound{}) {
			return nil
		}
		// The answer may be lost and the snapshot gone: only the tree knows.
		if info, e := v.info(ctx); e == nil {
			if _, there := Find(info, ref); !there {
				return nil
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w: %w", ref.Value, ErrLeft, err)
	}
	return v.Consolidate(ctx)
}

// again: whatever went wrong with a removal, another try does no harm.
func again(err error) bool {
	return !errors.Is(err, context.Canceled) && !fault.Is(err, &types.NoPermission{})
}

// Consolidate merges disks that a removal left unmerged, if there are any.
// Errors wrap ErrLeft.
func (v VM) Consolidate(ctx context.Context) error {
	err := v.Retry.Do(ctx, again, func(ctx context.Context) error {
		var m mo.VirtualMachine
		if err := v.read(ctx, &m, "runtime.consolidationNeeded"); err != nil {
			return err
		}
		if !m.Runtime.ConsolidationNeeded {
			return nil
		}
		v.Log.Info("consolidate disks", "vm", v.Ref.Value)
		res, err := methods.ConsolidateVMDisks_Task(ctx, v.Client, &types.ConsolidateVMDisks_Task{This: v.Ref})
		if err != nil {
			return err
		}
		if _, err = task.Wait(ctx, v.Client, res.Returnval); err != nil {
			return err
		}
		// A host may call it done and leave a disk unmerged.
		if err = v.read(ctx, &m, "runtime.consolidationNeeded"); err == nil && m.Runtime.ConsolidationNeeded {
			err = errors.New("disks still need consolidation")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("consolidate disks: %w: %w", ErrLeft, err)
	}
	return nil
}

// RemoveLeftovers removes what dead runs left and says what it removed.
func (v VM) RemoveLeftovers(ctx context.Context, left []types.VirtualMachineSnapshotTree) ([]string, error) {
	var removed []string
	for _, t := range left {
		if err := v.Remove(ctx, t.Snapshot); err != nil {
			return removed, err
		}
		removed = append(removed, t.Name)
	}
	return removed, nil
}
