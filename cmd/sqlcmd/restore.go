package sqlcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

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
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/replay/origin"
	"holdfast/sqlguest/shelf"
)

type restoreOptions struct {
	database.RestoreOptions
	place                              // where to; nothing: where it came from
	source, point                      string
	latest, before, plan               bool
	at, mark, after, lsn, state, nears string
	files                              string
	moves                              []string
}

// NewRestore makes the command restore sql.
func NewRestore(a frame.App) *cobra.Command {
	var opts restoreOptions
	c := frame.Documented(&cobra.Command{
		Use:   "sql DB|SOURCE/DB",
		Short: "restore a database to any moment that its backups cover",
		Long: `Sql brings a database to a moment: the latest one, a time, a mark, an LSN or the end of a
backup. It needs nothing but the repository and a SQL Server; without --to-vm or
--to-instance that is the one it came from. All checks are made before anything is
changed. A database that is overwritten has the tail of its log backed up first, so that
the latest moment is the one just now. A TIME without an offset is one of the source
server's clock. With --plan nothing is done: steps, T-SQL, LSNs, files and room are printed.`,
		Example: "holdfast -r /srv/backup restore sql sales --at '2026-03-02 14:05' --as sales_1405\nholdfast -r /srv/backup restore sql db01/sales --replace --kick-users\nholdfast -r /srv/backup restore sql sales --mark payday --before --plan",
		Args:    usage.Args("DB"),
		RunE: func(c *cobra.Command, words []string) error {
			if err := opts.check(c); err != nil {
				return err
			}
			return runRestore(c.Context(), words[0], opts, a)
		},
	}, append([]verdict.Code{verdict.Short, verdict.Busy, verdict.BrokenChain, verdict.Refused}, frame.RepositoryCodes()...)...)
	opts.flags(c)
	return c
}

func (o *restoreOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.source, "source", "", "the database of this `VM|INSTANCE`, where several have one of that name")
	f.BoolVar(&o.latest, "latest", false, "the latest moment (default)")
	f.StringVar(&o.at, "at", "", "the moment `TIME`, by the source server's clock or with an offset")
	f.StringVar(&o.mark, "mark", "", "the marked transaction `NAME`, and everything before it")
	f.BoolVar(&o.before, "before", false, "with --mark or --lsn: without that transaction or record")
	f.StringVar(&o.after, "after", "", "with --mark: the first one at or after `TIME`")
	f.StringVar(&o.lsn, "lsn", "", "the log record `LSN`, and everything before it")
	f.StringVar(&o.point, "point", "", "the end of the backup `ID`")
	f.StringVar(&o.Plan.Fork, "fork", "", "on the history that ends on recovery fork `GUID`, or its first characters (chain shows them)")
	f.StringVar(&o.state, "state", "recovery", "leave it in `STATE`: recovery, norecovery or standby")
	f.StringVar(&o.Plan.UndoFile, "undo-file", "", "with --state standby: the server's `FILE` for what was undone (default: in its data directory)")
	f.StringVar(&o.Plan.As, "as", "", "restore under another `NAME`, into files of its own")
	f.StringArrayVar(&o.moves, "move", nil, "put a file elsewhere: `LOGICAL=PATH`; may be given several times")
	f.BoolVar(&o.Plan.Replace, "replace", false, "overwrite the database if it exists")
	f.BoolVar(&o.Plan.Kick, "kick-users", false, "throw out who uses the database")
	f.BoolVar(&o.NoTail, "no-tail", false, "give up what the database holds since its last log backup")
	f.StringVar(&o.nears, "nearest", "", "if the moment is not reachable, take the one `SIDE` of it: before or after")
	f.Lookup("nearest").NoOptDefVal = string(plan.Before)
	f.BoolVar(&o.Continue, "continue", false, "go on with a database that is RESTORING or in STANDBY")
	f.StringVar(&o.vm, "to-vm", "", "restore to the SQL Server in the virtual machine `NAME`")
	f.StringVar(&o.instance, "to-instance", "", "restore to the SQL Server `INSTANCE`: NAME, HOST\\NAME or HOST:PORT")
	f.StringVar(&o.Transport, "transport", "auto", "`HOW` the data travels: auto, vdi or disk")
	f.StringVar(&o.Staging, "staging", "", "directory for files, `SERVERPATH=LOCALPATH`: as SQL Server calls it, and as this machine does")
	f.StringVar(&o.files, "database-files", "", "write which file is of which database into `FILE`, which must not exist")
	f.BoolVar(&o.plan, "plan", false, "print what would be done, and do nothing")
}

