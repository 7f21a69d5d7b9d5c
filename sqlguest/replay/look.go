package replay

import (
	"context"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/replay/ask"
	"holdfast/sqlguest/replay/check"
)

// work is one restore under way: what was seen, and what is planned.
type work struct {
	run *Run

	at        *facts.Instance
	databases []facts.Database
	data, log string // the instance's default directories
	volumes   []check.Room
	called    string          // the name that was looked for
	old       *facts.Database // the database of that name, nil if there is none
	oldID     string          // its identity, "" if it is not known
	orphan    bool            // the tail of its log would continue no backup of ours
	between   string          // see check.Orphaned
	left      []string        // sets of ours that it left without a fork
	seen      *chain.LastRestore
	sessions  []check.Session // in old
	before    ask.Restored    // what was restored into old last
	closedBy  string          // the device of the tail that has closed old, if no point of ours holds it
	places    map[string]check.Path
	keys      map[string]bool // thumbprints of certificates in master

	madePlan
}

// look asks for all that does not depend on the plan.
func (r *Run) look(ctx context.Context) (*work, error) {
	x := &work{run: r, places: map[string]check.Path{}}
	var err error
	if x.at, err = facts.AskInstance(ctx, r.Server); err != nil {
		return nil, err
	}
	if x.databases, err = facts.AskDatabases(ctx, r.Server, x.at); err != nil {
		return nil, err
	}
	if x.data, x.log, err = ask.Directories(ctx, r.Server); err != nil {
		return nil, err
	}
	if x.volumes, err = ask.Rooms(ctx, r.Server); err != nil {
		return nil, err
	}
	return x, nil
}

// find looks for the database that the plan is for.
func (x *work) find(ctx context.Context, name string) error {
	x.old, x.oldID, x.orphan, x.between, x.sessions, x.left, x.closedBy, x.before = nil, "", false, "", nil, nil, "", ask.Restored{}
	i, err := facts.Named(ctx, x.run.Server, x.databases, name)
	if err != nil || i < 0 {
		return err
	}
	x.old = &x.databases[i]
	if x.oldID, err = x.identity(ctx, i); err != nil {
		return err
	}
	if x.hasTail() && x.oldID != "" && x.run.Keep != nil && !x.run.NoTail {
		if err = x.leaves(ctx); err != nil {
			return err
		}
	}
	if err := x.askClosed(ctx); err != nil {
		return err
	}
	if x.before, err = ask.LastRestored(ctx, x.run.Server, x.old.Name); err != nil {
		return err
	}
	x.sessions, err = ask.Sessions(ctx, x.run.Server, x.old.Name)
	return err
}

// ask tells what is at a path of the server's; unknown is false where it cannot be
// told. Every path is asked for once.
func (x *work) ask(ctx context.Context, path string) (p check.Path, known bool, err error) {
	key := chain.PathKey(path)
	if p, known = x.places[key]; known {
		return p, true, nil
	}
	if p, known, err = ask.Path(ctx, x.run.Server, path); err != nil || !known {
		return p, false, err
	}
	x.places[key] = p
	return p, true, nil
}

// now asks where the database stands.
func (x *work) now(ctx context.Context) (*facts.Database, error) {
	all, err := facts.AskDatabases(ctx, x.run.Server, x.at)
	if err != nil {
		return nil, err
	}
	i, err := facts.Named(ctx, x.run.Server, all, x.plan.Database)
	if err != nil || i < 0 {
		return nil, err
	}
	return &all[i], nil
}

// spot is where a restoring database's next log must begin: that of its first file,
// which every database has.
func spot(d *facts.Database) (f facts.File) {
	for _, f := range d.Files {
		if f.ID == 1 {
			return f
		}
	}
	return f
}

func quote(name string) string { return facts.Quote(name) }
