// Package sqlcmd has the commands that are about SQL Server. A command is one file.
package sqlcmd

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/batch"
	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/runlock"
	"holdfast/cmd/secret"
	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/sqlguest"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/decide"
	"holdfast/vmware"
)

// codes are the exit codes of every command that talks to a SQL Server.
func codes() []verdict.Code { return []verdict.Code{verdict.Unreachable, verdict.Refused} }

// place is the SQL Server that a command is for.
type place struct {
	vm, instance string
	each         bool // every SQL Server in the guest, if it has several
}

func (p *place) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.vm, "vm", "", "the SQL Server in the virtual machine `NAME`, through an agent that is put in for the run")
	c.Flags().StringVar(&p.instance, "instance", "", "the SQL Server `INSTANCE`: NAME, HOST\\NAME or HOST:PORT; . is the default one of this machine")
}

func (p *place) check() error {
	switch {
	case p.vm != "" && p.instance != "":
		return settings.Usagef("leave one of them away", "--vm and --instance cannot be meant together")
	case p.vm == "" && p.instance == "":
		return settings.Usagef("--vm NAME, or --instance . for the default instance of this machine", "no SQL Server was named")
	}
	return nil
}

// withSQL runs fn with a login at the SQL Server.
func withSQL(ctx context.Context, a frame.App, p place, fn func(at database.Place) error) error {
	login, err := sqlLogin(ctx, a)
	if err != nil {
		return err
	}
	if login.Each = p.each; p.vm != "" {
		return withGuest(ctx, a, p.vm, login, fn)
	}
	login.Instance = p.instance
	s, err := database.Connect(ctx, login)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing of ours is left in a connection
	at := database.Place{Server: s, Beside: s.Beside()}
	if strings.Contains(p.instance, ":") { // no name leads to a port
		at.Address = p.instance
	}
	return fn(at)
}

// sqlLogin is the login to the SQL Server in a guest, with its password.
func sqlLogin(ctx context.Context, a frame.App) (database.Login, error) {
	login := database.Login{Instance: a.Setting("sql.address"), User: a.Setting("sql.user"), Log: a.Log()}
	login.Trust, _ = strconv.ParseBool(a.Setting("sql.trust")) // checked when it was read
	var err error
	if login.Roots, err = settings.Roots(a.Setting("tls-ca")); err != nil {
		return login, err
	}
	if login.User == "" {
		return login, nil
	}
	password, err := a.Secret(ctx, secret.SQL)
	login.Password = string(password)
	return login, err
}

// guestLogin is the login to a guest, with its password.
func guestLogin(ctx context.Context, a frame.App) (database.Guest, error) {
	g, err := database.GuestOf(a.Setting)
	if err != nil {
		return g, err
	}
	password, err := a.Secret(ctx, secret.Guest)
	g.Password = string(password)
	return g, err
}

// withGuest runs fn with an agent in the VM, and takes it out again whatever happens.
func withGuest(ctx context.Context, a frame.App, name string, login database.Login, fn func(at database.Place) error) error {
	g, err := guestLogin(ctx, a)
	if err != nil {
		return err
	}
	lock, err := a.Lock("")
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // its end is the process's at the latest
	g.Lock = lock
	return a.VCenter(ctx, func(s *vmware.Session) error { return database.Inside(ctx, s, name, g, login, fn) })
}

// Guests backs up the databases inside virtual machines on behalf of a backup of the
// machines themselves.
type Guests struct {
	guest database.Guest
	login database.Login
}

// NewGuests asks for the logins; the lock is the run's.
func NewGuests(ctx context.Context, a frame.App, lock *runlock.Lock) (*Guests, error) {
	var g Guests
	var err error
	if g.login, err = sqlLogin(ctx, a); err != nil {
		return nil, err
	}
	if g.guest, err = guestLogin(ctx, a); err != nil {
		return nil, err
	}
	g.login.Each, g.guest.Lock = true, lock
	return &g, nil
}

// ruleNone leaves the databases of a VM out: it has no SQL Server.
const ruleNone = "S-none"

// Backup backs up every database of the VM and notes in the run what became of it. What
// it gives is for the VM's point; nil if the guest has no SQL Server.
func (g *Guests) Backup(ctx context.Context, s *vmware.Session, vm vmware.VM, run *batch.Run, tags []string) *vmware.Apps {
	stored, bad, all := map[string]bool{}, map[string]bool{}, map[string]vmware.AppDatabase{}
	err := g.Inside(ctx, s, vm, func(at database.Place) error {
		warnOfEvents(ctx, at, run.UI)
		return database.Backup(ctx, at, run, database.Options{Transport: "auto", Parallel: 1, Tags: tags, Tell: func(step sqlguest.Step) {
			if step.Identity != "" {
				all[step.Identity] = vmware.AppDatabase{Source: step.Source, Identity: step.Identity, Database: step.Database}
			}
			switch {
			case step.Err == nil && step.Point != nil:
				stored[step.Source] = true
			case step.Err != nil || step.Decision.Exit != decide.ExitDone:
				bad[step.Source] = true
			}
		}})
	})
	switch {
	case errors.Is(err, inject.ErrNoServer):
		run.Skip("sql/"+vm.Name, ruleNone, "no SQL Server is installed in the guest", false)
		return nil
	case err != nil:
		run.Fail("sql/"+vm.Name, err)
		return &vmware.Apps{Failed: true} // not why: the words are not free of secrets here
	}
	protected, err := protected(ctx, run.Repository, all)
	if err != nil {
		run.Fail("sql/"+vm.Name, err)
		return &vmware.Apps{Failed: true}
	}
	apps := &vmware.Apps{Done: run.Now(), Databases: protected}
	for source := range bad {
		if !stored[source] {
			apps.Missed = append(apps.Missed, source)
		}
	}
	slices.Sort(apps.Missed)
	return apps
}

// protected are those of the databases that have a point, with the newest one: whatever
// becomes of it later, the VM's point tells that there was one.
func protected(ctx context.Context, r *repo.Repository, all map[string]vmware.AppDatabase) ([]vmware.AppDatabase, error) {
	list := []vmware.AppDatabase{}
	for id, d := range all {
		entries, problems, err := r.PointsOf(ctx, id)
		if err != nil {
			return nil, err
		}
		switch {
		case len(entries) > 0:
			d.Point = entries[len(entries)-1].ID
		case len(problems) > 0:
			d.Point = problems[len(problems)-1].ID
		default:
			continue // never backed up: tempdb, a snapshot
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b vmware.AppDatabase) int { return strings.Compare(a.Source+a.Identity, b.Source+b.Identity) })
	return list, nil
}

// Inside runs fn with an agent in the VM, and takes it out again whatever becomes of fn.
func (g *Guests) Inside(ctx context.Context, s *vmware.Session, vm vmware.VM, fn func(at database.Place) error) error {
	return database.InsideVM(ctx, s, vm, g.guest, g.login, fn)
}