// check refuses flags that cannot be meant, and reads the others.
func (o *restoreOptions) check(c *cobra.Command) error {
	for _, name := range []string{"source", "at", "mark", "after", "lsn", "point", "undo-file", "as", "to-vm", "to-instance", "fork"} {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return settings.Usagef("leave the flag out, or check the variable that was to fill it", "flag --%s is empty", name)
		}
	}
	for _, err := range []error{
		usage.Exclusive(c, "latest", "at", "mark", "lsn", "point"), usage.Exclusive(c, "to-vm", "to-instance"), usage.Exclusive(c, "continue", "replace"),
		usage.OneOf("state", o.state, "recovery", "norecovery", "standby"), usage.OneOf("transport", o.Transport, "auto", "vdi", "disk"),
		database.Options{Staging: o.Staging}.Check(),
	} {
		if err != nil {
			return err
		}
	}
	o.Plan.End = plan.End(strings.ToLower(o.state))
	switch {
	case o.nears != "" && usage.OneOf("nearest", o.nears, "before", "after") != nil:
		return usage.OneOf("nearest", o.nears, "before", "after")
	case o.before && o.mark == "" && o.lsn == "":
		return settings.Usagef("say --mark NAME or --lsn LSN", "--before has nothing that it could be before")
	case o.after != "" && o.mark == "":
		return settings.Usagef("say --mark NAME", "--after is for --mark")
	case o.Plan.UndoFile != "" && o.Plan.End != plan.Standby:
		return settings.Usagef("say --state standby", "--undo-file is for --state standby")
	}
	o.Plan.Nearest = plan.Nearest(strings.ToLower(o.nears))
	if err := o.readMoves(); err != nil {
		return err
	}
	return o.readTarget()
}

func (o *restoreOptions) readMoves() error {
	o.Plan.Moves = map[string]string{}
	for _, pair := range o.moves {
		file, to, ok := strings.Cut(pair, "=")
		if !ok || file == "" || to == "" {
			return settings.Usagef(`as in --move sales=E:\data\sales.mdf: the file's logical name, and its path at the server`, "--move %q is not LOGICAL=PATH", pair)
		}
		o.Plan.Moves[file] = to
	}
	return nil
}

// readTarget reads the moment; a point is looked up later.
func (o *restoreOptions) readTarget() (err error) {
	t := plan.Target{Mark: o.mark, Before: o.before}
	switch {
	case o.at != "":
		t.At, t.Bare, err = plan.ParseTime(o.at)
	case o.after != "":
		t.After, t.Bare, err = plan.ParseTime(o.after)
	case o.lsn != "":
		t.LSN, err = lsn.Parse(o.lsn)
	}
	o.Target = t
	switch {
	case err == nil:
		return nil
	case t.LSN.IsZero() && o.lsn != "":
		return settings.Usagef("its digits as chain shows them, or in hexadecimal as 00000022:0000007d:0001", "--lsn %q is no log sequence number", o.lsn)
	}
	const hint = "as '2026-03-02 14:05' or '2026-03-02 14:05:06.123' by the source server's clock, or with an offset: 2026-03-02T14:05:06+01:00, 2026-03-02T13:05:06Z"
	if o.at != "" {
		return settings.Usagef(hint, "--at %q is no time", o.at)
	}
	return settings.Usagef(hint, "--after %q is no time", o.after)
}

func runRestore(ctx context.Context, name string, opts restoreOptions, a frame.App) error {
	open := a.Writer // for the tail, and for what a run that was killed has left
	if opts.plan || opts.NoTail {
		open = a.Repository
	}
	if !opts.plan {
		a.UI().Stream()
	}
	return open(ctx, func(r *repo.Repository) error {
		run := a.Batch(r)
		src, backups, err := opts.find(ctx, a, run, name)
		if err != nil {
			return err
		}
		return reach(ctx, a, opts.place, src, backups, func(at database.Place) error {
			job, err := database.Restoring(ctx, at, run, src, backups, opts.RestoreOptions)
			if err != nil {
				return err
			}
			defer run.Progress.Done()
			if opts.plan {
				return showPreview(ctx, a, src, job)
			}
			return restore(ctx, a, src, job, run, opts.files)
		})
	})
}

// reach runs fn at the SQL Server that is meant: the one that was named, or the one
// that the backups came from, of which a guest may have several.
func reach(ctx context.Context, a frame.App, to place, src replay.Source, backups []chain.Backup, fn func(at database.Place) error) error {
	if to.vm != "" || to.instance != "" {
		return withSQL(ctx, a, to, fn)
	}
	const hint = "say where to with --to-vm or --to-instance"
	if to.vm, to.instance = database.Home(backups); to.vm == "" && to.instance == "" {
		return settings.Usagef(hint, "the repository does not tell where %s came from", src.Name)
	}
	to.each = true
	found := false
	err := withSQL(ctx, a, to, func(at database.Place) error {
		home, err := database.IsHome(ctx, at, src)
		if err != nil || !home {
			return err
		}
		found = true
		return fn(at)
	})
	switch {
	case errors.Is(err, database.ErrUnreachable):
		err = verdict.Advise(err, hint)
	case err == nil && !found:
		err = verdict.Advise(fmt.Errorf("restore %s to %s%s: %w", src.Name, to.vm, to.instance, database.ErrOtherServer), hint)
	}
	return err
}

