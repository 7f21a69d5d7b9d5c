// Package plan says how a database of SQL Server's is brought to a moment: which
// full, which differential, which logs, with which statements, and what must be true
// after each. It reads nothing and runs nothing: a Plan is a value that is shown,
// and then executed by somebody else.
//
// Three things make the difference between a plan and a list of the newest files:
//
//   - A moment belongs to a history. After a restore to a point in time the database
//     goes on along another fork, and after a revert of its machine along another one
//     still, with LSNs given out twice. A time belongs to the history that the
//     database was on then: the one of the first backup that was begun after it.
//   - What a backup surely holds is narrower than what its times say. SQL Server
//     notes whole seconds, rounded down, and a log ends somewhere between its start
//     and its finish. A data backup serves a time only from the second after its
//     finish on; a log covers a time only if it was begun at or after it.
//   - The stop clause compares the server's local clock, record by record. In the hour
//     that is repeated when clocks are set back, it names no moment by itself (inHour).
//
// What cannot be reached exactly is refused with its two neighbours (Unreachable).
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// End is the state in which a restore leaves the database.
type End string

// The ends. The zero End is Recovery.
const (
	Recovery   End = "recovery"
	NoRecovery End = "norecovery" // restoring: more logs may follow
	Standby    End = "standby"    // readable between logs; Options.UndoFile keeps what was undone
)

// Nearest says what happens when a target cannot be reached.
type Nearest string

// The choices. The zero Nearest refuses.
const (
	Refuse Nearest = ""
	Before Nearest = "before" // the last reachable moment before the target
	After  Nearest = "after"  // the first one after it
)

// Mark is a marked transaction that a log backup holds.
type Mark struct {
	Name string    `json:"name"`
	LSN  lsn.LSN   `json:"lsn"`
	At   time.Time `json:"at"` // server-local, with offset
}

// Options say how and where to. The zero value restores over the original's name,
// into its own files, with recovery.
type Options struct {
	End      End
	UndoFile string // with Standby
	Nearest  Nearest
	As       string // the database's new name; its own if empty
	// Name is what the database is called that is restored, where no As gives it another
	// name; the one that the last backup of the plan knows if empty. It says nothing of files.
	Name string
	// Moves are physical paths by logical file name. For files that have none,
	// DataDir and LogDir, or As, make one; without these a file goes where it was.
	Moves           map[string]string
	DataDir, LogDir string
	// Taken are paths that other files have (chain.PathKey): names that are made for
	// files avoid them.
	Taken   map[string]bool
	Replace bool // WITH REPLACE on the full
	Kick    bool // the database exists: throw its sessions out first
	// Tail: the database exists: back up the tail of its log first. A plan for the
	// latest moment must be made anew when that backup is a point.
	Tail bool
	// Fork asks for a moment on the history that ends on this fork, where a target
	// could mean several: its GUID, or the first characters that tell it, 4 at least.
	Fork string
	// Zone is the source server's time zone, where somebody knows it better than the
	// backups (chain.Backup.Zone). Where those know none either, offsets come from the
	// backups around the target, and what they leave open is refused.
	Zone *time.Location
	// Marks are the marks of log backups, by point; nil means those that came with
	// the backups' confirmations.
	Marks map[string][]Mark
	// Standing: the database is restoring already and stands there; only logs follow.
	Standing *Standing
}

// TailPoint stands for the point that the tail of the log will be, in plans that are
// made before it is taken.
const TailPoint = "tail"

// Standing is where a restoring database stands (redo_start_lsn and
// redo_start_fork_guid of sys.master_files).
type Standing struct {
	Redo lsn.LSN
	Fork string
	// Set is the backup set that was restored into it last, by msdb's restorehistory; "" if
	// that does not say.
	Set string
	// Stop is the time of the stop clause with which that was restored, by the server's
	// clock; zero if there was none.
	Stop time.Time
	// Files are those that it has: no log need place them.
	Files []chain.File
}

// Do is what a step does.
type Do string

// The steps, in the order in which they come.
const (
	DoKick   Do = "kick"   // throw sessions out
	DoTail   Do = "tail"   // back up the tail of the log; it becomes a point
	DoFull   Do = "full"   //
	DoDiff   Do = "diff"   //
	DoLog    Do = "log"    //
	DoFinish Do = "finish" // recovery or standby
)

// Step is one statement.
type Step struct {
	Do    Do     `json:"do"`
	Point string `json:"point,omitempty"`
	// Text is the statement, with %s for its devices where Streams is not 0; a
	// percent sign of its own is doubled there.
	Text    string `json:"text"`
	Streams int    `json:"streams,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"` // of all streams
	// Before and After are the redo LSN of the database (R3, R4). Where May is set,
	// After is how far it comes at most: the stop lies within. Of a tail that is not taken
	// yet nobody knows the end.
	Before lsn.LSN `json:"before,omitzero"`
	After  lsn.LSN `json:"after,omitzero"`
	Fork   string  `json:"fork,omitempty"` // redo fork afterwards
	// May tells that the stop may be met in this log. If SQL Server then says neither
	// 4322 nor 4329, the target is reached, and the logs that follow are left out.
	May   bool   `json:"may_stop,omitempty"`
	Moves []Move `json:"moves,omitempty"`
}

// SQL is the statement as a person reads it, with its streams in words.
func (s Step) SQL() string {
	if s.Streams == 0 {
		return s.Text
	}
	var devices []string
	for i := range s.Streams {
		devices = append(devices, fmt.Sprintf("{stream-%d of %s}", i, cmp.Or(s.Point, TailPoint)))
	}
	return strings.NewReplacer("%%", "%", "%s", strings.Join(devices, ", ")).Replace(s.Text)
}

