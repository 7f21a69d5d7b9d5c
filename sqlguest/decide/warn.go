package decide

import (
	"fmt"
	"strings"
)

// warnings are what the operator should know beside the decision.
func (s *state) warnings(d Decision) []Warning {
	if d.Do != DoFull && d.Do != DoDiff && d.Do != DoLog {
		return nil
	}
	var list []Warning
	warn := func(on bool, id Rule, text string, args ...any) {
		if on {
			list = append(list, Warning{id, fmt.Sprintf(text, args...)})
		}
	}
	name := s.db.Name
	n := len(s.unconfirmed())
	warn(n > 0, RuleResolve, "SQL Server's word on %s of %s could not be had: nothing is built on them", count(n, "earlier backup"), name)
	if e := s.db.Encryption; e != nil {
		is := "is encrypted"
		if e.State == 1 {
			is = "was encrypted and still has its key"
		}
		warn(true, RuleTDE, "%s %s: it restores only where %s %s with thumbprint %s is present", name, is, strings.ToLower(e.Protector), e.Name, e.Thumbprint)
	}
	if r := s.running("BACKUP"); r != nil {
		warn(true, RuleRestore, "another backup of %s is running (session %d): SQL Server may let ours wait for it", name, r.Session)
	}
	warn(s.onSystemDrive(), RuleDrive, "%s lies on the system drive %s", name, s.r.SystemDrive)
	if g := s.db.Group; g != nil {
		warn(!g.Preferred, RulePreferred, "the availability group of %s wants its backups taken on another replica", name)
		warn(d.Do == DoLog && s.secondary(), RuleMarks, "logs of a secondary come without the marks of transactions")
	}
	if d.Do == DoLog {
		warn(s.db.Model == "BULK_LOGGED", RuleBulk, "%s is in the BULK_LOGGED recovery model: a log with bulk operations restores to its end only", name)
		return list
	}
	warn(s.single(), RuleSingle, "%s is in single-user mode: the backup fails if somebody holds it (SQL Server error 924)", name)
	if v := s.narrow(); v != nil {
		warn(len(d.Warnings) == 0, RuleSpace, "volume %s has %s free", v.Name, size(v.Available))
	}
	if s.r.Want == Full && !s.simple() && confirmed(s.ours) {
		if r := first(breaks(), s); r != nil && r.exit != ExitDone {
			warn(true, r.id, "%s", s.say(r.says))
		}
	}
	return list
}

// onSystemDrive tells whether a user database has a file on the system's own drive.
func (s *state) onSystemDrive() bool {
	if s.r.SystemDrive == "" || s.db.System() {
		return false
	}
	drive := strings.ToUpper(strings.TrimSuffix(s.r.SystemDrive, `\`)) + `\`
	for _, f := range s.db.Files {
		if strings.HasPrefix(strings.ToUpper(f.Path), drive) {
			return true
		}
	}
	return false
}
