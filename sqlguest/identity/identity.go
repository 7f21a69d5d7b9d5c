// Package identity tells which database of a server backups are of: by what stays of one
// while its name, files and place in the server's list change. It is pure, and asks for
// nothing but our backups of an identity.
package identity

import (
	"cmp"
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// PlaceOf is what a SQL Server is found by, whichever way it is reached: the name of
// machine and instance that it has itself, in lower case since Windows makes no
// difference. A virtual machine's UUID would be seen from one side only.
func PlaceOf(at *facts.Instance) string { return strings.ToLower(at.Name) }

// New is what stays of a database while its name, files and place in SQL
// Server's list change: its family on its server (PlaceOf).
func New(place, family string) string { return "sql:" + place + ":" + family }

// Known are our backups of an identity, the oldest first.
type Known func(identity string) ([]chain.Backup, error)

// All gives each of a server's databases its identity, in their order; "" to
// those whose family is not known, because they are not open.
func All(place string, databases []facts.Database, known Known) ([]string, error) {
	told := map[string][]chain.Backup{}
	once := func(id string) (ours []chain.Backup, err error) {
		ours, is := told[id]
		if !is {
			ours, err = known(id)
			told[id] = ours
		}
		return ours, err
	}
	ids := make([]string, len(databases))
	for i := range databases {
		var err error
		if ids[i], err = Of(place, databases, i, once); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Of is the identity of one of a server's databases, "" if it is not open, or a
// snapshot, of which there are no backups.
//
// The family's identity is that of the one database of the family that our backups are
// of; another one, which was restored from it, has its database GUID behind that. So has
// a copy that is alone: its original may be offline, or dropped and about to be restored,
// and must not find the copy's backups among its own.
func Of(place string, databases []facts.Database, i int, known Known) (string, error) {
	d := &databases[i]
	if d.Family == "" || d.SnapshotOf != 0 {
		return "", nil
	}
	kin := relatives{id: New(place, d.Family), all: databases, known: known, own: func(d *facts.Database) string { return d.GUID }}
	for k := range databases {
		if o := &databases[k]; o.Family == d.Family && o.SnapshotOf == 0 {
			kin.open = append(kin.open, k)
		}
	}
	heir, err := kin.heir()
	if err != nil || heir == i {
		return kin.id, err
	}
	// Files that were copied and attached have one GUID.
	twins := relatives{id: kin.beside(i), all: databases, known: known, own: func(d *facts.Database) string { return d.Name }}
	for _, k := range kin.open {
		if k != heir && databases[k].GUID == d.GUID {
			twins.open = append(twins.open, k)
		}
	}
	if len(twins.open) == 1 {
		return twins.id, nil
	}
	heir, err = twins.heir()
	if err != nil || heir == i {
		return twins.id, err
	}
	return twins.beside(i), nil
}

// relatives are databases that may be the one that an identity is of.
type relatives struct {
	id    string
	all   []facts.Database
	open  []int // which of all they are
	own   func(*facts.Database) string
	known Known
}

// beside is the identity of one that does not have the relatives'.
func (r *relatives) beside(i int) string { return r.id + "/" + r.own(&r.all[i]) }

// heir is which of them our backups are of, -1 if none is for sure.
func (r *relatives) heir() (int, error) {
	ours, err := r.known(r.id)
	if err != nil {
		return -1, err
	}
	newest := witness(ours)
	if newest == nil {
		return r.eldest()
	}
	same := func(d *facts.Database) bool { return d.GUID == newest.DatabaseGUID }
	named := func(d *facts.Database) bool { return d.Name == newest.Database }
	once := func(is func(b *chain.Backup, d *facts.Database) bool) func(*facts.Database) bool {
		return func(d *facts.Database) bool {
			return slices.ContainsFunc(ours, func(b chain.Backup) bool { return b.Rule != chain.RuleKept && is(&b, d) })
		}
	}
	for _, i := range r.open {
		if d := &r.all[i]; same(d) && named(d) {
			return i, nil
		}
	}
	tries := []func(*facts.Database) bool{
		same,  // renamed
		named, // restored under its own name, over itself or after it was dropped
		once(func(b *chain.Backup, d *facts.Database) bool { return b.DatabaseGUID == d.GUID }), // its machine was set back
		once(func(b *chain.Backup, d *facts.Database) bool { return b.Database == d.Name }),
	}
	// While the one of that name is there and closed, another one of its GUID was made of a
	// copy of its files, and one of an older GUID or name was replaced by it.
	if slices.ContainsFunc(r.all, func(d facts.Database) bool { return d.Family == "" && named(&d) }) {
		return -1, nil
	}
	for _, fits := range tries {
		if i, err := r.only(fits); err != nil || i >= 0 {
			return i, err
		}
	}
	return -1, nil
}

// witness is the newest of ours; what was taken in from a file is from before, and counts
// only if there is nothing else. nil if there is none.
func witness(ours []chain.Backup) (newest *chain.Backup) {
	for i := range ours {
		b := &ours[i]
		if b.DatabaseGUID != "" && (newest == nil || b.Rule != chain.RuleKept || newest.Rule == b.Rule) {
			newest = b
		}
	}
	return newest
}

// only is the one of them that fits and has no backups of its own, -1 if that is none or
// several.
func (r *relatives) only(fits func(*facts.Database) bool) (int, error) {
	found := -1
	for _, i := range r.open {
		if !fits(&r.all[i]) {
			continue
		}
		switch has, err := r.has(i); {
		case err != nil:
			return -1, err
		case has:
		case found >= 0:
			return -1, nil
		default:
			found = i
		}
	}
	return found, nil
}

// eldest is the one that was created first, of those that have no backups of their own.
func (r *relatives) eldest() (int, error) {
	byAge := slices.SortedFunc(slices.Values(r.open), func(a, b int) int {
		return cmp.Or(r.all[a].Created.Compare(r.all[b].Created), cmp.Compare(r.all[a].ID, r.all[b].ID))
	})
	for _, i := range byAge {
		if has, err := r.has(i); err != nil || !has {
			return i, err
		}
	}
	return -1, nil
}

// has tells whether there are backups of one as of a database beside the heir: it goes
// on with these.
func (r *relatives) has(i int) (bool, error) {
	ours, err := r.known(r.beside(i))
	return len(ours) > 0, err
}
