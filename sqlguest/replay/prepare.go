package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/plan/paths"
	"holdfast/sqlguest/replay/check"
)

// madePlan is a plan and what follows from it.
type madePlan struct {
	plan     plan.Plan
	wish     plan.Options  // Run's Options with what the server adds
	full     *chain.Backup // with which the restore begins, nil if it goes on
	last     *chain.Backup // the newest of the backups that are restored; not the tail
	tail     bool          // the log's tail is taken first
	standing *plan.Standing
	noted    []check.Finding // what was found while planning
	findings []check.Finding
	rooms    []check.Room
}

// mostTries is how often names for files are looked for.
const mostTries = 20

// prepare looks, plans and checks.
func (r *Run) prepare(ctx context.Context) (*work, error) {
	x, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	// Which database is meant was said, and says what becomes of it: no backup does, whose
	// name of then may be another one's by now.
	if x.called, err = r.name(); err != nil {
		return nil, err
	}
	if err := x.find(ctx, x.called); err != nil {
		return nil, err
	}
	o, backups := x.options()
	if err := x.make(ctx, o, backups); err != nil {
		return nil, err
	}
	return x, x.check(ctx)
}

// name is what the restored database is to be called: what was said, else what it was
// called last.
func (r *Run) name() (string, error) {
	for i := len(r.Backups) - 1; i >= 0; i-- {
		if b := &r.Backups[i]; b.State == chain.Confirmed {
			return cmp.Or(r.Options.As, r.Options.Name, b.Database), nil
		}
	}
	_, err := plan.Make(r.Target, r.Backups, plan.Options{})
	if err == nil {
		err = plan.ErrTarget
	}
	return "", err
}

// options fills in what depends on the server, and adds the tail that will be taken
// to the backups.
func (x *work) options() (plan.Options, []chain.Backup) {
	r := x.run
	o := r.Options
	o.Name = x.called
	x.madePlan = madePlan{}
	for _, b := range r.Backups {
		if b.State == chain.Unconfirmed && b.Kind != "" { // of the others it was told that they cannot be read
			x.noted = append(x.noted, check.Finding{Rule: "SQL-3", Text: fmt.Sprintf("point %s, a %s backup of %s, is not used: SQL Server has not confirmed it", b.Point, b.Kind, b.Started.Format(time.RFC3339)),
				Remedy: "the next backup of the database asks SQL Server for it"})
		}
	}
	x.noteLeft()
	if o.As != "" || x.elsewhere() {
		o.DataDir, o.LogDir = x.data, x.log
	}
	if o.End == plan.Standby && o.UndoFile == "" {
		name := x.called
		if x.old != nil {
			name = x.old.Name
		}
		o.UndoFile = paths.Standby(x.data, name)
	}
	if x.old == nil {
		o.Replace, o.Kick = false, false // nothing is there: nothing may be overwritten
		if r.Continue {
			x.refuse("P-continue", "there is no database "+x.called+" that could be gone on with", "leave --continue away")
		}
		return o, r.Backups
	}
	o.Kick = o.Kick && x.canKick()
	if r.Continue {
		o.Standing = x.stand()
		x.standing = o.Standing
		return o, r.Backups
	}
	if !x.hasTail() || r.NoTail || r.Keep == nil || x.orphan && !r.isLatest() {
		return o, r.Backups
	}
	x.tail, o.Tail = !x.orphan, !x.orphan
	if x.oldID == "" || x.oldID != r.Identity {
		return o, r.Backups // another history's: it is kept, and leads nowhere here
	}
	return o, append(r.Backups[:len(r.Backups):len(r.Backups)], x.expected())
}

// elsewhere tells whether the server is another one than the backups are of: paths of
// that one mean nothing here.
func (x *work) elsewhere() bool {
	if x.run.Identity != "" {
		return !strings.HasPrefix(x.run.Identity, sqlguest.Identity(cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)), ""))
	}
	for i := len(x.run.Backups) - 1; i >= 0; i-- {
		if name := x.run.Backups[i].ServerName; name != "" {
			return !strings.EqualFold(name, x.at.Name)
		}
	}
	return false
}

// canKick tells whether sessions can be thrown out of the database: a restoring one
// has none.
func (x *work) canKick() bool {
	return !x.old.System() && x.old.State == "ONLINE"
}

// hasTail tells whether the database has a log whose end no backup holds. Of master (1)
// there are no log backups; model and msdb have their tails as others do.
func (x *work) hasTail() bool {
	return x.old.State == "ONLINE" && !x.old.Standby && x.old.Model != "SIMPLE" && x.old.ID != 1 && !x.old.LastLog.IsZero()
}

// expected is the tail as it will be.
func (x *work) expected() chain.Backup {
	d := x.old
	return chain.Backup{Point: plan.TailPoint, State: chain.Confirmed, Stripes: 1, StreamBytes: []int64{0}, Files: d.Prints(), Abandons: x.left, Run: x.at.Run(d), Header: chain.Header{
		Kind: chain.Log, Database: d.Name, Family: d.Family, DatabaseGUID: d.GUID, FirstFork: d.FirstFork, Fork: d.Fork, ForkPoint: d.ForkPoint,
		First: d.LastLog, Last: lsn.Max, Tail: true, Checksums: true, Started: x.at.Now, Finished: x.at.Now.Add(time.Second), Set: "tail",
	}}
}

