package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/restore"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/decide/kept"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/origin"
	"holdfast/sqlguest/server"
)

// What SQL Server says when a log did not reach the stop, and when somebody is in
// the database.
const (
	beforeTime = 4322
	beforeMark = 4329
	tooEarly   = 4335
	inUse      = 3101
)

// mostKicks is how often sessions are thrown out that come back.
const mostKicks = 5

// execution is a restore that has passed its checks.
type execution struct {
	*work
	result  *Result
	began   time.Time
	kicked  bool           // the database is in SINGLE_USER by our doing
	tailed  *chain.Backup  // the tail that was taken: the database is RESTORING by our doing
	touched bool           // a RESTORE of a backup was begun
	stopped bool           // the stop was met: no further log is needed
	backups []chain.Backup // what is planned with: the run's, and the tail
}

// carry does what is planned.
func (x *work) carry(ctx context.Context) (*Result, error) {
	e := &execution{work: x, began: x.run.clock(), backups: x.run.Backups}
	e.result = &Result{Database: x.plan.Database, Server: x.at.Name, State: x.plan.End, Points: []string{}, Steps: []Done{}, Warnings: []string{}}
	if x.standing != nil {
		e.result.LSN, e.result.Fork = x.standing.Redo, x.standing.Fork
	}
	if err := e.do(ctx); err != nil {
		return nil, e.settle(ctx, err)
	}
	e.reopen(ctx)
	e.reapply(ctx)
	e.result.Plan, e.result.Moment = e.plan.Readable(), e.plan.Reached(e.backups, e.result.LSN, e.result.Fork)
	e.result.Warnings = append(e.result.Warnings, e.plan.Warnings...)
	for _, f := range e.findings {
		e.result.Warnings = append(e.result.Warnings, f.Text)
	}
	e.result.Seconds = x.run.clock().Sub(e.began).Seconds()
	return e.result, nil
}

// clock is the time for durations.
func (r *Run) clock() time.Time {
	if r.Now == nil {
		return time.Time{}
	}
	return r.Now()
}

func (e *execution) do(ctx context.Context) error {
	if e.tail {
		if err := e.takeTail(ctx); err != nil {
			return err
		}
	}
	for {
		err := e.steps(ctx)
		var bad *unread
		if !errors.As(err, &bad) || ctx.Err() != nil {
			return err
		}
		if err := e.around(ctx, bad); err != nil {
			return err
		}
	}
}

