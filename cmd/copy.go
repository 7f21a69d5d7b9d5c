package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

type copyOptions struct{ dryRun bool }

func newCopyCommand(a *app) *cobra.Command {
	var opts copyOptions
	c := documented(&cobra.Command{
		Use:   "copy [POINT…]",
		Short: "copy recovery points from another repository",
		Long: `Copy brings points of the repository --from-repo into this one: all of them, or those that
are named. What is here already is passed over. Each repository keeps its own keys and
ids, so everything is opened, verified and sealed anew; content that this one already has
is not stored again.`,
		Example: "holdfast -r s3:https://s3.example.org/offsite copy --from-repo /srv/backup --from-password-file /root/local",
		Args:    args("[POINT…]"),
		RunE: func(c *cobra.Command, words []string) error {
			if a.settings.Text("from-repo") == "" {
				return usagef("--from-repo URL", "copy: from which repository?")
			}
			open := a.withWriter
			if opts.dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(to *repo.Repository) error {
				return a.withSource(c.Context(), func(from *repo.Repository) error {
					return runCopy(c.Context(), words, opts, a, from, to)
				})
			})
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
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
	const nothing = "check --from-repo: there is nothing to copy from"
	be, err := a.openPlace(ctx, a.settings.Text("from-repo"), false)
	if errors.Is(err, repo.ErrNoRepository) {
		return verdict.Advise(err, nothing)
	}
	if err != nil {
		return err
	}
	defer be.Close()
	if err := repo.Exists(ctx, be); errors.Is(err, repo.ErrNoRepository) {
		return verdict.Advise(err, nothing)
	} else if err != nil {
		return err
	}
	opens, err := a.secrets().RepositoryKey(ctx, secret.From)
	if err != nil {
		return err
	}
	from, err := repo.Open(ctx, be, opens, a.options())
	if err != nil {
		err = fmt.Errorf("open the repository to copy from, %s: %w", a.settings.Shown("from-repo"), err)
		if errors.Is(err, seal.ErrWrongKey) {
			err = verdict.Advise(err, "check HOLDFAST_FROM_PASSWORD, --from-password-file or --from-key-file: it is that repository's, not this one's")
		}
		return err
	}
	defer from.Close()
	return fn(from)
}

// copied is how one point ends.
type copied struct {
	Point      string `json:"point"` // "" in a dry run
	From       string `json:"from"`
	Source     string `json:"source"`
	BytesTotal int64  `json:"bytes_total"`
	BytesAdded int64  `json:"bytes_added"`
	ChunksNew  int64  `json:"chunks_new"`
	DryRun     bool   `json:"dry_run"`
}

// skippedCopy is a point that is here already.
type skippedCopy struct {
	From   string `json:"from"`
	Point  string `json:"point"` // as which it is here
	Source string `json:"source"`
	Reason string `json:"reason"`
	Rule   string `json:"rule"`
}

// copyRun is one run of copy.
type copyRun struct {
	a        *app
	from, to *repo.Repository
	place    string // of from, as it may be shown
	dryRun   bool
	progress *ui.Progress
	copiers  map[string]*repo.Copier    // by identity: a point is read against the one before
	here     map[string]*recovery.Point // what this repository has, by where it was made

	done   int // copied, or here already
	failed []error
}

func runCopy(ctx context.Context, words []string, opts copyOptions, a *app, from, to *repo.Repository) error {
	if from.Config().ID == to.Config().ID {
		return usagef("name two different repositories", "copy: both are the same repository")
	}
	wanted, problems, err := from.Points(ctx)
	if err != nil {
		return err
	}
	if len(words) == 0 { // else those that are found tell
		if err := view.Vanished(ctx, from, nil, a.tellVanished); err != nil {
			return err
		}
	}
	chosen := map[string]bool{}
	for _, word := range words {
		e, err := a.find(ctx, from, word)
		if err != nil {
			return err
		}
		chosen[e.ID] = true
	}
	run := &copyRun{a: a, from: from, to: to, place: a.settings.Shown("from-repo"), dryRun: opts.dryRun, progress: a.ui.Progress(), copiers: map[string]*repo.Copier{}}
	if run.here, err = byOrigin(ctx, to); err != nil {
		return err
	}
	a.ui.Stream()
	for _, e := range wanted {
		if p := run.here[from.OriginOf(e.Point)]; p == nil && (len(words) == 0 || chosen[e.ID]) {
			run.progress.Expect(e.Source, e.BytesTotal)
		}
	}
	for _, e := range wanted { // the oldest first
		if err := run.one(ctx, e, len(words) == 0 || chosen[e.ID]); err != nil {
			run.progress.Done()
			return verdict.Told(err.Error(), append(run.failed, err)...)
		}
	}
	run.progress.Done()
	if len(words) == 0 {
		for _, p := range problems {
			run.fail("point "+p.ID+" in "+run.place, p.Err)
		}
	}
	return run.end()
}

// one copies a point, or passes it over. An error ends the run: of a point that
// cannot be read its neighbours know nothing.
func (c *copyRun) one(ctx context.Context, e repo.Entry, chosen bool) error {
	copier := c.copiers[e.Identity]
	if copier == nil {
		copier = c.to.CopierFrom(c.from, c.progress.Read)
		c.copiers[e.Identity] = copier
	}
	p := c.here[c.from.OriginOf(e.Point)]
	if p != nil {
		copier.Known(e.Point, p)
	}
	switch {
	case !chosen:
	case p != nil:
		c.done++
		c.a.ui.Detail("%s of %s is here as %s", e.ID, e.Source, p.ID)
		c.a.ui.Event("skipped", skippedCopy{From: e.ID, Point: p.ID, Source: e.Source, Reason: "it is here already", Rule: "COPY-1"})
	case c.dryRun:
		c.done++
		c.a.ui.Say("would copy %s of %s, %s\n", e.ID, e.Source, ui.Bytes(e.BytesTotal))
		c.a.ui.Event("summary", copied{From: e.ID, Source: e.Source, BytesTotal: e.BytesTotal, DryRun: true})
	default:
		return c.carry(ctx, copier, e)
	}
	return nil
}

func (c *copyRun) carry(ctx context.Context, copier *repo.Copier, e repo.Entry) error {
	c.progress.Begin(e.Source, e.BytesTotal)
	p, err := copier.Copy(ctx, e)
	c.progress.End(e.Source)
	what := fmt.Sprintf("%s of %s", e.ID, e.Source)
	switch {
	case err == nil:
	case ctx.Err() != nil, !isDamage(err):
		return fmt.Errorf("copy %s: %w", what, err)
	default:
		c.fail(what+" in "+c.place, err)
		return nil
	}
	c.done++
	c.a.ui.Say("copied %s as %s, %s stored\n", what, p.ID, ui.Bytes(p.BytesAdded))
	c.a.ui.Event("summary", copied{Point: p.ID, From: e.ID, Source: e.Source, BytesTotal: p.BytesTotal, BytesAdded: p.BytesAdded, ChunksNew: p.ChunksNew})
	return nil
}

// isDamage: what was to be read is lost or altered; everything else, such as a
// place that is full or does not answer, would hit the next point as well.
func isDamage(err error) bool {
	for _, kind := range []error{pack.ErrDamaged, pack.ErrTampered, repo.ErrMissing, repo.ErrUnlisted} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (c *copyRun) fail(what string, err error) {
	c.a.ui.Problem(what, err)
	c.failed = append(c.failed, fmt.Errorf("%s: %w", what, err))
}

// end is what the run comes to: done, done but not complete, or failed.
func (c *copyRun) end() error {
	if !c.dryRun {
		c.a.ui.Say("%d points are here\n", c.done)
	}
	var err error
	switch {
	case len(c.failed) == 0:
		return nil
	case c.done == 0:
		err = verdict.Told(fmt.Sprintf("none of %d points could be copied from %s", len(c.failed), c.place), c.failed...)
	default:
		err = verdict.Incomplete(fmt.Sprintf("%d of %d points could not be copied from %s", len(c.failed), c.done+len(c.failed), c.place))
	}
	return verdict.Advise(err, "holdfast -r "+c.place+" check --read-data names the points and items that are hit there")
}

// byOrigin are the points of a repository by where they were made, be that another
// one or itself.
func byOrigin(ctx context.Context, r *repo.Repository) (map[string]*recovery.Point, error) {
	entries, _, err := r.Points(ctx) // one that cannot be read is copied again
	if err != nil {
		return nil, err
	}
	here := map[string]*recovery.Point{}
	for _, e := range entries {
		here[r.OriginOf(e.Point)] = e.Point
	}
	return here, nil
}
