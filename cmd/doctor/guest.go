package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"holdfast/cmd/database"
	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/decide"
	"holdfast/vmware"
	"holdfast/vmware/guest"
)

// Inside says what is looked at in a guest.
type Inside struct {
	VM    string
	Login database.Guest
	SQL   database.Login
	// Areas are Guest and SQL, or one of them.
	Machine, Server bool
	Request         decide.Request
}

// Guest looks at a virtual machine from outside, then puts the agent into its guest, as
// a backup does, looks from there, and takes it out again. After a failure it goes no
// further, nor where the vCenter has let nobody in: that has its line.
func (r *Report) Guest(ctx context.Context, o Inside) {
	if slices.ContainsFunc(r.Lines, func(l Line) bool { return l.ID == "P1-login" && l.Status == check.Failed }) {
		return
	}
	entered := false
	err := r.app.VCenter(ctx, func(s *vmware.Session) error {
		entered = true
		vm, err := s.FindVM(ctx, o.VM)
		if err != nil {
			r.fail(Guest, "guest-vm", "virtual machine", err)
			return nil
		}
		failures := len(r.errs)
		if r.outside(ctx, s, vm, o); len(r.errs) > failures {
			return nil
		}
		others := r.inside(ctx, s, vm, o)
		for o.Machine = false; len(others) > 0 && ctx.Err() == nil; others = others[1:] {
			o.SQL.Instance = others[0]
			r.inside(ctx, s, vm, o)
		}
		return nil
	})
	if err != nil || !entered {
		r.fail(VCenter, "P1-login", "login", err)
	}
}

// outside looks at what vCenter knows, and tries the login.
func (r *Report) outside(ctx context.Context, s *vmware.Session, vm vmware.VM, o Inside) {
	state, err := guest.Look(ctx, s.Client(), vm.Ref)
	if err != nil {
		r.fail(Guest, "guest-vm", "virtual machine", err)
		return
	}
	if !state.On {
		r.fail(Guest, "Q1-power", "power", fmt.Errorf("%s: %w", vm.Name, guest.ErrOff))
		return
	}
	r.add(Guest, ok("Q1-power", "power", "%s is powered on", vm.Name))
	if !state.ToolsRunning || !state.Ready {
		r.fail(Guest, "Q1-tools", "VMware Tools", fmt.Errorf("%s: %w: running %t, ready for guest operations %t (%s)", vm.Name, guest.ErrTools, state.ToolsRunning, state.Ready, state.ToolsStatus))
		return
	}
	r.add(Guest, check.Line{ID: "Q1-tools", Name: "VMware Tools", Detail: "running, version " + state.ToolsVersion + ", " + state.ToolsStatus,
		Remedy: "upgrade VMware Tools in the guest"}.When(state.ToolsStatus != "guestToolsNeedUpgrade" && !strings.Contains(state.ToolsStatus, "TooOld"), check.Warning))
	r.network(state, o)
	missing, err := s.MissingPrivileges(ctx, vmware.RoleGuest, vm.Ref)
	r.privileges(Guest, vmware.RoleGuest, missing, err, "on "+vm.Name, check.Failed)
	if _, err := guest.Open(ctx, s.Client(), vm.Ref, guest.Options{User: o.Login.User, Password: o.Login.Password}); err != nil {
		r.fail(Guest, "Q5-login", "guest login", err)
		return
	}
	r.add(Guest, ok("Q5-login", "guest login", "the guest lets %s in", o.Login.User))
}

// network looks for the way to the guest.
func (r *Report) network(state *guest.State, o Inside) {
	list := state.Addresses
	if o.Login.Address != "" {
		list = []string{o.Login.Address}
	}
	if len(list) == 0 {
		r.fail(Guest, "Q1-route", "address", guest.ErrAddress)
		return
	}
	r.add(Guest, check.Line{ID: "Q1-route", Name: "address", Detail: strings.Join(list, ", "), Remedy: "a direct IPv4 route to the guest is what most networks let pass"}.
		When(o.Login.Address != "" || strings.Contains(list[0], "."), check.Warning))
}

// ids are the names of what putting the agent in may fail of.
var ids = []struct {
	is   error
	id   string
	name string
}{
	{inject.ErrOccupied, "guest-occupied", "other runs"}, {inject.ErrRights, "Q5-admin", "guest user's rights"}, {guest.ErrDenied, "Q5-admin", "guest user's rights"},
	{inject.ErrRoom, "guest-room", "room for the agent"}, {inject.ErrPlace, "guest-directory", "agent's directory"}, {inject.ErrAltered, "guest-program", "agent's program"},
	{inject.ErrTaken, "Q1-port", "agent's port"}, {inject.ErrPort, "Q1-port", "agent's port"}, {inject.ErrFirewall, "guest-firewall", "guest's firewall"},
	{inject.ErrSystem, "guest-system", "guest's system"},
}

// inside puts the agent in, lets it look, and takes it out. It returns the guest's other
// SQL Servers, if one of several was looked at.
func (r *Report) inside(ctx context.Context, s *vmware.Session, vm vmware.VM, o Inside) (others []string) {
	o.SQL.Patient = true
	in, err := database.Inject(ctx, s, vm, o.Login, o.SQL)
	if err != nil {
		for _, k := range ids {
			if errors.Is(err, k.is) {
				r.fail(Guest, k.id, k.name, err)
				return nil
			}
		}
		r.fail(Guest, "guest-agent", "agent", err)
		return nil
	}
	r.entered()
	if o.Machine {
		lines, err := in.Checks(ctx)
		if err != nil {
			r.fail(Guest, "guest-agent", "agent", err)
		}
		r.add(Guest, lines...)
	}
	if o.Server {
		o.Request.Guest = true
		r.server(ctx, in.Client, o.Request)
		if host, err := in.Host(ctx); err == nil {
			others = host.Others
		}
	}
	if err := in.Close(context.WithoutCancel(ctx)); err != nil {
		r.fail(Guest, "guest-clean", "guest afterwards", err)
		return others
	}
	r.left(ctx, s, vm, in, o)
	return others
}

// entered says what an agent that answers has shown.
func (r *Report) entered() {
	r.add(Guest,
		ok("Q5-admin", "guest user's rights", "the agent's directory belongs to administrators alone"),
		ok("guest-program", "agent's program", "it is in the guest what was sent, and runs"),
		ok("Q1-port", "agent's port", "it answers from here, and both sides have proved who they are"))
}

// left looks whether anything of the agent's is still in the guest.
func (r *Report) left(ctx context.Context, s *vmware.Session, vm vmware.VM, in *inject.Injected, o Inside) {
	g, err := guest.Open(ctx, s.Client(), vm.Ref, guest.Options{User: o.Login.User, Password: o.Login.Password})
	if err != nil {
		r.fail(Guest, "guest-clean", "guest afterwards", err)
		return
	}
	list, err := g.List(ctx, in.Parent())
	l := check.Line{ID: "guest-clean", Name: "guest afterwards", Detail: "nothing of the agent is left",
		Remedy: "the next run takes out what is a dead run's; remove the rest by hand"}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if len(names) > 0 {
		l.Detail = in.Parent() + " holds " + strings.Join(names, ", ")
	}
	r.add(Guest, l.When(errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0, check.Warning))
}
