// Package decide answers one question: given what a SQL Server says of a database
// and what the repository holds of it, what is backed up now, and why?
//
// It is one table. Rows are asked from top to bottom, the first that applies decides;
// it carries its rule's id, its sentence, what follows in the same run and the exit
// code. Before the table for each kind stands the one for all of them (is this server,
// this database to be backed up at all?). Nothing here asks a server, reads a
// repository or a clock: the only times are the server's own, and they choose between
// a cheaper and a dearer backup, never between a right and a wrong one. What must be
// right (is this the log that follows ours? is this differential's base our full?) is
// decided by GUID, fork and LSN.
//
// A log backup is chosen only if a restore can use it: SQL Server's next log begins
// exactly where our newest one ended, or inside a data backup of ours. A differential
// is chosen only if SQL Server's base is our newest full. Everything else is bridged
// by a full (or, on request, a differential), in the same run.
package decide

import (
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// Want is the kind of backup that was asked for.
type Want string

// What can be asked for. "" is Auto.
const (
	Auto Want = "auto"
	Full Want = "full"
	Diff Want = "diff"
	Log  Want = "log"
)

// Action is what is to be done.
type Action string

// Actions.
const (
	DoFull  Action = "full"
	DoDiff  Action = "diff"
	DoLog   Action = "log"
	Skip    Action = "skip"    // by rule: there is nothing to do, or not with this database
	Refuse  Action = "refuse"  // what was asked for cannot be done
	Resolve Action = "resolve" // first ask for SQL Server's word on the Unconfirmed points, then decide anew
)

// Exit codes, as the command line promises them.
const (
	ExitDone    = 0
	ExitFailed  = 1
	ExitLeftOut = 3
	ExitRefused = 16
)

// Request is what the operator and the run ask for. The zero value is an automatic
// backup, beside the server, with the usual policy.
type Request struct {
	Want     Want
	CopyOnly bool // the backup must change neither base nor log chain
	Guest    bool // through an agent in a virtual machine
	AllowAG  bool // availability groups and failover instances in guests, too
	Excluded bool // by the operator's choice of databases
	Alone    bool // the only database of the run
	// Resolved: this run has asked for the word on unconfirmed points already; what
	// is still unconfirmed is treated as denied.
	Resolved bool
	// Cause is the decision of this run that the backup follows (Decision.Then, or
	// Check's), nil if it follows none: a full or differential that mends a chain
	// keeps the rule and the reason that called for it.
	Cause *Decision
	// Failed is the error number with which SQL Server refused this run's
	// differential or log of the database, 0 for none: decide again.
	Failed int32
	// SetHash is chain.SetHash of the databases of a run over a whole instance, ""
	// for a run over chosen ones.
	SetHash string
	// Bridge is what mends a broken log chain: Full ("" too), or Diff where the base
	// is ours.
	Bridge Want
	// FullDays and DiffDays are after how many calendar days of the server an
	// automatic run takes a full and a differential; 0 is 7 and 1, negative never.
	FullDays, DiffDays int
	// MinFree is how many bytes each volume must have for a log backup; 0 is 1 GiB,
	// negative no limit, not even by the size of a staged backup.
	MinFree int64
	// Relax are parity rules (M11.2, M11.3, M11.10, M11.12) that need not turn a
	// differential into a full, since SQL Server's differential is right across them.
	Relax []Rule
	// Repository is the id of the one that the backup goes to; "" where it is not known.
	Repository string
	// SystemDrive is the guest's, such as "C:", for a warning.
	SystemDrive string
}

// Facts are what the server says: itself, one database, and that one's history.
type Facts struct {
	Instance facts.Instance
	Database facts.Database
	History  facts.History
}

// LastRestore is what a backup keeps that is decided on by these facts, so that the
// next one sees each restore that came after this look.
func (f *Facts) LastRestore() *chain.LastRestore {
	seen := f.History.LastRestore.Seen(f.Instance.Name)
	return &seen
}

// Decision is what to do, and why.
type Decision struct {
	Do       Action `json:"do"`
	CopyOnly bool   `json:"copy_only,omitempty"`
	// Then follows in the same run; each is decided anew, from fresh facts.
	Then []Want `json:"then,omitempty"`
	Rule Rule   `json:"rule"`
	// Reason is a sentence without a full stop, for the point and the summary.
	Reason string `json:"reason"`
	// Exit is this database's part of the exit code; see Exit.
	Exit     int       `json:"exit"`
	Warnings []Warning `json:"warnings,omitempty"`

	// Parent is the point that the backup continues: a differential's full, a log's
	// previous log or, failing one, the data backup that it opens on.
	Parent string `json:"parent,omitempty"`
	// Base is the set that a differential must name as its base; First the LSN at
	// which a log must begin. Check holds them against what was done.
	Base  string  `json:"base,omitempty"`
	First lsn.LSN `json:"first,omitzero"`
	// Unconfirmed are the points to resolve, the oldest first.
	Unconfirmed []string `json:"unconfirmed,omitempty"`
	// Abandons are sets of ours on a history that the database has left without a
	// fork; a full that is taken now keeps them in chain.Backup.Abandons.
	Abandons []string `json:"abandons,omitempty"`
}

// Warning is something that the operator should know, and the rule that says so.
type Warning struct {
	Rule Rule   `json:"rule"`
	Text string `json:"text"`
}

// Truncates tells whether SQL Server will cut its log once the backup has succeeded.
func (d *Decision) Truncates() bool { return d.Do == DoLog && !d.CopyOnly }

// Decide decides for one database. The backups are ours of that database (or of all
// that ever had its name), in the order in which the repository got them. Every
// combination of facts gets a decision with a rule and a reason.
func Decide(r Request, f Facts, ours []chain.Backup) Decision {
	s := look(r, f, ours)
	if row := first(gates(), s); row != nil {
		d := s.decision(row)
		if row.do == Resolve {
			d.Unconfirmed = s.unconfirmed()
		}
		return d
	}
	var d Decision
	switch s.r.Want {
	case Full:
		d = s.caused(s.decision(&row{id: RuleFull, do: DoFull, says: "a full backup was asked for"}))
	case Diff:
		d = s.diffOrFull(&row{id: RuleDiff, do: DoDiff, says: "a differential was asked for, and its base is our {full}"})
		if d.Do == DoDiff {
			d = s.caused(d)
		}
	case Log:
		d = s.log()
	default:
		d = s.auto()
	}
	return s.staged(s.finish(d))
}

// caused gives a decision the rule and the reason of what it follows.
func (s *state) caused(d Decision) Decision {
	if s.r.Cause != nil {
		d.Rule, d.Reason = s.r.Cause.Rule, s.r.Cause.Reason
	}
	return d
}

// finish adds what the kind of backup calls for.
func (s *state) finish(d Decision) Decision {
	switch d.Do {
	case DoFull:
		d.CopyOnly = s.r.CopyOnly || s.secondary()
		d.Abandons = s.abandoned()
	case DoDiff:
		d.Parent, d.Base = s.full.Point, s.full.Set
	case DoLog:
		d.CopyOnly, d.First = s.r.CopyOnly, s.db.LastLog
		if s.lastLog != nil && s.lastLog.Last == s.db.LastLog {
			d.Parent = s.lastLog.Point
		} else if s.start != nil {
			d.Parent = s.start.Point
		}
	}
	if s.r.CopyOnly {
		d.Then = nil // whatever follows would change what copy-only must leave alone
	}
	d.Warnings = append(d.Warnings, s.warnings(d)...)
	return s.switched(d)
}

// switched says with the first data backup that it was the switch to SIMPLE that has ended
// the logs. Whoever made it need not have known of them, and nothing else would tell.
func (s *state) switched(d Decision) Decision {
	if !s.simple() || s.lastLog == nil || s.r.CopyOnly || d.Do != DoFull && d.Do != DoDiff {
		return d
	}
	for i := range slices.Backward(s.line.Backups) {
		b := &s.line.Backups[i]
		if b.CopyOnly || b.Rule == string(RuleKept) || b.Model == "" {
			continue
		}
		if b.Model == "SIMPLE" {
			return d // it was said
		}
		break
	}
	if s.lastLog.Model == "" {
		return d
	}
	text := s.say("{database} was switched to the SIMPLE recovery model since our {log}: behind that log no moment can be reached but the ends of fulls and differentials; after a switch back to FULL the next full or differential begins logs anew")
	if slices.Contains([]Rule{RuleFull, RuleDiff, RuleAutoFull, RuleAutoDiff}, d.Rule) {
		d.Rule, d.Reason = RuleToSimple, text
	}
	if d.Exit == ExitDone {
		d.Exit = ExitLeftOut
	}
	d.Warnings = append(d.Warnings, Warning{RuleToSimple, text})
	return d
}

// Exit is the exit code of a run over several databases by its decisions: if nothing was
// done for any, 1 where one failed, 16 where one was refused; 3 if anything was left out;
// else 0. A statement's own error is the command's to tell.
func Exit(all []Decision) int {
	done := slices.ContainsFunc(all, func(d Decision) bool {
		return d.Do == DoFull || d.Do == DoDiff || d.Do == DoLog || len(d.Then) > 0
	})
	code := ExitDone
	for _, d := range all {
		switch {
		case d.Exit == ExitFailed && !done:
			return ExitFailed
		case d.Exit == ExitRefused && !done:
			code = ExitRefused
		case d.Exit != ExitDone && code != ExitRefused:
			code = ExitLeftOut
		}
	}
	return code
}
