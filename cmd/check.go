package cmd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/health"
	"holdfast/cmd/place"
	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/recovery"
)

type checkOptions struct {
	readData bool
	subset   string
}

func newCheckCommand(a *app) *cobra.Command {
	var opts checkOptions
	c := documented(&cobra.Command{
		Use:   "check",
		Short: "tell whether everything can be restored",
		Long: `Check opens every record, compares the index with the packs that exist and walks
every recovery point. With --read-data it also opens every chunk and compares its
content with its name. What is damaged is reported with the points and items it hits.`,
		Example: "holdfast -r /srv/backup check\nholdfast -r /srv/backup check --read-data-subset 5%",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := exclusive(c, "read-data", "read-data-subset"); err != nil {
				return err
			}
			return a.withRepository(c.Context(), func(r *repo.Repository) error { return runCheck(c.Context(), opts, a, r) })
		},
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
	c.Flags().BoolVar(&opts.readData, "read-data", false, "read and verify all data")
	c.Flags().StringVar(&opts.subset, "read-data-subset", "", "read and verify a random `SHARE` of the data: 5% or 10G")
	return c
}

func runCheck(ctx context.Context, opts checkOptions, a *app, r *repo.Repository) error {
	a.ui.Stream()
	check := repo.CheckOptions{ReadData: opts.readData, Shuffle: rand.Shuffle}
	if opts.subset != "" {
		check.ReadData = true
		if percent, ok := strings.CutSuffix(opts.subset, "%"); ok {
			v, err := strconv.ParseFloat(percent, 64)
			if err != nil || v <= 0 || v > 100 {
				return usagef("a share like 5% or a size like 10G", "--read-data-subset %q is no share", opts.subset)
			}
			check.ReadPercent = v
		} else {
			size, err := typed.Size(opts.subset)
			if err != nil {
				return err
			}
			if size == 0 {
				return usagef("a share like 5% or a size like 10G", "--read-data-subset %q is nothing", opts.subset)
			}
			check.ReadBytes = size
		}
	}
	progress := a.ui.Progress()
	check.Progress = progress.Follow("check")
	rep, err := r.Check(ctx, check)
	progress.Done()
	if err != nil {
		return err
	}
	found := health.Found{Report: rep, Sources: map[string]string{}}
	if rep.Damaged > 0 {
		briefs, _, err := r.Briefs(ctx) // what cannot be listed is among the findings
		if err != nil {
			a.log.Warn("list points", "error", err)
		}
		for _, b := range briefs {
			found.Sources[b.ID()] = fmt.Sprintf("%s of %s", b.Source(), b.Time().Format(time.RFC3339))
		}
		found.Standing = recovery.StandOn(briefs, health.Hit(rep), chainsOf(ctx, r))
	}
	return health.Show(a.ui, "check", found)
}

type scrubOptions struct{ heal bool }

func newScrubCommand(a *app) *cobra.Command {
	var opts scrubOptions
	c := documented(&cobra.Command{
		Use:   "scrub",
		Short: "find and heal damage by checksums and parity alone; needs no password",
		Long: `Scrub reads every object and compares it with the checksums and parity inside it. With
--heal what can be mended is written anew, bit for bit what it was; the damaged bytes
stay in quarantine/ until the next clean scrub. It needs no password: run it on the
machine that holds the disks.`,
		Example: "holdfast -r /srv/backup scrub --heal",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withPlace(c.Context(), func(be *place.Place) error {
				if !opts.heal {
					return runScrub(c.Context(), opts, a, be)
				}
				if err := repo.Exists(c.Context(), be); err != nil {
					return err
				}
				unlock, err := a.alone(c.Context(), be)
				if err != nil {
					return err
				}
				defer unlock()
				return runScrub(c.Context(), opts, a, be)
			})
		},
	}, exitIncomplete, exitNoRepository, exitBusy, exitDamaged, exitUnreachable)
	c.Flags().BoolVar(&opts.heal, "heal", false, "write healed objects back")
	return c
}

func runScrub(ctx context.Context, opts scrubOptions, a *app, be backend.Backend) error {
	a.ui.Stream()
	progress := a.ui.Progress()
	rep, err := repo.Scrub(ctx, be, repo.ScrubOptions{Heal: opts.heal, Progress: progress.Follow("scrub")})
	progress.Done()
	if err != nil {
		return err
	}
	return health.Show(a.ui, "scrub", health.Found{Report: rep})
}

func newStatsCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "stats",
		Short:   "tell how much the repository holds and what it saves",
		Example: "holdfast -r /srv/backup stats",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error {
				s, err := r.Stats(c.Context())
				if err != nil {
					return err
				}
				t := ui.NewTable(ui.Left(""), ui.Right("Objects"), ui.Right("Bytes"))
				for _, k := range s.Kinds {
					t.Row(k.Kind, fmt.Sprint(k.Objects), ui.Bytes(k.Bytes))
				}
				t.Row("all", fmt.Sprint(s.Objects), ui.Bytes(s.BytesStored))
				if !a.json {
					a.ui.Table(t)
				}
				a.ui.Printf("%d points of %d sources, %s of items; %d chunks\n", s.Points, s.Sources, ui.Bytes(s.BytesTotal), s.Chunks)
				return a.ui.Result(s)
			})
		},
	}, repositoryCodes...)
}
