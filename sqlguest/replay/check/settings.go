package check

import (
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// Broker is on in every database that nobody has changed, and two with one Broker
// identity cannot both deliver: a copy is left without it, and without a word.
const Broker = "the Service Broker"

// Setting is one thing that a restore does not bring back.
type Setting struct {
	Name   string
	Differ bool   // it is not as it was
	Text   string // brings it back
	Here   bool   // only where the database was: elsewhere somebody must want it
}

// Settings compares settings. READ_ONLY is the last, for nothing can be set behind it.
func Settings(database string, was, now *chain.Settings) []Setting {
	alter := "ALTER DATABASE " + facts.Quote(database) + " SET "
	list := []Setting{{"the owner", was.Owner != "" && was.Owner != now.Owner, "ALTER AUTHORIZATION ON DATABASE::" + facts.Quote(database) + " TO " + facts.Quote(was.Owner), false}}
	list = append(list,
		Setting{"TRUSTWORTHY", was.Trustworthy && !now.Trustworthy, alter + "TRUSTWORTHY ON", true},
		Setting{"DB_CHAINING", was.Chaining && !now.Chaining, alter + "DB_CHAINING ON", true},
	)
	list = append(list,
		Setting{Broker, was.Broker && !now.Broker, alter + "ENABLE_BROKER WITH ROLLBACK IMMEDIATE", true},
		Setting{"RESTRICTED_USER", was.Access == "RESTRICTED_USER" && now.Access != was.Access, alter + "RESTRICTED_USER WITH ROLLBACK IMMEDIATE", false},
		Setting{"READ_ONLY", was.ReadOnly && !now.ReadOnly, alter + "READ_ONLY WITH ROLLBACK IMMEDIATE", false},
	)
	return list
}
