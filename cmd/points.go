package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"holdfast/cmd/ui"
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
	}, repositoryCodes...)
	f := c.Flags()
	f.StringVar(&opts.kind, "kind", "", "only points of this `KIND`: vm, sql-full, sql-diff, sql-log, image, files")
	f.StringVar(&opts.source, "source", "", "only points of this `SOURCE`: vm/NAME, image/NAME or the last part of it")
	f.IntVar(&opts.latest, "latest", 0, "only the newest `N` of each source")
	return c
}

// pointRow is a point as lists show it.
type pointRow struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"`
	Source      string    `json:"source"`
	Parent      string    `json:"parent"`
	Consistency string    `json:"consistency"`
	Size        int64     `json:"size"`
	BytesAdded  int64     `json:"bytes_added"`
	Tags        []string  `json:"tags"`
	Pinned      bool      `json:"pinned"`
	ReadMode    string    `json:"read_mode"`
}

func rowOf(e repo.Entry) pointRow {
	return pointRow{
		ID: e.ID, Time: e.Time, Kind: string(e.Kind), Source: e.Source, Parent: e.Parent, Consistency: e.Consistency,
		Size: e.BytesTotal, BytesAdded: e.BytesAdded, Tags: orEmpty(e.Tags), Pinned: e.Pinned, ReadMode: e.ReadMode,
	}
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
	entries, problems, err := r.Points(ctx)
	if err != nil {
		return err
	}
	entries, err = selectPoints(entries, opts)
	if err != nil {
		return err
	}
	rows := []pointRow{}
	t := ui.NewTable(ui.Left("ID"), ui.Left("Time"), ui.Left("Kind"), ui.Left("Source"), ui.Left("Read"), ui.Left("Consistency"), ui.Right("Size"), ui.Right("Added"), ui.Left("Tags"))
	for _, e := range entries {
		rows = append(rows, rowOf(e))
		tags := strings.Join(e.Tags, ",")
		if e.Pinned {
			tags = strings.TrimSuffix("pinned,"+tags, ",")
		}
		t.Row(e.ID, e.Time.Format("2006-01-02 15:04:05 -07:00"), string(e.Kind), e.Source, e.ReadMode, e.Consistency, ui.Bytes(e.BytesTotal), ui.Bytes(e.BytesAdded), tags)
	}
	if !a.json {
		if t.Len() > 0 {
			a.ui.Table(t)
		} else {
			a.ui.Note("no recovery points")
		}
	}
	if err := a.ui.Result(rows); err != nil {
		return err
	}
	return unreadable(problems)
}

// unreadable is the error of a listing in which points had to be left out.
func unreadable(problems []*repo.PointError) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	return fmt.Errorf("%d points cannot be read, the first: %w", len(problems), first)
}

// find resolves what an operator typed. Where that is the newest point, one
// that cannot be read may be newer still: that is never passed over in silence.
func (a *app) find(ctx context.Context, r *repo.Repository, spec string) (repo.Entry, error) {
	if spec != "latest" && !strings.HasPrefix(spec, "latest:") {
		return r.Find(ctx, spec)
	}
	if spec == "latest:" {
		return repo.Entry{}, usagef("latest:SOURCE, or latest alone for the newest of all", "%q names no source", spec)
	}
	entries, problems, err := r.Points(ctx)
	if err != nil {
		return repo.Entry{}, err
	}
	points := make([]*recovery.Point, len(entries))
	for i, e := range entries {
		points[i] = e.Point
	}
	p, err := recovery.Find(points, spec)
	if err != nil {
		return repo.Entry{}, errors.Join(err, unreadable(problems))
	}
	for _, problem := range problems {
		a.ui.Warn("point %s cannot be read and may be newer than %s: %v", problem.ID, p.ID, problem.Err)
	}
	return entries[slices.Index(points, p)], nil
}

// selectPoints applies the filters; entries are oldest first and stay so.
func selectPoints(entries []repo.Entry, opts pointsOptions) ([]repo.Entry, error) {
	if opts.source != "" {
		points := make([]*recovery.Point, len(entries))
		for i, e := range entries {
			points[i] = e.Point
		}
		name, err := recovery.MatchSource(points, opts.source)
		if err != nil {
			return nil, err
		}
		entries = slices.DeleteFunc(entries, func(e repo.Entry) bool { return e.Source != name })
	}
	if opts.kind != "" {
		entries = slices.DeleteFunc(entries, func(e repo.Entry) bool { return string(e.Kind) != opts.kind })
	}
	if opts.latest > 0 {
		seen := map[string]int{}
		keep := make([]bool, len(entries))
		for i := len(entries) - 1; i >= 0; i-- {
			seen[entries[i].Source]++
			keep[i] = seen[entries[i].Source] <= opts.latest
		}
		var out []repo.Entry
		for i, e := range entries {
			if keep[i] {
				out = append(out, e)
			}
		}
		entries = out
	}
	return entries, nil
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
				chain, err := ancestors(c.Context(), r, e.Point)
				if err != nil {
					return err
				}
				a.showPoint(e, chain)
				return a.ui.Result(pointDetail{e.Point, orEmpty(e.Tags), orEmpty(e.Warnings), e.Pinned, chain})
			})
		},
	}, repositoryCodes...)
}

