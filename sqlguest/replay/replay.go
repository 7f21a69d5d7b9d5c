// Package replay carries restore plans out: it brings a database on a SQL Server to
// a moment, from the streams of its recovery points.
//
//	look   ──→ what the server has: version, room, files, a database of that name
//	plan   ──→ package plan's steps, with the tail of the log as one that will be
//	check  ──→ every reason not to begin, each with its remedy (Refused)
//	throw sessions out, back up the tail, restore, compare after every step, end
//
// Nothing is changed before all checks have passed. From then on two rules hold. A
// database that was not overwritten yet is put back as it was, whatever went wrong:
// opened again, and open to everybody. One that was is left where it stands, and the
// error says where that is and what leads on or back (Left).
//
// SQL Server itself is asked after every step where the database stands, by LSN and
// recovery fork: a step that ends elsewhere than the plan said ends the restore
// (ErrAstray), for whatever followed would be another history's.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/restore"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/replay/left"
	"holdfast/sqlguest/server"
)

var (
	// ErrRefused: a check speaks against the restore, and nothing was changed. The
	// error is a *Refused.
	ErrRefused = check.ErrRefused
	// ErrAstray: after a step SQL Server stood elsewhere than the plan said.
	ErrAstray = errors.New("the database does not stand where the plan leads")
	// ErrMissed: the last log was restored and the mark was not met in it.
	ErrMissed = errors.New("the target was not met in the last log")
	// ErrLeft: the database is neither what it was nor what it was to be. The error is
	// a *Left.
	ErrLeft = left.ErrLeft
)

// Streams gives back what points hold.
type Streams interface {
	// Open opens stream n, from 0, of a point. Bytes that are not those that were
	// stored are an error of Read, never content.
	Open(ctx context.Context, point string, n int) (io.ReadCloser, error)
}

// Run is one restore. Server, Streams and Backups are needed; the zero value of all
// others restores the latest moment over the original's name.
type Run struct {
	Server  server.Server
	Streams Streams
	// Backups are all of the database, in the order of their making. What earlier runs
	// have left of it is added, where the server is its home.
	Backups []chain.Backup
	Target  plan.Target
	// Options are what is wished: End, UndoFile, Nearest, As, Name, Moves, Fork, Zone, Marks,
	// Replace and Kick. What depends on the server is filled in. Without As and Name the
	// database is restored to the name that the newest backup knows, whatever it was called
	// at the moment that is meant.
	Options plan.Options
	// Continue goes on with a database that is RESTORING or in STANDBY.
	Continue bool
	// NoTail gives up what the database holds since its last log backup.
	NoTail bool

	// Keep takes the tail of a log that is overwritten; nil: nobody can, which is
	// refused where there is a tail.
	Keep sqlguest.Keeper
	// Identity is whose the Backups are; Place, Label, Guest and Address are the server's, as in
	// sqlguest.Run.
	Identity, Place, Label, Guest, Address string

	Transport, Staging, Local string // see server.Statement; VDI if empty
	// Device makes a fresh GUID in braces; nil makes them by lot.
	Device func() string
	// Begin hears of the plan before anything is changed; nil for nobody.
	Begin    func(*Preview)
	Now      func() time.Time // for durations; nil: all are 0
	Progress restore.Progress // nil for nobody

	recalled *sqlguest.Recalled // what earlier runs have left; nil if nobody looked
	looks    bool               // and took nothing in
}

// Result is what a restore came to.
type Result struct {
	Database string    `json:"database"`
	Server   string    `json:"server"`
	Plan     plan.Plan `json:"plan"`
	// Points are those that were restored, in their order; Tail is the one that was
	// made of the log's tail, "" if none was.
	Points []string `json:"points"`
	Tail   string   `json:"tail,omitempty"`
	State  plan.End `json:"state"`
	// LSN is where redo stopped, on Fork: the first record that is not in.
	LSN  lsn.LSN `json:"lsn"`
	Fork string  `json:"fork"`
	// Moment is what plan.Plan.Reached says of that: nothing later is in. By the source
	// server's clock; zero for an LSN within a log.
	Moment   time.Time `json:"moment,omitzero"`
	Steps    []Done    `json:"steps"`
	Bytes    int64     `json:"bytes"`
	Seconds  float64   `json:"duration_seconds"`
	Warnings []string  `json:"warnings"`
}

// Done is a step that was done.
type Done struct {
	Do      plan.Do `json:"do"`
	Point   string  `json:"point,omitempty"`
	Bytes   int64   `json:"bytes"`
	Redo    lsn.LSN `json:"redo,omitzero"` // where the database stood then
	Stopped bool    `json:"stopped,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Preview is what a restore would do and meet.
type Preview struct {
	Server   string          `json:"server"`
	Version  string          `json:"version"`
	Plan     plan.Plan       `json:"plan"`
	Rooms    []check.Room    `json:"rooms"`
	Findings []check.Finding `json:"findings"`
}

// Err is a *Refused if a finding forbids the restore.
func (p *Preview) Err() error {
	if !slices.ContainsFunc(p.Findings, func(f check.Finding) bool { return f.Forbids }) {
		return nil
	}
	return &Refused{Database: p.Plan.Database, Findings: p.Findings}
}

// Preview plans and checks, with points that are all there, and changes nothing. A restore
// that a check forbids is no error here; see Preview.Err. Errors: those of plan.Make, and
// the server's.
func (r *Run) Preview(ctx context.Context) (*Preview, error) {
	if err := r.recall(ctx, true); err != nil {
		return nil, err
	}
	x, err := r.readable(ctx, func(*work) error { return nil })
	if err != nil {
		return nil, err
	}
	return x.preview(), nil
}

// Do restores. Errors: those of plan.Make (nothing was changed), ErrRefused,
// server.ErrHeld, ErrLeft around whatever ended the restore midway; any other leaves
// the server as it was.
func (r *Run) Do(ctx context.Context) (*Result, error) {
	if err := r.recall(ctx, r.NoTail); err != nil {
		return nil, err
	}
	x, err := r.prepare(ctx)
	if err != nil {
		return nil, err
	}
	release, err := x.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	name := x.plan.Database
	x, err = r.readable(ctx, func(x *work) error { // what another restore did meanwhile counts
		if x.plan.Database != name {
			return fmt.Errorf("restore %s: the plan is for %s now: %w", name, x.plan.Database, plan.ErrTarget)
		}
		return x.preview().Err()
	})
	if err != nil {
		return nil, err
	}
	p := x.preview()
	if r.Begin != nil {
		r.Begin(p)
	}
	return x.carry(ctx)
}

// hold takes the locks of the name and, if the database exists, of its backups; see
// sqlguest.Run. They last until release, whatever becomes of ctx, for putting things
// right is under them as well.
func (x *work) hold(ctx context.Context) (release func(), err error) {
	names := []string{"holdfast restore " + strings.ToLower(x.plan.Database)}
	if x.old != nil && x.oldID != "" {
		names = append(names, sqlguest.LockName(x.old), "holdfast "+x.oldID)
	}
	var held []func() error
	release = func() {
		for _, let := range slices.Backward(held) {
			_ = let() // the lock goes with its session in any case
		}
	}
	for _, name := range names {
		if ctx.Err() != nil {
			err = ctx.Err()
		} else {
			var let func() error
			if let, err = x.run.Server.Hold(context.WithoutCancel(ctx), name); err == nil {
				held = append(held, let)
			}
		}
		if err != nil {
			release()
			return nil, fmt.Errorf("restore %s: %w", x.plan.Database, err)
		}
	}
	return release, nil
}

// Left is a database that a restore did not finish.
type Left = left.Left
