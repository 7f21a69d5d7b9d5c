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

// Opens is R4: the log is the first that a restore applies after the full or
// differential data, which leaves redo at its last LSN. A copy-only full may open a
// chain, too (R7).
func Opens(data, log *Header) bool {
	return (data.Kind == Full || data.Kind == Diff) && data.Family == log.Family && log.Takes(data.Last, data.Fork)
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
