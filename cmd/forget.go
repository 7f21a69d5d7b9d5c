package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/ledger"
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
			policy, now, err := opts.read(words, a)
			if err != nil {
				return err
			}
			open := a.withWriter
			if opts.dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(r *repo.Repository) error {
				plan := &forgetPlan{a: a, r: r}
				if len(words) > 0 {
					err = plan.byName(c.Context(), words)
				} else {
					err = plan.byPolicy(c.Context(), policy, now, opts)
				}
				if err != nil {
					return err
				}
				return runForget(c.Context(), plan, opts)
			})
		},
	}, append([]exitCode{exitRefused}, writerCodes...)...)
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

// read refuses what cannot be meant, before anything is opened.
func (o forgetOptions) read(words []string, a *app) (recovery.Policy, time.Time, error) {
	policy := recovery.Policy{Last: o.last}
	now, err := typed.Time(o.now, a.now())
	switch {
	case err != nil:
	case o.last < 0:
		err = usagef("a number from 1", "--keep-last %d keeps nothing", o.last)
	case o.kind != "" && !slices.Contains(kinds, recovery.Kind(o.kind)):
		err = usagef("vm, sql-full, sql-diff, sql-log, image or files", "--kind %q is unknown", o.kind)
	case len(words) > 0 && (!policy.IsEmpty() || o.source != "" || o.kind != ""):
		err = usagef("name points, or say what to keep", "forget takes points or a policy, not both")
	case len(words) == 0 && policy.IsEmpty():
		err = usagef("say --keep-last N, or name points", "forget: the policy is empty and would keep nothing")
	}
	return policy, now, err
}

// judgement is a line of forget's result.
type judgement struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"` // "" of a point that cannot be read
	Time    time.Time `json:"time"`
	Action  string    `json:"action"` // keep or forget
	Reasons []string  `json:"reasons"`
}

// errPinned: a pinned point was named to be forgotten.
var errPinned = errors.New("the point is pinned")

// forgetPlan is what becomes of each point in question.
type forgetPlan struct {
	a *app
	r *repo.Repository

	judged  []recovery.Judged
	entries map[string]repo.Entry
	lost    map[string]*repo.PointError // were named, and cannot be read
}

// going are the sessions of the points that go, oldest first.
func (f *forgetPlan) going() (points []*recovery.Point, sessions []ledger.SID) {
	for _, j := range f.judged {
		if j.Keep {
			continue
		}
		points = append(points, j.Point)
		if lost := f.lost[j.Point.ID]; lost != nil {
			sid, _ := lost.Session() // byName has looked
			sessions = append(sessions, sid)
			continue
		}
		sessions = append(sessions, f.entries[j.Point.ID].Session())
	}
	return points, sessions
}

// forget drops one point.
func (f *forgetPlan) forget(ctx context.Context, p *recovery.Point) error {
	const reason = "forgotten by an operator or a policy"
	if lost := f.lost[p.ID]; lost != nil {
		return f.r.ForgetLost(ctx, lost, reason)
	}
	return f.r.Forget(ctx, f.entries[p.ID], reason)
}

// runForget does what the plan says, and shows it.
func runForget(ctx context.Context, plan *forgetPlan, opts forgetOptions) error {
	a := plan.a
	going, sessions := plan.going()
	verb := "would forget"
	if !opts.dryRun {
		verb = "forgot"
		for _, p := range slices.Backward(going) { // what stands on another goes first
			if err := plan.forget(ctx, p); err != nil {
				return err
			}
		}
	}
	rows := plan.rows()
	if !a.json {
		t := ui.NewTable(ui.Left("ID"), ui.Left("Time"), ui.Left("Source"), ui.Left("Action"), ui.Left("Reasons"))
		for _, row := range rows {
			t.Row(row.ID, row.Time.Format("2006-01-02 15:04:05 -07:00"), row.Source, row.Action, strings.Join(row.Reasons, ", "))
		}
		a.ui.Table(t)
		a.ui.Say("%s %d of %d points\n", verb, len(going), len(rows))
	}
	if err := a.ui.Result(rows); err != nil || !opts.prune {
		return err
	}
	prune := repo.PruneOptions{DryRun: opts.dryRun}
	if opts.dryRun {
		prune.Without = sessions
	}
	return runPrune(ctx, prune, false, a, plan.r)
}

func (f *forgetPlan) rows() []judgement {
	rows := []judgement{}
	for _, j := range f.judged {
		row := judgement{ID: j.Point.ID, Source: j.Point.Source, Time: j.Point.Time, Action: "keep", Reasons: j.Reasons}
		if !j.Keep {
			row.Action = "forget"
		}
		rows = append(rows, row)
	}
	return rows
}

// byName plans to drop the points that were named, those that cannot be read
// among them: while one stays, prune decides nothing.
func (f *forgetPlan) byName(ctx context.Context, words []string) error {
	f.entries, f.lost = map[string]repo.Entry{}, map[string]*repo.PointError{}
	for _, word := range words {
		e, err := f.a.find(ctx, f.r, word)
		lost, unreadable := errors.AsType[*repo.PointError](err)
		switch {
		case unreadable && len(word) >= 4 && strings.HasPrefix(lost.ID, strings.ToLower(word)):
			if _, err := lost.Session(); err != nil {
				return lost // its label: unpin and tag write a new one
			}
			if f.lost[lost.ID] == nil {
				f.judged = append(f.judged, recovery.Judged{Point: &recovery.Point{ID: lost.ID}, Reasons: []string{"named", "cannot be read"}})
			}
			f.lost[lost.ID] = lost
			continue
		case err != nil:
			return err
		case e.Pinned:
			return fmt.Errorf("forget %s: %w", e.ID, errPinned)
		}
		if _, twice := f.entries[e.ID]; !twice {
			f.judged = append(f.judged, recovery.Judged{Point: e.Point, Reasons: []string{"named"}})
		}
		f.entries[e.ID] = e
	}
	entries, _, err := f.r.Points(ctx) // of those that cannot be read nobody knows what they stand on
	if err != nil {
		return err
	}
	return recovery.NeededBy(pointsOf(entries), func(id string) bool { _, named := f.entries[id]; return named })
}

// byPolicy judges every point that the filters let through.
func (f *forgetPlan) byPolicy(ctx context.Context, policy recovery.Policy, now time.Time, opts forgetOptions) error {
	all, problems, err := f.r.Points(ctx)
	if err != nil {
		return err
	}
	if err := view.Unreadable(problems); err != nil {
		return err // a policy that does not see all points judges wrong
	}
	points := pointsOf(all)
	entries, err := view.Filter{Kind: opts.kind, Source: opts.source}.Select(all)
	if err != nil {
		return err
	}
	f.entries = map[string]repo.Entry{}
	for _, e := range entries {
		f.entries[e.ID] = e
	}
	if opts.now == "" && !opts.allowStale {
		if err := recovery.CheckClock(pointsOf(entries), now); err != nil {
			return err
		}
	}
	asked := func(p *recovery.Point) bool { _, chosen := f.entries[p.ID]; return chosen }
	f.judged, err = policy.Judge(points, asked, func(p *recovery.Point) bool { return f.entries[p.ID].Pinned })
	return err
}

func pointsOf(entries []repo.Entry) []*recovery.Point {
	points := make([]*recovery.Point, len(entries))
	for i, e := range entries {
		points[i] = e.Point
	}
	return points
}
