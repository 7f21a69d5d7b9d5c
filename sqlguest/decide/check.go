package decide

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// Settle gives SQL Server's word on a backup of ours: from msdb's row, found by the
// device's name (nil: none), or failing that from the stream's own header (nil: SQL
// Server has read it and there is none) together with where the database stands now. It is denied only if it is
// not what was planned, or if SQL Server is seen to stand where it stood before it; where
// others have gone on since then it stays unconfirmed. Nothing is built on either.
func Settle(b chain.Backup, row *chain.Row, header *chain.Header, db *facts.Database) chain.Confirmation {
	deny := func(by, reason string) chain.Confirmation {
		return chain.Confirmation{State: chain.Denied, By: by, Reason: reason}
	}
	switch {
	case row != nil:
		if why := differs(b, &row.Header); why != "" {
			return deny(chain.ByRow, "msdb's row of the device is of something else: "+why)
		}
		return chain.Confirmation{State: chain.Confirmed, By: chain.ByRow, Header: &row.Header, Reason: "msdb has its row"}
	case header == nil:
		return deny(chain.ByServer, "msdb has no row of it and the stream has no readable header")
	}
	if why := differs(b, header); why != "" {
		return deny(chain.ByHeader, "the stream's header is of something else: "+why)
	}
	state, why := vouches(header, db)
	if state != chain.Confirmed {
		return chain.Confirmation{State: state, By: chain.ByServer, Reason: why}
	}
	c := chain.Confirmation{State: chain.Confirmed, By: chain.ByServer, Header: header,
		Reason: "msdb has no row of it; the stream's header fits where SQL Server stands"}
	switch {
	case header.Traceless():
		c.By, c.Reason = chain.ByHeader, "msdb has no row of it; the stream's header is whole"
	case why != "":
		c.By, c.Reason = chain.ByItself, "msdb has no row of it and its bytes are whole; "+why+". It restores to its end, and nothing later is built on it"
	}
	return c
}

// Stood is the database as it stood behind a log, for Settle: as it stands now, or, if a log
// of ours begins where that one ends, there. A log may be nil, and no log at all.
func Stood(log *chain.Header, ours []chain.Backup, now *facts.Database) *facts.Database {
	follows := func(b chain.Backup) bool { return b.Usable() && chain.Continues(log, &b.Header) }
	if log == nil || !slices.ContainsFunc(ours, follows) {
		return now
	}
	then := *now
	then.LastLog, then.Fork = log.Last, log.Fork
	return &then
}

// vouches tells by the server's state whether the backup was finished, and why if it was
// not, or if that cannot be seen any more. A log before which SQL Server stands was given
// up, or the machine was set back behind it; its bytes are whole either way.
func vouches(h *chain.Header, db *facts.Database) (chain.State, string) {
	switch {
	case h.Traceless(): // it is nobody's base and no link: a header is enough
		return chain.Confirmed, ""
	case db.Fork != h.Fork:
		return chain.Unconfirmed, "SQL Server is on another recovery fork now"
	case h.Kind == chain.Full && db.Base == h.Set, h.Kind == chain.Log && db.LastLog == h.Last:
		return chain.Confirmed, ""
	case h.Kind == chain.Full && db.BaseLSN.Compare(h.Checkpoint) < 0:
		return chain.Denied, "SQL Server has an older differential base"
	case h.Kind == chain.Full:
		return chain.Unconfirmed, "SQL Server has a later differential base"
	case !db.LastLog.IsZero() && db.LastLog.Compare(h.First) <= 0:
		return chain.Confirmed, fmt.Sprintf("SQL Server's next log begins at %s, not at its end %s: the log was not truncated, or the database was set back since", db.LastLog, h.Last)
	}
	return chain.Unconfirmed, fmt.Sprintf("SQL Server's next log begins at %s, behind its begin and not at its end %s: others came since", db.LastLog, h.Last)
}

// Untouched tells whether a database stands where it stood before a backup that was
// planned as d: SQL Server has given it up then. A backup that leaves no trace is never
// seen to have been made.
func Untouched(d Decision, before, now *facts.Database) bool {
	switch {
	case d.CopyOnly || d.Do == DoDiff:
		return true
	case d.Do == DoLog:
		return !now.LastLog.IsZero() && now.Fork == before.Fork && now.LastLog == before.LastLog
	}
	return now.Fork == before.Fork && now.Base == before.Base
}

// differs says why a header is not of the backup that was planned, "" if it is.
func differs(b chain.Backup, h *chain.Header) string {
	switch {
	case h.Kind != b.Kind:
		return fmt.Sprintf("a %s backup, not %s", h.Kind, b.Kind)
	case h.Family != b.Family:
		return "of another database family"
	case !h.Sound():
		return "its LSNs contradict each other"
	case h.CopyOnly != b.CopyOnly && h.Kind != chain.Diff:
		return "copy-only where ours was not, or the other way round"
	}
	return ""
}

// Check holds a finished backup of ours against what was decided, since others may
// have come between the look and the statement. The word of SQL Server is in row. It
// returns the confirmation to keep and, if something came between, the decision that
// follows at once (nil: all is as planned).
func Check(d Decision, b chain.Backup, row *chain.Row) (chain.Confirmation, *Decision) {
	after := func(id Rule, reason string) *Decision {
		next := &Decision{Do: DoFull, Rule: id, Reason: reason, Exit: ExitLeftOut}
		if d.CopyOnly {
			next.Do = Refuse
		}
		return next
	}
	if row == nil {
		return chain.Confirmation{}, nil
	}
	c := Settle(b, row, nil, nil)
	if c.State != chain.Confirmed {
		return c, after(RuleMismatch, c.Reason)
	}
	var reason string
	h := &row.Header
	switch {
	case h.Fork != b.Fork && b.Fork != "": // a log that spans the fork on which we saw the database is right
		reason = "the database changed its recovery fork between the look and the backup"
	case d.Do == DoLog && h.First != d.First:
		reason = fmt.Sprintf("another log backup came between: ours begins at %s instead of %s", h.First, d.First)
	case d.Do == DoDiff && h.Base != d.Base:
		reason = "another full came between: our differential refers to that"
	default:
		return c, nil
	}
	c.Warnings = append(c.Warnings, reason)
	return c, after(RuleRace, reason)
}

// Rules are all rule ids that can decide, each once, for documents and tests.
func Rules() []Rule {
	var ids []Rule
	for _, r := range slices.Concat(gates(), diffRows(), logGates(), breaks(), logRows()) {
		ids = append(ids, r.id)
	}
	ids = append(ids, RuleFull, RuleDiff, RuleAutoFull, RuleAutoDiff, RuleAutoLog, RuleAutoCopy, RuleRecent, RuleRace, RuleMismatch, RuleKept)
	slices.SortFunc(ids, func(a, b Rule) int { return strings.Compare(string(a), string(b)) })
	return slices.Compact(ids)
}
