package sqlcmd

import (
	"context"
	"fmt"
	"time"

	"holdfast/cmd/frame"
	"holdfast/cmd/ui"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
)

// clock is a reading of the source server's clock with its offset.
func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05.999 -07:00") }

// instant is the same moment everywhere.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

// planned is the result of restore sql --plan.
type planned struct {
	Source string `json:"source"`
	*replay.Preview
}

// showPreview prints what a restore would do. What forbids it is the error.
func showPreview(ctx context.Context, a frame.App, src replay.Source, job *replay.Run) error {
	p, err := job.Preview(ctx)
	if err != nil {
		return err
	}
	p.Plan.Warnings, p.Findings, p.Rooms = ui.OrEmpty(p.Plan.Warnings), ui.OrEmpty(p.Findings), ui.OrEmpty(p.Rooms)
	p.Plan.Files = ui.OrEmpty(p.Plan.Files)
	line := func(name, format string, args ...any) {
		a.UI().Printf("%-10s%s\n", name, ui.Clean(fmt.Sprintf(format, args...)))
	}
	line("source", "%s", src.Name)
	line("database", "%s on %s, SQL Server %s", p.Plan.Database, p.Server, p.Version)
	line("target", "%s", p.Plan.Target)
	if !p.Plan.At.IsZero() {
		line("understood", " %s by the source server's clock, which is %s", clock(p.Plan.At), instant(p.Plan.At))
	}
	line("history", "fork %s", p.Plan.Fork)
	line("end", "%s", p.Plan.End)
	showSteps(line, &p.Plan)
	for _, f := range p.Plan.Files {
		line("file", "%s: %s in %s", f.File, ui.Bytes(f.Bytes), f.To)
	}
	for _, v := range p.Rooms {
		line("room", "%s: %s needed, %s free, %s freed", v.Volume, ui.Bytes(v.Needed), ui.Bytes(v.Free), ui.Bytes(v.Freed))
	}
	for _, w := range p.Plan.Warnings {
		line("warning", "%s", w)
	}
	for _, f := range p.Findings {
		name := "warning"
		if f.Forbids {
			name = "conflict"
		}
		line(name, "%s (rule %s)", f.Text, f.Rule)
	}
	p.Plan.Warnings = append(p.Plan.Warnings, a.Warnings()...) // which were told when they came
	if err := a.UI().Result(planned{src.Name, p}); err != nil {
		return err
	}
	return p.Err()
}

func showSteps(line func(name, format string, args ...any), p *plan.Plan) {
	for i, s := range p.Steps {
		what := string(s.Do)
		if s.Point != "" && s.Point != plan.TailPoint {
			what += " " + s.Point + ", " + ui.Bytes(s.Bytes)
		}
		switch {
		case s.After.IsZero(): // nothing to tell, or to the end of a tail to come
		case s.May:
			what += fmt.Sprintf(", to LSN %s at most: the target lies in it", s.After)
		default:
			what += fmt.Sprintf(", to LSN %s", s.After)
		}
		line(fmt.Sprintf("step %d", i+1), "%s", what)
		line("", "%s", s.Text)
	}
	if p.Again {
		line("then", "the plan is made anew with the tail of the log, which is a point then")
	}
}