// pointDetail is the result of show. Fields that a point leaves out when they
// are empty are always here.
type pointDetail struct {
	*recovery.Point
	Tags     []string `json:"tags"`
	Warnings []string `json:"warnings"`
	Pinned   bool     `json:"pinned"`
	Chain    []string `json:"chain"` // ids of the points it was read against, nearest first
}

// ancestors follows the parents of a point as far as they still exist.
func ancestors(ctx context.Context, r *repo.Repository, p *recovery.Point) ([]string, error) {
	chain := []string{}
	if p.Parent == "" {
		return chain, nil
	}
	entries, _, err := r.Points(ctx) // what cannot be read ends the chain, no more
	if err != nil {
		return nil, err
	}
	byID := map[string]*recovery.Point{}
	for _, e := range entries {
		byID[e.ID] = e.Point
	}
	for next := byID[p.Parent]; next != nil && len(chain) < len(entries); next = byID[next.Parent] {
		chain = append(chain, next.ID)
	}
	return chain, nil
}

// showPoint prints a point for people.
func (a *app) showPoint(e repo.Entry, chain []string) {
	line := func(name, format string, args ...any) {
		a.ui.Printf("%-13s%s\n", name, ui.Clean(fmt.Sprintf(format, args...)))
	}
	line("point", "%s", e.ID)
	line("source", "%s (%s)", e.Source, e.Identity)
	line("kind", "%s", e.Kind)
	line("time", "%s", e.Time.Format(time.RFC3339))
	line("consistency", "%s", e.Consistency)
	line("read", "%s: %s", e.ReadMode, e.Reason)
	if e.Rule != "" {
		line("rule", "%s", e.Rule)
	}
	if e.Parent != "" {
		line("parent", "%s", e.Parent)
	}
	if len(chain) > 1 {
		line("chain", "%s", strings.Join(chain, " "))
	}
	line("size", "%s, read %s, added %s in %d chunks", ui.Bytes(e.BytesTotal), ui.Bytes(e.BytesRead), ui.Bytes(e.BytesAdded), e.ChunksNew)
	line("made by", "%s on %s, finished %s", e.Program, e.Host, e.Finished.Format(time.RFC3339))
	if len(e.Tags) > 0 {
		line("tags", "%s", strings.Join(e.Tags, ", "))
	}
	if e.Pinned {
		line("pinned", "no policy forgets it")
	}
	for _, w := range e.Warnings {
		line("warning", "%s", w)
	}
	t := ui.NewTable(ui.Left("Item"), ui.Left("Label"), ui.Right("Size"), ui.Left("Read"), ui.Left("Why"))
	for _, it := range e.Items {
		t.Row(it.Name, it.Label, ui.Bytes(it.Bytes), it.ReadMode, it.Reason)
	}
	if !a.json {
		a.ui.Printf("\n")
		a.ui.Table(t)
	}
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
			if opts.add, err = tagList(opts.add); err != nil {
				return err
			}
			return a.label(c.Context(), words, func(l *ledger.Label) {
				l.Tags = slices.DeleteFunc(append(l.Tags, opts.add...), func(tag string) bool { return slices.Contains(opts.remove, tag) })
				slices.Sort(l.Tags)
				l.Tags = slices.Compact(l.Tags)
			})
		},
	}, repositoryCodes...)
	c.Flags().StringSliceVar(&opts.add, "add", nil, "add `TAG`")
	c.Flags().StringSliceVar(&opts.remove, "remove", nil, "remove `TAG`")
	return c
}

// tagList sorts the tags that were typed and refuses those nobody could type again.
func tagList(tags []string) ([]string, error) {
	tags = slices.Clone(tags)
	for i, tag := range tags {
		tags[i] = strings.TrimSpace(tag)
		if tags[i] == "" || strings.ContainsFunc(tags[i], unicode.IsControl) {
			return nil, usagef("some letters or digits", "%q is no tag", tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
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
	}, repositoryCodes...)
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
		rows := []pointRow{}
		for _, e := range found {
			if err := r.SetLabel(ctx, e, change); err != nil {
				return err
			}
			again, err := r.Find(ctx, e.ID)
			if err != nil {
				return err
			}
			rows = append(rows, rowOf(again))
			state := strings.Join(again.Tags, ", ")
			if again.Pinned {
				state = strings.TrimSuffix("pinned, "+state, ", ")
			}
			a.ui.Say("%s %s: %s\n", e.ID, e.Source, state)
		}
		return a.ui.Result(rows)
	})
}
