package replay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/server"
)

// recall takes in what runs that were killed have left of the database, where the
// server is the one that the backups are of: a restore to the latest moment must not
// leave out what a file or an unconfirmed point holds. With look nothing is written.
func (r *Run) recall(ctx context.Context, look bool) error {
	if err := check.Name(r.Options.As); err != nil {
		return err
	}
	if r.Keep == nil || r.Identity == "" {
		return nil
	}
	run := &sqlguest.Run{Server: r.Server, Keep: r.Keep, Label: r.Label, Place: r.Place, Guest: r.Guest, Address: r.Address,
		Transport: r.transport(), Staging: r.Staging, Local: r.Local, Device: r.device}
	name := ""
	out, err := run.Recall(ctx, r.Identity, func(ctx context.Context) (*decide.Facts, []string, error) {
		x, err := r.look(ctx)
		if err != nil || x.elsewhere() {
			return nil, nil, err
		}
		d, err := x.home(ctx)
		if err != nil {
			return nil, nil, err
		}
		var guids []string
		for _, other := range x.databases {
			guids = append(guids, other.GUID)
		}
		name, run.Place = d.Name, cmp.Or(r.Place, sqlguest.PlaceOf(x.at))
		return sqlguest.FamilyFacts(x.at, d, r.family()), guids, nil
	}, look)
	if err != nil {
		return fmt.Errorf("restore %s: look for what earlier runs have left: %w", name, err)
	}
	if r.recalled = out; out == nil {
		return nil
	}
	settled := map[string]chain.Backup{}
	for _, b := range out.Backups {
		settled[b.Point] = b
	}
	for i, b := range r.Backups { // those that were given, with what is known of them now
		if now, is := settled[b.Point]; is && b.State == chain.Unconfirmed {
			now.Damage = cmp.Or(b.Damage, now.Damage)
			r.Backups[i] = now
		}
	}
	for _, b := range out.Backups {
		if slices.Contains(out.Taken, b.Point) && find(r.Backups, b.Point) == nil {
			r.Backups = append(r.Backups, b)
		}
	}
	return nil
}

// family is that of the backups.
func (r *Run) family() string {
	for _, b := range slices.Backward(r.Backups) {
		if b.Family != "" {
			return b.Family
		}
	}
	return ""
}

// home is the database that the backups are of, as it is now: the one of their
// identity, else one that is not open and has the name; else it is gone.
func (x *work) home(ctx context.Context) (facts.Database, error) {
	ids, err := sqlguest.Identities(cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)), x.databases, func(id string) ([]chain.Backup, error) {
		return x.run.Keep.Backups(ctx, id)
	})
	if err != nil {
		return facts.Database{}, err
	}
	if i := slices.Index(ids, x.run.Identity); i >= 0 {
		return x.databases[i], nil
	}
	name := ""
	for i := range x.run.Backups {
		name = x.run.Backups[i].Database
	}
	i, err := facts.Named(ctx, x.run.Server, x.databases, name)
	if err == nil && i >= 0 && x.databases[i].State != "ONLINE" {
		return x.databases[i], nil
	}
	return facts.Database{Name: name}, err
}

// noteLeft says what lies in files alone. It is in the way of the latest moment, and
// of overwriting anything.
func (x *work) noteLeft() {
	if x.closedBy != "" {
		x.refuse("P-tail", fmt.Sprintf("database %s was closed by a backup of its log's tail to %s, and no point holds that", x.old.Name, x.closedBy),
			"keep that backup; if it lies in a staging directory, --staging SERVERPATH=LOCALPATH lets the restore take it in; --no-tail gives it up")
	}
	if x.run.recalled == nil {
		return
	}
	for _, l := range x.run.recalled.Left {
		f := check.Finding{Rule: "P-kept", Text: fmt.Sprintf("the log from LSN %s to %s lies in %s alone, where a run that was killed has left it", l.First, l.Last, l.Path)}
		switch {
		case x.run.NoTail:
			f.Text += ", and is not restored"
		case l.Err == nil:
			f.Text += "; the restore makes a point of it first"
		default:
			f.Text += ": " + l.Err.Error()
			f.Remedy = "keep the file, and try again; --no-tail gives it up"
			f.Forbids = x.run.isLatest() || x.old != nil
		}
		x.noted = append(x.noted, f)
	}
}

// askClosed looks whether a tail backup that no point of ours holds has closed the
// database: to overwrite it would be to lose what only that backup has.
func (x *work) askClosed(ctx context.Context) error {
	redo := spot(x.old).Redo
	if x.old.State != "RESTORING" || redo.IsZero() || x.run.Continue || x.run.NoTail {
		return nil
	}
	rows, err := x.run.Server.Query(ctx, closedText, server.Arg{Name: "db", Value: x.old.Name}, server.Arg{Name: "redo", Value: redo.String()})
	if err != nil || len(rows.Values) == 0 {
		return err
	}
	v := rows.Values[0]
	device, set, family := text(v, 0), strings.ToUpper(text(v, 1)), strings.ToUpper(text(v, 2))
	id := sqlguest.Identity(cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)), family)
	held := slices.Clone(x.run.Backups)
	for _, id := range []string{id, id + "/" + strings.ToUpper(text(v, 3))} {
		if x.run.Keep == nil {
			break
		}
		ours, err := x.run.Keep.Backups(ctx, id)
		if err != nil {
			return err
		}
		held = append(held, ours...)
	}
	for i := range held {
		if b := &held[i]; b.Set == set || b.Device != "" && strings.Contains(strings.ToUpper(device), strings.ToUpper(b.Device)) {
			return nil
		}
	}
	x.closedBy = device
	return nil
}

// isUnsettled is an error if the latest moment is asked for and the newest backups
// are not used because nobody knows SQL Server's word on them: what the plan leads to
// may be older than what they hold.
func (r *Run) isUnsettled(p *plan.Plan, backups []chain.Backup) error {
	if !r.isLatest() || r.Options.Nearest != plan.Refuse || r.Options.Fork != "" {
		return nil
	}
	for _, b := range slices.Backward(backups) {
		if b.State == chain.Confirmed {
			return nil
		}
		if b.State != chain.Unconfirmed {
			continue
		}
		u := &unsettled{&plan.Unreachable{Target: p.Target, Why: fmt.Sprintf("SQL Server has not confirmed the newest backup, point %s, and could not be asked", b.Point)},
			"restore to the server that it is of, which can be asked; or --nearest restores what is confirmed"}
		if b.Kind == "" {
			u.Why = fmt.Sprintf("point %s may be the newest backup, and cannot be read", b.Point)
			u.mend = "holdfast scrub --heal may mend it; or --nearest restores what can be read"
		}
		for _, s := range p.Steps {
			if at := find(backups, s.Point); at != nil {
				end := at.Ending()
				u.Before = &end
			}
		}
		return u
	}
	return nil
}

// unsettled: whether there is a later moment is not known.
type unsettled struct {
	*plan.Unreachable
	mend string
}

// Unwrap gives the *plan.Unreachable.
func (u *unsettled) Unwrap() error { return u.Unreachable }

// Hint says how what is confirmed is restored.
func (u *unsettled) Hint() string {
	if u.Before == nil {
		return u.mend
	}
	return u.mend + ", as does --point " + u.Before.Point
}
