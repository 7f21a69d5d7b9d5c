package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/cmd/ui"
	"holdfast/sqlguest/agent/check"
	"holdfast/vmware"
)

// clockSlack is how far apart clocks may be before somebody should know.
const clockSlack = 5 * time.Minute

// VCenter looks whether the vCenter answers, lets us in, and lets us do what backups
// and restores do.
func (r *Report) VCenter(ctx context.Context) {
	entered := false
	err := r.app.VCenter(ctx, func(s *vmware.Session) error {
		entered = true
		r.session(ctx, s)
		return nil
	})
	if err != nil || !entered {
		r.fail(VCenter, "P1-login", "login", err)
	}
}

func (r *Report) session(ctx context.Context, s *vmware.Session) {
	about := s.Client().ServiceContent.About
	r.add(VCenter, ok("P1-login", "login", "%s lets us in", about.FullName))
	if now, err := s.Clock(ctx); err != nil {
		r.fail(VCenter, "vcenter-clock", "clock", err)
	} else {
		apart := now.Sub(r.app.Now()).Abs().Round(time.Second)
		r.add(VCenter, check.Line{ID: "vcenter-clock", Name: "clock", Detail: fmt.Sprintf("%s apart from this machine's", apart),
			Remedy: "set the clocks (123/UDP NTP): points bear this machine's time"}.When(apart <= clockSlack, check.Warning))
	}
	vms, err := s.VMs(ctx)
	if err != nil {
		r.fail(VCenter, "vcenter-vms", "virtual machines", err)
		return
	}
	r.add(VCenter, check.Line{ID: "vcenter-vms", Name: "virtual machines", Detail: fmt.Sprintf("%d are visible", len(vms)),
		Remedy: "give the account the privilege System.View on the folders of the virtual machines"}.When(len(vms) > 0, check.Warning))
	for _, role := range []string{vmware.RoleBackup, vmware.RoleRestore, vmware.RoleGuest} {
		missing, err := s.MissingPrivileges(ctx, role, s.Client().ServiceContent.RootFolder)
		r.privileges(VCenter, role, missing, err, "on the root folder; if they are granted lower down, all is well", check.Warning)
	}
}

// privileges looks for those of a role that are missing.
func (r *Report) privileges(area, role string, missing []string, err error, where string, otherwise check.Status) {
	if err != nil {
		r.add(area, check.Line{ID: "privileges-" + role, Name: "privileges for " + role, Status: check.Warning, Detail: err.Error(), Remedy: "holdfast doctor privileges lists what is needed"})
		return
	}
	l := check.Line{ID: "privileges-" + role, Name: "privileges for " + role, Detail: "all are granted",
		Remedy: "holdfast doctor privileges prints the roles and how they are made"}
	if len(missing) > 0 {
		l.Detail = "missing " + where + ": " + strings.Join(missing, ", ")
	}
	r.add(area, l.When(len(missing) == 0, otherwise))
}

// Role is what an account needs for one kind of work.
type Role struct {
	Role       string   `json:"role"`
	Purpose    string   `json:"purpose"`
	Privileges []string `json:"privileges"`
	Command    string   `json:"command"` // makes the role with govc
}

var purposes = [][2]string{
	{vmware.RoleBackup, "backup vm"}, {vmware.RoleRestore, "restore vm, restore disk --to-vm; a restore reads back what it wrote"},
	{vmware.RoleGuest, "backup sql --vm, restore sql --to-vm: work inside a guest through VMware Tools"},
}

// Roles are those of a vCenter.
func Roles() ([]Role, error) {
	var roles []Role
	for _, p := range purposes {
		list, err := vmware.Privileges(p[0])
		if err != nil {
			return nil, err
		}
		// System.* come with every role.
		own := slices.DeleteFunc(slices.Clone(list), func(name string) bool { return strings.HasPrefix(name, "System.") })
		roles = append(roles, Role{p[0], p[1], list, "govc role.create holdfast-" + p[0] + " " + strings.Join(own, " ")})
	}
	return roles, nil
}

// ShowRoles prints the roles: a table of who needs what, and how they are made.
func ShowRoles(t *ui.Terminal) error {
	roles, err := Roles()
	if err != nil {
		return err
	}
	if t.JSON() {
		return t.Result(roles)
	}
	var all []string
	for _, role := range roles {
		all = append(all, role.Privileges...)
	}
	slices.Sort(all)
	table := ui.NewTable(ui.Left("Privilege"), ui.Left("backup"), ui.Left("restore"), ui.Left("guest"))
	for _, name := range slices.Compact(all) {
		row := []string{name}
		for _, role := range roles {
			mark := ""
			if slices.Contains(role.Privileges, name) {
				mark = "x"
			}
			row = append(row, mark)
		}
		table.Row(row...)
	}
	t.Table(table)
	for _, role := range roles {
		t.Printf("\n# %s: %s\n%s\n", role.Role, role.Purpose, role.Command)
	}
	return nil
}
