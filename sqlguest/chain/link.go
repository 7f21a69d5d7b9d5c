package chain

import "holdfast/sqlguest/lsn"

// Continues is R2: the log next begins exactly where the log prev ended, on the
// same fork, and neither is copy-only. A gap and an overlap are both no link.
func Continues(prev, next *Header) bool {
	return prev.Kind == Log && next.Kind == Log && !prev.CopyOnly && !next.CopyOnly &&
		prev.Last == next.First && prev.Fork == next.FirstFork && prev.Family == next.Family
}

// Empty tells whether a log has no records; a restore leaves it out.
func (h *Header) Empty() bool { return h.Kind == Log && h.First == h.Last }

// Rests tells whether the log says that a database which stands at redo on a fork held
// nothing more when the log was begun: it ends there, and a restore needs it for no
// record. So it covers the time until then.
func (h *Header) Rests(redo lsn.LSN, fork string) bool {
	return h.Kind == Log && !h.BulkLogged && h.Last == redo && (fork == h.Fork || fork == "")
}

// Takes is R3 and R6 for a database that stands at redo on a fork: the log begins at
// or before it, ends behind it, and comes by that fork at that LSN. A log that spans a
// fork may be met on either side of the fork point.
func (h *Header) Takes(redo lsn.LSN, fork string) bool {
	if h.Kind != Log || redo.Less(h.First) || !redo.Less(h.Last) {
		return false
	}
	if h.FirstFork == h.Fork || h.FirstFork == "" || h.ForkPoint.IsZero() {
		return fork == h.Fork || fork == h.FirstFork
	}
	return fork == h.FirstFork && redo.Compare(h.ForkPoint) <= 0 || fork == h.Fork && h.ForkPoint.Compare(redo) <= 0
}

// Traceless tells whether a backup changes nothing that SQL Server would show: neither
// the differential base, as a full does, nor the beginning of the next log.
func (h *Header) Traceless() bool { return h.Kind == Diff || h.CopyOnly }

// Tie is a run of SQL Server that a log must be of, too, to be restored on a backup. The
// zero value binds to none.
type Tie struct {
	Bound bool
	Run   string // as in Backup
}

// Tie is what the backup asks of the log after it. If its disk is set back to before it,
// beneath an msdb that remembers, only what it has left in the database would tell. Where
// it has left nothing, the log may be of another history with the same LSNs, unless SQL
// Server has run on from the one to the other: a disk is not exchanged beneath it. Into a
// database that is read-only nothing can be noted either; whether it was when a log was made
// that was taken in from a file nobody knows.
func (b *Backup) Tie() Tie {
	return Tie{b.Traceless() || b.ReadOnly && b.Kind == Log && b.Rule != RuleKept, b.Run}
}

// Holds tells whether the log may follow. Where one of the two does not say its run, as
// points of older programs do not, nothing speaks against it.
func (t Tie) Holds(log *Backup) bool {
	return !t.Bound || t.Run == "" || log.Run == "" || t.Run == log.Run
}

// NoRun is the run of a traceless backup of which nobody knows when it was made: it is no
// other's.
const NoRun = "-"

// Precedes tells whether the log may be restored on a database that this backup has
// brought to its end.
func (b *Backup) Precedes(log *Backup) bool {
	return log.Takes(b.Last, b.Fork) && b.Tie().Holds(log)
}

// Opens is R4: the log is the first that a restore applies after the full or
// differential data, which leaves redo at its last LSN. A copy-only full may open a
// chain, too (R7).
func Opens(data, log *Backup) bool {
	return (data.Kind == Full || data.Kind == Diff) && data.Family == log.Family && data.Precedes(log)
}

// Bases is R5: the differential diff was read against the full. The GUID decides; of
// the LSNs, the base's checkpoint is what diff must name as the newest full before
// it, where it names one. A copy-only full is nobody's base (R7).
func Bases(full, diff *Header) bool {
	if full.Kind != Full || diff.Kind != Diff || full.CopyOnly || full.Set == "" || diff.Base != full.Set || full.Family != diff.Family {
		return false
	}
	return diff.DatabaseBackup.IsZero() || diff.DatabaseBackup == full.Checkpoint
}

// Sound is R1 for a full: redo begins inside the set. A header that breaks it was
// not read right.
func (h *Header) Sound() bool {
	if h.Last.Less(h.First) {
		return false
	}
	return h.Kind != Full || h.First.Compare(h.Checkpoint) <= 0 && h.Checkpoint.Compare(h.Last) <= 0
}
