// Package shelf finds databases in a repository by what people call them.
//
// A database's points share an identity, which stays through renames; its name is the
// source's of its newest point, sql/MACHINE/DATABASE. Of several databases that have
// had one name the newest is meant, and the others are still there to be asked for.
// Nothing here needs a server.
package shelf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
)

// Database is one that the repository holds points of.
type Database struct {
	Source   string // of the newest point: sql/MACHINE/DATABASE
	Identity string
	Newest   time.Time
	Point    string // the newest one
	Points   int
	// Earlier: another database has had this source's name since.
	Earlier bool
	names   []string // sources of older points
}

// Machine is the middle of the source: a VM or an instance.
func (d *Database) Machine() string {
	machine, _ := parts(d.Source)
	return machine
}

// Name is the database's, as its newest point has it. It may hold slashes.
func (d *Database) Name() string {
	_, name := parts(d.Source)
	return name
}

func parts(source string) (machine, name string) {
	machine, name, _ = strings.Cut(strings.TrimPrefix(source, "sql/"), "/")
	return machine, name
}

// key is what a name is compared by: the case of a machine says nothing.
func (d *Database) key() string {
	machine, name := parts(d.Source)
	return strings.ToLower(machine) + "/" + name
}

// Called tells whether a name and a machine, as Match takes them, have ever meant it.
func (d *Database) Called(name, machine string) bool {
	machine = strings.TrimPrefix(machine, "sql/")
	return slices.ContainsFunc(append([]string{d.Source}, d.names...), func(source string) bool { return means(source, name, machine, strings.EqualFold) })
}

// Meant is what the database is called where an operator means it by a name and a
// machine, as Match takes them: its name of now, or, if that is another one, the last
// that it had of those.
func (d *Database) Meant(name, machine string) string {
	machine = strings.TrimPrefix(machine, "sql/")
	for _, source := range slices.Backward(append(slices.Clone(d.names), d.Source)) {
		if means(source, name, machine, strings.EqualFold) {
			_, meant := parts(source)
			return meant
		}
	}
	return d.Name()
}

// Holds tells whether a point of that kind is a database's.
func Holds(k recovery.Kind) bool {
	return k == recovery.SQLFull || k == recovery.SQLDiff || k == recovery.SQLLog
}

// List is all databases by source, of several with one name the newest first; problems
// are points that cannot be read, of databases or of anything else.
func List(ctx context.Context, r *repo.Repository) ([]Database, []*repo.PointError, error) {
	briefs, problems, err := r.Briefs(ctx)
	if err != nil {
		return nil, nil, err
	}
	return Of(briefs), problems, nil
}

// Of is List of points that have been read, the oldest first.
func Of(briefs []repo.Brief) []Database {
	at := map[string]int{}
	var list []Database
	for i := range briefs { // the oldest first
		b := &briefs[i]
		if !Holds(b.Kind()) {
			continue
		}
		k, known := at[b.Identity()]
		if !known {
			k = len(list)
			at[b.Identity()] = k
			list = append(list, Database{Identity: b.Identity()})
		}
		d := &list[k]
		if d.Source != "" && d.Source != b.Source() && !slices.Contains(d.names, d.Source) {
			d.names = append(d.names, d.Source)
		}
		d.Source, d.Newest, d.Point = b.Source(), b.Time(), b.ID()
		d.Points++
	}
	slices.SortStableFunc(list, func(a, b Database) int {
		if c := strings.Compare(a.key(), b.key()); c != 0 {
			return c
		}
		return b.Newest.Compare(a.Newest)
	})
	for i := 1; i < len(list); i++ {
		list[i].Earlier = list[i].key() == list[i-1].key()
	}
	return list
}

// Match chooses those of all that an operator means: name is a database, MACHINE/DB
// or a whole source, "" for all; machine is a VM or an instance, "" for any, as sql/VM
// too. What fits as it is written wins over what fits without regard to case, which of a machine never
// matters, and names of now win over earlier ones. ErrUnknown of package recovery if nothing fits.
func Match(all []Database, name, machine string) ([]Database, error) {
	machine = strings.TrimPrefix(machine, "sql/")
	same := func(a, b string) bool { return a == b }
	for _, equal := range []func(a, b string) bool{same, strings.EqualFold} {
		for _, old := range []bool{false, true} {
			var list []Database
			for _, d := range all {
				names := []string{d.Source}
				if old {
					names = d.names
				}
				if slices.ContainsFunc(names, func(source string) bool { return means(source, name, machine, equal) }) {
					list = append(list, d)
				}
			}
			if len(list) > 0 {
				return list, nil
			}
		}
	}
	if name == "" && machine == "" {
		return nil, nil
	}
	if name == "" {
		return nil, fmt.Errorf("databases of %s: %w", machine, recovery.ErrUnknown)
	}
	return nil, fmt.Errorf("database %s: %w: the repository has no backup of it", strings.TrimPrefix(machine+"/"+name, "/"), recovery.ErrUnknown)
}

