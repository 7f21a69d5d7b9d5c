// Package left says what a restore that came to no end has left behind: where the
// database stands now, and what leads on from there or back. A restore that failed before
// it had touched anything leaves nothing, and needs none of this.
package left

import (
	"errors"
	"fmt"

	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// ErrLeft: the database is neither what it was nor what it was to be. The error is a
// *Left.
var ErrLeft = errors.New("the restore is not finished")

// Left is a database that a restore did not finish.
type Left struct {
	Database string
	State    string  // as SQL Server calls it; "" if it could not be asked
	Redo     lsn.LSN // where it stands; NULL: it cannot be gone on with
	// Refused: the restore was to go on with the database (--continue), and it stands
	// where it stood: the same command once more would fail alike.
	Refused bool
	Advice  string // what helps, where the cause knows better; "" else
	Err     error
}

// Error says where the database is and what happened.
func (l *Left) Error() string {
	where := "in a state that nobody could ask for"
	switch {
	case l.State != "" && !l.Redo.IsZero():
		where = fmt.Sprintf("%s at LSN %s", l.State, l.Redo)
	case l.State != "":
		where = l.State
	}
	return fmt.Sprintf("restore %s: %v: the database is left %s: %v", l.Database, ErrLeft, where, l.Err)
}

// Unwrap gives ErrLeft and the cause.
func (l *Left) Unwrap() []error { return []error{ErrLeft, l.Err} }

// Hint says what leads on, and what back.
func (l *Left) Hint() string {
	name := facts.Quote(l.Database)
	drop := "DROP DATABASE " + name + " removes "
	open := "RESTORE DATABASE " + name + " WITH RECOVERY opens it as it is, " + drop + "it"
	switch {
	case l.Advice != "":
		return l.Advice
	case l.Redo.IsZero():
		return "the same command with --replace, and without --continue, begins it anew; " + drop + "what is there"
	case l.Refused:
		return "--continue with a moment that lies further on goes on from there, --replace instead of --continue begins it anew; " + open
	}
	return "the same command with --continue instead of --replace goes on from there; " + open
}
