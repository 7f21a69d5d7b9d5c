package decide

import (
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
)

// diffRows turn a differential into a full, or leave it out. The first of them are
// about what the base is, the last about what SQL Server's differential could live
// with and the seeds' product could not.
func diffRows() []row {
	full := func(id Rule, says string, when func(*state) bool) row {
		return row{id: id, do: DoFull, says: says, when: when}
	}
	return []row{
		full(RuleMasterPath, "master's files have moved since its last full: {files}",
			func(s *state) bool { return s.master() && s.full != nil && s.pathsChanged() }),
		full(RuleMaster, "master can only be backed up in full (SQL Server error 3024)", (*state).master),
		full(RuleSecondary, "{database} is a secondary of its availability group, which gives no differential (SQL Server error 3059): a copy-only full instead",
			(*state).secondary),
		full(RuleReplaced, "{database} was replaced by a restore{restore}",
			(*state).overwritten),
		full(RuleNewDatabase, "another database has the name {database} now", func(s *state) bool { return s.moved() && !confirmed(s.ours) }),
		full(RuleFork, "{database} is on another recovery fork ({fork}) than our backups", (*state).moved),
		full(RuleReverted, "{database} stands before our newest backup, as after a revert of the machine to a snapshot: {revert}", (*state).reverted),
		full(RuleFullFailed, "our last full failed after the one that SQL Server would refer to", (*state).fullFailed),
		full(RuleNoFull, "there is no completed full of {database}", func(s *state) bool { return s.full == nil }),
		{id: RuleDamaged, do: DoFull, exit: ExitLeftOut, when: (*state).fullLost,
			says: "our last {full} cannot be built on: {damage}"},
		full(RuleDamaged, "our last {full} cannot be built on: {damage}", func(s *state) bool { return s.damage() != "" }),
		full(RuleNoChanges, "SQL Server cannot tell the changes since one full: {nochanges}", func(s *state) bool { return s.noChanges() != "" }),
		full(RuleOtherFull, "another full was taken after ours{otherfull}", func(s *state) bool { return s.db.Base != s.full.Set }),
		full(RuleBaseLSN, "SQL Server's differential base has our full's GUID and another LSN ({baselsn})", (*state).otherBaseLSN),
		full(RuleRenamed, "{database} had the name {oldname} at our last full", func(s *state) bool { return s.full.Database != s.db.Name }),
		full(RuleFileSet, "files were added or removed since our last backup: {files}",
			func(s *state) bool { return s.parity(RuleFileSet) && s.filesChanged() }),
		full(RuleFileMoved, "files were renamed or moved since our last backup: {files}",
			func(s *state) bool { return s.parity(RuleFileMoved) && s.pathsChanged() }),
		full(RuleShrunk, "files were shrunk since our last backup: {files}",
			func(s *state) bool { return s.parity(RuleShrunk) && len(s.fileChanges().Shrunk) > 0 }),
		full(RuleSet, "the set of databases in the run is another than at our last full",
			func(s *state) bool { return s.parity(RuleSet) && s.setChanged() }),
		{id: RuleSame, do: Skip, when: (*state).unchanged,
			says: "{database} is unchanged since our {full}"},
		full(RuleReadOnly, unwatched, (*state).unwatched),
	}
}

// diffOrFull is the first of those rows that applies, or stand.
func (s *state) diffOrFull(stand *row) Decision {
	if r := first(diffRows(), s); r != nil {
		return s.decision(r)
	}
	return s.decision(stand)
}

// parity tells whether a rule holds that the operator may relax.
func (s *state) parity(id Rule) bool { return !slices.Contains(s.r.Relax, id) }

// fullFailed: the repository has a full that SQL Server gave up, after the one that
// counts.
func (s *state) fullFailed() bool {
	for i := len(s.ours) - 1; i >= 0; i-- {
		b := &s.ours[i]
		if b.Kind != chain.Full || b.CopyOnly {
			continue
		}
		return b.State != chain.Confirmed
	}
	return false
}

// fullLost: the repository cannot give our newest full back, and with it what is built on
// it; that no backup mends.
func (s *state) fullLost() bool { return s.full != nil && s.full.Damage != "" }

// damage says why our newest full is no base, "" if it is one.
func (s *state) damage() string {
	switch {
	case s.full == nil:
		return ""
	case s.full.Damage != "":
		return s.full.Damage
	case s.full.Damaged:
		return "SQL Server met damaged pages in it"
	case len(s.full.StreamBytes) != s.full.Stripes:
		return "it has not as many streams as SQL Server wrote"
	}
	for _, r := range s.h.Rows {
		if r.Set == s.full.Set && r.Bytes != s.full.Bytes {
			return "msdb knows it with another size"
		}
	}
	return ""
}

// noChanges says why SQL Server has no map of changes since one full.
func (s *state) noChanges() string {
	switch {
	case s.db.Base == "":
		return "the database has no differential base"
	case s.db.MultiBase():
		return "its files have different bases"
	case slices.Contains([]int32{3003, 3006, 3012, 3035, 3039, 3050}, s.r.Failed):
		return "it refused the differential{error}"
	}
	return ""
}

// otherBaseLSN: SQL Server documents the base's LSN as the full's first one and shows
// its checkpoint's; they are equal while nothing is written. Neither is suspicious.
func (s *state) otherBaseLSN() bool {
	l := s.db.BaseLSN
	return !l.IsZero() && l != s.full.Checkpoint && l != s.full.First
}

// fileChanges are those since our last full or its newest differential, whichever
// shows more: what changed before the differential would have become a full then.
func (s *state) fileChanges() chain.FileChanges {
	var c chain.FileChanges
	for _, b := range []*chain.Backup{s.full, s.lastDif} {
		if b == nil || len(b.Files) == 0 {
			continue
		}
		more := chain.CompareFiles(b.Files, s.db.Prints())
		c.Added = append(c.Added, more.Added...)
		c.Removed = append(c.Removed, more.Removed...)
		c.Renamed = append(c.Renamed, more.Renamed...)
		c.Moved = append(c.Moved, more.Moved...)
		c.Shrunk = append(c.Shrunk, more.Shrunk...)
	}
	return c
}

func (s *state) filesChanged() bool {
	c := s.fileChanges()
	return len(c.Added)+len(c.Removed) > 0
}

func (s *state) pathsChanged() bool {
	c := s.fileChanges()
	return len(c.Renamed)+len(c.Moved) > 0
}

// setChanged compares runs over the whole instance only, and those that left out the same
// databases by name (facts.SetOf); what an older program noted is of another scheme.
func (s *state) setChanged() bool {
	scheme := func(hash string) string { return hash[:strings.LastIndexByte(hash, ':')+1] }
	return s.r.SetHash != "" && s.full.SetHash != "" && s.r.SetHash != s.full.SetHash && scheme(s.r.SetHash) == scheme(s.full.SetHash)
}

// unchanged: the log ends where it ended when we looked before our full, so that nothing
// was written since; a full itself writes into every database but a read-only one.
// Anything less, such as read-only then and now or a small number of changed pages, would
// not prove it.
func (s *state) unchanged() bool {
	return s.db.LogEnd != "" && s.full != nil && s.full.LogEnd == s.db.LogEnd && s.db.Base == s.full.Set
}
