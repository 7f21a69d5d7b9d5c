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
	"holdfast/sqlguest/replay/ask"
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
	if err := r.files(ctx); err != nil {
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
	if r.recalled, r.looks = out, look; out == nil {
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
	r.foresee(out.Left)
	return nil
}

// foresee adds what the restore itself would take in first, where it is only looked at.
func (r *Run) foresee(left []sqlguest.LeftLog) {
	if !r.looks || r.NoTail {
		return
	}
	n := 0
	for _, l := range left {
		if l.Err != nil {
			continue
		}
		n++
		if l.Backup.Point = KeptPoint; n > 1 {
			l.Backup.Point = fmt.Sprintf("%s-%d", KeptPoint, n)
		}
		r.Backups = append(r.Backups, l.Backup)
	}
}

// KeptPoint stands for the point that a log in a staging file will be, in a plan that is
// only shown; the second is kept-2.
const KeptPoint = "kept"

// files makes sure that SQL Server reads what is staged for it, if streams go that way.
func (r *Run) files(ctx context.Context) error {
	if r.transport() != server.Disk {
		return nil
	}
	if err := facts.AskSeen(ctx, r.Server, server.Statement{Name: r.device(), Staging: r.Staging, Local: r.Local}); err != nil {
		return fmt.Errorf("begin restore: %w", err)
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

// place is the server's, as identities have it.
func (x *work) place() string { return cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)) }

// identity is that of one of the server's databases.
func (x *work) identity(ctx context.Context, i int) (string, error) {
	return sqlguest.IdentityOf(x.place(), x.databases, i, func(id string) ([]chain.Backup, error) {
		if x.run.Keep == nil {
			return nil, nil
		}
		return x.run.Keep.Backups(ctx, id)
	})
}

// home is the database that the backups are of, as it is now: the one of their
// identity, else one that is not open and has the name; else it is gone.
func (x *work) home(ctx context.Context) (facts.Database, error) {
	name := ""
	for i := range x.run.Backups {
		name = x.run.Backups[i].Database
	}
	for i, d := range x.databases {
		if !strings.HasPrefix(x.run.Identity, sqlguest.Identity(x.place(), cmp.Or(d.Family, "-"))) {
			continue // of another family, or not open
		}
		if id, err := x.identity(ctx, i); err != nil || id == x.run.Identity {
			return d, err
		}
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
		remedy := "keep that backup; if it lies in a staging directory, --staging SERVERPATH=LOCALPATH lets the restore take it in"
		if !strings.HasSuffix(x.closedBy, "}.bak") { // a staging file of ours is never given up by advice
			remedy += "; --no-tail gives it up"
		}
		x.refuse("P-tail", fmt.Sprintf("database %s was closed by a backup of its log's tail to %s, and no point holds that", x.old.Name, x.closedBy), remedy)
	}
	if x.run.recalled == nil {
		return
	}
	for _, file := range x.run.recalled.Unread {
		x.noted = append(x.noted, check.Finding{Rule: "P-kept", Text: "a run that was killed has left a file of the database, which may hold more than all points: " + file,
			Remedy: "keep the file; the next backup or restore with the same staging directory takes it in if it can be read"})
	}
	for _, l := range x.run.recalled.Left {
		f := check.Finding{Rule: "P-kept", Text: fmt.Sprintf("the log from LSN %s to %s lies in %s alone, where a run that was killed has left it", l.First, l.Last, l.Path)}
		switch {
		case x.run.NoTail:
			f.Text += ", and is not restored"
		case l.Err == nil && x.run.looks:
			f.Text += "; the restore makes a point of it first"
		case l.Err == nil:
			f.Text += ", and another run has the database and takes it in"
			f.Remedy, f.Forbids = "wait for that run, and try again", x.run.isLatest() || x.old != nil
		default:
			f.Text += ": " + l.Err.Error()
			f.Remedy, f.Forbids = "keep the file, and try again", x.run.isLatest() || x.old != nil
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
	by, err := ask.ClosedBy(ctx, x.run.Server, x.old.Name, redo)
	if err != nil || by == nil {
		return err
	}
	id := sqlguest.Identity(cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)), by.Family)
	held := slices.Clone(x.run.Backups)
	for _, id := range []string{id, id + "/" + by.GUID} {
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
		if b := &held[i]; b.Set == by.Set || b.Device != "" && strings.Contains(strings.ToUpper(by.Device), strings.ToUpper(b.Device)) {
			return nil
		}
	}
	x.closedBy = by.Device
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