// Move is where a file goes.
type Move struct {
	File string `json:"file"` // logical name
	To   string `json:"to"`
}

// Place is a file of the database that is restored.
type Place struct {
	Move
	Type  FileType `json:"type"`  // as in chain.File
	Bytes int64    `json:"bytes"` // the most that one of the backups tells
}

// Plan is how a target is reached.
type Plan struct {
	Database string `json:"database"` // its name after the restore
	Target   string `json:"target"`   // as it was understood
	// At is the instant understood of a time, with the server's offset.
	At time.Time `json:"at,omitzero"`
	// Instead is set if Nearest chose another moment than the one asked for.
	Instead *chain.Moment `json:"instead,omitempty"`
	Fork    string        `json:"fork"` // where the history ends that was chosen
	Stop    Stop          `json:"stop,omitzero"`
	Steps   []Step        `json:"steps"`
	// Files are all that the steps make, and the bytes that they need.
	Files    []Place  `json:"files"`
	Bytes    int64    `json:"bytes"`
	End      End      `json:"end"`
	Warnings []string `json:"warnings,omitempty"`
	// Again: the tail of the log is part of what was asked for. The plan is made anew
	// when DoTail's backup is a point.
	Again bool `json:"again,omitempty"`
}

// Kicks tells whether sessions are thrown out of the database.
func (p *Plan) Kicks() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Do == DoKick })
}

// Readable is the plan with its statements as a person reads them (Step.SQL).
func (p Plan) Readable() Plan {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Text = p.Steps[i].SQL()
	}
	return p
}

// Reached is the moment of a database that the plan has brought to redo on a fork: the
// time asked for, a mark's, or the first second that surely lies behind the end of the
// backup that it ended with, of the latest moment the last that says so. SQL Server tells no time of an LSN within a log: zero.
func (p *Plan) Reached(backups []chain.Backup, redo lsn.LSN, fork string) time.Time {
	if !p.At.IsZero() {
		return p.At
	}
	var at time.Time
	meant := false
	for i := range backups {
		b := &backups[i]
		if b.State != chain.Confirmed || b.Last != redo || redo.IsZero() || b.Fork != fork && fork != "" {
			continue
		}
		// What was asked for may be a log that holds nothing more, and that no step needs.
		rests := p.Target == Target{Point: b.Point}.String() || p.Target == Target{}.String() && b.Rests(redo, fork)
		taken := rests || slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Point == b.Point })
		if at.IsZero() || taken && (!meant || at.Before(b.SurelyAfter())) {
			at = b.SurelyAfter()
		}
		meant = meant || taken
	}
	return at
}

// Inherit takes over the warnings of the plan that was made before the tail was a point,
// but for the one that told of another moment than the one asked for: that is told anew.
func (p *Plan) Inherit(first *Plan) {
	for _, w := range first.Warnings {
		stale := first.Instead != nil && strings.HasSuffix(w, restoresInstead(first.Instead))
		if !stale && !slices.Contains(p.Warnings, w) {
			p.Warnings = append(p.Warnings, w)
		}
	}
}

func restoresInstead(m *chain.Moment) string { return "; this restores " + describe(m) }

// Leads tells whether a database can be brought to the end of the tail of its log by
// those backups: of a copy that was never backed up it cannot.
func Leads(backups []chain.Backup, tail chain.Backup) bool {
	p, err := Make(Target{}, append(slices.Clip(backups), tail), Options{})
	return err == nil && slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Point == tail.Point })
}

// Make plans a restore from a database's backups, which are in the order of their
// making. Errors: *Unreachable, *Ambiguous, ErrTarget.
func Make(t Target, backups []chain.Backup, o Options) (Plan, error) {
	if err := check(&t, &o); err != nil {
		return Plan{}, err
	}
	m := newMaker(backups, &o)
	if err := m.nameFork(t); err != nil {
		return Plan{}, err
	}
	p, err := m.plan(t)
	miss, ok := err.(*Unreachable)
	if !ok || o.Nearest == Refuse {
		return p, err
	}
	instead := miss.Before
	if o.Nearest == After {
		instead = miss.After
	}
	if instead == nil {
		return Plan{}, err
	}
	next := Target{Point: instead.Point}
	if instead.Point == "" {
		next = Target{At: instead.Time}
	}
	if p, err = m.plan(next); err != nil {
		return Plan{}, err
	}
	p.Instead = instead
	p.Warnings = append(p.Warnings, fmt.Sprintf("%s cannot be reached (%s)", miss.Target, miss.Why)+restoresInstead(instead))
	return p, nil
}

func check(t *Target, o *Options) error {
	kinds := 0
	for _, given := range []bool{!t.At.IsZero(), !t.LSN.IsZero(), t.Mark != "", t.Point != ""} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return fmt.Errorf("plan restore: %w: more than one moment is given", ErrTarget)
	case t.Before && t.Mark == "" && t.LSN.IsZero():
		return fmt.Errorf("plan restore: %w: only a mark or an LSN has a moment before it", ErrTarget)
	case !t.After.IsZero() && t.Mark == "":
		return fmt.Errorf("plan restore: %w: only a mark has an earliest time", ErrTarget)
	case o.End == Standby && o.UndoFile == "":
		return fmt.Errorf("plan restore: %w: standby needs an undo file", ErrTarget)
	}
	if o.End == "" {
		o.End = Recovery
	}
	return nil
}
