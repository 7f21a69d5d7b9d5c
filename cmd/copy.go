package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/cmd/copying"
	"holdfast/cmd/secret"
	"holdfast/cmd/verdict"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/seal"
)

type copyOptions struct{ dryRun bool }

func newCopyCommand(a *app) *cobra.Command {
	var opts copyOptions
	c := documented(&cobra.Command{
		Use:   "copy [POINT…]",
		Short: "copy recovery points from another repository",
		Long: `Copy brings points of the repository --from-repo into this one: all of them, or those that
are named; of a database also the full, the differential and the logs that a named backup
is restored by. What is here already is passed over. Each repository keeps its own keys
and ids, so everything is opened, verified and sealed anew; content that this one already
has is not stored again.`,
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

func runCopy(ctx context.Context, words []string, opts copyOptions, a *app, from, to *repo.Repository) error {
	if from.Config().ID == to.Config().ID {
		return usagef("name two different repositories", "copy: both are the same repository")
	}
	run := copying.Options{From: from, To: to, Place: a.settings.Shown("from-repo"), DryRun: opts.dryRun, UI: a.ui}
	if len(words) == 0 { // else those that are found tell
		if err := view.Vanished(ctx, from, a.noteVanished); err != nil {
			return err
		}
	}
	for _, word := range words {
		e, err := a.find(ctx, from, word)
		if err != nil {
			return err
		}
		if run.Chosen == nil {
			run.Chosen = map[string]bool{}
		}
		run.Chosen[e.ID] = true
	}
	return copying.Run(ctx, run)
}
