package replay

import (
	"context"
	"strings"
	"time"

	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/server"
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
func (x *work) whose(ctx context.Context) (string, error) {
	if x.old == nil || x.old.Family != "" {
		return x.family(), nil
	}
	for i := range x.run.Backups {
		for _, was := range x.run.Backups[i].Files {
			for _, is := range x.old.Prints() {
				if was.GUID != "" && was.GUID == is.GUID && was.ID == is.ID {
					return x.run.Backups[i].Family, nil
				}
			}
		}
	}
	if spot(x.old).Redo.IsZero() {
		return "", nil
	}
	last, err := x.lastRestored(ctx)
	return last.family, err
}

// restored is what msdb says of the newest restore into a database: the family and the
// set that were restored, "" if it does not know, and the stop clause's time as the
// server's clock reads, zero if it had none.
type restored struct {
	family, set string
	stop        time.Time
}

// lastRestored asks msdb for it.
func (x *work) lastRestored(ctx context.Context) (restored, error) {
	rows, err := x.run.Server.Query(ctx, lastRestoredText, server.Arg{Name: "db", Value: x.old.Name})
	if err != nil || len(rows.Values) == 0 {
		return restored{}, err
	}
	v := rows.Values[0]
	stop, _, _ := plan.ParseTime(text(v, 2)) // zero if there was none
	return restored{strings.ToUpper(text(v, 0)), strings.ToUpper(text(v, 1)), stop}, nil
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
	family, err := x.whose(ctx)
	if err != nil {
		return err
	}
	found, rooms := check.All(check.Facts{
		At: x.at, Databases: x.databases, Old: x.old, Sessions: x.sessions, Volumes: x.volumes, Paths: x.places, Keys: x.keys,
		Plan: &x.plan, Backups: x.run.Backups, Last: x.last, Full: x.full, Wish: wish, Continue: x.run.Continue, NoTail: x.run.NoTail,
		Tail: x.tail, HasTail: x.old != nil && x.hasTail(), Orphan: x.orphan, Elsewhere: x.elsewhere(), Family: family, Overwrites: x.wish.Replace,
	})
	x.findings, x.rooms = append(append([]check.Finding{}, x.noted...), found...), rooms
	return nil
}
