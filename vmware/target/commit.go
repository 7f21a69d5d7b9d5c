package target

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

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
	return p.dropOld(ctx)
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
// restore: the new VM is in its place.
func (p *placed) dropOld(ctx context.Context) error {
	if p.plan.old == nil || !p.target.opt.DeleteOld {
		return nil
	}
	p.renamed = false // from here on nothing is taken back
	if err := p.destroy(ctx, p.plan.old.Ref); err != nil {
		p.target.opt.Log.Warn("the old VM could not be deleted; it is left beside", "vm", p.plan.Replaces, "error", err)
	}
	return nil
}

func (p *placed) rename(ctx context.Context, ref types.ManagedObjectReference, name string) error {
	res, err := methods.Rename_Task(ctx, p.client(), &types.Rename_Task{This: ref, NewName: inventory.Escape(name)})
	if err != nil {
		return err
	}
	return p.wait(ctx)(res.Returnval, nil)
}

func (p *placed) destroy(ctx context.Context, ref types.ManagedObjectReference) error {
	return p.target.opt.Retry.Do(ctx, task.Busy, func(ctx context.Context) error {
		res, err := methods.Destroy_Task(ctx, p.client(), &types.Destroy_Task{This: ref})
		if err != nil {
			return err
		}
		return p.wait(ctx)(res.Returnval, nil)
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

// Abort removes everything that Create made and puts the old VM's name back.
func (p *placed) Abort(ctx context.Context) error {
	var errs []error
	if p.lease != nil {
		errs = append(errs, p.lease.Abort(ctx)) // takes the VM with it
		p.lease = nil
	}
	if p.vm != nil {
		errs = append(errs, p.remove(ctx))
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
	return p.destroy(ctx, ref)
}

// remove deletes the new VM, if the end of the lease did not.
func (p *placed) remove(ctx context.Context) error {
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
	err = p.destroy(ctx, *p.vm)
	if fault.Is(err, &types.ManagedObjectNotFound{}) {
		return nil
	}
	return err
}
