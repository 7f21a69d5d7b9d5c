package sqlcmd

import (
	"context"

	"github.com/spf13/cobra"

	"holdfast/cmd/frame"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/shelf"
)

func newMarksCommand(a frame.App) *cobra.Command {
	var source string
	c := frame.Documented(&cobra.Command{
		Use:     "marks DB",
		Short:   "list marked transactions that a restore can stop at",
		Long:    "Marks lists the marked transactions (BEGIN TRANSACTION … WITH MARK) in a database's log\nbackups. They are kept in the repository with the backups; no server is asked.",
		Example: "holdfast -r /srv/backup sql marks sales",
		Args:    usage.Args("DB"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.Repository(c.Context(), func(r *repo.Repository) error { return runMarks(c.Context(), words[0], source, a, r) })
		},
	}, append(frame.RepositoryCodes(), verdict.Short)...)
	c.Flags().StringVar(&source, "source", "", "the database of this `VM|INSTANCE`, where several have one of that name")
	return c
}

func runMarks(ctx context.Context, name, source string, a frame.App, r *repo.Repository) error {
	d, err := choose(ctx, a, r, name, source, "")
	if err != nil {
		return err
	}
	backups, warnings, err := shelf.Backups(ctx, r, d.Database) // what cannot be read is among the problems
	if err != nil {
		return err
	}
	for _, w := range warnings {
		a.UI().Warn("%s", w)
	}
	for _, b := range backups {
		if b.Kind == chain.Log {
			warn(a.UI(), kept(b))
		}
	}
	marks := chain.Marks(backups)
	t := ui.NewTable(ui.Left("Mark"), ui.Left("Time"), ui.Left("LSN"), ui.Left("Fork"), ui.Left("Point"), ui.Left("Reachable"), ui.Left("User"), ui.Left("Description"))
	for _, m := range marks {
		t.Row(m.Name, m.At.Format("2006-01-02 15:04:05.000 -07:00"), m.LSN.String(), m.Fork[:min(8, len(m.Fork))], m.Point, map[bool]string{true: "yes", false: "no"}[m.Reachable], m.User, m.Description)
	}
	if len(marks) == 0 {
		a.UI().Note("no mark is known of %s", d.Source)
	} else if !a.UI().JSON() {
		a.UI().Table(t)
	}
	if err := a.UI().Result(ui.OrEmpty(marks)); err != nil {
		return err
	}
	return view.UnreadableOf(r, d.problems, d.Identity)
}

// kept are the warnings that a backup's confirmation keeps: what SQL Server did not tell
// of it, and what was left out.
func kept(b chain.Backup) (list []string) {
	for _, why := range b.Warned {
		list = append(list, "point "+b.Point+": "+why)
	}
	return list
}

func warn(t *ui.Terminal, list []string) {
	for _, w := range list {
		t.Warn("%s", w)
	}
}
