package trial

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/retain"
)

// question is what was asked of the repository before a policy was applied to it, and
// how it was answered.
type question struct {
	target plan.Target
	opt    plan.Options
	plan   plan.Plan
	rows   rows
}

// retention applies a random policy to the repository and prunes what goes. Then what
// was asked before is asked again, of somebody who has seen nothing but what is left:
// where the backups that it took then are there the answer is the same; every point
// that stays and could be restored still is, exactly; what went is refused.
func (w *world) retention(asked []question) {
	whole := w.truths()
	kept := w.forgets(w.policy())
	w.count["op: policy and prune"]++
	o := w.other()
	w.agree(o.ours)
	for _, q := range asked {
		o.again(q, kept)
	}
	some := slices.Clone(w.taken)
	w.r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	for _, k := range some[:min(8, len(some))] {
		p, got, _, err := o.restore(plan.Target{Point: k.Point}, o.options())
		switch {
		case err == nil && k.lost:
			w.fatalf("point %s was forgotten and pruned, and it is restored\n%s", k.Point, w.show(p))
		case err == nil:
			o.check("point that a policy keeps", p, got, k.rows)
		case k.lost:
			o.refused("point that a policy has taken", err)
		case whole[k]:
			w.fatalf("point %s stays by the policy and could be restored, and now: %v", k.Point, err)
		}
	}
}

// policy is a random one, and a moment by which it judges. A history lasts minutes.
func (w *world) policy() (recovery.Policy, time.Time) {
	n := func(values ...int) int { return values[w.r.IntN(len(values))] }
	minutes := func(values ...int) time.Duration { return time.Duration(n(values...)) * time.Minute }
	p := recovery.Policy{
		Last: n(0, 0, 1, 2, 4), Daily: n(0, 0, 0, 1), Weekly: n(0, 0, 0, 2), Monthly: n(0, 0, 0, 1),
		Within: minutes(0, 0, 0, 1, 3), PIT: minutes(0, 0, 0, 1, 3), Zone: w.zone,
	}
	if p.IsEmpty() {
		p.Yearly = 1
	}
	return p, w.now.Add(minutes(0, 0, 1, 30*60, 80*60))
}

// forgets applies the policy as `forget` does, and tells which points stay.
func (w *world) forgets(p recovery.Policy, now time.Time) (kept map[string]bool) {
	for _, k := range w.here() {
		if w.r.IntN(15) == 0 {
			w.pin(k.Point)
		}
	}
	points, problems, err := w.repo.Briefs(w.ctx)
	w.must(err)
	if len(problems) > 0 {
		w.fatalf("%v", problems)
	}
	ours := &sqlguest.Repository{Repo: w.repo}
	chains := retain.Chains(func(identity string) ([]chain.Backup, error) { return ours.Whole(w.ctx, identity) })
	judged, err := p.Judge(points, now, nil, chains)
	w.must(err)
	if w.mutant.judge != nil {
		w.mutant.judge(judged)
	}
	kept = map[string]bool{}
	for _, j := range judged {
		kept[j.Point.ID()] = j.Keep
	}
	for _, j := range judged {
		w.reasons(j, kept)
	}
	for _, b := range recovery.Going(judged) {
		w.must(w.repo.ForgetBrief(w.ctx, *b, "trial"))
		w.held = slices.DeleteFunc(w.held, func(h *held) bool { return h.id == b.ID() })
	}
	none := 0.0
	_, err = w.repo.Prune(w.ctx, repo.PruneOptions{MaxUnused: &none})
	w.must(err)
	w.refresh()
	for _, k := range w.taken {
		if known, judged := kept[k.Point]; judged && known == k.lost {
			w.fatalf("point %s: kept %v, and lost %v", k.Point, known, k.lost)
		}
	}
	return kept
}

func (w *world) pin(point string) {
	e, err := w.repo.Find(w.ctx, point)
	w.must(err)
	w.must(w.repo.SetLabel(w.ctx, e, func(l *ledger.Label) { l.Pinned = true }))
}

// reasons counts why points stay and go: none does without one, and what another needs
// is needed by one that stays. (That they are true package retain's own test looks.)
func (w *world) reasons(j recovery.Judged, kept map[string]bool) {
	if len(j.Reasons) == 0 {
		w.fatalf("point %s: keep %v, and nobody knows why", j.Point.ID(), j.Keep)
	}
	for _, why := range j.Reasons {
		by, needed := strings.CutPrefix(why, "needed by ")
		word, _, _ := strings.Cut(why, " ")
		switch {
		case needed && j.Keep && !kept[by]:
			w.fatalf("point %s stays, %s, which goes", j.Point.ID(), why)
		case j.Keep:
			w.count["policy: kept: "+word]++
		default:
			w.count[fmt.Sprintf("policy: forgotten: %s", word)]++
		}
	}
}

// listed tells whether a log of ours that is here knows the mark.
func (w *world) listed(mark string) bool {
	return slices.ContainsFunc(w.here(), func(k *kept) bool {
		return slices.ContainsFunc(k.Marks, func(m chain.Mark) bool { return m.Name == mark })
	})
}

// again asks what was asked before.
func (o *other) again(q question, kept map[string]bool) {
	w := o.w
	there := q.target.Point == "" || kept[q.target.Point] // its end may be another one's, too
	for _, s := range q.plan.Steps {
		there = there && (s.Point == "" || kept[s.Point])
	}
	p, got, early, err := o.restore(q.target, q.opt)
	switch {
	case early:
	case err == nil && there && (w.zone == berlin || w.jumped) && q.target.Bare && !q.target.At.IsZero() && p.Instead == nil:
		o.check("asked again", p, got, w.heldAt(q.target.At)...) // which of its showings it is may be told by what went
	case err == nil && there && p.Instead != nil && p.Instead.Point != "": // what is nearest may be told by what went
		o.check("asked again", p, got, w.point(p.Instead.Point).rows)
	case err == nil && there && q.plan.Instead != nil && p.Instead == nil && q.target == (plan.Target{}): // what was newest, and could not be reached, went
		o.check("asked again", p, got, w.newest().rows)
	case err == nil && there && p.Instead != nil:
		o.check("asked again", p, got, append(w.heldAt(wall(p.Instead.Time)), q.rows)...)
	case err == nil && there:
		o.check("asked again", p, got, q.rows)
	case err == nil:
		w.count["target: asked again: another way"]++ // tries of the truth follow
	case !there || q.target.Mark != "" && !w.listed(q.target.Mark): // who knew the mark may be gone, if what leads to it is not
		o.refused("asked again", err)
	case unreachable(err) != nil && w.witnessed(q.target, kept):
		w.count["target: asked again: nobody knows"]++
	case isAmbiguous(err) && w.zone == berlin:
		w.count["target: asked again: ambiguous"]++ // fewer backups tell less of the clock
	default:
		w.fatalf("%s: all that it took is there, and now: %v\n%s", q.target, err, w.show(q.plan))
	}
}

// witnessed: that a time belongs to this life of the database was told by the first
// backup that was begun then or later, and the policy took it. (What holds whatever lies
// in the log is kept; here nothing was written any more. keep-pit keeps it.)
func (w *world) witnessed(t plan.Target, kept map[string]bool) bool {
	if t.At.IsZero() {
		return false
	}
	reading := t.At
	if !t.Bare {
		reading = wall(t.At.In(w.zone))
	}
	for _, k := range w.taken {
		if _, was := kept[k.Point]; was && k.State == chain.Confirmed && !wall(k.Started).Before(reading) {
			return !kept[k.Point] || w.jumped // a clock that was set back makes later backups the witnesses
		}
	}
	return w.jumped
}
