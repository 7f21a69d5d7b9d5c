package replay

import (
	"context"
	"fmt"
	"strings"

	"holdfast/sqlguest/replay/check"
)

// Refused is a restore that was not begun.
type Refused struct {
	Database string
	Findings []check.Finding
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

// refuse keeps what was found before there was a plan.
func (x *work) refuse(rule, text, remedy string) {
	x.noted = append(x.noted, check.Finding{Rule: rule, Text: text, Remedy: remedy, Forbids: true})
}

// check asks for what the plan touches, and holds both against each other.
func (x *work) check(ctx context.Context) error {
	if x.last != nil && x.last.Protector != "" {
		if err := x.askKeys(ctx); err != nil {
			return err
		}
	}
	paths := []string{x.wish.UndoFile}
	for _, f := range x.plan.Files {
		paths = append(paths, f.To)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		if _, _, err := x.ask(ctx, path); err != nil {
			return err
		}
	}
	wish := x.run.Options
	wish.UndoFile = x.wish.UndoFile
	found, rooms := check.All(check.Facts{
		At: x.at, Databases: x.databases, Old: x.old, Sessions: x.sessions, Volumes: x.volumes, Paths: x.places, Keys: x.keys,
		Plan: &x.plan, Last: x.last, Full: x.full, Wish: wish, Continue: x.run.Continue, NoTail: x.run.NoTail,
		Tail: x.tail, HasTail: x.old != nil && x.hasTail(), Elsewhere: x.elsewhere(),
	})
	x.findings, x.rooms = append(append([]check.Finding{}, x.noted...), found...), rooms
	return nil
}
