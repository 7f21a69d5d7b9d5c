package cmd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

type pointsOptions struct {
	kind, source string
	latest       int
}

func newPointsCommand(a *app) *cobra.Command {
	var opts pointsOptions
	c := documented(&cobra.Command{
		Use:     "points",
		Short:   "list recovery points",
		Example: "holdfast -r /srv/backup points\nholdfast -r /srv/backup points --source vm/web01 --latest 3 --json",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error { return runPoints(c.Context(), opts, a, r) })
		},
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.kind, "kind", "", "only points of this `KIND`: vm, sql-full, sql-diff, sql-log, image, files")
	f.StringVar(&opts.source, "source", "", "only points of this `SOURCE`: vm/NAME, image/NAME, sql/VM/DB, or what follows a slash in it")
	f.IntVar(&opts.latest, "latest", 0, "only the newest `N` of each source")
	return c
}

// kinds are the words that --kind takes.
var kinds = []recovery.Kind{recovery.VM, recovery.SQLFull, recovery.SQLDiff, recovery.SQLLog, recovery.Image, recovery.Files}

func runPoints(ctx context.Context, opts pointsOptions, a *app, r *repo.Repository) error {
	if opts.kind != "" && !slices.Contains(kinds, recovery.Kind(opts.kind)) {
		return usagef("vm, sql-full, sql-diff, sql-log, image or files", "--kind %q is unknown", opts.kind)
	}
	if opts.latest < 0 {
		return usagef("a number from 1, or leave it away for all", "--latest %d is no number of points", opts.latest)
	}
	points, problems, err := r.Briefs(ctx)
	if err != nil {
		return err
	}
	filter := view.Filter{Kind: opts.kind, Source: opts.source, Latest: opts.latest}
	meant, err := filter.Identities(points)
	if err != nil {
		return errors.Join(err, view.Vanished(ctx, r, a.noteVanished)) // it may be of that source
	}
	if opts.source == "" {
		err = view.Vanished(ctx, r, a.noteVanished)
	} else {
		err = view.VanishedOf(ctx, r, meant, a.noteVanished)
	}
	if err != nil {
		return err
	}
	if points, err = filter.Select(points); err != nil {
		return err
	}
	switch {
	case a.json:
	case len(points) == 0:
		a.ui.Note("no recovery points")
	default:
		t := ui.NewTable(ui.Left("ID"), ui.Left("Time"), ui.Left("Kind"), ui.Left("Source"), ui.Left("Read"), ui.Left("Consistency"), ui.Right("Size"), ui.Right("Added"), ui.Left("Tags"))
		t.Rows(len(points), func(i int) []string { return cellsOf(&points[i]) })
		a.ui.Table(t)
	}
	if err := a.ui.List(len(points), func(i int) any { return view.RowOfBrief(&points[i]) }); err != nil {
		return err
	}
	if opts.source != "" {
		return view.UnreadableOf(r, problems, meant...)
	}
	return view.Unreadable(problems)
}

// cellsOf are the cells of a point in the table.
func cellsOf(p *repo.Brief) []string {
	tags := strings.Join(p.Tags(), ",")
	if p.Pinned {
		tags = strings.TrimSuffix("pinned,"+tags, ",")
	}
	return []string{
		p.ID(), p.Time().Format("2006-01-02 15:04:05 -07:00"), string(p.Kind()), p.Source(), p.ReadMode(), p.Consistency(),
		ui.Bytes(p.BytesTotal), ui.Bytes(p.BytesAdded), tags,
	}
}

// find resolves the POINT that an operator typed.
func (a *app) find(ctx context.Context, r *repo.Repository, spec string) (repo.Entry, error) {
	return view.Find(ctx, r, spec, a.ui.Warn, a.noteVanished)
}

func newShowCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "show POINT",
		Short:   "show everything about one recovery point",
		Example: "holdfast -r /srv/backup show latest:web01",
		Args:    args("POINT"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error {
				e, err := a.find(c.Context(), r, words[0])
				if err != nil {
					return err
				}
				chain, err := view.Ancestors(c.Context(), r, e.Point)
				if err != nil {
					return err
				}
				about, err := view.Database(c.Context(), r, e.Point)
				if err != nil {
					return err
				}
				view.Print(a.ui, e, chain, about.Lines())
				return a.ui.Result(view.Detail{Point: e.Point, Tags: orEmpty(e.Tags), Warnings: orEmpty(e.Warnings), Pinned: e.Pinned, Chain: chain, SQL: about})
			})
		},
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
}

type tagOptions struct{ add, remove []string }

func newTagCommand(a *app) *cobra.Command {
	var opts tagOptions
	c := documented(&cobra.Command{
		Use:     "tag POINT…",
		Short:   "add and remove tags of recovery points",
		Example: "holdfast -r /srv/backup tag latest:web01 --add before-upgrade",
		Args:    args("POINT…"),
		RunE: func(c *cobra.Command, words []string) error {
			if len(opts.add)+len(opts.remove) == 0 {
				return usagef("say --add TAG or --remove TAG", "tag: nothing to change")
			}
			var err error
			if opts.add, err = typed.Tags(opts.add); err != nil {
				return err
			}
			return a.label(c.Context(), words, func(l *ledger.Label) {
				l.Tags = slices.DeleteFunc(append(l.Tags, opts.add...), func(tag string) bool { return slices.Contains(opts.remove, tag) })
				slices.Sort(l.Tags)
				l.Tags = slices.Compact(l.Tags)
			})
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
	c.Flags().StringSliceVar(&opts.add, "add", nil, "add `TAG`")
	c.Flags().StringSliceVar(&opts.remove, "remove", nil, "remove `TAG`")
	return c
}

func newPinCommand(a *app) *cobra.Command {
	return pinCommand(a, "pin", "keep recovery points whatever a policy says", true)
}

func newUnpinCommand(a *app) *cobra.Command {
	return pinCommand(a, "unpin", "let policies forget recovery points again", false)
}

func pinCommand(a *app, verb, short string, pinned bool) *cobra.Command {
	return documented(&cobra.Command{
		Use:     verb + " POINT…",
		Short:   short,
		Example: "holdfast -r /srv/backup " + verb + " latest:web01",
		Args:    args("POINT…"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.label(c.Context(), words, func(l *ledger.Label) { l.Pinned = pinned })
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
}

// label changes the labels of points: all are found before the first is changed.
func (a *app) label(ctx context.Context, words []string, change func(*ledger.Label)) error {
	return a.withWriter(ctx, func(r *repo.Repository) error {
		var found []repo.Entry
		for _, word := range words {
			e, err := a.find(ctx, r, word)
			if err != nil {
				return err
			}
			found = append(found, e)
		}
		rows := []view.Row{}
		for _, e := range found {
			if err := r.SetLabel(ctx, e, change); err != nil {
				return err
			}
			again, err := r.Find(ctx, e.ID)
			if err != nil {
				return err
			}
			rows = append(rows, view.RowOf(again))
			state := strings.Join(again.Tags, ", ")
			if again.Pinned {
				state = strings.TrimSuffix("pinned, "+state, ", ")
			}
			a.ui.Say("%s %s: %s\n", e.ID, e.Source, cmp.Or(state, "not pinned, no tags"))
		}
		return a.ui.Result(rows)
	})
}
