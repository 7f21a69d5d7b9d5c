// Package doctor looks at everything that a run will need, before it needs it: the
// repository, the vCenter, a guest, a SQL Server. Each look is a line with an id, a
// status, a sentence and what helps. Nothing is changed; an agent that is put into a
// guest for the looks is taken out again.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/cmd/frame"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/sqlguest/agent/check"
)

// ErrFailed: a look found what will make a run fail.
var ErrFailed = errors.New("a pre-check failed")

// Areas that are looked at.
const (
	Repository = "repo"
	VCenter    = "vcenter"
	Guest      = "guest"
	SQL        = "sql"
)

// Line is one look.
type Line struct {
	Area string `json:"area"`
	check.Line
}

// Report collects the lines of one run.
type Report struct {
	Lines []Line
	app   frame.App
	errs  []error
}

// New begins a report.
func New(a frame.App) *Report { return &Report{Lines: []Line{}, app: a} }

// add adds lines to the report.
func (r *Report) add(area string, lines ...check.Line) {
	for _, l := range lines {
		r.Lines = append(r.Lines, Line{area, l})
		if l.Status == check.Failed {
			r.errs = append(r.errs, fmt.Errorf("%s: %s: %w", l.Name, l.Detail, ErrFailed))
		}
	}
}

// fail adds a line that an error made fail. The error's own exit code counts, and its
// hint is the remedy.
func (r *Report) fail(area, id, name string, err error) {
	_, hint := r.app.Explain(err)
	r.Lines = append(r.Lines, Line{area, check.Line{ID: id, Name: name, Status: check.Failed, Detail: err.Error(), Remedy: hint}})
	r.errs = append(r.errs, err)
}

// Err is nil if nothing failed. Of several failures the gravest decides the exit code.
func (r *Report) Err(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var said []string
	for _, err := range r.errs {
		said = append(said, err.Error())
	}
	return verdict.Told(fmt.Sprintf("%d of %d pre-checks failed: %s", len(r.errs), len(r.Lines), strings.Join(said, "; ")), r.errs...)
}

// Show prints the report.
func (r *Report) Show(t *ui.Terminal) error {
	if t.JSON() {
		return t.Result(r.Lines)
	}
	table := ui.NewTable(ui.Left("Status"), ui.Left("Area"), ui.Left("Check"), ui.Left("What"), ui.Left("Found"))
	for _, l := range r.Lines {
		table.Row(string(l.Status), l.Area, l.ID, l.Name, l.Detail)
	}
	t.Table(table)
	for _, l := range r.Lines {
		if l.Remedy != "" {
			t.Printf("%s: %s %s: %s\n", l.Status, l.ID, l.Name, l.Remedy)
		}
	}
	return nil
}

func ok(id, name, format string, args ...any) check.Line {
	return check.Line{ID: id, Name: name, Status: check.OK, Detail: fmt.Sprintf(format, args...)}
}
