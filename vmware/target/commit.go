package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware"
	"holdfast/vmware/disk"
	"holdfast/vmware/inventory"
	"holdfast/vmware/leftover"
	"holdfast/vmware/task"
)

// Commit puts the NVRAM back and then, in one step that either happens or does
// not, gives the VM its name and takes the marker away; an old VM leaves its place
// just before. Started is the VM last, if that was asked for. ErrExists means that
// somebody made a VM of that name during the restore, ErrRunning that the old one
// was started.
func (p *placed) Commit(ctx context.Context) error {
	if len(p.todo) > 0 {
		return fmt.Errorf("commit %q: %d disks were not written", p.plan.Name, len(p.todo))
	}
	if err := p.complete(ctx); err != nil {
		return err
	}
	nvram, err := p.putNVRAM(ctx)
	if err != nil {
		return fmt.Errorf("restore NVRAM of %q: %w", p.plan.Name, err)
	}
	if err := p.makeRoom(ctx); err != nil {
		return err
	}
	last := types.VirtualMachineConfigSpec{
		Name: inventory.Escape(p.plan.Name), ExtraConfig: append(nvram, setting(leftover.Key, "")),
	}
	err = p.target.session.Reconfigure(ctx, *p.vm, last)
	if fault.Is(err, &types.DuplicateName{}) {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	if err != nil {
		return fmt.Errorf("name it %q: %w", p.plan.Name, err)
	}
	if p.plan.PowerOn {
		if err := p.wait(ctx)(powerOn(ctx, p.client(), *p.vm)); err != nil {
			return fmt.Errorf("power on %q: %w", p.plan.Name, err)
		}
	}
	p.dropOld(ctx)
	if p.target.opt.Made != nil {
		p.target.opt.Made(vmware.VM{Ref: *p.vm, Name: p.plan.Name})
	}
	return nil
}

// setting is an advanced setting; an empty value takes it away.
func setting(key, value string) types.BaseOptionValue {
	return &types.OptionValue{Key: key, Value: value}
}

// putNVRAM uploads the file beside the VM's configuration and returns the setting
// that names it there.
func (p *placed) putNVRAM(ctx context.Context) ([]types.BaseOptionValue, error) {
	if p.nvram == nil {
		content, err := p.target.read(ctx, p.point, vmware.ItemNVRAM)
		if errors.Is(err, errNoItem) {
			return nil, nil // a VM that was never started has none
		}
		if err != nil {
			return nil, err
		}
		p.nvram = content
	}
	m, err := p.read(ctx, "config.files", "datastore")
	if err != nil {
		return nil, err
	}
	vmx, err := disk.ParsePath(m.Config.Files.VmPathName)
	if err != nil {
		return nil, err
	}
	folder, _, err := p.target.session.OpenFolder(ctx, m.Datastore)
	if err != nil {
		return nil, err
	}
	folder.Retry = p.target.opt.Retry
	base := path.Base(vmx.File)
	name := base[:len(base)-len(path.Ext(base))] + ".nvram"
	if err := folder.WriteFile(ctx, vmx.Sibling(name), p.nvram); err != nil {
		return nil, err
	}
	return []types.BaseOptionValue{setting("nvram", name)}, nil
}

// makeRoom looks at the inventory again, for a restore takes hours, and moves the
// old VM, if there is one to be replaced, out of the name. The marker says so
// before it is done, so that what a killed program leaves can be put right.
func (p *placed) makeRoom(ctx context.Context) error {
	vms, err := p.target.session.VMs(ctx)
	if err != nil {
		return err
	}
	vms = slices.DeleteFunc(vms, func(vm vmware.VM) bool { return vm.Ref == *p.vm })
	now := Plan{Name: p.plan.Name, attrs: p.plan.attrs, making: p.plan.making}
	t := *p.target
	t.opt.Name = p.plan.Name // also if the old VM was renamed in the meantime
	t.replace(&now, vms)
	now.twins(vms)
	if err := now.Err(); err != nil {
		return err
	}
	p.plan.old, p.plan.Replaces = now.old, now.Replaces
	if now.old == nil {
		return nil
	}
	aside := now.OldBecomes
	if t.opt.DeleteOld {
		aside = leftover.Fit(p.plan.Name, "-replaced-"+t.opt.Run.ID)
	}
	p.marker.Old, p.marker.OldName, p.marker.Aside = now.old.Ref.Value, now.old.Name, aside
	marked := types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{setting(leftover.Key, p.marker.String())}}
	if err := p.target.session.Reconfigure(ctx, *p.vm, marked); err != nil {
		return fmt.Errorf("replace %s: %w", now.Replaces, err)
	}
	if err := p.rename(ctx, now.old.Ref, aside); err != nil {
		return fmt.Errorf("replace %s: %w", now.Replaces, err)
	}
	p.renamed = true
	return nil
}

