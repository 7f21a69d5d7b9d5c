package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/recovery"
)

type copyOptions struct{ dryRun bool }

func newCopyCommand(a *app) *cobra.Command {
	var opts copyOptions
	c := documented(&cobra.Command{
		Use:   "copy [POINT…]",
		Short: "copy recovery points from another repository",
		Long: `Copy brings points of the repository --from-repo into this one: all of them, or those that
are named. What was copied before is passed over. Each repository keeps its own keys and
ids, so everything is opened, verified and sealed anew; content that this one already has
is not stored again.`,
		Example: "holdfast -r s3:https://s3.example.org/offsite copy --from-repo /srv/backup --from-password-file /root/local",
		Args:    args("[POINT…]"),
		RunE: func(c *cobra.Command, words []string) error {
			if a.settings.Text("from-repo") == "" {
				return usagef("--from-repo URL", "copy: from which repository?")
			}
			return a.withWriter(c.Context(), func(to *repo.Repository) error {
				return a.withSource(c.Context(), func(from *repo.Repository) error {
					return runCopy(c.Context(), words, opts, a, from, to)
				})
			})
		},
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
	f := c.Flags()
	f.String("from-repo", "", "copy from the repository at `URL`")
	f.String("from-password-file", "", "its password is in `FILE`")
	f.String("from-password-command", "", "its password is what `COMMAND` prints")
	f.String("from-key-file", "", "its key is in `FILE`")
	f.BoolVar(&opts.dryRun, "dry-run", false, "show what would be copied, copy nothing")
	return c
}

// withSource runs fn with the repository to copy from.
func (a *app) withSource(ctx context.Context, fn func(from *repo.Repository) error) error {
	be, err := a.openPlace(ctx, a.settings.Text("from-repo"), false)
	if err != nil {
		return err
	}
	defer be.Close()
	if err := repo.Exists(ctx, be); err != nil {
		return err
	}
	opens, err := a.secrets().RepositoryKey(ctx, secret.From)
	if err != nil {
		return err
	}
	from, err := repo.Open(ctx, be, opens, a.options())
	if err != nil {
		return err
	}
	defer from.Close()
	return fn(from)
}

// copied is how one point ends.
type copied struct {
	Point      string `json:"point"`
	From       string `json:"from"`
	Source     string `json:"source"`
	BytesTotal int64  `json:"bytes_total"`
	BytesAdded int64  `json:"bytes_added"`
	ChunksNew  int64  `json:"chunks_new"`
}

// skippedCopy is a point that is here already.
type skippedCopy struct {
	From   string `json:"from"`
	Source string `json:"source"`
	Reason string `json:"reason"`
	Rule   string `json:"rule"`
}

func runCopy(ctx context.Context, words []string, opts copyOptions, a *app, from, to *repo.Repository) error {
	if from.Config().ID == to.Config().ID {
		return usagef("name two different repositories", "copy: both are the same repository")
	}
	wanted, problems, err := from.Points(ctx)
	if err != nil {
		return err
	}
	chosen := map[string]bool{}
	for _, word := range words {
		e, err := a.find(ctx, from, word)
		if err != nil {
			return err
		}
		chosen[e.ID] = true
	}
	here, err := byOrigin(ctx, to)
	if err != nil {
		return err
	}
	a.ui.Stream()
	progress := a.ui.Progress()
	defer progress.Done()
	copiers := map[string]*repo.Copier{}
	for _, e := range wanted { // the oldest first
		c := copiers[e.Identity]
		if c == nil {
			c = to.CopierFrom(from, progress.Read)
			copiers[e.Identity] = c
		}
		if p := here[from.OriginOf(e.Point)]; p != nil {
			c.Known(e.Point, p)
			a.ui.Detail("%s of %s is here as %s\n", e.ID, e.Source, p.ID)
			a.ui.Event("skipped", skippedCopy{From: e.ID, Source: e.Source, Reason: "it was copied before, as " + p.ID, Rule: "COPY-1"})
			continue
		}
		if len(words) > 0 && !chosen[e.ID] {
			continue
		}
		if opts.dryRun {
			a.ui.Say("would copy %s of %s, %s\n", e.ID, e.Source, ui.Bytes(e.BytesTotal))
			continue
		}
		progress.Begin(e.Source, e.BytesTotal)
		p, err := c.Copy(ctx, e)
		progress.End(e.Source)
		if err != nil {
			return fmt.Errorf("copy %s of %s: %w", e.ID, e.Source, err)
		}
		a.ui.Say("copied %s of %s as %s, %s stored\n", e.ID, e.Source, p.ID, ui.Bytes(p.BytesAdded))
		a.ui.Event("summary", copied{Point: p.ID, From: e.ID, Source: e.Source, BytesTotal: p.BytesTotal, BytesAdded: p.BytesAdded, ChunksNew: p.ChunksNew})
	}
	return view.Unreadable(problems)
}

// byOrigin are the points that are copies, by what they were copied from.
func byOrigin(ctx context.Context, r *repo.Repository) (map[string]*recovery.Point, error) {
	entries, _, err := r.Points(ctx) // one that cannot be read is copied again
	if err != nil {
		return nil, err
	}
	here := map[string]*recovery.Point{}
	for _, e := range entries {
		if e.Origin != "" {
			here[e.Origin] = e.Point
		}
	}
	return here, nil
}
