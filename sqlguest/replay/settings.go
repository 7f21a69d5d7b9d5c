package replay

import (
	"context"
	"fmt"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// broker is on in every database that nobody has changed, and two with one broker
// identity cannot both deliver: a copy is left without it, and without a word.
const broker = "the Service Broker"

// setting is one thing that a restore does not bring back.
type setting struct {
	name   string
	differ bool   // it is not as it was
	text   string // brings it back
	here   bool   // only where the database was: elsewhere somebody must want it
}

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
	for _, s := range settings(e.plan.Database, was, now) {
		switch {
		case !s.differ, s.name == broker && !home:
		case s.here && !home:
			e.warnf("%s is not set for %s, as it was where it came from: %s", s.name, e.plan.Database, s.text)
		default:
			if _, err := e.run.Server.Restore(ctx, server.Statement{Text: s.text}, nil); err != nil {
				e.warnf("%s of %s could not be set again (%s): %v", s.name, e.plan.Database, s.text, err)
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

// settings compares settings. READ_ONLY is the last, for nothing can be set behind it.
func settings(database string, was, now *chain.Settings) []setting {
	alter := "ALTER DATABASE " + quote(database) + " SET "
	list := []setting{{"the owner", was.Owner != "" && was.Owner != now.Owner, "ALTER AUTHORIZATION ON DATABASE::" + quote(database) + " TO " + quote(was.Owner), false}}
	list = append(list,
		setting{"TRUSTWORTHY", was.Trustworthy && !now.Trustworthy, alter + "TRUSTWORTHY ON", true},
		setting{"DB_CHAINING", was.Chaining && !now.Chaining, alter + "DB_CHAINING ON", true},
	)
	list = append(list,
		setting{broker, was.Broker && !now.Broker, alter + "ENABLE_BROKER WITH ROLLBACK IMMEDIATE", true},
		setting{"RESTRICTED_USER", was.Access == "RESTRICTED_USER" && now.Access != was.Access, alter + "RESTRICTED_USER WITH ROLLBACK IMMEDIATE", false},
		setting{"READ_ONLY", was.ReadOnly && !now.ReadOnly, alter + "READ_ONLY WITH ROLLBACK IMMEDIATE", false},
	)
	return list
}

// recorded are the settings of the newest backup that was restored and tells them.
func (e *execution) recorded() *chain.Settings {
	if e.tailed != nil && e.tailed.Settings != nil && e.lastLog() == e.tailed.Point {
		return e.tailed.Settings
	}
	if e.last == nil {
		return nil
	}
	return e.last.Settings
}

func (e *execution) warnf(format string, args ...any) {
	e.result.Warnings = append(e.result.Warnings, fmt.Sprintf(format, args...))
}