// stand is where a database is gone on with; nil if it must begin anew, because the
// first restore over it was cut.
func (x *work) stand() *plan.Standing {
	f := spot(x.old)
	switch {
	case x.old.State != "RESTORING" && !x.old.Standby:
		x.refuse("P-continue", "database "+x.old.Name+" is "+x.old.State+": only one that is RESTORING or in STANDBY can be gone on with", "leave --continue away")
		return nil
	case f.Redo.IsZero():
		return nil
	}
	return &plan.Standing{Redo: f.Redo, Fork: f.RedoFork, Set: x.before.Set, Stop: x.before.Stop, Files: x.old.Prints()}
}

// make plans, with names for files that nobody has.
func (x *work) make(ctx context.Context, o plan.Options, backups []chain.Backup) error {
	if x.run.Continue && x.standing == nil {
		o.Replace = true // what a cut restore left holds nothing
	}
	p, err := x.reach(&o, backups)
	if err != nil {
		return err
	}
	o.Taken = map[string]bool{}
	for range mostTries {
		fresh := false
		for _, f := range p.Files {
			fresh = fresh || x.avoid(ctx, o, f)
		}
		if !fresh {
			break
		}
		if p, err = plan.Make(x.run.Target, backups, o); err != nil {
			return err
		}
	}
	x.plan, x.wish = p, o
	for _, s := range p.Steps {
		b := find(backups, s.Point)
		if b == nil || s.Point == plan.TailPoint {
			continue
		}
		if x.last = b; s.Do == plan.DoFull {
			x.full = b
		}
	}
	return ctx.Err()
}

// reach makes a plan. Where the tail does not continue our chain, the target may be
// reached without it.
func (x *work) reach(o *plan.Options, backups []chain.Backup) (plan.Plan, error) {
	r := x.run
	p, err := plan.Make(r.Target, backups, *o)
	if err == nil {
		return p, r.isUnsettled(&p, backups)
	}
	var miss *plan.Unreachable
	if !errors.As(err, &miss) || len(backups) == len(r.Backups) {
		return p, err
	}
	if r.isLatest() {
		return p, &lostTail{Unreachable: miss, between: r.between()}
	}
	if without, other := plan.Make(r.Target, r.Backups, *o); other == nil {
		return without, nil
	}
	return p, err // who leaves the tail out says that nothing was backed up since
}

// isLatest tells whether the latest moment is asked for.
func (r *Run) isLatest() bool { return r.Target == plan.Target{} }

// lostTail: what the database holds now cannot be restored.
type lostTail struct {
	*plan.Unreachable
	between string // what may lead to it, and where that is; "" if nobody knows of anything
}

// Unwrap gives the *plan.Unreachable.
func (l *lostTail) Unwrap() error { return l.Unreachable }

// Hint says how the newest backup is restored.
func (l *lostTail) Hint() string {
	if l.between != "" {
		return l.between
	}
	return "the database's log does not continue our backups, so that its end would be lost: if a run was killed, the same --staging takes in what it left; else back it up first (holdfast backup sql), or give it up with --no-tail"
}

// between is what may lie between our backups and the database's log, and how it comes to
// be one of them: that is never given up unasked.
func (r *Run) between() string {
	if r.recalled != nil && len(r.recalled.Left) > 0 {
		return fmt.Sprintf("%s may hold what lies between: keep the file, and run holdfast backup sql with the same staging directory, which takes it in", r.recalled.Left[0].Path)
	}
	for _, b := range r.Backups {
		if b.State == chain.Unconfirmed && (b.Kind == chain.Log || b.Kind == "") {
			return fmt.Sprintf("point %s may hold what lies between: holdfast backup sql asks SQL Server for its word on it", b.Point)
		}
	}
	return ""
}

// avoid marks a file's path as taken if we chose it and somebody has it; it tells
// whether it did.
func (x *work) avoid(ctx context.Context, o plan.Options, f plan.Place) bool {
	if o.DataDir == "" || x.named(f.File) {
		return false
	}
	key := chain.PathKey(f.To)
	if o.Taken[key] {
		return false
	}
	owner := check.Owner(x.databases, f.To)
	if x.old != nil && owner == x.old.Name {
		return false // it is replaced
	}
	if owner == "" {
		p, known, err := x.ask(ctx, f.To)
		if err != nil || !known || !p.Exists {
			return false
		}
	}
	o.Taken[key] = true
	return true
}

// named tells whether the operator has said where the file goes.
func (x *work) named(file string) bool {
	for name := range x.run.Options.Moves {
		if strings.EqualFold(name, file) {
			return true
		}
	}
	return false
}

func find(backups []chain.Backup, point string) *chain.Backup {
	for i := range backups {
		if b := &backups[i]; point != "" && b.Point == point {
			return b
		}
	}
	return nil
}

func (x *work) preview() *Preview {
	return &Preview{Server: x.at.Name, Version: x.at.Version, Plan: x.plan.Readable(), Rooms: x.rooms, Findings: x.findings}
}
