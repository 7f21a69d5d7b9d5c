package picture

import (
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
)

// About is what there is to know of one point of a database: SQL Server's word on it,
// where it lies, what a restore of it needs.
type About struct {
	chain.Node
	Database   string  `json:"database"`
	Family     string  `json:"family,omitempty"`
	FirstFork  string  `json:"first_fork,omitempty"`
	Fork       string  `json:"fork,omitempty"`
	ForkPoint  lsn.LSN `json:"fork_point,omitzero"`
	Checkpoint lsn.LSN `json:"checkpoint,omitzero"`
	Base       string  `json:"base,omitempty"` // point of the full that a differential counts from
	By         string  `json:"confirmed_by,omitempty"`
	// Needs are the points that a restore to its end reads, in that order; WhyNot says
	// why there is no such restore.
	Needs  []string `json:"needs"`
	WhyNot string   `json:"why_not,omitempty"`
	// Window is the one that its end lies in, Spans the times in that.
	Window *chain.Window `json:"window,omitempty"`
	Spans  []chain.Span  `json:"times"`
}

// AboutPoint tells of a point; backups are those of its database, the oldest first.
// It is nil if the point is not among them.
func AboutPoint(backups []chain.Backup, point string) *About {
	var b *chain.Backup
	for i := range backups {
		if backups[i].Point == point {
			b = &backups[i]
		}
	}
	if b == nil {
		return nil
	}
	a := &About{Database: b.Database, Family: b.Family, FirstFork: b.FirstFork, Fork: b.Fork, ForkPoint: b.ForkPoint, Checkpoint: b.Checkpoint, By: b.By,
		Needs: []string{}, Spans: []chain.Span{}}
	r := chain.Describe(backups, nil)
	for _, f := range r.Forks {
		for _, n := range nodes(f) {
			if n.Point == point {
				a.Node = n
			}
		}
	}
	for i := range backups {
		if b.Kind == chain.Diff && chain.Bases(&backups[i].Header, &b.Header) {
			a.Base = backups[i].Point
		}
	}
	p, err := plan.Make(plan.Target{Point: point}, backups, plan.Options{})
	if err != nil {
		a.WhyNot = err.Error()
	}
	for _, s := range p.Steps {
		if s.Point != "" {
			a.Needs = append(a.Needs, s.Point)
		}
	}
	if a.Restorable { // a differential that cannot be may lie in a window of logs
		a.window(&r, b)
	}
	return a
}

// window finds the one around the point's end, on the newest history that has it.
func (a *About) window(r *chain.Report, b *chain.Backup) {
	for _, l := range r.Lines {
		for _, p := range l.Points {
			if p != b.Point {
				continue
			}
			for _, w := range l.Windows {
				if w.From.LSN.Compare(b.Last) <= 0 && b.Last.Compare(w.To.LSN) <= 0 {
					a.Window, a.Spans = &w, append(a.Spans, within(l.Spans, w)...)
					return
				}
			}
		}
	}
}

// Lines are names and texts for people.
func (a *About) Lines() (lines [][2]string) {
	if a == nil {
		return nil
	}
	add := func(when bool, name, format string, args ...any) {
		if when {
			lines = append(lines, [2]string{name, fmt.Sprintf(format, args...)})
		}
	}
	switch a.State {
	case chain.Confirmed:
		add(true, "confirmed", "by %s", strings.Join(append([]string{a.By}, a.Why...), "; "))
	case chain.Denied:
		add(true, "denied", "%s", strings.Join(a.Why, "; "))
	default:
		add(true, "unconfirmed", "SQL Server's word is not known; the next backup asks for it")
	}
	add(a.Damage != "", "damaged", "%s", a.Damage)
	add(!a.Last.IsZero(), "LSN", "%s to %s", a.First, a.Last)
	add(!a.Checkpoint.IsZero(), "checkpoint", "%s", a.Checkpoint)
	add(a.Fork != "", "fork", "%s", a.Fork)
	add(a.FirstFork != a.Fork && !a.ForkPoint.IsZero(), "left fork", "%s at LSN %s", a.FirstFork, a.ForkPoint)
	add(a.Base != "", "base", "%s", a.Base)
	add(a.CopyOnly, "copy-only", "changes neither base nor chain")
	add(a.BulkLogged, "bulk-logged", "restores to its end only")
	add(a.Abandoned, "abandoned", "left behind by a revert of its machine")
	add(a.Kind == chain.Log, "marks", "%d", a.Marks)
	add(len(a.Needs) > 0, "needs", "%s", strings.Join(a.Needs, " "))
	add(a.WhyNot != "", "unreachable", "%s", a.WhyNot)
	if w := a.Window; w != nil {
		add(w.Single, "window", "its end alone, %s", w.From.Time.Format(time.RFC3339))
		add(!w.Single, "window", "from point %s to the end of %s", w.From.Point, w.To.Point)
	}
	for _, s := range a.Spans {
		add(true, "any moment", "%s to %s", s.From.Format(time.RFC3339), s.To.Format(time.RFC3339))
	}
	return lines
}
