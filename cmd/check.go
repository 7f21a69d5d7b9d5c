package cmd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/backend"
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
			size, err := parseSize(opts.subset)
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
	check.Progress = follow(progress, "check")
	rep, err := r.Check(ctx, check)
	progress.Done()
	if err != nil {
		return err
	}
	sources := map[string]string{}
	if rep.Errors > 0 {
		entries, _, err := r.Points(ctx) // what cannot be listed is among the findings
		if err != nil {
			a.log.Warn("list points", "error", err)
		}
		for _, e := range entries {
			sources[e.ID] = fmt.Sprintf("%s of %s", e.Source, e.Time.Format(time.RFC3339))
		}
	}
	return a.showReport("check", rep, sources)
}

// follow makes a progress of calls that tell the state, not the step.
func follow(progress *ui.Progress, label string) func(done, total int64) {
	var last int64 = -1
	return func(done, total int64) {
		if last < 0 {
			progress.Start(total, label)
			last = 0
		}
		progress.Add(done - last)
		last = done
	}
}

// showReport prints what a check or scrub found and turns it into the error
// that decides the exit code. sources says what each point is of, by its id.
func (a *app) showReport(what string, rep *repo.Report, sources map[string]string) error {
	for _, f := range rep.Findings {
		state := "can be healed: holdfast scrub --heal"
		switch {
		case f.Healed:
			state = "healed"
		case f.Lost:
			state = "beyond repair"
		}
		a.ui.Printf("%s: %s; %s\n", f.Object, f.What, state)
		for _, hit := range f.Hits {
			id, _, _ := strings.Cut(hit, "/")
			a.ui.Printf("  needed by %s  %s\n", hit, sources[id])
		}
		if a.json {
			a.ui.Event("error", f)
		}
	}
	a.ui.Say("%s: %d objects, %s; %d damaged, %d healed, %d beyond repair\n", what, rep.Objects, ui.Bytes(rep.Bytes), rep.Damaged, rep.Healed, rep.Errors)
	a.ui.Event("summary", struct {
		*repo.Report
		Findings []repo.Finding `json:"findings"`
	}{rep, orEmpty(rep.Findings)})
	err := rep.Verdict()
	switch {
	case err == nil:
		return nil
	case rep.Errors == 0 && rep.Healed == rep.Damaged:
		return &advised{err, "all of it is mended; look at the health of the disks"}
	case rep.Errors > 0 && onlyIndex(rep):
		return &advised{err, "nothing is lost: holdfast repair index makes it anew from the packs"}
	case rep.Errors > 0 && what == "check":
		return &advised{err, "what is named above cannot be restored whole, all else can; back up those sources again"}
	}
	return err
}

// onlyIndex reports whether all that is lost are lists of what stands elsewhere.
func onlyIndex(rep *repo.Report) bool {
	return !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Lost && !strings.HasPrefix(f.Object, "index/") })
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
			return a.withPlace(c.Context(), func(be *place) error { return runScrub(c.Context(), opts, a, be) })
		},
	}, exitIncomplete, exitNoRepository, exitDamaged, exitUnreachable)
	c.Flags().BoolVar(&opts.heal, "heal", false, "write healed objects back")
	return c
}

func runScrub(ctx context.Context, opts scrubOptions, a *app, be backend.Backend) error {
	a.ui.Stream()
	progress := a.ui.Progress()
	rep, err := repo.Scrub(ctx, be, repo.ScrubOptions{Heal: opts.heal, Progress: follow(progress, "scrub")})
	progress.Done()
	if err != nil {
		return err
	}
	return a.showReport("scrub", rep, nil)
}

func newRepairCommand(a *app) *cobra.Command {
	return newGroup("repair", "rebuild what can be rebuilt", "Repair rebuilds parts of a repository from others. It never removes data.",
		documented(&cobra.Command{
			Use:     "index",
			Short:   "rebuild the index from the packs",
			Example: "holdfast -r /srv/backup repair index",
			Args:    args(),
			RunE: func(c *cobra.Command, _ []string) error {
				return a.withWriter(c.Context(), func(r *repo.Repository) error { return runRepairIndex(c.Context(), a, r) })
			},
		}, append([]exitCode{exitIncomplete}, repositoryCodes...)...))
}

func runRepairIndex(ctx context.Context, a *app, r *repo.Repository) error {
	a.ui.Stream()
	progress := a.ui.Progress()
	tell := follow(progress, "repair index")
	rep, err := r.RepairIndex(ctx, func(done, total int) { tell(int64(done), int64(total)) })
	progress.Done()
	if err != nil {
		return err
	}
	a.ui.Say("listed %d packs in %d new segments; removed %d old segments\n", rep.Packs, len(rep.Segments), len(rep.Removed))
	for _, name := range rep.Unreadable {
		a.ui.Warn("%s cannot be read; check tells which points need it", name)
	}
	for _, name := range rep.Lost {
		a.ui.Warn("%s is gone; what it held and the sources still have, their next full backup stores anew", name)
	}
	rep.Segments, rep.Removed, rep.Unreadable, rep.Lost = orEmpty(rep.Segments), orEmpty(rep.Removed), orEmpty(rep.Unreadable), orEmpty(rep.Lost)
	a.ui.Event("summary", rep)
	if len(rep.Unreadable) > 0 {
		return incomplete(fmt.Sprintf("%d packs cannot be read", len(rep.Unreadable)))
	}
	return nil
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
