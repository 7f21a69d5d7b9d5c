// Package revive restores the databases of a virtual machine that has just come back,
// as the last step of its restore (V12).
//
// The machine is on, and a copy: the original may be alive beside it, with the same
// names everywhere. So the agent goes into the new machine by its managed object, logs
// in to a SQL Server on that machine itself (package sqlguest/revive, Local), and the
// repository is only read: no tail is taken, nothing is asked for old points.
//
// A machine that has come up takes its time until VMware Tools run, until SQL Server
// does and until its databases are recovered; each is waited for, up to a limit. What
// cannot be restored stays as the disks have it, and is named.
package revive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/cmd/batch"
	"holdfast/cmd/database"
	"holdfast/cmd/frame"
	"holdfast/cmd/settings"
	"holdfast/cmd/sqlcmd"
	"holdfast/cmd/verdict"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/revive"
	"holdfast/sqlguest/shelf"
	"holdfast/vmware"
)

// ErrLeft: a database was not restored; the VM was, and what its disks have of the
// database is as it was.
var ErrLeft = errors.New("left as the virtual machine's disks have it")

// Rules of what is not restored and not missing.
const (
	ruleSystem = "M22"      // SQL Server's own databases
	ruleGone   = "V12-gone" // the disks have no such database
)

// Job is the databases of one machine.
type Job struct {
	app    frame.App
	repo   *repo.Repository
	steps  []revive.Step
	ended  map[string]bool // what became of a database is known, by identity
	done   int
	failed []failure
	vm     string       // as it is called
	at     *revive.Step // which is restored now
	cut    error        // how that ended when the run was interrupted
}

// failure is a database that was not restored, or all that were not reached.
type failure struct {
	source string
	err    error
	alone  bool // nothing else was done or failed, and it was not shown yet
}

// Prepare finds the databases of the machine that a point is of, and checks what can be
// checked before the machine is made. Errors: revive.ErrAddress, revive.ErrUndone,
// revive.ErrNone.
func Prepare(ctx context.Context, a frame.App, r *repo.Repository, p *recovery.Point) (*Job, error) {
	if address := a.Setting("sql.address"); !revive.Local(address) {
		return nil, fmt.Errorf("restore databases to %s: %w", address, revive.ErrAddress)
	}
	attrs, err := vmware.ParseVMAttrs(p.Attrs)
	if err != nil {
		return nil, fmt.Errorf("read point %s: %w", p.ID, err)
	}
	vm := revive.Machine{Name: attrs.Name}
	if attrs.Apps != nil {
		vm.Before, vm.Missed, vm.Failed = attrs.Apps.Done, attrs.Apps.Missed, attrs.Apps.Failed
		if attrs.Apps.Databases != nil {
			vm.Protected = []revive.Protected{}
		}
		for _, d := range attrs.Apps.Databases {
			vm.Protected = append(vm.Protected, revive.Protected(d))
		}
	}
	if err := vm.Check(); err != nil {
		return nil, fmt.Errorf("restore the databases of point %s: %w", p.ID, err)
	}
	held, err := holds(ctx, a, r, vm)
	if err != nil {
		return nil, err
	}
	var identities []string
	for _, h := range held {
		identities = append(identities, h.Identity)
	}
	if err := view.VanishedOf(ctx, r, identities, a.Vanished); err != nil {
		return nil, err
	}
	j := &Job{app: a, repo: r, steps: revive.Plan(vm, held), ended: map[string]bool{}}
	if !slices.ContainsFunc(j.steps, func(s revive.Step) bool { return !s.System && len(s.Backups) > 0 }) {
		return nil, fmt.Errorf("restore the databases of %s: %w%s", vm.Name, revive.ErrNone, named(j.steps))
	}
	return j, nil
}

