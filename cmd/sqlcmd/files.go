package sqlcmd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/cmd/batch"
	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/settings"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/datafiles"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/shelf"
)

type filesOptions struct {
	database.RestoreOptions
	place                 // where to; nothing: where it came from
	source, point, target string
}

// NewRestoreFiles makes the command restore sqlfiles.
func NewRestoreFiles(a frame.App) *cobra.Command {
	var opts filesOptions
	c := frame.Documented(&cobra.Command{
		Use:   "sqlfiles DB",
		Short: "put a database's files, as of a backup, into a directory of a SQL Server",
		Long: `Sqlfiles restores a database under the name Rst_DB with its files in a new directory below
DIR, and detaches it: the mdf, ndf and ldf files stay, and database_files.txt says what
they are and how to attach them. No database and no file that is there is touched; if
anything fails, Rst_DB is dropped. DIR is a directory as the SQL Server calls it.`,
		Example: `holdfast -r /srv/backup restore sqlfiles sales --point latest:sales --target 'E:\out' --to-instance .`,
		Args:    usage.Args("DB"),
		RunE: func(c *cobra.Command, words []string) error {
			if err := opts.check(c); err != nil {
				return err
			}
			return runFiles(c.Context(), words[0], opts, a)
		},
	}, append([]verdict.Code{verdict.Short, verdict.Busy, verdict.BrokenChain, verdict.Refused}, frame.RepositoryCodes()...)...)
	f := c.Flags()
	f.StringVar(&opts.point, "point", "", "the end of the backup `ID` (required)")
	f.StringVar(&opts.target, "target", "", "the server's directory `DIR`, which exists (required)")
	f.StringVar(&opts.source, "source", "", "the database of this `VM|INSTANCE`, where several have one of that name")
	f.StringVar(&opts.vm, "to-vm", "", "at the SQL Server in the virtual machine `NAME`")
	f.StringVar(&opts.instance, "to-instance", "", "at the SQL Server `INSTANCE`: NAME, HOST\\NAME or HOST:PORT")
	f.StringVar(&opts.Transport, "transport", "auto", "`HOW` the data travels: auto, vdi or disk")
	f.StringVar(&opts.Staging, "staging", "", "directory for files, `SERVERPATH=LOCALPATH`: as SQL Server calls it, and as this machine does")
	return c
}

func (o *filesOptions) check(c *cobra.Command) error {
	switch {
	case o.point == "":
		return settings.Usagef("holdfast points --source DB lists them", "--point is missing")
	case o.target == "":
		return settings.Usagef(`say where the files go: --target DIR, a directory as the SQL Server calls it, such as E:\out`, "--target is missing")
	case !datafiles.Absolute(o.target):
		return settings.Usagef(`a whole path as the SQL Server calls it, such as E:\out`, "--target %q is no directory of a server", o.target)
	}
	for _, err := range []error{
		usage.Exclusive(c, "to-vm", "to-instance"), usage.OneOf("transport", o.Transport, "auto", "vdi", "disk"), database.Options{Staging: o.Staging}.Check(),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func runFiles(ctx context.Context, name string, opts filesOptions, a frame.App) error {
	a.UI().Stream()
	return a.Repository(ctx, func(r *repo.Repository) error {
		d, backups, err := opts.find(ctx, a, r, name)
		if err != nil {
			return err
		}
		run := a.Batch(r)
		return reach(ctx, a, opts.place, replay.Source{Name: d.Source, Identity: d.Identity}, backups, func(at database.Place) error {
			return opts.make(ctx, a, at, run, d, backups)
		})
	})
}

// find finds the database, its backups and the point.
func (o *filesOptions) find(ctx context.Context, a frame.App, r *repo.Repository, name string) (*shelf.Database, []chain.Backup, error) {
	d, err := choose(ctx, a, r, name, o.source, o.point)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range d.problems {
		a.UI().Warn("%v", p)
	}
	o.Target.Point, o.Plan.Name = d.point, d.Meant(name, o.source)
	backups, warnings, err := shelf.Backups(ctx, r, d.Database)
	for _, w := range warnings {
		a.UI().Warn("%s", w)
	}
	return d.Database, backups, err
}

func (o *filesOptions) make(ctx context.Context, a frame.App, at database.Place, run *batch.Run, d *shelf.Database, backups []chain.Backup) error {
	job, err := database.Restoring(ctx, at, run, replay.Source{Name: d.Source, Identity: d.Identity}, backups, o.RestoreOptions)
	if err != nil {
		return err
	}
	var lot [4]byte
	_, _ = rand.Read(lot[:]) // never fails
	request := &datafiles.Run{
		Restore: *job, Source: d.Source, Point: o.Target.Point, Dir: o.target,
		Request: a.Now().UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(lot[:]),
	}
	if here, err := os.Stat(o.target); at.Beside && at.Guest == "" && err == nil && here.IsDir() {
		request.Write = writeBeside
	}
	res, err := request.Do(ctx)
	run.Progress.Done()
	if err != nil {
		return err
	}
	terminal := a.UI()
	res.Warnings = ui.OrEmpty(res.Warnings)
	for _, b := range backups {
		if slices.Contains(res.Points, b.Point) || b.Point == o.Target.Point {
			res.Warnings = append(res.Warnings, kept(b)...)
		}
	}
	warn(terminal, res.Warnings)
	res.Warnings = append(res.Warnings, a.Warnings()...) // which were told when they came
	for _, f := range res.Files {
		terminal.Printf("%s  %s  %s\n", ui.Clean(f.Path), f.Type, ui.Bytes(f.Bytes))
	}
	terminal.Say("files of %s in %s on %s\n%s\n", ui.Clean(d.Source), ui.Clean(res.Dir), res.Server, ui.Clean(res.Attach))
	terminal.Event("summary", res)
	return nil
}

// writeBeside makes a new file at a SQL Server of this machine.
func writeBeside(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
