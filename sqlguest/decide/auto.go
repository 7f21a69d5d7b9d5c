package decide

import "holdfast/sqlguest/chain"

// auto chooses the kind. In this order: what is broken or missing calls for a full;
// a full is due every FullDays calendar days of the server; a differential every
// DiffDays, and at each run where there is no log to back up; else the log. Whatever
// data backup it is, the log follows it in the same run, because only a log backup
// lets SQL Server reuse its log.
func (s *state) auto() Decision {
	switch {
	case s.r.CopyOnly:
		return s.decision(&row{id: RuleAutoCopy, do: DoFull, says: "a copy-only backup is a full unless a log is asked for"})
	case s.master():
		return s.autoMaster()
	}
	if !s.simple() {
		if r := first(breaks(), s); r != nil && r.do != Skip {
			d := s.decision(r)
			d.Do, d.Then = s.bridge(r), nil
			if r.id == RuleReplaced || r.id == RuleFork {
				d.Exit = ExitDone // somebody restored, and all that is there since is in the full
			}
			return s.withLog(d)
		}
	}
	base := s.policyFull()
	if base == nil || !base.Usable() || s.due(base, s.r.FullDays) {
		return s.withLog(s.autoFull(base))
	}
	if s.simple() || !s.secondary() && !s.stuck() && s.due(s.newestData(), s.r.DiffDays) {
		d := s.diffOrFull(&row{id: RuleAutoDiff, do: DoDiff, says: "a differential on our {full}{age}"})
		if d.Do != Skip || s.simple() {
			return s.withLog(d)
		}
	}
	d := s.log()
	if d.Rule == RuleLog {
		d.Rule = RuleAutoLog
	}
	return d
}

// policyFull is the full whose age counts. A secondary's fulls are copy-only.
func (s *state) policyFull() *chain.Backup {
	if s.secondary() {
		return s.start
	}
	return s.full
}

// autoFull is a full because there is none to build on, or by age.
func (s *state) autoFull(base *chain.Backup) Decision {
	if base == nil || !base.Usable() {
		return s.decision(first(diffRows(), s)) // says what is wrong with it; there always is a row
	}
	says := "our last {base} is {days} old, a full is due every {fulldays}"
	if _, known := s.days(base); !known {
		says = "the age of our last full is not known by the server's clock"
	}
	return s.decision(&row{id: RuleAutoFull, do: DoFull, says: says})
}

// autoMaster is a full of master once a day: it is small and knows nothing else.
func (s *state) autoMaster() Decision {
	if s.full == nil || !s.full.Usable() || s.due(s.full, 1) {
		return s.decision(&row{id: RuleMaster, do: DoFull, says: "master can only be backed up in full (SQL Server error 3024)"})
	}
	return s.decision(&row{id: RuleRecent, do: Skip, says: "master has a full of today: {full}"})
}

// withLog lets a log follow a data backup, or says why it cannot. What is left out
// then counts, unless it is by a rule that counts for nothing.
func (s *state) withLog(d Decision) Decision {
	if d.Do != DoFull && d.Do != DoDiff {
		return d
	}
	gate := first(logGates(), s)
	if gate == nil {
		d.Then = []Want{Log}
		return d
	}
	if gate.exit != ExitDone {
		d.Exit = ExitLeftOut
		d.Warnings = append(d.Warnings, Warning{gate.id, s.say(gate.says)})
	}
	return d
}
