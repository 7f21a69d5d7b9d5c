package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the zones, where the system has none: Windows, small containers

	"github.com/spf13/cobra"

	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/retain"
)

type forgetOptions struct {
	policy                    recovery.Policy
	within, pit, timezone     string
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

A policy is what the --keep flags say, applied to each source by itself; what one of
them keeps is kept. A day ends at midnight, a week on Sunday, in --timezone. Of weeks,
months and years no log backups stay; by the other rules they stay as long as what is
kept leads to them, and but for --keep-pit they hold nothing. By any policy stay: pinned
points, the newest restorable point of a source, SQL backups that the server has not
confirmed yet, and whatever a point that stays is restored by. All of a source stays,
and the exit status is 3, if something of it cannot be read, or if its newest point is
known, by this machine or the ledger, and nobody finds it any more. Where another point
is gone that nobody has forgotten, what can only be restored with it stays: 3, too, until
forget ID gives that one up. Every point is printed with what becomes of it and why. Look first with --dry-run.`,
		Example: "holdfast -r /srv/backup forget --keep-daily 14 --keep-weekly 8 --prune --dry-run\nholdfast -r /srv/backup forget 3f21a7c0",
		Args:    args("[POINT…]"),
		RunE: func(c *cobra.Command, words []string) error {
			now, err := opts.read(words, a)
			if err != nil {
				return err
			}
			open := a.withWriter
			if opts.dryRun {
				open = a.withRepository
			}
			return open(c.Context(), func(r *repo.Repository) error {
				plan := &forgetPlan{a: a, r: r, now: now, zone: opts.policy.Zone}
				if len(words) > 0 {
					err = plan.byName(c.Context(), words)
				} else {
					err = plan.byPolicy(c.Context(), opts)
				}
				if err != nil {
					return err
				}
				return runForget(c.Context(), plan, opts)
			})
		},
	}, append([]exitCode{exitIncomplete, exitRefused}, writerCodes...)...)
	f, p := c.Flags(), &opts.policy
	f.IntVar(&p.Last, "keep-last", 0, "keep the newest `N` points of each source, and the logs since")
	f.IntVar(&p.Daily, "keep-daily", 0, "keep every point of a day to the end of the `N`-th day after it")
	f.IntVar(&p.Weekly, "keep-weekly", 0, "keep the latest point of each of the last `N` weeks, this one included")
	f.IntVar(&p.Monthly, "keep-monthly", 0, "keep the latest point of each of the last `N` months, this one included")
	f.IntVar(&p.Yearly, "keep-yearly", 0, "keep the latest point of each of the last `N` years, this one included")
	f.StringVar(&opts.within, "keep-within", "", "keep what is not older than `D`: 36h, 30d, 8w")
	f.StringVar(&opts.pit, "keep-pit", "", "keep what it takes to reach every moment of the last `D`: 36h, 30d, 8w")
	f.StringVar(&opts.timezone, "timezone", "", "where days begin and end, and --now without a zone is meant: a `ZONE` like Europe/Berlin (default: local)")
	f.StringVar(&opts.source, "source", "", "only points of this `SOURCE`: vm/NAME, image/NAME, sql/VM/DB, or what follows a slash in it")
	f.StringVar(&opts.kind, "kind", "", "only points of this `KIND`: vm, sql-full, sql-diff, sql-log, image, files")
	f.StringVar(&opts.now, "now", "", "judge as if it were this `TIME`")
	f.BoolVar(&opts.allowStale, "allow-stale", false, "trust the clock though it does not fit the newest point")
	f.BoolVar(&opts.dryRun, "dry-run", false, "show what would be forgotten, change nothing")
	f.BoolVar(&opts.prune, "prune", false, "and remove what no point needs any more")
	return c
}

// read refuses what cannot be meant, before anything is opened.
func (o *forgetOptions) read(words []string, a *app) (time.Time, error) {
	p := &o.policy
	for i, n := range []int{p.Last, p.Daily, p.Weekly, p.Monthly, p.Yearly} {
		if n < 0 {
			return time.Time{}, usagef("a number from 1", "--keep-%s %d keeps nothing", []string{"last", "daily", "weekly", "monthly", "yearly"}[i], n)
		}
	}
	now, err := o.readTimes(a.now())
	switch {
	case err != nil:
	case o.kind != "" && !slices.Contains(kinds, recovery.Kind(o.kind)):
		err = usagef("vm, sql-full, sql-diff, sql-log, image or files", "--kind %q is unknown", o.kind)
	case len(words) > 0 && (!p.IsEmpty() || o.source != "" || o.kind != "" || o.timezone != ""):
		err = usagef("name points, or say what to keep", "forget takes points or a policy, not both")
	case len(words) == 0 && p.IsEmpty():
		err = usagef("say --keep-last N or another --keep flag, or name points", "forget: the policy is empty and would keep nothing")
	}
	return now, err
}

// readTimes reads what is a time, a length of time or a zone.
func (o *forgetOptions) readTimes(clock time.Time) (now time.Time, err error) {
	p := &o.policy
	p.Zone = time.Local
	if o.timezone != "" {
		if p.Zone, err = time.LoadLocation(o.timezone); err != nil {
			return now, usagef("write it like Europe/Berlin or UTC", "--timezone %q is unknown", o.timezone)
		}
	}
	if p.Within, err = typed.Age(cmp.Or(o.within, "0")); err != nil {
		return now, err
	}
	if p.PIT, err = typed.Age(cmp.Or(o.pit, "0")); err != nil {
		return now, err
	}
	if now, err = typed.Time(o.now, clock); err != nil || o.now == "" {
		return now, err
	}
	if _, zoned := time.Parse(time.RFC3339, o.now); zoned == nil {
		return now, nil
	}
	year, month, day := now.Date() // what a clock on the wall shows, where --timezone is
	return time.Date(year, month, day, now.Hour(), now.Minute(), now.Second(), 0, p.Zone), nil
}

// judgement is a line of forget's result.
type judgement struct {
	ID      string     `json:"id"`
	Source  string     `json:"source"` // "" of a point that cannot be read
	Time    *time.Time `json:"time"`   // null of a point that cannot be read
	Tier    string     `json:"tier"`   // warm, or cold after 90 days; "" where the time is not known
	Action  string     `json:"action"` // keep or forget
	Reasons []string   `json:"reasons"`
}

// errPinned: a pinned point was named to be forgotten.
var errPinned = errors.New("the point is pinned")

// forgetPlan is what becomes of each point in question.
type forgetPlan struct {
	a *app
	r *repo.Repository

	now    time.Time // by which a policy judges
	zone   *time.Location
	judged []recovery.Judged
	lost   map[string]*repo.PointError // were named, and cannot be read
	short  error                       // of sources of which something cannot be read
}

// session is the session of a point.
func (f *forgetPlan) session(p *repo.Brief) (ledger.SID, error) {
	if lost := f.lost[p.ID()]; lost != nil {
		return lost.Session()
	}
	return ledger.ParseSID(p.SID())
}

// going are the sessions of the points that go, oldest first.
func (f *forgetPlan) going() (sessions []ledger.SID) {
	for _, j := range f.judged {
		if j.Keep {
			continue
		}
		if sid, err := f.session(j.Point); err == nil { // byName has looked, and the others were read
			sessions = append(sessions, sid)
		}
	}
	return sessions
}

// forget drops the points that go, and counts them. In a dry run it only counts.
func (f *forgetPlan) forget(ctx context.Context, dryRun bool) (gone int, err error) {
	const reason = "forgotten by an operator or a policy"
	going := recovery.Going(f.judged)
	if dryRun {
		return len(going), nil
	}
	for _, b := range going {
		if lost := f.lost[b.ID()]; lost != nil {
			err = f.r.ForgetLost(ctx, lost, reason)
		} else {
			err = f.r.ForgetBrief(ctx, *b, reason)
		}
		if err != nil {
			return len(going), err
		}
	}
	return len(going), nil
}

// runForget does what the plan says, and shows it.
func runForget(ctx context.Context, plan *forgetPlan, opts forgetOptions) error {
	a := plan.a
	gone, err := plan.forget(ctx, opts.dryRun)
	if err != nil {
		return err
	}
	if !a.json {
		t := ui.NewTable(ui.Left("ID"), ui.Left("Time"), ui.Left("Source"), ui.Left("Action"), ui.Left("Reasons"))
		t.Rows(len(plan.judged), func(i int) []string {
			row, at := plan.row(i), "unknown"
			if row.Time != nil && opts.timezone != "" {
				*row.Time = row.Time.In(opts.policy.Zone)
			}
			if row.Time != nil {
				at = row.Time.Format("2006-01-02 15:04:05 -07:00")
			}
			return []string{row.ID, at, row.Source, row.Action, strings.Join(row.Reasons, ", ")}
		})
		a.ui.Table(t)
		if opts.policy.IsCalendar() {
			a.ui.Say("days are those of %s, where it is %s\n", cmp.Or(opts.timezone, "this machine"), plan.now.In(opts.policy.Zone).Format("2006-01-02 15:04:05 -07:00"))
		}
		verb := "forgot"
		if opts.dryRun {
			verb = "would forget"
		}
		a.ui.Say("%s %d of %d points\n", verb, gone, len(plan.judged))
	}
	err = a.ui.List(len(plan.judged), func(i int) any { return plan.row(i) })
	if err != nil || !opts.prune {
		return errors.Join(err, plan.short)
	}
	prune := repo.PruneOptions{DryRun: opts.dryRun}
	if opts.dryRun {
		prune.Without = plan.going()
	}
	plan.judged = nil // prune holds enough of its own
	return errors.Join(runPrune(ctx, prune, false, a, plan.r), plan.short)
}

// row is the i-th point as it is shown.
func (f *forgetPlan) row(i int) judgement {
	j := f.judged[i]
	row := judgement{ID: j.Point.ID(), Source: j.Point.Source(), Action: "keep", Reasons: j.Reasons}
	if at := j.Point.Time(); f.lost[row.ID] == nil {
		row.Time, row.Tier = &at, "cold"
		if recovery.IsWarm(at, f.now, f.zone) {
			row.Tier = "warm"
		}
	}
	if !j.Keep {
		row.Action = "forget"
	}
	return row
}

// byName plans to drop the points that were named, those that cannot be read
// among them: while one stays, prune decides nothing.
func (f *forgetPlan) byName(ctx context.Context, words []string) error {
	f.lost = map[string]*repo.PointError{}
	named := map[string]bool{}
	plan := func(p *recovery.Point, reasons ...string) {
		f.judged = append(f.judged, recovery.Judged{Point: &recovery.BriefsOf([]*recovery.Point{p})[0], Reasons: reasons})
	}
	for _, word := range words {
		e, err := f.a.find(ctx, f.r, word)
		lost, unreadable := errors.AsType[*repo.PointError](err)
		switch {
		case unreadable && len(word) >= 4 && strings.HasPrefix(lost.ID, strings.ToLower(word)):
			if _, err := lost.Session(); err != nil {
				return lost // its label: unpin and tag write a new one
			}
			if f.lost[lost.ID] == nil {
				why := "cannot be read"
				if errors.Is(lost, repo.ErrVanished) {
					why = "vanished"
				}
				plan(&recovery.Point{ID: lost.ID}, "named", why)
			}
			f.lost[lost.ID] = lost
			continue
		case err != nil:
			return err
		case e.Pinned:
			return fmt.Errorf("forget %s: %w", e.ID, errPinned)
		}
		if !named[e.ID] {
			plan(e.Point, "named")
		}
		named[e.ID] = true
	}
	points, _, err := f.r.Briefs(ctx) // of those that cannot be read nobody knows what they stand on
	if err != nil {
		return err
	}
	return recovery.NeededBy(points, func(id string) bool { return named[id] }, chainsOf(ctx, f.r))
}

// chainsOf tell which backups of a database another one needs.
func chainsOf(ctx context.Context, r *repo.Repository) recovery.Chains {
	ours := &sqlguest.Repository{Repo: r}
	return retain.Chains(func(identity string) ([]chain.Backup, error) { return ours.Whole(ctx, identity) })
}

// counted are the points that stay of sources of which others go: those go because
// these are there.
func (f *forgetPlan) counted() (stay []repo.Brief) {
	loses := map[string]bool{}
	for _, j := range f.judged {
		loses[j.Point.Identity()] = loses[j.Point.Identity()] || !j.Keep
	}
	for _, j := range f.judged {
		if j.Keep && loses[j.Point.Identity()] {
			stay = append(stay, *j.Point)
		}
	}
	return stay
}

// byPolicy judges every point that the filters let through.
func (f *forgetPlan) byPolicy(ctx context.Context, opts forgetOptions) error {
	points, problems, err := f.r.Briefs(ctx)
	if err != nil {
		return err
	}
	var unread view.Unread
	unread.Add(problems...)
	asked, err := view.Filter{Kind: opts.kind, Source: opts.source}.Asks(points)
	if err != nil {
		return errors.Join(err, view.Unreadable(problems))
	}
	if f.judged, err = opts.policy.Judge(points, f.now, asked, unread.Chains(chainsOf(ctx, f.r))); err != nil {
		return err
	}
	all := opts.source == "" && opts.kind == ""
	f.short = unread.Keep(f.judged, all, f.a.ui.Warn)
	if err := view.KeepVanished(ctx, f.r, f.judged, all, f.a.noteVanished); err != nil {
		return err
	}
	if !opts.dryRun {
		if err := f.r.Standing(ctx, f.counted()); err != nil {
			return err
		}
	}
	if len(f.judged) > 0 && opts.now == "" && !opts.allowStale {
		// By the clock of now: backups beside this command may have made points since it began.
		err = recovery.CheckClock(f.judged[len(f.judged)-1].Point, f.a.now())
	}
	f.showUnread(unread.Points(f.judged, all))
	return err
}

// showUnread adds the points that cannot be read, which stay, behind the others.
func (f *forgetPlan) showUnread(points []*repo.PointError) {
	f.lost = map[string]*repo.PointError{}
	for _, p := range points {
		f.lost[p.ID] = p
		brief := &recovery.BriefsOf([]*recovery.Point{{ID: p.ID}})[0]
		f.judged = append(f.judged, recovery.Judged{Point: brief, Keep: true, Reasons: []string{"unreadable"}})
	}
}
