package decide

import (
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// noBackup is SQL Server's error for BACKUP LOG where no full came first.
const noBackup = 4214

// logGates say that there is no log to back up, or not now.
func logGates() []row {
	return []row{
		{id: RuleMaster, do: Skip, when: (*state).master,
			says: "master has no log backups (SQL Server error 4212)"},
		{id: RuleToSimple, do: Skip, when: func(s *state) bool { return s.simple() && s.lastLog != nil },
			says: "{database} was switched to the SIMPLE recovery model since our last log backup"},
		{id: RuleSimple, do: Skip, when: (*state).simple,
			says: "{database} is in the SIMPLE recovery model, which has no log backups (SQL Server error 4208)"},
		{id: RuleReadOnly, do: Skip, when: func(s *state) bool { return s.noChain() && s.sealed() },
			says: "{database} is read-only and has no log chain, which a full of it cannot begin: our {full} was taken while it was read-only"},
		{id: RuleSingle, do: Refuse, exit: ExitFailed, when: func(s *state) bool { return s.single() && s.r.Alone },
			says: "{database} is in single-user mode, its log is not backed up, and there is no other database in the run"},
		{id: RuleSingle, do: Skip, exit: ExitLeftOut, when: (*state).single,
			says: "{database} is in single-user mode: its log is not backed up"},
		{id: RuleSpace, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { v := s.narrow(); return v != nil && v.Use != facts.UseStaging },
			says: "volume {volume} of {database} has {free} free, log backups stop below {least}"},
		{id: RuleStaging, do: Refuse, exit: ExitRefused, when: func(s *state) bool { return s.narrow() != nil },
			says: "volume {volume}, where backups are staged, has {free} free, log backups stop below {least}"},
	}
}

// breaks say that the next log would not continue what we hold. Where a log chain of
// ours is broken, the log fails and a full follows; where there was none yet, the
// full comes first and the log follows.
func breaks() []row {
	full, log := []Want{Full}, []Want{Log}
	return []row{
		{id: RuleReplaced, do: Refuse, then: full, exit: ExitLeftOut,
			when: (*state).overwritten,
			says: "{database} was replaced by a restore{restore}: its log does not continue ours"},
		{id: RuleNewDatabase, do: DoFull, then: log, when: func(s *state) bool { return s.moved() && !confirmed(s.ours) },
			says: "another database has the name {database} now: it begins with a full"},
		{id: RuleFork, do: Refuse, then: full, exit: ExitLeftOut, when: (*state).moved,
			says: "{database} is on another recovery fork ({fork}) than our backups: its log does not continue ours"},
		{id: RuleReverted, do: Refuse, then: full, exit: ExitLeftOut, when: (*state).reverted,
			says: "{database} stands before our newest backup, as after a revert of the machine to a snapshot: {revert}"},
		{id: RuleDamaged, do: DoFull, then: log, exit: ExitLeftOut, when: func(s *state) bool {
			return s.damage() != "" && (s.start == nil || s.fullLost() && s.start.Last.Less(s.full.Last))
		},
			says: "our last {full} cannot be built on: {damage}"},
		{id: RuleFirst, do: DoFull, then: log, when: func(s *state) bool { return s.start == nil },
			says: "there is no completed full of {database} yet, which a log backup needs: it comes first"},
		{id: RuleChainReset, do: Refuse, then: full, exit: ExitLeftOut,
			when: func(s *state) bool { return s.noChain() && !s.sealed() && s.lastLog != nil },
			says: "{database} has lost its log chain since our last log backup, as by a switch to SIMPLE and back (SQL Server error 4214)"},
		{id: RuleNoChain, do: DoFull, then: log, when: func(s *state) bool { return s.noChain() && !s.sealed() },
			says: "{database} is in the {model} recovery model and has had no full since it came there (SQL Server error 4214)"},
		{id: RuleLost, do: Refuse, then: full, exit: ExitLeftOut,
			when: func(s *state) bool { return s.gap() && s.lost(s.foreignLog()) },
			says: "a log backup of ours after {ours} is not in this repository{culprit}: the log between {ours} and {server} is missing"},
		{id: RuleForeignLog, do: Refuse, then: full, exit: ExitLeftOut, when: (*state).gap,
			says: "somebody else's log backup came after ours{culprit}: the log between {ours} and {server} is missing here"},
		{id: RuleUnreachable, do: DoFull, then: log, exit: ExitLeftOut, when: (*state).unreachable,
			says: "none of our backups leads to where the next log begins without a gap, or SQL Server was restarted behind the only one"},
		{id: RuleReadOnly, do: DoFull, then: log, when: (*state).unwatched, says: unwatched},
		{id: RuleReadOnly, do: Skip, when: (*state).stuck,
			says: "{database} is read-only, as it was at our newest log {ours}: SQL Server hands out the same log again"},
	}
}

const unwatched = "{database} is read-only and ends where our {log} does, but SQL Server was started since: its disk may have been exchanged meanwhile"

// logRows decide on a log that continues ours. The last always applies.
func logRows() []row {
	return []row{
		{id: RuleReadOnly, do: Skip, when: (*state).nothingNew,
			says: "{database} is read-only and unchanged since our {full}"},
		{id: RuleOverlap, do: DoLog, when: (*state).overlaps,
			says: "the log from {server} on, which a backup of ours began before SQL Server gave it up"},
		{id: RuleBridged, do: DoLog, when: func(s *state) bool { return s.lastLog != nil && !s.continues() && s.told() },
			says: "the log from {server} on, behind a gap, which opens on our newer {start}"},
		{id: RuleBridged, do: DoLog, exit: ExitLeftOut, when: func(s *state) bool { return s.lastLog != nil && !s.continues() },
			says: "the log from {server} on, which opens on our newer {start}: the log between {ours} and that is missing here{culprit}"},
		{id: RuleLog, do: DoLog, when: func(*state) bool { return true },
			says: "the log from {server} on, which continues our {previous}"},
	}
}

// log decides on a log backup that was asked for.
func (s *state) log() Decision {
	if r := first(logGates(), s); r != nil {
		return s.decision(r)
	}
	if r := first(breaks(), s); r != nil {
		d := s.decision(r)
		if s.r.CopyOnly && d.Do != Skip {
			d.Do, d.Exit = Refuse, ExitLeftOut
			if r.id == RuleReadOnly { // the full that it wants is for others to take
				d.Do, d.Exit, d.Then = Skip, ExitDone, nil
			}
		}
		if d.Do == Refuse && s.bridge(r) == DoDiff {
			d.Then = []Want{Diff}
		}
		return d
	}
	return s.decision(first(logRows(), s))
}

// bridge is what mends a chain that this row found broken: a differential where the
// operator wants that, the data backups are not touched by the break, and nothing
// turns it into a full.
func (s *state) bridge(r *row) Action {
	mendable := slices.Contains([]Rule{RuleForeignLog, RuleLost, RuleChainReset, RuleNoChain}, r.id)
	if s.r.Bridge == Diff && mendable && first(diffRows(), s) == nil {
		return DoDiff
	}
	return DoFull
}

// noChain: SQL Server cannot back up a log because no data backup began a chain.
func (s *state) noChain() bool { return s.db.LastLog.IsZero() || s.r.Failed == noBackup }

// sealed: read-only, and so it was at a full of ours that came after our newest log. SQL
// Server writes nothing into such a database, not even that a log chain begins or what
// has changed since a full, so that another full would show no difference. What was
// written while it was not read-only in between comes with the next differential.
func (s *state) sealed() bool {
	return s.db.ReadOnly && s.full != nil && s.full.Usable() && s.full.ReadOnly && (s.lastLog == nil || s.lastLog.Last.Compare(s.full.Last) <= 0)
}

// gap: between what we hold and SQL Server's next log lies log that we do not have. A
// restart may have cut it off as well: what another's log took was missing before that.
func (s *state) gap() bool {
	r := s.foreignLog()
	return !s.db.LastLog.IsZero() && !s.continues() && !s.opens() && (!s.restarted() || r != nil && r.Last == s.db.LastLog)
}

// restarted: the log would begin on a backup of ours that left no trace, and SQL Server has
// been started since (chain.Tie).
func (s *state) restarted() bool {
	start := s.line.NewestStart("")
	return start != nil && !s.db.LastLog.IsZero() && s.db.LastLog.Compare(start.Last) <= 0 && !start.Tie().Holds(&chain.Backup{Run: s.in.Run(s.db)})
}

// unreachable: the log would continue ours, but a restore cannot come that far, or not to
// the end of the one that is handed out again.
func (s *state) unreachable() bool {
	if s.stuck() && s.start != nil && s.lastLog.Last.Compare(s.start.Last) <= 0 || !s.stuck() && s.opens() {
		return false
	}
	return s.lastLog != nil && !s.line.Restorable(s.lastLog, s.in.Run(s.db)) || !s.continues() && s.restarted()
}

// told: the data backup that bridges a gap was taken because of it, so that the gap
// has had its exit code.
func (s *state) told() bool {
	return slices.ContainsFunc(breaks(), func(r row) bool { return s.start != nil && string(r.id) == s.start.Rule })
}

// overlaps: a log of ours was committed and SQL Server gave the backup up, so that it
// hands out the same log again. The earlier one is no link and stays aside.
func (s *state) overlaps() bool {
	return slices.ContainsFunc(s.ours, func(b chain.Backup) bool {
		return b.Kind == chain.Log && (b.State != chain.Confirmed || b.By == chain.ByItself) && !b.CopyOnly && b.First == s.db.LastLog
	})
}

// nothingNew: read-only, not changed since our full, and a log behind that full is
// here. Read-only alone proves nothing, it may have been writable in between.
func (s *state) nothingNew() bool {
	return s.db.ReadOnly && s.unchanged() && s.continues() && s.full.Last.Compare(s.lastLog.Last) <= 0
}

// narrow is the first volume with too little space, or nil.
func (s *state) narrow() *facts.Volume {
	for i, v := range s.db.Volumes {
		if v.Available < s.r.MinFree {
			return &s.db.Volumes[i]
		}
	}
	return nil
}

// staged refuses a backup that the volume of staging files has no room for, before SQL
// Server begins to write it. The log that follows a differential goes on all the same.
// Of a directory below the root of a Unix system nobody tells what is mounted there.
func (s *state) staged(d Decision) Decision {
	v, need := s.stagingVolume(), int64(0)
	if e := s.db.Estimate; e != nil {
		need = map[Action]int64{DoFull: e.Full, DoDiff: e.Diff, DoLog: e.Log}[d.Do]
	}
	if v == nil || v.Name == "/" || s.r.MinFree < 0 || need <= v.Available {
		return d
	}
	why := "volume " + v.Name + ", where backups are staged, has " + size(v.Available) + " free, and the " + string(d.Do) + " backup of " + s.db.Name + " needs about " + size(need)
	refused := Decision{Do: Refuse, Rule: RuleStaging, Exit: ExitRefused, Reason: why, Warnings: d.Warnings}
	if d.Do == DoDiff && len(d.Then) > 0 {
		refused.Then, refused.Exit = d.Then, ExitLeftOut
	}
	return refused
}

// stagingVolume is the volume of staging files, nil if there is none or nobody knows it.
func (s *state) stagingVolume() *facts.Volume {
	for i, v := range s.db.Volumes {
		if v.Use == facts.UseStaging {
			return &s.db.Volumes[i]
		}
	}
	return nil
}

// isOurs tells whether the set is one of ours that SQL Server has confirmed.
func (s *state) isOurs(set string) bool {
	return slices.ContainsFunc(s.all, func(b chain.Backup) bool { return b.State == chain.Confirmed && b.Set == set })
}

// foreignLog is the newest row of a log backup that is not ours and took log away
// from this database after ours, or nil.
func (s *state) foreignLog() *chain.Row {
	for i := len(s.h.Rows) - 1; i >= 0; i-- {
		r := &s.h.Rows[i]
		here := r.Fork == s.db.Fork && (r.DatabaseGUID == s.db.GUID || r.Database == s.db.Name)
		if here && r.Kind == chain.Log && !r.CopyOnly && !s.isOurs(r.Set) && r.Last.Compare(s.db.LastLog) <= 0 &&
			(s.lastLog == nil || s.lastLog.Last.Less(r.Last)) {
			return r
		}
	}
	return nil
}

// lost tells whether a row is of a backup that was made for our repository. Others have
// backups of ours, too, by the same name; sets whose description is gone count as ours.
func (s *state) lost(r *chain.Row) bool {
	return r != nil && r.Name == chain.SetName && !s.anothers(r)
}

// anothers tells whether a row is of a backup that was made for another repository.
func (s *state) anothers(r *chain.Row) bool {
	return r.Name == chain.SetName && r.Description != "" && s.r.Repository != "" && r.Description != chain.Owner(s.r.Repository)
}

// foreignFull is msdb's row of SQL Server's differential base, or nil.
func (s *state) foreignFull() *chain.Row {
	i := slices.IndexFunc(s.h.Rows, func(r chain.Row) bool { return r.Set != "" && r.Set == s.db.Base })
	if i < 0 {
		return nil
	}
	return &s.h.Rows[i]
}

// discarded tells whether a backup went to the device that keeps nothing.
func discarded(device string) bool {
	name := strings.ToUpper(strings.TrimSuffix(device, ":"))
	return name == "NUL" || strings.HasSuffix(name, `\NUL`) || name == "/DEV/NULL"
}
