package sqlcmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/frame"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/picture"
	"holdfast/sqlguest/shelf"
	"holdfast/sqlguest/whole"
)

type chainOptions struct{ source, html string }

// NewChain makes the command chain.
func NewChain(a frame.App) *cobra.Command {
	var opts chainOptions
	c := frame.Documented(&cobra.Command{
		Use:   "chain [DB]",
		Short: "show a database's backups, and which moments can be restored",
		Long: `Chain shows what the repository holds of SQL Server databases: fulls, differentials and
logs by recovery fork, gaps in the chain, and the windows of time that can be restored.
It needs no server. Whether the newest full and the differential on it are whole is looked
up in the index, and then that of those before; holdfast check looks at all. With 15 it ends if the newest backup of a database cannot be restored
to its end, or nothing of it can.`,
		Example: "holdfast -r /srv/backup chain sales\nholdfast -r /srv/backup chain --html /var/www/chains.html",
		Args:    usage.Args("[DB]"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.Repository(c.Context(), func(r *repo.Repository) error {
				return runChain(c.Context(), strings.Join(words, ""), opts, a, r)
			})
		},
	}, append(frame.RepositoryCodes(), verdict.BrokenChain)...)
	c.Flags().StringVar(&opts.source, "source", "", "only databases of this `VM|INSTANCE`")
	c.Flags().StringVar(&opts.html, "html", "", "write a page with drawn timelines to `FILE`, too; a file of that name is replaced")
	return c
}

func runChain(ctx context.Context, name string, opts chainOptions, a frame.App, r *repo.Repository) error {
	all, problems, err := shelf.List(ctx, r)
	if err != nil {
		return err
	}
	if err := view.Vanished(ctx, r, func(point, _ string) {
		a.UI().Warn("point %s has vanished from the repository: what it held is not in what follows", point)
	}); err != nil {
		return err
	}
	found, err := shelf.Match(all, name, opts.source)
	if err != nil {
		return err
	}
	charts := []picture.Chart{}
	var broken, identities []string
	for _, d := range found {
		backups, warnings, err := shelf.Backups(ctx, r, &d) // what cannot be read is among the problems
		if err != nil {
			return err
		}
		for _, w := range warnings {
			a.UI().Warn("%s", w)
		}
		if err := whole.Mark(ctx, r, d.Identity, backups); err != nil {
			return err
		}
		c := picture.Chart{Source: d.Source, Identity: d.Identity, Earlier: d.Earlier, Report: chain.Describe(backups, nil)}
		if c.Broken && !c.Earlier {
			broken = append(broken, c.Source)
		}
		charts, identities = append(charts, c), append(identities, d.Identity)
	}
	if err := showCharts(opts, a, charts); err != nil {
		return err
	}
	if name == "" && opts.source == "" {
		err = view.Unreadable(problems)
	} else {
		err = view.UnreadableOf(r, problems, identities...)
	}
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(broken, ", "), chain.ErrBroken)
	}
	return nil
}

func showCharts(opts chainOptions, a frame.App, charts []picture.Chart) error {
	to := a.UI()
	if opts.html != "" {
		if err := picture.Save(opts.html, charts, a.Now(), ui.Bytes); err != nil {
			return err
		}
		to.Note("the page is in %s", opts.html)
	}
	if len(charts) == 0 {
		to.Note("no database is in the repository")
	}
	for i := range charts {
		var text strings.Builder
		if err := picture.Text(&text, &charts[i], ui.Bytes); err != nil {
			return err
		}
		to.Printf("%s", text.String())
	}
	return to.Result(charts)
}