// dropOld deletes the old VM, last of all. That this fails does not undo the
// restore, for the new VM is in its place; but it is told.
func (p *placed) dropOld(ctx context.Context) {
	if p.plan.old == nil || !p.target.opt.DeleteOld {
		return
	}
	p.renamed = false // from here on nothing is taken back
	p.target.opt.Log.Info("delete the old VM", "vm", p.plan.Replaces, "aside", p.marker.Aside)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	// A deletion that has begun goes on without us, so an interrupt waits for it:
	// only its end tells whether something is left.
	err := p.destroy(ctx, clean, p.plan.old.Ref, p.target.opt.Retry)
	if err == nil || fault.Is(err, &types.ManagedObjectNotFound{}) {
		return
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	left := path.Join(path.Dir(p.plan.Replaces), p.marker.Aside)
	p.target.opt.Log.Warn("the old VM could not be deleted", "vm", left, "was", p.plan.Replaces, "error", err)
	p.target.opt.Incomplete(fmt.Sprintf("the old VM could not be deleted and is left as %s: %v", left, err))
}

func (p *placed) rename(ctx context.Context, ref types.ManagedObjectReference, name string) error {
	res, err := methods.Rename_Task(ctx, p.client(), &types.Rename_Task{This: ref, NewName: inventory.Escape(name)})
	if err != nil {
		return err
	}
	return p.wait(ctx)(res.Returnval, nil)
}

// destroy deletes a VM or a folder. It begins as long as ctx lasts, and waits for
// what it began as long as patience does.
func (p *placed) destroy(ctx, patience context.Context, ref types.ManagedObjectReference, retry task.Retry) error {
	return retry.Do(ctx, task.Busy, func(ctx context.Context) error {
		res, err := methods.Destroy_Task(ctx, p.client(), &types.Destroy_Task{This: ref})
		if err != nil {
			return err
		}
		return p.wait(patience)(res.Returnval, nil)
	})
}

// wait gives a function that waits for the task a call began.
func (p *placed) wait(ctx context.Context) func(types.ManagedObjectReference, error) error {
	return func(ref types.ManagedObjectReference, err error) error {
		if err == nil {
			_, err = task.Wait(ctx, p.client(), ref)
		}
		return err
	}
}

func powerOn(ctx context.Context, c soap.RoundTripper, ref types.ManagedObjectReference) (types.ManagedObjectReference, error) {
	res, err := methods.PowerOnVM_Task(ctx, c, &types.PowerOnVM_Task{This: ref})
	if err != nil {
		return ref, err
	}
	return res.Returnval, nil
}

// Abort removes everything that Create made and puts the old VM's name back. Errors
// wrap leftover.ErrLeft when the VM cannot be removed because its lease is lost.
func (p *placed) Abort(ctx context.Context) error {
	var errs []error
	lost := p.leaseLost(ctx)
	if p.lease != nil {
		errs = append(errs, p.lease.Abort(ctx)) // takes the VM with it
		p.lease = nil
	}
	if p.vm != nil {
		errs = append(errs, p.remove(ctx, lost))
	}
	if p.renamed {
		errs = append(errs, p.rename(ctx, p.plan.old.Ref, p.plan.old.Name))
	}
	for i := len(p.folders) - 1; i >= 0; i-- {
		errs = append(errs, p.removeFolder(ctx, p.folders[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take back %q: %w", p.plan.ImportName, err)
	}
	return nil
}

// removeFolder deletes a folder that we made, if it is empty: deleting one would
// delete the machines in it.
func (p *placed) removeFolder(ctx context.Context, ref types.ManagedObjectReference) error {
	var f mo.Folder
	if err := property.DefaultCollector(p.client()).RetrieveOne(ctx, ref, []string{"childEntity"}, &f); err != nil {
		return fmt.Errorf("read new folder: %w", err)
	}
	if len(f.ChildEntity) > 0 {
		return nil
	}
	return p.destroy(ctx, ctx, ref, p.target.opt.Retry)
}

// leaseLost is true when there should be a lease but this session cannot see it:
// a lease belongs to the session that opened it, and ours has been another since.
func (p *placed) leaseLost(ctx context.Context) bool {
	if p.lease == nil {
		return false
	}
	var l mo.HttpNfcLease
	err := property.DefaultCollector(p.client()).RetrieveOne(ctx, p.lease.Ref, []string{"state"}, &l)
	return fault.Is(err, &types.ManagedObjectNotFound{})
}

// lostTries are few, and their pauses short: a lease that nobody can end keeps its
// VM for minutes.
const (
	lostTries = 3
	lostPause = time.Second
)

// remove deletes the new VM, if the end of the lease did not.
func (p *placed) remove(ctx context.Context, lost bool) error {
	m, err := p.read(ctx, "runtime.powerState")
	if fault.Is(err, &types.ManagedObjectNotFound{}) {
		return nil
	}
	if err == nil && m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		res, e := methods.PowerOffVM_Task(ctx, p.client(), &types.PowerOffVM_Task{This: *p.vm})
		if e == nil {
			_, e = task.Wait(ctx, p.client(), res.Returnval)
		}
		if e != nil {
			return e
		}
	}
	retry := p.target.opt.Retry
	if lost {
		retry = task.Retry{Tries: lostTries, First: cmp.Or(min(retry.First, lostPause), lostPause), Limit: lostPause}
	}
	err = p.destroy(ctx, ctx, *p.vm, retry)
	switch {
	case fault.Is(err, &types.ManagedObjectNotFound{}):
		return nil
	case lost && fault.Is(err, &types.TaskInProgress{}):
		return fmt.Errorf("the VM %q is left: its import was lost with the session, and the server gives it up within minutes; then vm cleanup, or the next restore, removes what is still there: %w: %w",
			p.plan.ImportName, leftover.ErrLeft, err)
	}
	return err
}
