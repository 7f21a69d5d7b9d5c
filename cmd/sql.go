package cmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/database"
	"holdfast/cmd/secret"
	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/sqlguest/decide"
	"holdfast/vmware"
)

// sqlCodes are the exit codes of every command that talks to a SQL Server.
var sqlCodes = []exitCode{exitUnreachable, exitRefused}

// sqlPlace is the SQL Server that a command is for.
type sqlPlace struct {
	vm, instance string
}

func (p *sqlPlace) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.vm, "vm", "", "the SQL Server in the virtual machine `NAME`, through an agent that is put in for the run")
	c.Flags().StringVar(&p.instance, "instance", "", "the SQL Server `INSTANCE`: NAME, HOST\\NAME or HOST:PORT; . is the default one of this machine")
}

func (p *sqlPlace) check() error {
	switch {
	case p.vm != "" && p.instance != "":
		return usagef("leave one of them away", "--vm and --instance cannot be meant together")
	case p.vm == "" && p.instance == "":
		return usagef("--vm NAME, or --instance . for the default instance of this machine", "no SQL Server was named")
	}
	return nil
}

// withSQL runs fn with a login at the SQL Server.
func (a *app) withSQL(ctx context.Context, p sqlPlace, fn func(at database.Place) error) error {
	login := database.Login{Instance: p.instance, User: a.settings.Text("sql.user"), Log: a.log}
	if login.User != "" {
		password, err := a.loadSecret(ctx, secret.SQL)
		if err != nil {
			return err
		}
		login.Password = string(password)
	}
	if p.vm != "" {
		login.Instance = a.settings.Text("sql.address")
		return a.withGuest(ctx, p.vm, login, fn)
	}
	s, err := database.Connect(ctx, login)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing of ours is left in a connection
	return fn(database.Place{Server: s, Beside: s.Beside()})
}

// withGuest runs fn with an agent in the VM, and takes it out again whatever happens.
func (a *app) withGuest(ctx context.Context, name string, login database.Login, fn func(at database.Place) error) error {
	g, err := database.GuestOf(a.settings.Text)
	if err != nil {
		return err
	}
	password, err := a.loadSecret(ctx, secret.Guest)
	if err != nil {
		return err
	}
	g.Password = string(password)
	return a.withVCenter(ctx, func(s *vmware.Session) error { return database.Inside(ctx, s, name, g, login, fn) })
}

func newSQLCommand(a *app) *cobra.Command {
	return newGroup("sql", "look at a SQL Server", "Sql shows what a SQL Server holds and what of it can be backed up.", newSQLDatabasesCommand(a))
}

func newSQLDatabasesCommand(a *app) *cobra.Command {
	var p sqlPlace
	c := documented(&cobra.Command{
		Use:     "databases",
		Short:   "list databases, and which can be backed up or why not",
		Long:    "Databases lists a SQL Server's databases with recovery model and state, and the rule\nthat says whether a backup takes them.",
		Example: "holdfast sql databases --instance .",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			return a.withSQL(c.Context(), p, func(at database.Place) error {
				rows, err := database.List(c.Context(), at.Server, decide.Request{})
				if err != nil {
					return err
				}
				t := ui.NewTable(ui.Left("Name"), ui.Left("Model"), ui.Left("State"), ui.Left("Access"), ui.Right("Size"), ui.Left("Backed up"))
				for _, r := range rows {
					word := "yes"
					if !r.Eligible {
						word = "no: " + r.Reason + " (" + r.Rule + ")"
					}
					t.Row(r.Name, r.Model, r.State, r.Access, ui.Bytes(r.Bytes), word)
				}
				if a.ui.JSON() {
					return a.ui.Result(rows)
				}
				a.ui.Table(t)
				return nil
			})
		},
	}, sqlCodes...)
	p.flags(c)
	return c
}

type backupSQLOptions struct {
	sqlPlace
	database.Options
	kind string
}

func newBackupSQLCommand(a *app) *cobra.Command {
	var opts backupSQLOptions
	c := documented(&cobra.Command{
		Use:   "sql",
		Short: "back up the databases of a SQL Server",
		Long: `Sql makes a full, differential or log backup of each database; --type auto chooses, and
every point says by which rule. SQL Server's log is truncated only once the log backup
is safe in the repository. Beside the SQL Server the data come through its Virtual
Device Interface; elsewhere through files in a directory that both reach (--staging).`,
		Example: "holdfast -r /srv/backup backup sql --instance . --type auto\nholdfast -r /srv/backup backup sql --instance SQLEXPRESS --type log -d sales",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			a.ui.Stream()
			return a.withWriter(c.Context(), func(r *repo.Repository) error {
				return a.withSQL(c.Context(), opts.sqlPlace, func(at database.Place) error {
					return database.Backup(c.Context(), at, a.newBatch(r), opts.Options)
				})
			})
		},
	}, append([]exitCode{exitIncomplete, exitBusy, exitUnreachable}, writerCodes...)...)
	opts.flags(c)
	f := c.Flags()
	f.StringVar(&opts.kind, "type", "auto", "`KIND` of backup: auto, full, diff or log")
	f.StringArrayVarP(&opts.Databases, "database", "d", nil, "only this `DB`; may be given several times")
	f.StringArrayVar(&opts.Exclude, "exclude-db", nil, "leave out this `DB`; may be given several times")
	f.BoolVar(&opts.Request.CopyOnly, "copy-only", false, "change neither the differential base nor the log chain")
	f.StringVar(&opts.Transport, "transport", "auto", "`HOW` the data travels: auto, vdi or disk")
	f.StringVar(&opts.Staging, "staging", "", "directory for files, `SERVERPATH=LOCALPATH`: as SQL Server calls it, and as this machine does")
	f.BoolVar(&opts.Request.AllowAG, "allow-ag", false, "take databases of availability groups, too")
	f.IntVar(&opts.Parallel, "parallel", 1, "back up `N` databases at once")
	f.StringSliceVar(&opts.Tags, "tag-point", nil, "give the points a `TAG`")
	return c
}

// check refuses flags that cannot be meant.
func (o *backupSQLOptions) check() error {
	if err := o.sqlPlace.check(); err != nil {
		return err
	}
	if o.Parallel < 1 {
		return usagef("a number from 1", "--parallel %d is no number of databases", o.Parallel)
	}
	for _, err := range []error{oneOf("type", o.kind, "auto", "full", "diff", "log"), oneOf("transport", o.Transport, "auto", "vdi", "disk"), o.Check()} {
		if err != nil {
			return err
		}
	}
	o.Request.Want = decide.Want(strings.ToLower(o.kind))
	var err error
	o.Tags, err = typed.Tags(o.Tags)
	return err
}
