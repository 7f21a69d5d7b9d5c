package trial

import (
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// knows tells whether one of our backups, other than that one, is of the database as the
// last restore has made it, and whether one is of its name. If neither is, it is another
// database to whoever comes next (SQL-145).
func (w *world) knows(other *kept) (guid, name bool) {
	at, err := facts.AskInstance(w.ctx, w.sql)
	w.must(err)
	all, err := facts.AskDatabases(w.ctx, w.sql, at)
	w.must(err)
	i := slices.IndexFunc(all, func(d facts.Database) bool { return d.Name == w.name })
	if i < 0 {
		w.fatalf("no database %s", w.name)
	}
	for _, k := range w.here() {
		if k != other && k.Rule != chain.RuleKept {
			guid, name = guid || k.DatabaseGUID == all[i].GUID, name || k.Database == w.name
		}
	}
	return guid, name
}
