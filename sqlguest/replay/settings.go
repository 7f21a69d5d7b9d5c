package replay

import (
	"context"
	"fmt"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/server"
)

// reapply gives the database the settings that it had, and says what it could not. A
// database that has come to another place, or has another name, gets what is harmless
// there; what lets code in it reach further is left to people.
func (e *execution) reapply(ctx context.Context) {
	was := e.recorded()
	if was == nil || e.plan.End != plan.Recovery {
		return
	}
	now, err := facts.AskSettings(ctx, e.run.Server, e.plan.Database)
	if err != nil || now == nil {
		e.warnf("the settings of %s could not be compared with those of the backup: %v", e.plan.Database, err)
		return
	}
	home := !e.elsewhere() && e.run.Options.As == ""
	for _, s := range check.Settings(e.plan.Database, was, now) {
		switch {
		case !s.Differ, s.Name == check.Broker && !home:
		case s.Here && !home:
			e.warnf("%s is not set for %s, as it was where it came from: %s", s.Name, e.plan.Database, s.Text)
		default:
			if _, err := e.run.Server.Restore(ctx, server.Statement{Text: s.Text}, nil); err != nil {
				e.warnf("%s of %s could not be set again (%s): %v", s.Name, e.plan.Database, s.Text, err)
			}
		}
	}
	if was.Owner == "" {
		e.warnf("the owner of %s was no login that could be named: the restoring login owns it now", e.plan.Database)
	}
	if was.CDC && !now.CDC {
		e.warnf("change data capture was on in %s, and a restore leaves it out here: sys.sp_cdc_enable_db", e.plan.Database)
	}
	if was.Published {
		e.warnf("database %s was published: set its replication up again", e.plan.Database)
	}
}

// recorded are the settings of the newest backup that was restored and tells them.
func (e *execution) recorded() *chain.Settings {
	if e.tailed != nil && e.tailed.Settings != nil && e.lastLog() == e.tailed.Point {
		return e.tailed.Settings
	}
	for _, s := range slices.Backward(e.plan.Steps) { // one that was taken in from a file tells none
		if b := find(e.backups, s.Point); b != nil && b.Settings != nil {
			return b.Settings
		}
	}
	if e.last == nil {
		return nil
	}
	return e.last.Settings
}

func (e *execution) warnf(format string, args ...any) {
	e.result.Warnings = append(e.result.Warnings, fmt.Sprintf(format, args...))
}
