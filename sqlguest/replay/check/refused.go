package check

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRefused: a check speaks against the restore, and nothing was changed. The error is
// a *Refused.
var ErrRefused = errors.New("restore refused")

// Refused is a restore that was not begun.
type Refused struct {
	Database string
	Findings []Finding
}

// Error names every finding that forbids the restore.
func (r *Refused) Error() string {
	var list []string
	for _, f := range r.Findings {
		if f.Forbids {
			list = append(list, fmt.Sprintf("%s (rule %s)", f.Text, f.Rule))
		}
	}
	return fmt.Sprintf("restore %s: %v: %s", r.Database, ErrRefused, strings.Join(list, "; "))
}

// Unwrap gives ErrRefused.
func (r *Refused) Unwrap() error { return ErrRefused }

// Hint gives the remedies.
func (r *Refused) Hint() string {
	var list []string
	seen := map[string]bool{}
	for _, f := range r.Findings {
		if f.Forbids && f.Remedy != "" && !seen[f.Remedy] {
			seen[f.Remedy] = true
			list = append(list, f.Remedy)
		}
	}
	return strings.Join(list, "; ")
}
