package replay

import (
	"context"

	"holdfast/sqlguest/replay/ask"
	"holdfast/sqlguest/replay/check"
)

// Refused is a restore that was not begun.
type Refused = check.Refused

// refuse keeps what was found before there was a plan.
func (x *work) refuse(rule, text, remedy string) {
	x.noted = append(x.noted, check.Finding{Rule: rule, Text: text, Remedy: remedy, Forbids: true})
}

// whose asks for the family of the database that exists. One that is not open does not
// say it. Then a file that it shares with the backups does, for a file's GUID is made
// with the file; else msdb, if a restore came to an end there: one that was cut left
// no row, and what it finds is about what was there before.
func (x *work) whose() string {
	if x.old == nil || x.old.Family != "" {
		return x.family()
	}
	for i := range x.run.Backups {
		for _, was := range x.run.Backups[i].Files {
			for _, is := range x.old.Prints() {
				if was.GUID != "" && was.GUID == is.GUID && was.ID == is.ID {
					return x.run.Backups[i].Family
				}
			}
		}
	}
	if spot(x.old).Redo.IsZero() {
		return ""
	}
	return x.before.Family
}

// family is what the database that exists says itself.
func (x *work) family() string {
	if x.old == nil {
		return ""
	}
	return x.old.Family
}

// check asks for what the plan touches, and holds both against each other.
func (x *work) check(ctx context.Context) error {
	if len(check.Protectors(&x.plan, x.run.Backups)) > 0 {
		var err error
		if x.keys, err = ask.Keys(ctx, x.run.Server); err != nil {
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
		Plan: &x.plan, Backups: x.run.Backups, Last: x.last, Full: x.full, Wish: wish, Continue: x.run.Continue, NoTail: x.run.NoTail,
		Tail: x.tail, HasTail: x.old != nil && x.hasTail(), Orphan: x.orphan, Between: x.between, Elsewhere: x.elsewhere(), Family: x.whose(), Overwrites: x.wish.Replace,
	})
	x.findings, x.rooms = append(append([]check.Finding{}, x.noted...), found...), rooms
	return nil
}
