package decide

import (
	"cmp"
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

const (
	defaultFullDays = 7
	defaultDiffDays = 1
	defaultMinFree  = 1 << 30
)

// state is the facts as the rules look at them.
type state struct {
	r  Request
	in *facts.Instance
	db *facts.Database
	h  *facts.History

	all  []chain.Backup // everything given
	ours []chain.Backup // of the database's family, in the repository's order
	// line is what of ours SQL Server has confirmed on the database's fork, without
	// abandoned histories. Backups of earlier forks are left out on purpose: after
	// any fork a full comes first.
	line chain.Timeline

	full    *chain.Backup // newest full that is not copy-only
	lastDif *chain.Backup // newest differential of it
	start   *chain.Backup // newest backup on which logs can go on
	lastLog *chain.Backup // newest log that is a link
}

// look sorts the facts. Zero options get their defaults.
func look(r Request, f Facts, ours []chain.Backup) *state {
	if r.Want == "" {
		r.Want = Auto
	}
	if r.FullDays == 0 {
		r.FullDays = defaultFullDays
	}
	if r.DiffDays == 0 {
		r.DiffDays = defaultDiffDays
	}
	if r.MinFree == 0 {
		r.MinFree = defaultMinFree
	}
	s := &state{r: r, in: &f.Instance, db: &f.Database, h: &f.History, all: ours}
	var here []chain.Backup
	for _, b := range ours {
		if b.Family != s.db.Family {
			continue
		}
		s.ours = append(s.ours, b)
		if b.By == chain.ByItself {
			continue // what the database went on from is not seen
		}
		// Every replica of an availability group was restored once and has a GUID
		// of its own for what is one database.
		if b.Fork == s.db.Fork && (b.DatabaseGUID == s.db.GUID || s.db.Replica != "") {
			here = append(here, b)
		}
	}
	s.line = chain.Grow(here).Family(s.db.Family).Timeline(chain.Head{Fork: s.db.Fork})
	s.full = s.line.NewestFull()
	s.start = s.line.NewestStart(s.in.Run(s.db))
	s.lastLog = s.line.NewestLog()
	if s.full != nil {
		s.lastDif = s.line.NewestDiff(s.full)
	}
	return s
}

// confirmed tells whether SQL Server has confirmed any backup in the list.
func confirmed(list []chain.Backup) bool {
	return slices.ContainsFunc(list, func(b chain.Backup) bool { return b.State == chain.Confirmed })
}

func (s *state) simple() bool    { return s.db.Model == "SIMPLE" }
func (s *state) single() bool    { return s.db.Access == "SINGLE_USER" }
func (s *state) secondary() bool { return s.db.Group != nil && s.db.Group.Role == "SECONDARY" }
func (s *state) master() bool    { return s.db.ID == 1 }

// moved tells whether the database is no longer on the history that our backups are
// of: another family, another fork, or another database of the same fork.
func (s *state) moved() bool {
	return confirmed(s.all) && len(s.line.Backups) == 0 && !s.allAbandoned()
}

// allAbandoned: our backups are of this very fork, and a later one has given them up.
func (s *state) allAbandoned() bool {
	return slices.ContainsFunc(s.ours, func(b chain.Backup) bool {
		return b.State == chain.Confirmed && b.Fork == s.db.Fork && (b.DatabaseGUID == s.db.GUID || s.db.Replica != "")
	})
}

// replaced tells whether the database was restored over since our newest backup: it
// left our history and msdb or its GUID says how, or msdb has a restore that our newest
// backup has not seen. Not every restore changes the fork, one that recovers at the end
// of the known log need not.
func (s *state) replaced() bool {
	if s.moved() {
		return s.restored() != nil || s.otherGUID()
	}
	return len(s.line.Backups) > 0 && s.restored() != nil
}

// overwritten is replaced, unless all that tells of it is that msdb has lost the row that
// our newest backup has seen, and a revert has left more signs than that.
func (s *state) overwritten() bool {
	return s.replaced() && !(s.restoreLost() && s.reverted())
}

// restored is the newest restore over the database that msdb knows, if it is not the one
// that our newest backup had seen before it began; else nil. That is asked of the row
// itself and of no clock. A row with a smaller number counts as well: msdb was set back
// or made anew, and numbers are given out once more. If it was only that somebody has
// deleted the row, that costs one full, which sees what is there now.
func (s *state) restored() *facts.Restore {
	r, b := s.h.LastRestore, s.witness()
	switch {
	case r == nil || b == nil:
		return nil
	case b.LastRestore == nil: // a point without that attribute has its times alone
		if r.At.After(b.Finished) {
			return r
		}
		return nil
	case r.Seen(b.LastRestore.Server) == *b.LastRestore:
		return nil
	}
	return r
}

// restoreLost: msdb's newest restore is an older one than our newest backup had seen.
func (s *state) restoreLost() bool {
	r, b := s.restored(), s.witness()
	return r != nil && b.LastRestore != nil && r.ID < b.LastRestore.ID
}

// witness is the newest of our backups, as they were made, that has seen this server's
// msdb before the database came to where it is: of those on its line, or, where it has
// left them all, of all. In an availability group another replica's msdb tells nothing.
func (s *state) witness() *chain.Backup {
	for i := len(s.all) - 1; i >= 0; i-- {
		b := &s.all[i]
		if b.State != chain.Confirmed || s.db.Replica != "" && (b.LastRestore == nil || b.LastRestore.Server != s.in.Name) {
			continue
		}
		if len(s.line.Backups) == 0 || slices.ContainsFunc(s.line.Backups, func(l chain.Backup) bool { return l.Point == b.Point }) {
			return b
		}
	}
	return nil
}

// otherGUID: the family is ours, and the database of that family is another one.
func (s *state) otherGUID() bool {
	return s.db.Replica == "" && confirmed(s.ours) && !slices.ContainsFunc(s.ours, func(b chain.Backup) bool {
		return b.State == chain.Confirmed && b.DatabaseGUID == s.db.GUID
	})
}

// reverted tells whether the database stands before backups that it has given us, on
// the same fork: the machine or its disks were set back.
func (s *state) reverted() bool {
	return s.revertedBase() || s.revertedLog() || s.revertedHistory() || s.vanished() != nil
}

// vanished is our newest backup if nothing tells any more that it was made: neither a row
// of msdb nor the database itself. Where a machine was set back that may be the only sign,
// so it counts as one, even if msdb may have been emptied: a full is cheap, and a log of
// another history on top of it restores to rubbish. Older ones were looked for when the
// next backup was decided on. In an availability group the row may lie in another
// replica's msdb.
func (s *state) vanished() *chain.Backup {
	if s.db.Replica != "" || s.simple() && len(s.h.Rows) == 0 { // without logs nothing can be mixed
		return nil
	}
	for i := range slices.Backward(s.ours) {
		b := &s.ours[i]
		// A file that was taken in came later than it was made; what SQL Server did not
		// finish hides nothing.
		if b.Rule == string(RuleKept) || b.Fork != s.db.Fork || b.DatabaseGUID != s.db.GUID || b.State != chain.Confirmed || b.By == chain.ByItself {
			continue
		}
		on := func(l chain.Backup) bool { return l.Point == b.Point }
		if s.visible(b) || !slices.ContainsFunc(s.line.Backups, on) { // seen, or abandoned already
			return nil
		}
		return b
	}
	return nil
}

// visible tells whether something says that the backup was made: its row, or the base or
// the end of the log that it has left in the database, if that is not another's.
func (s *state) visible(b *chain.Backup) bool {
	switch {
	case s.overhangs(b):
		return false
	case s.knows(b.Set):
		return true
	case b.Traceless():
		return false
	case b.Kind == chain.Full:
		return s.db.Base == b.Set
	}
	return b.Last != s.db.LastLog || !slices.ContainsFunc(s.h.Rows, func(r chain.Row) bool {
		return r.Kind == chain.Log && !r.CopyOnly && r.Last == b.Last
	})
}

// overhangs tells whether the database's log ends before the backup does: its disk was set
// back, whatever msdb remembers. SQL Server notes the end as that of the next record, so
// that within one run only the checkpoint of its beginning is surely in the log.
func (s *state) overhangs(b *chain.Backup) bool {
	end, err := lsn.Parse(s.db.LogEnd) // none is an error
	now := s.in.Run(s.db)
	// A start writes nothing into a database that is read-only.
	restarted := b.Run != "" && b.Run != chain.NoRun && now != "" && b.Run != now && !s.db.ReadOnly
	return err == nil && s.db.Replica == "" && (end.Less(b.Checkpoint) || restarted && end.Less(b.Last))
}

// revertedBase: SQL Server's differential base is older than our newest full.
func (s *state) revertedBase() bool {
	if s.full == nil || s.db.Base == "" || s.db.Base == s.full.Set {
		return false
	}
	older := slices.ContainsFunc(s.line.Backups, func(b chain.Backup) bool {
		return b.Kind == chain.Full && !b.CopyOnly && b.Set == s.db.Base
	})
	// Another's full of later may begin before ours, with a long transaction.
	if r := s.foreignFull(); r != nil && s.full.Checkpoint.Less(r.Checkpoint) {
		return older
	}
	return older || !s.db.BaseLSN.IsZero() && s.db.BaseLSN.Less(s.full.First)
}

// revertedLog: SQL Server would begin its next log before the end of our newest.
func (s *state) revertedLog() bool {
	return s.lastLog != nil && !s.db.LastLog.IsZero() && s.db.LastLog.Less(s.lastLog.Last) && !s.stuck()
}

// stuck: the database was read-only when our newest log was taken, and is, and its log ends
// where it ended. SQL Server cannot note in it where the next log begins, and hands out that
// log again.
func (s *state) stuck() bool {
	return s.rested(s.lastLog) && s.db.LastLog == s.lastLog.First
}

// rested: the database was read-only when we looked before that backup, and nothing was
// written since, unless its disk was exchanged.
func (s *state) rested(b *chain.Backup) bool {
	return s.db.ReadOnly && s.db.LogEnd != "" && b != nil && b.ReadOnly && b.LogEnd == s.db.LogEnd
}

// unwatched: stuck, and neither our newest log nor a full was taken since SQL Server was
// started. Another history may end at the same LSN, and shows no other sign (chain.Tie).
func (s *state) unwatched() bool {
	now := s.in.Run(s.db)
	watched := s.stuck() && now != "" && s.lastLog.Usable() && s.lastLog.Run == now
	return s.stuck() && !watched && !(s.rested(s.full) && s.full.Run == now)
}

// revertedHistory: msdb has lost our newest backup and still has older ones. A purge
// of msdb takes the oldest first; a revert takes the newest. In an availability group
// the row may lie in another replica's msdb, so that nothing follows.
func (s *state) revertedHistory() bool {
	if s.db.Replica != "" {
		return false
	}
	var written []string // sets that msdb had, in LSN order
	for _, b := range s.line.Backups {
		if b.By == chain.ByRow {
			written = append(written, b.Set)
		}
	}
	if len(written) < 2 || s.knows(written[len(written)-1]) {
		return false
	}
	return slices.ContainsFunc(written[:len(written)-1], s.knows)
}

// knows tells whether msdb has a row of that set.
func (s *state) knows(set string) bool {
	return slices.ContainsFunc(s.h.Rows, func(r chain.Row) bool { return r.Set == set })
}

// abandoned are the sets that a revert, or a restore that kept the fork, has left behind: those beyond the point where
// SQL Server stands, as far as that can be told. Too many rather than too few: a set
// in the list only loses its connection to what comes later.
func (s *state) abandoned() []string {
	// A database that knows no base although we have a full of this fork was set back to
	// before its first one, which leaves no other sign.
	if !s.reverted() && !s.replaced() && (s.full == nil || s.db.Base != "" || s.db.Replica != "") {
		return nil
	}
	cut := s.db.LastLog
	if !s.revertedLog() && (!s.replaced() || cut.IsZero()) {
		cut = s.lastKnown()
	}
	var sets []string
	gone := s.vanished()
	for _, b := range s.line.Backups {
		if cut.Less(b.Last) || gone != nil && (b.Point == gone.Point || s.overhangs(&b)) {
			sets = append(sets, b.Set)
		}
	}
	return sets
}

// lastKnown is how far our backups reach that SQL Server still knows of, by msdb, by
// its differential base or by where its next log begins.
func (s *state) lastKnown() lsn.LSN {
	var last lsn.LSN
	for _, b := range s.line.Backups {
		known := b.Set == s.db.Base || b.Kind == chain.Log && b.Last == s.db.LastLog
		if !s.revertedBase() {
			known = known || s.knows(b.Set)
		}
		if known && last.Less(b.Last) {
			last = b.Last
		}
	}
	return last
}

// continues: SQL Server's next log begins where our newest one ended, or is that one again.
func (s *state) continues() bool {
	return s.lastLog != nil && !s.db.LastLog.IsZero() && s.db.LastLog == s.lastLog.Last || s.stuck()
}

// opens: SQL Server's next log begins inside a data backup of ours, so that a restore
// can go from that to the log (R4).
func (s *state) opens() bool {
	return s.start != nil && !s.db.LastLog.IsZero() && s.db.LastLog.Compare(s.start.Last) <= 0
}

// newestData is our newest full or the newest differential on it.
func (s *state) newestData() *chain.Backup { return cmp.Or(s.lastDif, s.full) }

// ourEnd is how far what we hold reaches: the newest log, or the newest data backup.
func (s *state) ourEnd() lsn.LSN {
	if b := cmp.Or(s.lastLog, s.start); b != nil {
		return b.Last
	}
	return lsn.LSN{}
}

// days are the calendar days of the server since the backup began; known is false if
// its time is, or if the server's clock has gone back since.
func (s *state) days(b *chain.Backup) (days int, known bool) {
	if b == nil || b.Started.IsZero() || s.in.Now.IsZero() {
		return 0, false
	}
	const day = 24 * time.Hour
	date := func(t time.Time) time.Time {
		y, m, d := t.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	days = int(date(s.in.Now).Sub(date(b.Started)) / day)
	return days, days >= 0
}

// due tells whether a backup is so many calendar days old, or of unknown age.
func (s *state) due(b *chain.Backup, after int) bool {
	if after < 0 {
		return false
	}
	days, known := s.days(b)
	return !known || days >= after
}
