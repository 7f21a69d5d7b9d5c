package cmd

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/repo"
)

type pruneOptions struct {
	maxUnused, maxRepack, deadAfter string
	dryRun, reencrypt               bool
}

func newPruneCommand(a *app) *cobra.Command {
	var opts pruneOptions
	c := documented(&cobra.Command{
		Use:   "prune",
		Short: "remove what no recovery point needs",
		Long: `Prune removes data that only forgotten points, failed and interrupted backups needed. It
may run at any time: it never blocks a backup and leaves nothing that must be unlocked.
What a running backup may still need stays until that backup is over; the next prune
removes it. Packs of which only a part is needed are repacked when too much of all data
is unused.

A backup that died on this machine is recognised at once, one that died elsewhere once it
has been silent for --dead-after and two prunes have seen it so.`,
		Example: "holdfast -r /srv/backup prune --dry-run\nholdfast -r /srv/backup prune --max-unused 10% --max-repack 50G",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			prune, err := opts.read()
			if err != nil {
				return err
			}
			open := a.withWriter
			if opts.dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(r *repo.Repository) error { return runPrune(c.Context(), prune, true, a, r) })
		},
	}, append([]exitCode{exitIncomplete, exitRefused}, writerCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.maxUnused, "max-unused", "5%", "leave this `SHARE` of unused data alone: 5%, or unlimited")
	f.StringVar(&opts.maxRepack, "max-repack", "", "copy at most this `SIZE` when repacking")
	f.StringVar(&opts.deadAfter, "dead-after", "24h", "give up backups elsewhere that have been silent for this `TIME`")
	f.BoolVar(&opts.reencrypt, "reencrypt", false, "also repack what an older key sealed (see key rotate)")
	f.BoolVar(&opts.dryRun, "dry-run", false, "show what would be removed, change nothing")
	return c
}

func (o pruneOptions) read() (repo.PruneOptions, error) {
	prune := repo.PruneOptions{DryRun: o.dryRun, Reencrypt: o.reencrypt}
	share := 1.0
	if o.maxUnused != "unlimited" {
		percent, ok := strings.CutSuffix(o.maxUnused, "%")
		ok = ok || percent == "0" // nothing is nothing, in whatever unit
		v, err := strconv.ParseFloat(percent, 64)
		if !ok || err != nil || !(v >= 0 && v <= 100) {
			return prune, usagef("a share like 5%, or unlimited", "--max-unused %q is no share", o.maxUnused)
		}
		share = v / 100
	}
	prune.MaxUnused = &share
	if o.maxRepack != "" {
		size, err := typed.Size(o.maxRepack)
		if err != nil {
			return prune, err
		}
		prune.MaxRepack = max(size, 1) // 0 would mean no bound
	}
	age, err := typed.Age(o.deadAfter)
	if err != nil {
		return prune, err
	}
	prune.DeadAfter = max(age, time.Nanosecond)
	return prune, nil
}

// runPrune prunes and shows what became of it. streams is false where the summary
// must follow a result of another command.
func runPrune(ctx context.Context, opts repo.PruneOptions, streams bool, a *app, r *repo.Repository) error {
	if streams {
		a.ui.Stream()
	}
	progress := a.ui.Progress()
	stage := ""
	var tell func(done, total int64)
	opts.Progress = func(p repo.PruneProgress) {
		if p.Stage != stage {
			progress.Done()
			progress = a.ui.Progress()
			stage, tell = p.Stage, progress.Follow("prune: "+p.Stage)
		}
		tell(p.Done, p.Total)
	}
	if a.json && !streams {
		opts.Progress = nil
	}
	rep, err := r.Prune(ctx, opts)
	progress.Done()
	for _, b := range rep.Blocked {
		a.ui.Warn("%s: %s", b.Object, b.Why)
	}
	for _, w := range rep.Warnings {
		a.ui.Warn("%s", w)
	}
	if err != nil {
		return err
	}
	verb := "removed"
	if rep.DryRun {
		verb = "would remove"
	}
	a.ui.Say("%s %d packs, %s\n", verb, rep.PacksRemoved, ui.Bytes(rep.BytesRemoved))
	if rep.PacksRepacked > 0 {
		verb := "repacked"
		if rep.DryRun {
			verb = "would repack"
		}
		a.ui.Say("%s %d packs: %s to copy\n", verb, rep.PacksRepacked, ui.Bytes(rep.BytesRepacked))
	}
	if rep.PacksWaiting > 0 {
		a.ui.Say("%d packs, %s, wait for backups that are open; the next prune removes them\n", rep.PacksWaiting, ui.Bytes(rep.BytesWaiting))
	}
	for _, o := range rep.Open {
		if o.Vanished {
			a.ui.Say("ended, its point has vanished: %s from %s, heard of at %s\n", o.Source, o.Host, o.Heard.Local().Format(time.DateTime))
			continue
		}
		a.ui.Say("open: %s from %s, heard of at %s\n", o.Source, o.Host, o.Heard.Local().Format(time.DateTime))
	}
	if rep.Locked > 0 {
		a.ui.Say("%d objects are locked by the place of storage; a later prune removes them\n", rep.Locked)
	}
	a.ui.Say("%d points need %d packs, %s; about %s of that is unused\n", rep.Points, rep.PacksLive, ui.Bytes(rep.BytesLive), ui.Bytes(rep.BytesUnused))
	a.ui.Event("summary", rep)
	return nil
}