// steps does the steps of the plan.
func (e *execution) steps(ctx context.Context) error {
	for _, s := range e.plan.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch s.Do {
		case plan.DoTail: // done
		case plan.DoKick:
			if e.tailed != nil {
				continue
			}
			if err := e.kick(ctx); err != nil {
				return err
			}
		case plan.DoFinish:
			if err := e.finish(ctx, s); err != nil {
				return err
			}
		default:
			if err := e.restore(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// kick throws everybody out of the database.
func (e *execution) kick(ctx context.Context) error {
	e.kicked = true // settled even if the answer is lost
	text := "ALTER DATABASE " + quote(e.old.Name) + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE"
	if _, err := e.run.Server.Restore(ctx, server.Statement{Text: text}, nil); err != nil {
		return fmt.Errorf("throw the users out of %s: %w", e.old.Name, err)
	}
	return nil
}

// kicking runs something that needs the database for itself, and throws out who gets
// in first, as often as may be. Without --kick-users it is run once.
func (e *execution) kicking(ctx context.Context, fn func() error) error {
	for n := 0; ; n++ {
		err := fn()
		var said *server.Error
		if n == mostKicks || !e.wish.Kick || !errors.As(err, &said) || !said.Has(inUse) {
			return err
		}
		if kerr := e.kick(ctx); kerr != nil {
			return errors.Join(err, kerr)
		}
	}
}

// takeTail backs up the end of the log, which makes the database RESTORING, and plans
// anew from what is known then.
func (e *execution) takeTail(ctx context.Context) error {
	d := e.old
	if e.plan.Kicks() {
		if err := e.kick(ctx); err != nil {
			return err
		}
	}
	src := &sqlguest.Source{
		Server: e.run.Server, Instance: *e.at, Database: *d, Label: e.run.Label + "/" + d.Name, ID: e.oldID,
		Device: kept.Name(e.run.device(), kept.Stamp(e.run.Keep.ID(), sqlguest.LockName(d))+kept.InRun(e.at.Run(d))), Transport: e.run.transport(), Staging: e.run.Staging, Local: e.run.Local, Confirm: e.run.Keep.Confirm, Tail: true, Guest: e.run.Guest, Address: e.run.Address, Repository: e.run.Keep.ID(),
		Decision:    decide.Decision{Do: decide.DoLog, Rule: ruleTail, Reason: "the tail of the log, before the database is overwritten", First: d.LastLog, Parent: e.beforeTail(), Abandons: e.left},
		LastRestore: e.seen, Ours: e.run.Backups,
	}
	var point string
	err := e.kicking(ctx, func() error {
		p, err := e.run.Keep.Store(ctx, src)
		if p != nil {
			point = p.ID
		}
		return err
	})
	if errors.Is(err, sqlguest.ErrBroken) && point != "" {
		e.result.Warnings = append(e.result.Warnings, fmt.Sprintf("the tail of the log, point %s, does not continue our backups", point))
		err = nil
	}
	if err != nil {
		return fmt.Errorf("back up the tail of the log of %s: %w", d.Name, err)
	}
	return e.replan(ctx, point)
}

// ruleTail is the rule that a tail has in its point.
const ruleTail = "P-tail"

// beforeTail is the newest backup of ours that the tail goes on from.
func (e *execution) beforeTail() string {
	for i := len(e.run.Backups) - 1; i >= 0; i-- {
		if b := &e.run.Backups[i]; e.oldID == e.run.Identity && b.Usable() && b.Kind != chain.Diff {
			return b.Point
		}
	}
	return ""
}

// replan reads the tail's point and plans with it. The steps that are done, to throw
// out and the tail, are not planned again.
func (e *execution) replan(ctx context.Context, point string) error {
	e.result.Tail = point
	tails, err := e.run.Keep.Backups(ctx, e.oldID)
	if err != nil {
		return err
	}
	if e.tailed = find(tails, point); e.tailed == nil {
		return fmt.Errorf("read the tail of the log, point %s: %w", point, plan.ErrTarget)
	}
	var miss *plan.Unreachable
	if _, err := plan.Make(plan.Target{Point: point}, tails, plan.Options{}); errors.As(err, &miss) {
		return &lostTail{Unreachable: miss} // somebody took a log since we looked
	}
	backups := e.run.Backups
	if e.oldID == e.run.Identity {
		backups = tails
	}
	e.backups = backups
	o := e.wish
	o.Kick, o.Tail = false, false
	p, err := plan.Make(e.run.Target, backups, o)
	if err != nil {
		return err // with the first plan still there: it says which database is to be put back
	}
	p.Inherit(&e.plan)
	e.plan = p
	return nil
}

// Label is what a step is called while it runs.
func Label(s plan.Step, database string) string {
	return fmt.Sprintf("%s %s of %s", s.Do, s.Point, database)
}

// restore runs one step that reads streams, and looks where the database stands.
func (e *execution) restore(ctx context.Context, s plan.Step) error {
	if e.stopped && s.Do == plan.DoLog {
		return nil
	}
	label := Label(s, e.plan.Database)
	progress := e.run.progress()
	progress.Begin(label, s.Bytes)
	defer progress.End(label)
	began := e.run.clock()
	var out *server.Outcome
	var n int64
	err := e.kicking(ctx, func() (err error) {
		out, n, err = e.feed(ctx, s)
		return err
	})
	if err != nil {
		return fmt.Errorf("restore %s backup %s: %w", s.Do, s.Point, err)
	}
	redo, err := e.compare(ctx, s, out)
	if err != nil {
		return err
	}
	e.result.Points = append(e.result.Points, s.Point)
	e.result.Bytes += n
	e.result.LSN, e.result.Fork = redo.Redo, redo.RedoFork
	e.result.Steps = append(e.result.Steps, Done{Do: s.Do, Point: s.Point, Bytes: n, Redo: redo.Redo, Stopped: e.stopped && s.Do == plan.DoLog, Seconds: e.run.clock().Sub(began).Seconds()})
	return nil
}

// feed gives SQL Server a step's streams.
func (e *execution) feed(ctx context.Context, s plan.Step) (*server.Outcome, int64, error) {
	ctx, cancel := context.WithCancel(ctx) // who reads a stream stops with the statement
	defer cancel()
	var n atomic.Int64
	var readers []io.Reader
	var sources []*origin.Counted
	for i := range s.Streams {
		r, err := e.run.Streams.Open(ctx, s.Point, i)
		if err != nil {
			return nil, 0, unreadable(ctx, s.Point, err, nil)
		}
		defer r.Close() //nolint:errcheck // only read
		counted := &origin.Counted{ReadCloser: r, N: &n, Progress: e.run.progress()}
		sources = append(sources, counted)
		readers = append(readers, counted)
	}
	e.touched = true
	out, err := e.run.Server.Restore(ctx, server.Statement{Text: s.Text, Name: e.run.device(), Devices: s.Streams,
		Transport: e.run.transport(), Staging: e.run.Staging, Local: e.run.Local}, readers)
	for _, c := range sources {
		if cause := c.Failed(); err != nil && cause != nil {
			err = unreadable(ctx, s.Point, cause, err)
		}
	}
	return out, n.Load(), err
}

// compare holds where the database stands against where the plan leads.
func (e *execution) compare(ctx context.Context, s plan.Step, out *server.Outcome) (facts.File, error) {
	d, err := e.now(ctx)
	if err != nil {
		return facts.File{}, err
	}
	if d == nil {
		return facts.File{}, fmt.Errorf("look for %s: %w: it is gone", e.plan.Database, ErrAstray)
	}
	at := spot(d)
	astray := func(why string) (facts.File, error) {
		return at, fmt.Errorf("after %s backup %s: %w: %s", s.Do, s.Point, ErrAstray, why)
	}
	missed := out.Has(beforeTime) || out.Has(beforeMark)
	stopped := s.Do == plan.DoLog && !e.plan.Stop.IsZero() && !missed
	switch {
	case d.State != "RESTORING":
		return astray("it is " + d.State)
	case stopped && !s.May:
		return astray("the stop was met before the log in which it lies")
	case stopped && (s.After.Less(at.Redo) || at.Redo.Less(s.Before)):
		return astray(fmt.Sprintf("it stopped at LSN %s, outside %s to %s", at.Redo, s.Before, s.After))
	case stopped && !e.plan.Stop.Until.IsZero() && e.plan.Stop.Until.Less(at.Redo):
		return at, fmt.Errorf("after log backup %s: %w: %s: the log has a later one of that name alone", s.Point, ErrMissed, e.plan.Target)
	case !stopped && at.Redo != s.After:
		return astray(fmt.Sprintf("it is at LSN %s, not %s", at.Redo, s.After))
	case !stopped && s.Fork != "" && at.RedoFork != s.Fork:
		return astray(fmt.Sprintf("it is on fork %s, not %s", at.RedoFork, s.Fork))
	case s.May && missed && byName(e.plan.Stop) && s.Point == e.lastLog():
		return at, fmt.Errorf("after log backup %s: %w: %s", s.Point, ErrMissed, e.plan.Target)
	}
	e.stopped = e.stopped || stopped
	return at, nil
}

// byName tells whether a clause looks for a mark by its name: an LSN may well be the
// log's end, and behind a time nothing need have been written.
func byName(s plan.Stop) bool { return s.Mark != "" && !strings.HasPrefix(s.Mark, "lsn:") }

// lastLog is the point of the plan's last log.
func (e *execution) lastLog() (point string) {
	for _, s := range e.plan.Steps {
		if s.Do == plan.DoLog {
			point = s.Point
		}
	}
	return point
}

// finish brings the database into its end state.
func (e *execution) finish(ctx context.Context, s plan.Step) error {
	began := e.run.clock()
	text, err := e.spare(ctx, s.Text)
	if err != nil {
		return err
	}
	e.touched = true
	err = e.kicking(ctx, func() error {
		_, err := e.run.Server.Restore(ctx, server.Statement{Text: text}, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the restore of %s: %w", e.plan.Database, err)
	}
	d, err := e.now(ctx)
	switch {
	case err != nil:
		return err
	case d == nil || d.State != "ONLINE" || d.Standby != (e.plan.End == plan.Standby):
		return fmt.Errorf("end the restore of %s: %w: it is not %s", e.plan.Database, ErrAstray, e.plan.End)
	}
	e.result.Steps = append(e.result.Steps, Done{Do: s.Do, Redo: e.result.LSN, Seconds: e.run.clock().Sub(began).Seconds()})
	return nil
}

// reopen lets everybody into the database again, if we had shut them out, or an earlier
// run of which this one goes on.
func (e *execution) reopen(ctx context.Context) {
	was := e.recorded()
	again := e.run.Continue || e.old != nil && e.old.State == "RESTORING" // what an earlier run has closed
	ours := e.kicked || again && was != nil && was.Access != "SINGLE_USER"
	if !ours || e.plan.End == plan.NoRecovery {
		return
	}
	d, err := e.now(ctx)
	if err == nil && d != nil && d.Access == "SINGLE_USER" {
		err = e.letIn(ctx, "MULTI_USER") // settings follow
	}
	if err != nil {
		e.result.Warnings = append(e.result.Warnings, fmt.Sprintf("database %s may be in SINGLE_USER still: %v", e.plan.Database, err))
	}
}

// letIn ends SINGLE_USER: access is who may come.
func (e *execution) letIn(ctx context.Context, access string) error {
	text := "ALTER DATABASE " + quote(e.plan.Database) + " SET " + access + " WITH ROLLBACK IMMEDIATE"
	if _, err := e.run.Server.Restore(ctx, server.Statement{Text: text}, nil); err != nil {
		return fmt.Errorf("let users into %s again: %w", e.plan.Database, err)
	}
	return nil
}

// settleTimeout is how long putting things right may take.
const settleTimeout = 2 * time.Minute

// settle finds out what a failure has left, puts back what was not overwritten, and
// says what stays to be done. The run may have been interrupted: that counts no more.
func (e *execution) settle(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	left := &Left{Database: e.plan.Database, Err: cause}
	var said *server.Error
	left.Refused = e.run.Continue && len(e.result.Points) == 0 && errors.As(cause, &said) && said.Has(tooEarly)
	if bad := (*unread)(nil); errors.As(cause, &bad) {
		left.Advice = bad.Hint()
	}
	if !e.touched && !e.kicked && !e.tail {
		return cause
	}
	d, err := e.now(ctx)
	switch {
	case err != nil:
		left.Err = errors.Join(cause, err)
		return left
	case d == nil && e.old == nil:
		return cause // it never came to be
	case d == nil:
		left.State = "dropped"
		return left
	}
	at := spot(d)
	left.State, left.Redo = d.State, at.Redo
	if d.Standby {
		left.State = "STANDBY"
	}
	switch {
	case e.old != nil && e.asBefore(d):
		return e.putBack(ctx, d, left)
	case e.plan.End == plan.Recovery && d.State == "ONLINE" && !d.Standby && e.ended():
		return cause // recovered, and something went wrong behind that
	}
	return left
}

// asBefore tells whether nothing of the database that was there has been overwritten.
func (e *execution) asBefore(d *facts.Database) bool {
	switch {
	case e.run.Continue:
		return e.old.State == d.State && e.old.Standby == d.Standby && spot(e.old).Redo == spot(d).Redo && !spot(d).Redo.IsZero()
	case d.State == e.old.State && (d.GUID == e.old.GUID && d.Created.Equal(e.old.Created)) && (d.State != "RESTORING" || spot(d).Redo == spot(e.old).Redo):
		return true
	case d.State != "RESTORING" || e.old.State != "ONLINE":
		return false
	}
	// Our tail made it RESTORING, where that ended.
	return d.Created.Equal(e.old.Created) && (e.tailed == nil || spot(d).Redo == e.tailed.Last) && !spot(d).Redo.IsZero() && (d.GUID == "" || d.GUID == e.old.GUID)
}

// putBack opens a database again that only its tail backup has closed.
func (e *execution) putBack(ctx context.Context, d *facts.Database, left *Left) error {
	if e.run.Continue {
		return left
	}
	became := "is as it was"
	if d.State == "RESTORING" && e.old.State == "ONLINE" {
		became = "is open again and as it was; its next backup is a full"
		text := "RESTORE DATABASE " + quote(d.Name) + " WITH RECOVERY"
		if _, err := e.run.Server.Restore(ctx, server.Statement{Text: text}, nil); err != nil {
			left.Err = errors.Join(left.Err, fmt.Errorf("open it again: %w", err))
			return left
		}
	}
	if e.kicked && e.old.Access != "SINGLE_USER" {
		access := "MULTI_USER"
		if e.old.Access == "RESTRICTED_USER" {
			access = e.old.Access
		}
		if err := e.letIn(ctx, access); err != nil {
			left.Err = errors.Join(left.Err, err)
			return left
		}
	}
	return fmt.Errorf("%w (database %s %s)", left.Err, d.Name, became)
}

// ended tells whether the last step was done.
func (e *execution) ended() bool {
	n := len(e.result.Steps)
	return n > 0 && e.result.Steps[n-1].Do == plan.DoFinish
}

func (r *Run) device() string {
	if r.Device == nil {
		return origin.Device()
	}
	return r.Device()
}

func (r *Run) transport() string {
	if r.Transport == "" {
		return server.VDI
	}
	return r.Transport
}

func (r *Run) progress() restore.Progress {
	if r.Progress == nil {
		return restore.NoProgress{}
	}
	return r.Progress
}