// named are the databases that were the machine's and of which nothing is left.
func named(steps []revive.Step) string {
	var list []string
	for _, s := range steps {
		if !s.System {
			list = append(list, s.Source)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

// mine tells whether a database may be one of the machine's: one that the machine's point
// names or, if it names none, that has ever been called so.
func mine(vm *revive.Machine, d *shelf.Database) bool {
	if vm.Protected != nil {
		return vm.Wants(d.Identity, func(source string) bool { return d.Called(source, "") })
	}
	_, instance, _ := strings.Cut(d.Machine(), `\`)
	return d.Called("", vm.Name) || d.Called("", vm.Name+`\`+instance) || strings.Contains(vm.Name, "/")
}

// holds are the databases that may be a machine's.
func holds(ctx context.Context, a frame.App, r *repo.Repository, vm revive.Machine) ([]revive.Held, error) {
	all, problems, err := shelf.List(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		a.UI().Warn("%v", p)
	}
	var held []revive.Held
	for i := range all {
		d := &all[i]
		if !mine(&vm, d) {
			continue
		}
		backups, warnings, err := shelf.Backups(ctx, r, d)
		if err != nil {
			return nil, err
		}
		for _, w := range warnings {
			a.UI().Warn("%s", w)
		}
		entries, _, err := r.PointsOf(ctx, d.Identity)
		if err != nil {
			return nil, err
		}
		h := revive.Held{Identity: d.Identity, Backups: backups, Stored: map[string]revive.Stored{}}
		if h.Unread, err = shelf.Unread(ctx, r, d.Identity); err != nil {
			return nil, err
		}
		for _, e := range entries {
			h.Stored[e.ID] = revive.Stored{At: e.Finished, Source: e.Source, Origin: e.Origin}
		}
		held = append(held, h)
	}
	return held, nil
}

// Steps are what would be done, for a plan's JSON.
func (j *Job) Steps() []revive.Step { return j.steps }

// Show prints what would be done.
func (j *Job) Show(line func(name, format string, args ...any)) {
	line("then", "the VM is powered on, and its databases are restored inside it")
	for _, s := range j.steps {
		switch {
		case s.System:
			line("database", "%s stays as the disks have it: %s", s.Source, s.Why)
		case s.Err != nil:
			line("warning", "%s stays as the disks have it: %s", s.Source, s.Why)
		default:
			line("database", "%s, %s, backups: %d", s.Source, moment(&s), len(s.Points))
		}
	}
}

// moment is what a database comes to, in the words by which its restore is told of.
func moment(s *revive.Step) string {
	return fmt.Sprintf("at %s, with point %s as the last", clock(s.Moment), s.Point)
}

// clock is a reading of the SQL Server's clock with its offset.
func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05.999 -07:00") }

// Run restores the databases into the VM, which is on. The error is verdict.Incomplete
// if some were not restored, what they failed by if none was, or the interrupt; the VM
// stays in each case.
func (j *Job) Run(ctx context.Context, s *vmware.Session, vm vmware.VM, guests *sqlcmd.Guests) (err error) {
	run := j.app.Batch(j.repo)
	j.vm = vm.Name
	defer run.Progress.Done()
	j.before()
	if j.open() > 0 {
		err = j.enter(ctx, waiting{}, s, vm, func(ctx context.Context) error {
			return guests.Inside(ctx, s, vm, func(at database.Place) error { return j.server(ctx, at, run) })
		})
	}
	run.Progress.Done()
	if ctx.Err() != nil {
		text := fmt.Sprintf("%s is restored, verified and powered on, and stays; of its databases %d are restored", vm.Name, j.done)
		if j.cut != nil {
			text += fmt.Sprintf(" (%v)", j.cut)
		}
		return verdict.Advise(fmt.Errorf("%s: %w", text, context.Cause(ctx)), j.onward(j.at))
	}
	if err == nil {
		err = database.ErrOtherServer
	}
	j.unreached(err)
	return j.verdict(vm.Name)
}

// open is how many databases nobody has dealt with yet.
func (j *Job) open() (n int) {
	for _, s := range j.steps {
		if !j.ended[s.Key()] {
			n++
		}
	}
	return n
}

// before ends steps of which the repository alone says that they are not done. Where a
// database can be restored, those that cannot are looked for beside it: one that had been
// dropped is not missing.
func (j *Job) before() {
	look := slices.ContainsFunc(j.steps, func(s revive.Step) bool { return !s.System && s.Err == nil })
	for i := range j.steps {
		switch s := &j.steps[i]; {
		case s.System:
			j.skip(s, ruleSystem, s.Why)
		case s.Err != nil && (!look || s.Identity == ""):
			j.fail(s, s.Err)
		}
	}
}

// unreached ends the steps that no SQL Server was asked about, all by one error: whether
// the disks have these databases at all, nobody knows.
func (j *Job) unreached(err error) {
	var names []string
	var next *revive.Step // one that has a point
	for i := range j.steps {
		s := &j.steps[i]
		if j.ended[s.Key()] {
			continue
		}
		if names, j.ended[s.Key()] = append(names, s.Source), true; next == nil && s.Point != "" {
			next = s
		}
	}
	if len(names) == 0 {
		return
	}
	_, hint := j.app.Explain(err)
	what := fmt.Sprintf("%d databases", len(names))
	if len(names) == 1 {
		what = names[0]
	}
	if hint != "" {
		hint += "; then "
	}
	err = verdict.Advise(fmt.Errorf("%w: %s not reached: %w", ErrLeft, what, err), hint+j.onward(next))
	f := failure{source: "sql/" + j.vm, err: err, alone: j.done == 0 && len(j.failed) == 0}
	if !f.alone { // else it is the run's last word
		j.app.UI().Problem(f.source, f.err)
	}
	j.failed = append(j.failed, f)
}

// skipped is a database that is not restored by a rule.
type skipped struct {
	Source string `json:"source"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

func (j *Job) skip(s *revive.Step, rule, why string) {
	j.ended[s.Key()] = true
	j.app.UI().Note("skipped %s: %s (rule %s)", s.Source, why, rule)
	j.app.UI().Event("skipped", skipped{s.Source, rule, why})
}

// fail notes that a database stays as the disks have it, or was left midway.
func (j *Job) fail(s *revive.Step, err error) {
	j.ended[s.Key()] = true
	if !errors.Is(err, replay.ErrLeft) {
		err = fmt.Errorf("%w: %w", ErrLeft, err)
	}
	_, hint := j.app.Explain(err)
	if errors.Is(err, replay.ErrLeft) {
		hint = j.onward(s)
	}
	if hint != "" {
		err = verdict.Advise(err, hint)
	}
	j.app.UI().Problem(s.Source, err)
	j.failed = append(j.failed, failure{source: s.Source, err: err})
}

// Left are sentences about the databases that were not restored.
func (j *Job) Left() (list []string) {
	for _, f := range j.failed {
		list = append(list, fmt.Sprintf("%s: %v", f.source, f.err))
	}
	return list
}

// verdict is the error of a run: each failure was shown when it came.
func (j *Job) verdict(vm string) error {
	var errs []error
	var names []string
	for _, f := range j.failed {
		errs, names = append(errs, f.err), append(names, f.source)
	}
	switch {
	case len(errs) == 0:
		return nil
	case j.failed[0].alone:
		return verdict.Told(fmt.Sprintf("%s is restored, verified and powered on, and stays; none of its databases was restored: %v", vm, errs[0]), errs...)
	case j.done == 0:
		return verdict.Told(fmt.Sprintf("%s is restored, verified and powered on, and stays; none of its databases was restored: %s, see above", vm, strings.Join(names, ", ")), errs...)
	case j.app.UI().JSON():
		return verdict.Incomplete(j.Left()...)
	}
	return verdict.Incomplete("not restored, see above: " + strings.Join(names, ", "))
}

// onward is how a database comes to where the run did not bring it; nil is any. The tail
// of the copy's log is no part of the original's chain, so it is given up.
func (j *Job) onward(s *revive.Step) string {
	source, point := "SOURCE", "POINT"
	if s != nil {
		source, point = s.Source, s.Point
	}
	return fmt.Sprintf("holdfast restore sql %s --to-vm %s --point %s --replace --kick-users --no-tail restores a database; restore vm --app sql --plan lists them with their points", settings.Quote(source), settings.Quote(j.vm), point)
}

// server restores the databases of one SQL Server in the guest.
func (j *Job) server(ctx context.Context, at database.Place, run *batch.Run) error {
	about, err := facts.AskInstance(ctx, at.Server)
	if err != nil {
		return err
	}
	place := sqlguest.PlaceOf(about)
	mine := func(s *revive.Step) bool {
		return !j.ended[s.Key()] && strings.HasPrefix(s.Identity, sqlguest.Identity(place, ""))
	}
	var list []facts.Database
	if err := (waiting{}).until(ctx, func(ctx context.Context) (bool, error) {
		list, err = facts.AskDatabases(ctx, at.Server, about)
		return !slices.ContainsFunc(list, starting), err
	}); err != nil && !errors.Is(err, errLimit) { // one that is not open by then fails by itself
		return err
	}
	ids, err := sqlguest.Identities(place, list, j.known)
	if err != nil {
		return err
	}
	for i := range j.steps {
		s := &j.steps[i]
		if !mine(s) {
			continue
		}
		if err := j.database(ctx, at, run, s, list, ids); err != nil {
			return err
		}
	}
	return nil
}

// starting tells whether a database is being recovered, as after each start.
func starting(d facts.Database) bool { return d.State == "RECOVERING" }

// known are the backups of an identity, as far as they are from before the VM's point.
func (j *Job) known(identity string) ([]chain.Backup, error) {
	for i := range j.steps {
		if j.steps[i].Identity == identity {
			return j.steps[i].Backups, nil
		}
	}
	return nil, nil
}

// database restores one. An error is the end of the run; one of the database's own is
// noted.
func (j *Job) database(ctx context.Context, at database.Place, run *batch.Run, s *revive.Step, list []facts.Database, ids []string) error {
	switch v, why := revive.Judge(s, j.steps, list, ids); v {
	case revive.Gone:
		j.skip(s, ruleGone, why)
		return nil
	case revive.Other:
		j.fail(s, fmt.Errorf("%w: %s", revive.ErrOther, why))
		return nil
	}
	if s.Err != nil {
		j.fail(s, s.Err)
		return nil
	}
	j.at = s
	res, err := j.replay(ctx, at, run, s)
	switch {
	case ctx.Err() != nil:
		j.cut = err
		return err
	case err != nil:
		j.fail(s, err)
		return nil
	}
	j.ended[s.Key()] = true
	j.done++
	sqlcmd.Restored(j.app, s.Source, res)
	return nil
}

// replay brings a database to the end of the step's point, over what is there. Nobody
// keeps anything of it: what this copy has since is no part of the original's chain.
func (j *Job) replay(ctx context.Context, at database.Place, run *batch.Run, s *revive.Step) (*replay.Result, error) {
	job, err := database.Restoring(ctx, at, run, replay.Source{Name: s.Source, Identity: s.Identity}, slices.Clone(s.Backups), database.RestoreOptions{
		Plan: plan.Options{Name: s.Database, Replace: true, Kick: true}, NoTail: true, Transport: "auto",
	})
	if err != nil {
		return nil, err
	}
	job.Keep = nil
	job.Begin = func(p *replay.Preview) {
		for _, step := range p.Plan.Steps {
			if step.Bytes > 0 {
				run.Progress.Expect(replay.Label(step, p.Plan.Database), step.Bytes)
			}
		}
		j.app.UI().Note("restoring %s, %s", s.Source, moment(s))
	}
	return job.Do(ctx)
}
