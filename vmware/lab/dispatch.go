package lab

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/guest"
	"holdfast/vmware/lab/machine"
)

// extend puts the laboratory between vcsim's dispatcher and its objects.
func (l *Lab) extend() {
	reg := l.svc.Context.Map
	l.vms = machine.New(machine.Options{
		Context: l.ctx, Datacenter: l.dcRef, Dir: l.dir, Datastores: l.opt.Datastores, Trouble: l.trouble,
		Block: l.opt.CBTBlock, MaxExtents: l.opt.MaxExtents, Now: l.opt.Now, Export: l.export,
	})
	l.guests = guest.New(guest.Options{Dir: l.vms.GuestDir, Find: l.account})
	l.guests.Install(reg)
	reg.Handler = l.dispatch
}

// oneAtATime are the methods that a VM refuses with TaskInProgress while one of them
// runs.
var oneAtATime = map[string]bool{
	"CreateSnapshot_Task": true, "CreateSnapshotEx_Task": true, "RemoveSnapshot_Task": true, "RevertToSnapshot_Task": true,
	"RevertToCurrentSnapshot_Task": true, "RemoveAllSnapshots_Task": true, "ConsolidateVMDisks_Task": true,
	"ReconfigVM_Task": true, "Destroy_Task": true, "PowerOnVM_Task": true, "PowerOffVM_Task": true,
}

// dispatch sees every call before vcsim does. It may answer with a fault; or it puts a
// wrapper of the object into the session's registry, which the dispatcher asks before
// the global one.
func (l *Lab) dispatch(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	l.counts.add(func() { l.counts.calls[m.Name]++ })
	// A task of vcsim changes a VM step by step and ends before anybody looks again, so the
	// next call of whatever kind is early enough to bring files and sizes up to date.
	l.vms.Settle()
	vm := l.vms.Of(m.This)
	name := ""
	if vm != nil {
		name = vm.Name()
	}
	if fault := l.trouble.Answer(m.Name, name, false); fault != nil {
		return nil, fault
	}
	// The dispatcher read the session before it asked here, so a stranger can only be
	// refused with a fault; taking the session away would come too late.
	if ctx.Session == nil {
		switch m.Name {
		case "RetrieveProperties", "RetrievePropertiesEx", "Fetch": // vcsim lets strangers read; a vCenter does not
			return nil, &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}}
		}
		return nil, nil
	}
	// Asked before vcsim's lock is taken: behind the lock the call would just wait its turn,
	// and no caller would ever learn to live with TaskInProgress.
	if vm != nil && oneAtATime[m.Name] && vm.IsBusy() {
		return nil, &types.TaskInProgress{Task: vm.Ref()}
	}
	if m.Name == "Logout" {
		l.loggedOut(ctx.Session.Key)
	}
	l.vms.Wrap(ctx, m.This)
	l.wrap(ctx, m)
	return nil, nil
}

// wrap does for other objects what the Inventory does for VMs.
func (l *Lab) wrap(ctx *simulator.Context, m *simulator.Method) {
	reg := ctx.Session.Registry
	switch o := ctx.Map.Get(m.This).(type) {
	case *simulator.SessionManager:
		if m.Name == "AcquireGenericServiceTicket" {
			view := o.SessionManager
			view.CurrentSession = &ctx.Session.UserSession
			reg.Put(&sessionsWrapper{View: view, SessionManager: o, lab: l})
		}
	case *simulator.ResourcePool:
		if reg.Get(m.This) == nil {
			reg.Put(&poolWrapper{o, l})
		}
	}
}

// VM finds a VM by its inventory name, as a client sees it or unescaped; nil when there
// is none.
func (l *Lab) VM(name string) *VM { return l.vms.VM(name) }

// FirewallRules are the rules that were put into the firewall of a VM's guest.
func (l *Lab) FirewallRules(vm *VM) []string { return l.guests.Rules(vm.Ref().Value) }

// OwnDirectory says whose a directory in a Windows guest is, and who has full control of
// it, as identifiers (S-1-5-21-1) or SDDL's short words (BA, SY). Protected ones inherit
// nothing.
func (l *Lab) OwnDirectory(vm *VM, path, owner string, protected bool, full ...string) {
	l.guests.Own(vm.Ref().Value, path, owner, protected, full...)
}

// Descriptor is the security descriptor of a directory in a Windows guest, in SDDL.
func (l *Lab) Descriptor(vm *VM, path string) string {
	return l.guests.Descriptor(vm.Ref().Value, path)
}

// VMs lists the names of all VMs, sorted.
func (l *Lab) VMs() []string { return l.vms.VMs() }
