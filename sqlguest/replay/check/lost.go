package check

import "errors"

// Lost is a restore that has no way, for a point on it cannot be read.
type Lost struct {
	Err error // says both
}

// Error is that of Err.
func (l *Lost) Error() string { return l.Err.Error() }

// Unwrap gives Err.
func (l *Lost) Unwrap() error { return l.Err }

// Hint says what finds out what else is lost, and makes the index tell it: until then
// chain and backups count on what is not there. What Err itself advises comes after that.
func (l *Lost) Hint() string {
	const mend = "holdfast check names all that is lost, and holdfast repair index lets chain and backups know of it"
	if knows := (interface{ Hint() string })(nil); errors.As(l.Err, &knows) {
		return mend + "; then " + knows.Hint()
	}
	return mend
}
