package sqlcmd

import (
	"github.com/spf13/cobra"

	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/sqlguest/decide"
)

// New makes the command sql.
func New(a frame.App) *cobra.Command {
	return usage.Group("sql", "look at a SQL Server", "Sql shows what a SQL Server holds and what of it can be backed up.", newDatabasesCommand(a), newMarksCommand(a))
}

func newDatabasesCommand(a frame.App) *cobra.Command {
	var p place
	c := frame.Documented(&cobra.Command{
		Use:     "databases",
		Short:   "list databases, and which can be backed up or why not",
		Long:    "Databases lists a SQL Server's databases with recovery model and state, and the rule\nthat says whether a backup takes them.",
		Example: "holdfast sql databases --instance .",
		Args:    usage.Args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			p.each = true
			rows := []database.Row{}
			err := withSQL(c.Context(), a, p, func(at database.Place) error {
				more, err := database.List(c.Context(), at.Server, decide.Request{Guest: p.vm != ""})
				rows = append(rows, more...)
				return err
			})
			if err != nil {
				return err
			}
			if a.UI().JSON() {
				return a.UI().Result(rows)
			}
			a.UI().Table(databaseTable(rows))
			return nil
		},
	}, codes()...)
	p.flags(c)
	return c
}

// databaseTable shows databases; their instance only where there are several.
func databaseTable(rows []database.Row) *ui.Table {
	t := ui.NewTable(ui.Left("Name"), ui.Left("Model"), ui.Left("State"), ui.Left("Access"), ui.Right("Size"), ui.Left("Backed up"))
	for _, r := range rows {
		word := "yes"
		if !r.Eligible {
			word = "no: " + r.Reason + " (" + r.Rule + ")"
		}
		name := r.Name
		if rows[0].Server != rows[len(rows)-1].Server {
			name = r.Server + "/" + name
		}
		t.Row(name, r.Model, r.State, r.Access, ui.Bytes(r.Bytes), word)
	}
	return t
}
