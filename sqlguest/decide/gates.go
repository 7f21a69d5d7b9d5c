package decide

import (
	"slices"
	"strings"

	"holdfast/sqlguest/facts"
)

// gates say whether the server and the database can be backed up at all, whatever
// the kind. The server comes first, then what is never backed up, then what cannot be
// now, and last the points that SQL Server has not spoken on yet.
func gates() []row {
	return slices.Concat(serverGates(), neverGates(), stateGates(), requestGates())
}

func serverGates() []row {
	return []row{
		{id: RuleEdition, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { return s.in.Engine != 0 && (s.in.Engine < 2 || s.in.Engine > 4) },
			says: "{instance} is a managed service (engine edition {engine}), which backs up by its own means only"},
		{id: RuleVersion, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { return s.in.Major() != 0 && s.in.Major() < 11 },
			says: "{instance} has version {version}; the oldest that is supported is SQL Server 2012 (11)"},
		{id: RuleSysAdmin, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { return !s.in.SysAdmin },
			says: "the login is no member of sysadmin on {instance}, which backups through virtual devices need"},
		{id: RuleCluster, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { return s.in.Clustered && s.r.Guest && !s.r.AllowAG },
			says: "{instance} is a failover cluster instance; inside a guest it is backed up only on request (--allow-ag)"},
	}
}

func neverGates() []row {
	return []row{
		{id: RuleTempdb, do: Skip,
			when: func(s *state) bool { return s.db.ID == 2 },
			says: "tempdb is made anew at each start and never backed up"},
		{id: RuleSnapshot, do: Skip,
			when: func(s *state) bool { return s.db.SnapshotOf != 0 },
			says: "{database} is a snapshot of another database, which cannot be backed up (SQL Server error 3002)"},
		{id: RuleExcluded, do: Skip,
			when: func(s *state) bool { return s.r.Excluded },
			says: "{database} is not among the chosen databases (--exclude-db)"},
		{id: RuleMirrored, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.db.Mirroring != "" },
			says: "{database} is mirrored"},
		{id: RuleGroup, do: Refuse, exit: ExitRefused,
			when: func(s *state) bool { return s.db.Replica != "" && s.r.Guest && !s.r.AllowAG },
			says: "{database} belongs to an availability group; inside a guest it is backed up only on request (--allow-ag)"},
	}
}

func stateGates() []row {
	in := func(name string) func(*state) bool {
		return func(s *state) bool { return s.db.State == name }
	}
	return []row{
		{id: RuleRestore, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.running("RESTORE") != nil },
			says: "a restore of {database} is running (session {session})"},
		{id: RuleStandby, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.db.Standby },
			says: "{database} is in warm standby, waiting for more log (SQL Server error 3036)"},
		{id: RuleRestoring, do: Skip, exit: ExitLeftOut, when: in("RESTORING"),
			says: "{database} is in the middle of a restore (SQL Server error 927)"},
		{id: RuleOffline, do: Skip, exit: ExitLeftOut, when: in("OFFLINE"),
			says: "{database} is offline (SQL Server error 942)"},
		{id: RuleState, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.db.State != "ONLINE" },
			says: "{database} is in state {state}{error}"},
		{id: RuleClosed, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.db.Family == "" || s.db.Fork == "" },
			says: "{database} is online and does not tell its family GUID: it did not start"},
		{id: RuleFile, do: Skip, exit: ExitLeftOut,
			when: func(s *state) bool { return s.r.Want != Log && s.offlineFile() != "" },
			says: "file {offline} of {database} is not online, so its data cannot be backed up"},
	}
}

func requestGates() []row {
	return []row{
		{id: RuleCopyDiff, do: Refuse, exit: ExitFailed,
			when: func(s *state) bool { return s.r.CopyOnly && s.r.Want == Diff },
			says: "a differential cannot be copy-only: SQL Server ignores the option"},
		{id: RuleCopyLog, do: Refuse, exit: ExitFailed,
			when: func(s *state) bool { return s.r.CopyOnly && s.r.Want == Log && s.secondary() },
			says: "{database} is a secondary of its availability group, which gives no copy-only log (SQL Server error 3059)"},
		{id: RuleResolve, do: Resolve,
			when: func(s *state) bool { return !s.r.Resolved && len(s.unconfirmed()) > 0 },
			says: "SQL Server's word on {unconfirmed} of our backups is not known yet"},
	}
}

// offlineFile is the name of a data file that cannot be read, "" if there is none.
func (s *state) offlineFile() string {
	for _, f := range s.db.Files {
		if f.Type != 1 && f.Drop.IsZero() && f.State != "ONLINE" && f.State != "DEFUNCT" && f.State != "" {
			return f.Name
		}
	}
	return ""
}

// running is the session that runs such a command on the database, or nil.
func (s *state) running(command string) *facts.Running {
	for i, r := range s.h.Running {
		if strings.HasPrefix(r.Command, command) && r.Database == s.db.Name {
			return &s.h.Running[i]
		}
	}
	return nil
}

// unconfirmed are the points that SQL Server has not spoken on.
func (s *state) unconfirmed() []string {
	var points []string
	for _, b := range s.ours {
		if b.State == "" {
			points = append(points, b.Point)
		}
	}
	return points
}