func means(source, name, wanted string, equal func(a, b string) bool) bool {
	machine, database := parts(source)
	if wanted != "" && !strings.EqualFold(machine, wanted) {
		return false
	}
	if name == "" || equal(database, name) {
		return true
	}
	// The case of the machine says nothing, whatever that of the database does.
	n := len(name) - len(database)
	if n <= 0 || !equal(name[n:], database) {
		return false
	}
	return strings.EqualFold(name[:n], machine+"/") || strings.EqualFold(name[:n], "sql/"+machine+"/")
}

// One is Match where a single database must be meant: of those that have had one name
// the newest. ErrAmbiguous of package recovery if databases of several names fit.
func One(all []Database, name, machine string) (*Database, error) {
	list, err := Match(all, name, machine)
	if err != nil {
		return nil, err
	}
	var sources []string
	for i := range list {
		if i == 0 || list[i].key() != list[i-1].key() {
			sources = append(sources, list[i].Source)
		}
	}
	switch len(sources) {
	case 0:
		return nil, fmt.Errorf("database %q: %w", name, recovery.ErrUnknown)
	case 1:
		return &list[0], nil
	}
	return nil, fmt.Errorf("database %q may be %s: %w", name, strings.Join(sources, " or "), recovery.ErrAmbiguous)
}

// Older are the databases that have had d's name before it, the newest first: they are
// reached by their points.
func Older(all []Database, d *Database) (list []Database) {
	for i := range all {
		if all[i].Identity != d.Identity && all[i].key() == d.key() && !d.Newest.Before(all[i].Newest) {
			list = append(list, all[i])
		}
	}
	return list
}

// With is the database of that identity, which a point has told, whatever others are
// called so. nil if name and machine have never meant it, or there is none.
func With(all []Database, identity, name, machine string) *Database {
	i := slices.IndexFunc(all, func(d Database) bool { return d.Identity == identity })
	if i < 0 || !all[i].Called(name, machine) {
		return nil
	}
	return &all[i]
}

// Backups are a database's, the oldest first, and those of its points whose confirmation
// cannot be read, each in a sentence: they count as unconfirmed. Points that cannot be
// read at all are missing; whoever listed the databases knows them (List).
func Backups(ctx context.Context, r *repo.Repository, d *Database) (backups []chain.Backup, warnings []string, err error) {
	backups, problems, err := (&sqlguest.Repository{Repo: r}).Readable(ctx, d.Identity)
	for _, p := range problems {
		if slices.ContainsFunc(backups, func(b chain.Backup) bool { return b.Point == p.ID }) {
			warnings = append(warnings, fmt.Sprintf("point %s counts as unconfirmed: %s cannot be read (%v); holdfast scrub --heal may mend it", p.ID, p.Object, p.Err))
		}
	}
	return backups, warnings, err
}

// Unread stands for those points of a database that cannot be read and may be newer than
// all that can: nobody knows more of them, and the latest moment may be theirs. What was
// begun before the newest ledger that a readable point knows is older. A copy's ledger tells
// when it was copied, which may be long after its data.
func Unread(ctx context.Context, r *repo.Repository, identity string) ([]chain.Backup, error) {
	entries, problems, err := r.PointsOf(ctx, identity)
	if err != nil {
		return nil, err
	}
	newest := uint32(0)
	for _, e := range entries {
		if e.Origin == "" {
			newest = max(newest, e.Session().Gen)
		}
	}
	var list []chain.Backup
	for _, p := range problems {
		sid, err := p.Session()
		if errors.Is(err, ledger.ErrName) || sid.Gen < newest {
			continue // only its label, which restores nothing
		}
		list = append(list, chain.Backup{Point: p.ID, Damage: p.Err.Error()})
	}
	return list, nil
}
