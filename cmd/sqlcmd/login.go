// Package sqlcmd has the commands that are about SQL Server. A command is one file.
package sqlcmd

import (
	"context"

	"github.com/spf13/cobra"

	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/secret"
	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/vmware"
)

// codes are the exit codes of every command that talks to a SQL Server.
func codes() []verdict.Code { return []verdict.Code{verdict.Unreachable, verdict.Refused} }

// place is the SQL Server that a command is for.
type place struct {
	vm, instance string
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
	login := database.Login{Instance: p.instance, User: a.Setting("sql.user"), Log: a.Log()}
	if login.User != "" {
		password, err := a.Secret(ctx, secret.SQL)
		if err != nil {
			return err
		}
		login.Password = string(password)
	}
	if p.vm != "" {
		login.Instance = a.Setting("sql.address")
		return withGuest(ctx, a, p.vm, login, fn)
	}
	s, err := database.Connect(ctx, login)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing of ours is left in a connection
	return fn(database.Place{Server: s, Beside: s.Beside()})
}

// withGuest runs fn with an agent in the VM, and takes it out again whatever happens.
func withGuest(ctx context.Context, a frame.App, name string, login database.Login, fn func(at database.Place) error) error {
	g, err := database.GuestOf(a.Setting)
	if err != nil {
		return err
	}
	password, err := a.Secret(ctx, secret.Guest)
	if err != nil {
		return err
	}
	g.Password = string(password)
	return a.VCenter(ctx, func(s *vmware.Session) error { return database.Inside(ctx, s, name, g, login, fn) })
}