// find finds the database and its backups, and the point if one is meant.
func (o *restoreOptions) find(ctx context.Context, a frame.App, run *batch.Run, name string) (replay.Source, []chain.Backup, error) {
	r := run.Repository
	d, err := choose(ctx, a, r, name, o.source, o.point)
	if err != nil {
		return replay.Source{}, nil, err
	}
	for _, p := range d.problems {
		a.UI().Warn("%v", p)
	}
	o.Target.Point = d.point
	if err := o.name(a, d, name); err != nil {
		return replay.Source{}, nil, err
	}
	src := replay.Source{Name: d.Source, Identity: d.Identity}
	backups, warnings, err := shelf.Backups(ctx, r, d.Database) // of points that cannot be read at all it was told above
	for _, w := range warnings {
		a.UI().Warn("%s", w)
	}
	if err != nil {
		return src, nil, err
	}
	unread, err := d.unread(ctx, r)
	return src, append(backups, unread...), err
}

// name says which database is restored to where no --as does: the one that was typed,
// whatever the backups of then call it. What has its older name now may be anybody's, so
// that nothing is overwritten by that.
func (o *restoreOptions) name(a frame.App, d *chosen, typed string) error {
	if o.Plan.Name = d.Meant(typed, o.source); o.Plan.Name == d.Name() || o.Plan.As != "" {
		return nil
	}
	if o.Plan.Replace {
		return settings.Usagef(fmt.Sprintf("restore sql %s --replace restores over it as it is called now; --as NAME says that another name is meant", settings.Quote(d.Name())),
			"%s was called %s once: what has that name now may be another database", d.Source, o.Plan.Name)
	}
	a.UI().Note("%s was called %s once, and is restored under that name", d.Source, o.Plan.Name)
	return nil
}

// restored is how a restore ends.
type restored struct {
	Source string `json:"source"`
	*replay.Result
	Target string `json:"target"`
}

func restore(ctx context.Context, a frame.App, src replay.Source, job *replay.Run, run *batch.Run, files string) error {
	terminal := a.UI()
	if files != "" {
		if _, err := os.Lstat(files); err == nil {
			return settings.Usagef("name another file", "--database-files %s exists already", files)
		}
	}
	job.Begin = func(p *replay.Preview) {
		if !p.Plan.At.IsZero() {
			terminal.Note("%s is understood as %s, which is %s", p.Plan.Target, clock(p.Plan.At), instant(p.Plan.At))
		}
		for _, s := range p.Plan.Steps {
			if s.Bytes > 0 {
				run.Progress.Expect(replay.Label(s, p.Plan.Database), s.Bytes)
			}
		}
	}
	res, err := job.Do(ctx)
	run.Progress.Done()
	if err != nil {
		return err
	}
	if files != "" {
		err = os.WriteFile(files, origin.DatabaseFiles(res.Server, res.Database, res.Plan.Files), 0o600)
	}
	var later []string
	if job.Options.Replace && res.State == plan.Recovery {
		later = []string{sinceThis(job.Backups, res.Points)}
	}
	Restored(a, src.Name, res, later...)
	for _, text := range later {
		terminal.Note("%s", text)
	}
	return err
}

// sinceThis says what is not safe of a database that was brought back by those points.
func sinceThis(backups []chain.Backup, points []string) string {
	simple := slices.ContainsFunc(backups, func(b chain.Backup) bool {
		return b.Model == "SIMPLE" && len(points) > 0 && b.Point == points[len(points)-1]
	})
	if simple { // there is no tail that a restore over it could take first
		return "back it up now: until then no moment since this restore can be restored, for its recovery model is SIMPLE"
	}
	return "back it up now: until then moments since this restore are reached only as the latest"
}

// Restored shows what a restore came to; later are sentences for its summary alone.
func Restored(a frame.App, source string, res *replay.Result, later ...string) {
	for _, w := range res.Warnings {
		a.UI().Warn("%s", w)
	}
	res.Warnings = append(append(res.Warnings, later...), a.Warnings()...) // which were told when they came
	a.UI().Say("%s\n", ui.Clean(told(source, res)))
	a.UI().Event("summary", restored{Source: source, Result: res, Target: res.Plan.Target})
}

// told is what a restore came to, in one line.
func told(source string, res *replay.Result) string {
	state := map[plan.End]string{plan.Recovery: "open", plan.NoRecovery: "RESTORING", plan.Standby: "in STANDBY"}[res.State]
	text := fmt.Sprintf("restored %s to database %s on %s, which is %s", source, res.Database, res.Server, state)
	if !res.Moment.IsZero() {
		text += ", at " + clock(res.Moment)
	}
	if !res.LSN.IsZero() {
		text += ", LSN " + res.LSN.String()
	}
	switch len(res.Points) {
	case 0:
		return text + ": it stood there already, and needed no backup"
	case 1:
		return text + ": 1 backup"
	}
	return text + fmt.Sprintf(": %d backups", len(res.Points))
}
