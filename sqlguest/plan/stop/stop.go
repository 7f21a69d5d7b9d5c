// Package stop is the clause that ends a restore within a log, as RESTORE LOG takes it.
package stop

import (
	"time"

	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// Stop is the clause of every RESTORE LOG of a plan; the zero Stop is none.
type Stop struct {
	At     time.Time `json:"at,omitzero"`     // server-local, kept as if it were UTC
	Mark   string    `json:"mark,omitempty"`  // a name, or lsn: and an LSN
	Before bool      `json:"before,omitzero"` // STOPBEFOREMARK
	After  time.Time `json:"after,omitzero"`  // of a mark's name, like At
	// Until is the furthest LSN at which a database may stand that has met the mark of that
	// name which is meant; zero if any will do. Msdb may know one that the log does not hold,
	// whose disk was set back, and then the clause stops at the next of its name.
	Until lsn.LSN `json:"until,omitzero"`
}

// IsZero tells whether there is no clause.
func (s Stop) IsZero() bool { return s.At.IsZero() && s.Mark == "" }

const clockLayout = "2006-01-02T15:04:05.000"

// String is the clause as T-SQL.
func (s Stop) String() string {
	if s.IsZero() {
		return ""
	}
	if s.Mark == "" {
		return "STOPAT = " + facts.Literal(s.At.Format(clockLayout))
	}
	clause := "STOPATMARK = "
	if s.Before {
		clause = "STOPBEFOREMARK = "
	}
	clause += facts.Literal(s.Mark)
	if !s.After.IsZero() {
		clause += " AFTER " + facts.Literal(s.After.Format(clockLayout))
	}
	return clause
}
