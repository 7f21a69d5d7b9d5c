package decide

import "holdfast/sqlguest/chain"

// Rule is the id of the rule that decided: it stands in the point, in the summary
// and in the log. Ids that begin with Q, M and X are the mission's; S- are ours.
type Rule string

// Whether a server or a database is backed up at all.
const (
	RuleSysAdmin  Rule = "Q5"         // the login is no sysadmin
	RuleEdition   Rule = "S-edition"  // a managed service, which cannot hand out streams
	RuleVersion   Rule = "S-version"  // older than SQL Server 2012
	RuleCluster   Rule = "Q11"        // failover cluster instance, in a guest
	RuleGroup     Rule = "X5"         // database of an availability group, in a guest
	RuleTempdb    Rule = "M4"         // tempdb
	RuleSnapshot  Rule = "S-snapshot" // a database snapshot
	RuleExcluded  Rule = "Q12"        // not among the chosen databases
	RuleMirrored  Rule = "Q10"        // mirrored
	RuleRestore   Rule = "X4"         // a restore (or, as a warning, a backup) of it is running
	RuleStandby   Rule = "S-standby"
	RuleRestoring Rule = "S-restoring"
	RuleOffline   Rule = "S-offline"
	RuleState     Rule = "S-state"     // recovering, recovery pending, suspect, emergency …
	RuleClosed    Rule = "S-closed"    // does not say who it is
	RuleFile      Rule = "S-file"      // a data file is offline
	RuleCopyDiff  Rule = "S-copy-diff" // a copy-only differential does not exist
	RuleCopyLog   Rule = "S-copy-log"  // a secondary gives no copy-only log
	RuleResolve   Rule = "SQL-3"       // unconfirmed points of ours
)

// Which kind.
const (
	RuleFull     Rule = "S-full"      // asked for, nothing against it
	RuleDiff     Rule = "S-diff"      // asked for, nothing against it
	RuleLog      Rule = "S-log"       // asked for, and it continues ours
	RuleAutoFull Rule = "S-auto-full" // by age
	RuleAutoDiff Rule = "S-auto-diff" // by age, or since there is no log to back up
	RuleAutoLog  Rule = "S-auto-log"  //
	RuleAutoCopy Rule = "S-auto-copy" // automatic and copy-only
	RuleMaster   Rule = "S-master"    // master: fulls only
	RuleRecent   Rule = "S-recent"    // master: full already today
	RuleSame     Rule = "M24"         // unchanged since the last full
	RuleSimple   Rule = "Q6"          // SIMPLE: no log to back up
	RuleToSimple Rule = "Q19"         // SIMPLE since our last log
	RuleSingle   Rule = "X1"          // single-user
	RuleSpace    Rule = "Q16"         // too little space beside the database
	RuleStaging  Rule = "X7"          // too little space for staging
	RuleReadOnly Rule = "S-read-only" // read-only and unchanged: the log says nothing new
)

// Why a differential becomes a full, M11's twelve.
const (
	RuleNoFull     Rule = "M11.1"
	RuleFileSet    Rule = "M11.2"
	RuleFileMoved  Rule = "M11.3"
	RuleRenamed    Rule = "M11.4"
	RuleDamaged    Rule = "M11.5"
	RuleMasterPath Rule = "M11.6"
	RuleNoChanges  Rule = "M11.7"
	RuleFullFailed Rule = "M11.8"
	RuleOtherFull  Rule = "M11.9"
	RuleShrunk     Rule = "M11.10"
	RuleSecondary  Rule = "M11.11"
	RuleSet        Rule = "M11.12"
	RuleBaseLSN    Rule = "X8" // the base's GUID is ours, its LSN is not
)

// How a chain breaks, or only seems to.
const (
	RuleForeignLog  Rule = "Q20"            // another's log backup after ours
	RuleReplaced    Rule = "Q21"            // restored over
	RuleFork        Rule = "S-fork"         // another recovery fork, without a restore that msdb knows
	RuleNewDatabase Rule = "S-new-database" // another database has this name now
	RuleReverted    Rule = "S-revert"       // the machine beneath went back in time
	RuleFirst       Rule = "M12"            // no full yet, so no log
	RuleNoChain     Rule = "S-no-chain"     // SQL Server has no log chain (4214), and we had none
	RuleChainReset  Rule = "S-chain-reset"  // it has none any more: through SIMPLE and back
	RuleLost        Rule = "S-lost"         // a log backup of Holdfast's that this repository does not have
	RuleUnreachable Rule = "S-unreachable"  // nothing we hold leads to our newest log
	RuleOverlap     Rule = "S-overlap"      // after a log of ours that was given up: the same log once more
	RuleBridged     Rule = "S-bridged"      // behind a gap, on a newer data backup
	RuleRace        Rule = "S-race"         // something happened between the look and the backup
	RuleMismatch    Rule = "S-mismatch"     // msdb's row is not of what we did
	RuleKept        Rule = chain.RuleKept   // a staging file of an earlier run is taken in
)

// Warnings that decide nothing.
const (
	RuleDrive     Rule = "Q9"
	RuleTDE       Rule = "Q17"
	RuleBulk      Rule = "R9"
	RuleMarks     Rule = "M13"
	RulePreferred Rule = "S-preferred"
)

// row is one line of the table. Its sentence has {words}, see state.words.
type row struct {
	id   Rule
	when func(*state) bool
	do   Action
	then []Want
	exit int
	says string
}

// first is the first row that applies, or nil.
func first(table []row, s *state) *row {
	for i := range table {
		if table[i].when(s) {
			return &table[i]
		}
	}
	return nil
}

func (s *state) decision(r *row) Decision {
	return Decision{Do: r.do, Then: r.then, Rule: r.id, Reason: s.say(r.says), Exit: r.exit}
}
