// Package verdict turns what a command returned into its exit code and a hint. A
// Table, whose rows the program lists in one place, knows the sentinels; of several
// errors that are joined the gravest decides. An error may bring a hint of its own
// (Hinter, Advise), and Incomplete is the error of a run that is done, but not whole.
package verdict

import (
	"errors"
	"slices"
	"strings"
)

// Code is what a program ends with.
type Code int

// The codes, as they are promised to scripts.
const (
	Done         Code = 0
	Failed       Code = 1 // also every error that no row knows
	Crashed      Code = 2
	Short        Code = 3 // done, but not whole: behind every failure
	NoRepository Code = 10
	Busy         Code = 11
	WrongKey     Code = 12
	Damaged      Code = 13
	Unreachable  Code = 14
	BrokenChain  Code = 15
	Refused      Code = 16
	DrillFailed  Code = 17
	Interrupted  Code = 130
)

// Meanings explains the codes in EXIT STATUS sections and manual pages.
var Meanings = map[Code]string{
	Done:         "done, and nothing that was wanted is missing",
	Failed:       "failed; also usage errors and an unknown or ambiguous POINT",
	Crashed:      "the program crashed",
	Short:        "done, but something protected was left out or downgraded",
	NoRepository: "there is no repository here",
	Busy:         "something alive holds the same VM or database",
	WrongKey:     "wrong password or key",
	Damaged:      "damage beyond repair",
	Unreachable:  "source or target unreachable, or login refused",
	BrokenChain:  "the chain is broken or the moment asked for is not reachable",
	Refused:      "a pre-check refused; nothing was changed",
	DrillFailed:  "the drill failed",
	Interrupted:  "interrupted",
}

// Row says what an error means to the operator.
type Row struct {
	Is   error
	Code Code
	Hint string // what to do about it; an error's own Hint goes before it
}

// Table is where errors become exit codes. Of several rows that match, the first
// wins, so the graver and the more specific stand higher.
type Table []Row

// Hinter is an error that knows better than the table what to do about it.
type Hinter interface{ Hint() string }

// Teller is an error that has more for scripts than its words: Fields are added to the
// last line of --json. They repeat what Error says, and hold no secret.
type Teller interface{ Fields() map[string]any }

// Fields are those of an error; nil for most.
func Fields(err error) map[string]any {
	var t Teller
	if errors.As(err, &t) {
		return t.Fields()
	}
	return nil
}

// Advise gives err a hint that fits the moment better than the table's.
func Advise(err error, hint string) error { return &advised{err, hint} }

type advised struct {
	error
	hint string
}

func (e *advised) Hint() string  { return e.hint }
func (e *advised) Unwrap() error { return e.error }

// incompleteRun ends a run that is done, but not whole: exit 3. It carries
// sentences, not errors: an error among the reasons would make it a failure.
type incompleteRun struct{ reasons []string }

func (e *incompleteRun) Error() string {
	return "done, but not complete: " + strings.Join(e.reasons, "; ")
}

// Incomplete makes the error of a run that is done, but not whole: exit 3. nil
// when there is no reason.
func Incomplete(reasons ...string) error {
	if len(reasons) == 0 {
		return nil
	}
	return &incompleteRun{reasons}
}

// toldRun ends a run whose failures were shown when they came.
type toldRun struct {
	text string
	errs []error
}

func (e *toldRun) Error() string   { return e.text }
func (e *toldRun) Unwrap() []error { return e.errs }

// Told makes the error of a run whose failures were shown one by one: they decide
// the code and the hint, text alone is shown again. nil when there are none.
func Told(text string, errs ...error) error {
	if len(errs) == 0 {
		return nil
	}
	return &toldRun{text, errs}
}

// Classify gives the exit code and the hint for what a command returned. Of
// joined errors the gravest decides: interrupted, then errors in the order of
// the table, then plain failures, then 3.
func (t Table) Classify(err error) (Code, string) {
	if err == nil {
		return Done, ""
	}
	_, code, hint := t.judge(err)
	var own Hinter
	if errors.As(err, &own) && own.Hint() != "" {
		hint = own.Hint()
	}
	return code, hint
}

// judge returns the rank of err (lower is graver) with its code and hint.
func (t Table) judge(err error) (rank int, code Code, hint string) {
	const plain = 1 << 20 // behind every row of the table but those of code 3
	rank, code = plain, Failed
	if row := slices.IndexFunc(t, func(r Row) bool { return err == r.Is }); row >= 0 {
		return t.rankOf(row, plain), t[row].Code, t[row].Hint
	}
	switch e := err.(type) {
	case *incompleteRun:
		return plain + 1, Short, ""
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			rank, code, hint = t.judge(inner)
		}
	case interface{ Unwrap() []error }:
		rank = plain + 2
		for _, inner := range e.Unwrap() {
			if r, c, h := t.judge(inner); r < rank {
				rank, code, hint = r, c, h
			}
		}
	}
	if is, ok := err.(interface{ Is(error) bool }); ok {
		for i, row := range t {
			if r := t.rankOf(i, plain); r < rank && is.Is(row.Is) {
				return r, row.Code, row.Hint
			}
		}
	}
	return rank, code, hint
}

// rankOf is the rank of a row of the table: its place, or behind the plain
// failures for what only makes a run incomplete.
func (t Table) rankOf(row, plain int) int {
	if t[row].Code == Short {
		return plain + 1
	}
	return row
}
