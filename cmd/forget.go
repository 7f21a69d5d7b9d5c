package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/recovery"
)

type forgetOptions struct {
	last                      int
	source, kind, now         string
	dryRun, prune, allowStale bool
}

func newForgetCommand(a *app) *cobra.Command {
	var opts forgetOptions
	c := documented(&cobra.Command{
		Use:   "forget [POINT…]",
		Short: "drop recovery points, by id or by a policy",
		Long: `Forget drops points: they are no longer listed and cannot be restored. The space that
only they need comes back with prune, or at once with --prune. There is no way back.

With --keep-last N each source keeps its newest N points; pinned points and the
newest point of a source are always kept. Every point is printed with what becomes of
it and why. Look first with --dry-run.`,
		Example: "holdfast -r /srv/backup forget --keep-last 14 --prune --dry-run\nholdfast -r /srv/backup forget 3f21a7c0",
		Args:    args("[POINT…]"),
		RunE: func(c *cobra.Command, words []string) error {
			policy := recovery.Policy{Last: opts.last}
			if opts.last < 0 {
				return usagef("a number from 1", "--keep-last %d keeps nothing", opts.last)
			}
			switch {
			case len(words) > 0 && (!policy.IsEmpty() || opts.source != "" || opts.kind != ""):
				return usagef("name points, or say what to keep", "forget takes points or a policy, not both")
			case len(words) == 0 && policy.IsEmpty():
				return usagef("say --keep-last N, or name points", "forget: the policy is empty and would keep nothing")
			}
			open := a.withWriter
			if opts.dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(r *repo.Repository) error {
				return runForget(c.Context(), words, policy, opts, a, r)
			})
		},
	}, append([]exitCode{exitRefused}, repositoryCodes...)...)
	f := c.Flags()
	f.IntVar(&opts.last, "keep-last", 0, "keep the newest `N` points of each source")
	f.StringVar(&opts.source, "source", "", "only points of this `SOURCE`: vm/NAME, image/NAME or the last part of it")
	f.StringVar(&opts.kind, "kind", "", "only points of this `KIND`: vm, sql-full, sql-diff, sql-log, image, files")
	f.StringVar(&opts.now, "now", "", "judge as if it were this `TIME`")
	f.BoolVar(&opts.allowStale, "allow-stale", false, "trust the clock though it does not fit the newest point")
	f.BoolVar(&opts.dryRun, "dry-run", false, "show what would be forgotten, change nothing")
	f.BoolVar(&opts.prune, "prune", false, "and remove what no point needs any more")
	return c
}

// judgement is a line of forget's result.
type judgement struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Time    time.Time `json:"time"`
	Action  string    `json:"action"` // keep or forget
	Reasons []string  `json:"reasons"`
}

// errPinned: a pinned point was named to be forgotten.
var errPinned = errors.New("the point is pinned")

func runForget(ctx context.Context, words []string, policy recovery.Policy, opts forgetOptions, a *app, r *repo.Repository) error {
	judged, byID, err := judgeForget(ctx, words, policy, opts, a, r)
	if err != nil {
		return err
	}
	rows := []judgement{}
	t := ui.NewTable(ui.Left("ID"), ui.Left("Time"), ui.Left("Source"), ui.Left("Action"), ui.Left("Reasons"))
	var forgotten []repo.Entry
	for _, j := range judged {
		row := judgement{ID: j.Point.ID, Source: j.Point.Source, Time: j.Point.Time, Action: "keep", Reasons: j.Reasons}
		if !j.Keep {
			row.Action = "forget"
			forgotten = append(forgotten, byID[j.Point.ID])
		}
		rows = append(rows, row)
		t.Row(row.ID, row.Time.Format("2006-01-02 15:04:05 -07:00"), row.Source, row.Action, strings.Join(row.Reasons, ", "))
	}
	if !opts.dryRun {
		for _, e := range forgotten {
			if err := r.Forget(ctx, e, "forgotten by an operator or a policy"); err != nil {
				return err
			}
		}
	}
	if !a.json {
		a.ui.Table(t)
		verb := "forgot"
		if opts.dryRun {
			verb = "would forget"
		}
		a.ui.Say("%s %d of %d points\n", verb, len(forgotten), len(rows))
	}
	if err := a.ui.Result(rows); err != nil || !opts.prune {
		return err
	}
	prune := repo.PruneOptions{DryRun: opts.dryRun}
	if opts.dryRun {
		prune.Without = forgotten
	}
	return runPrune(ctx, prune, false, a, r)
}

// judgeForget says of each point in question whether it goes, and why.
func judgeForget(ctx context.Context, words []string, policy recovery.Policy, opts forgetOptions, a *app, r *repo.Repository) ([]recovery.Judged, map[string]repo.Entry, error) {
	byID := map[string]repo.Entry{}
	var judged []recovery.Judged
	for _, word := range words {
		e, err := a.find(ctx, r, word)
		if err != nil {
			return nil, nil, err
		}
		if e.Pinned {
			return nil, nil, fmt.Errorf("forget %s: %w", e.ID, errPinned)
		}
		if _, twice := byID[e.ID]; !twice {
			judged = append(judged, recovery.Judged{Point: e.Point, Reasons: []string{"named"}})
		}
		byID[e.ID] = e
	}
	if len(words) > 0 {
		return judged, byID, nil
	}
	entries, problems, err := r.Points(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := view.Unreadable(problems); err != nil {
		return nil, nil, err // a policy that does not see all points judges wrong
	}
	if entries, err = (view.Filter{Kind: opts.kind, Source: opts.source}).Select(entries); err != nil {
		return nil, nil, err
	}
	var points []*recovery.Point
	for _, e := range entries {
		points = append(points, e.Point)
		byID[e.ID] = e
	}
	now, err := typed.Time(opts.now, a.now())
	if err != nil {
		return nil, nil, err
	}
	if opts.now == "" && !opts.allowStale {
		if err := recovery.CheckClock(points, now); err != nil {
			return nil, nil, err
		}
	}
	judged, err = policy.Judge(points, func(p *recovery.Point) bool { return byID[p.ID].Pinned })
	return judged, byID, err
}
