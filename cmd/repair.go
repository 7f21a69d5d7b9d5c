package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/cmd/health"
	"holdfast/cmd/verdict"
	"holdfast/repo"
)

func newRepairCommand(a *app) *cobra.Command {
	return newGroup("repair", "rebuild what can be rebuilt", "Repair rebuilds parts of a repository from others. What cannot be read is moved aside,\nnever thrown away.",
		documented(&cobra.Command{
			Use:   "index",
			Short: "rebuild the index from the packs",
			Long: `Repair index lists every pack that no segment of the index lists, as the packs themselves
say what they hold. Packs that were there before the last prune are reused by backups
only after the next one has judged them: run holdfast prune after it.`,
			Example: "holdfast -r /srv/backup repair index",
			Args:    args(),
			RunE: func(c *cobra.Command, _ []string) error {
				return a.withWriter(c.Context(), func(r *repo.Repository) error { return runRepairIndex(c.Context(), a, r) })
			},
		}, append([]exitCode{exitIncomplete}, writerCodes...)...),
		newRepairPacksCommand(a))
}

func newRepairPacksCommand(a *app) *cobra.Command {
	var dryRun bool
	c := documented(&cobra.Command{
		Use:   "packs",
		Short: "save what is left of packs that are damaged beyond repair",
		Long: `Repair packs reads every pack. What still opens of a pack that parity cannot bring back is
copied into new packs; the damaged bytes go to quarantine/, and the index is listed anew,
so that the next full backup stores again what was lost and its source still has. Points
that need what is lost, now or since an earlier repair, are named (3). Damage that parity
can mend is left to scrub --heal.`,
		Example: "holdfast -r /srv/backup repair packs --dry-run",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			open := a.withWriter
			if dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(r *repo.Repository) error { return runRepairPacks(c.Context(), dryRun, a, r) })
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "look and report, change nothing")
	return c
}

func runRepairPacks(ctx context.Context, dryRun bool, a *app, r *repo.Repository) error {
	a.ui.Stream()
	progress := a.ui.Progress()
	tell := progress.Follow("repair packs")
	rep, err := r.RepairPacks(ctx, dryRun, func(done, total int) { tell(int64(done), int64(total)) })
	progress.Done()
	if err != nil {
		return err
	}
	for _, b := range rep.Damaged {
		a.ui.Warn("%s: %s; %d chunks saved, %d lost", b.Pack, b.What, b.Salvaged, b.Lost)
	}
	for _, name := range rep.Missing {
		a.ui.Warn("%s is gone", name)
	}
	a.ui.Say("%d packs read, %d damaged beyond parity: %d chunks saved, %d lost\n", rep.Packs, len(rep.Damaged), rep.ChunksSalvaged, rep.ChunksLost)
	if len(rep.Healable) > 0 {
		a.ui.Warn("%d packs are damaged and parity can mend them: holdfast scrub --heal", len(rep.Healable))
	}
	switch {
	case rep.Index != nil:
		sayListed(a, rep.Index)
	case rep.Unlisted > 0:
		a.ui.Warn("%d packs are in no index; a repair lists them", rep.Unlisted)
	}
	hurt, err := health.FindHurt(ctx, r) // also by what an earlier repair has found to be gone
	if err != nil {
		return err
	}
	health.Warn(a.ui, hurt)
	a.ui.Event("summary", struct {
		*repo.RepairPacksReport
		Hurt []health.Hurt `json:"points_hurt"`
	}{rep, hurt})
	switch {
	case rep.ChunksLost > 0:
		err = verdict.Incomplete(fmt.Sprintf("%d chunks are lost; holdfast check names the points that need them", rep.ChunksLost))
	case len(rep.Missing) > 0:
		err = verdict.Incomplete(fmt.Sprintf("%d packs are gone; what they held and the sources still have, the next backup stores anew", len(rep.Missing)))
	case len(rep.Healable) > 0 || dryRun && len(rep.Damaged)+rep.Unlisted > 0:
		err = verdict.Incomplete("damage was found that can be mended")
	}
	return health.Advise(err, hurt)
}

// sayListed tells what a repair has done to the index.
func sayListed(a *app, rep *repo.RepairReport) {
	a.ui.Say("listed %d packs in %d new segments; removed %d old segments\n", rep.Packs, len(rep.Segments), len(rep.Removed))
	if rep.Ledger > 0 {
		a.ui.Say("the ledger had lost its end; put %d entries there, of what is left\n", rep.Ledger)
	}
	if rep.UntilPrune > 0 {
		a.ui.Say("of these, %d are not reused, and backups store again what they hold, until the next holdfast prune: run it now\n", rep.UntilPrune)
	}
}

func runRepairIndex(ctx context.Context, a *app, r *repo.Repository) error {
	a.ui.Stream()
	progress := a.ui.Progress()
	tell := progress.Follow("repair index")
	rep, err := r.RepairIndex(ctx, func(done, total int) { tell(int64(done), int64(total)) })
	progress.Done()
	if err != nil {
		return err
	}
	sayListed(a, rep)
	for _, name := range rep.Unreadable {
		a.ui.Warn("%s cannot be read; check tells which points need it, and repair packs saves what is left of it", name)
	}
	for _, name := range rep.Lost {
		a.ui.Warn("%s is gone; what it held and the sources still have, their next full backup stores anew", name)
	}
	rep.Segments, rep.Removed, rep.Unreadable, rep.Lost = orEmpty(rep.Segments), orEmpty(rep.Removed), orEmpty(rep.Unreadable), orEmpty(rep.Lost)
	hurt := []health.Hurt{}
	if len(rep.Lost)+len(rep.Unreadable) > 0 {
		if hurt, err = health.FindHurt(ctx, r); err != nil {
			return err
		}
	}
	health.Warn(a.ui, hurt)
	a.ui.Event("summary", struct {
		*repo.RepairReport
		Hurt []health.Hurt `json:"points_hurt"`
	}{rep, hurt})
	if len(rep.Unreadable) > 0 {
		err = verdict.Incomplete(fmt.Sprintf("%d packs cannot be read", len(rep.Unreadable)))
	}
	return health.Advise(err, hurt)
}
