package sqlcmd

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/settings"
	"holdfast/cmd/typed"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/sqlguest/decide"
)

type backupOptions struct {
	place
	database.Options
	kind string
}

// NewBackup makes the command backup sql.
func NewBackup(a frame.App) *cobra.Command {
	var opts backupOptions
	c := frame.Documented(&cobra.Command{
		Use:   "sql",
		Short: "back up the databases of a SQL Server",
		Long: `Sql makes a full, differential or log backup of each database; --type auto chooses, and
every point says by which rule. SQL Server's log is truncated only once the log backup
is safe in the repository. Beside the SQL Server the data come through its Virtual
Device Interface; elsewhere through files in a directory that both reach (--staging).`,
		Example: "holdfast -r /srv/backup backup sql --instance . --type auto\nholdfast -r /srv/backup backup sql --instance SQLEXPRESS --type log -d sales",
		Args:    usage.Args(),
		RunE: func(c *cobra.Command, _ []string) error {
			opts.each = true
			if err := opts.check(); err != nil {
				return err
			}
			a.UI().Stream()
			return a.Writer(c.Context(), func(r *repo.Repository) error {
				run := a.Batch(r)
				err := withSQL(c.Context(), a, opts.place, func(at database.Place) error {
					warnOfEvents(c.Context(), at, run.UI)
					return database.Backup(c.Context(), at, run, opts.Options)
				})
				return database.End(c.Context(), run, err)
			})
		},
	}, append([]verdict.Code{verdict.Short, verdict.Busy, verdict.Unreachable, verdict.Refused}, frame.WriterCodes()...)...)
	opts.flags(c)
	f := c.Flags()
	f.StringVar(&opts.kind, "type", "auto", "`KIND` of backup: auto, full, diff or log")
	f.StringArrayVarP(&opts.Databases, "database", "d", nil, "only this `DB`; may be given several times")
	f.StringArrayVar(&opts.Exclude, "exclude-db", nil, "leave out databases whose name fits `PATTERN` (* and ?); may be given several times")
	f.BoolVar(&opts.Request.CopyOnly, "copy-only", false, "change neither the differential base nor the log chain")
	f.StringVar(&opts.Transport, "transport", "auto", "`HOW` the data travels: auto, vdi or disk")
	f.StringVar(&opts.Staging, "staging", "", "directory for files, `SERVERPATH=LOCALPATH`: as SQL Server calls it, and as this machine does")
	f.BoolVar(&opts.Request.AllowAG, "allow-ag", false, "take databases of availability groups, too")
	f.IntVar(&opts.Parallel, "parallel", 1, "back up `N` databases at once")
	f.StringSliceVar(&opts.Tags, "tag-point", nil, "give the points a `TAG`")
	return c
}

// check refuses flags that cannot be meant.
func (o *backupOptions) check() error {
	if err := o.place.check(); err != nil {
		return err
	}
	for _, name := range o.Databases {
		if slices.Contains(o.Exclude, name) {
			return settings.Usagef("leave one of the two out", "database %s is chosen with -d and left out with --exclude-db", name)
		}
	}
	if o.Parallel < 1 {
		return settings.Usagef("a number from 1", "--parallel %d is no number of databases", o.Parallel)
	}
	for _, err := range []error{usage.OneOf("type", o.kind, "auto", "full", "diff", "log"), usage.OneOf("transport", o.Transport, "auto", "vdi", "disk"), o.Check()} {
		if err != nil {
			return err
		}
	}
	o.Request.Want = decide.Want(strings.ToLower(o.kind))
	var err error
	o.Tags, err = typed.Tags(o.Tags)
	return err
}
