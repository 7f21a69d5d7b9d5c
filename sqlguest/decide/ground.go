package decide

import (
	"slices"

	"holdfast/sqlguest/chain"
)

// Ground is what a backup would be built on: what must still be in the repository for it
// to be worth anything.
type Ground struct {
	// Base is the newest full and the newest differential on it; Logs are those behind.
	Base, Logs []chain.Backup
	// Today: our newest backup of the database is of this day, by the server's clock.
	Today bool
}

// little is how large a full may be that is looked for before each log: 8 GiB have little
// more than a MiB of nodes.
const little = 8 << 30

// Stands gives the points that a decision takes for granted, nil if it does so of none, or
// if they need not be looked for once more: all of them before a differential, and in the
// first run of a day; before other logs the base alone, and only if it is small, and the
// logs besides where a database is read-only. A full stands on nothing.
func Stands(r Request, f Facts, ours []chain.Backup, d Decision) []string {
	g := look(r, f, ours).ground()
	var list []chain.Backup
	switch {
	case d.Do == DoDiff, d.Do == DoLog && !g.Today, d.Do == Skip && d.Rule == RuleSame:
		list = slices.Concat(g.Base, g.Logs)
	case d.Do == Skip && d.Rule == RuleReadOnly: // at each run, for nothing notes the day
		if list = g.Logs; len(g.Base) > 0 && sum(g.Base[0].StreamBytes) <= little {
			list = slices.Concat(g.Base, g.Logs)
		}
	case d.Do == DoLog, d.Do == Skip && d.Rule == RuleRecent:
		if list = g.Base; len(list) > 0 && sum(list[0].StreamBytes) > little {
			return nil
		}
	}
	var points []string
	for _, b := range list {
		points = append(points, b.Point)
	}
	return points
}

func (s *state) ground() (g Ground) {
	base := s.policyFull()
	if base == nil {
		return g
	}
	g.Base = []chain.Backup{*base}
	newest := base
	if s.lastDif != nil && base == s.full {
		g.Base, newest = append(g.Base, *s.lastDif), s.lastDif
	}
	for _, b := range s.line.Backups {
		if b.Kind == chain.Log && !b.CopyOnly && newest.Last.Less(b.Last) {
			g.Logs = append(g.Logs, b)
		}
	}
	for i := range s.ours { // a file that was taken in came later than it was made
		b := &s.ours[i]
		days, known := s.days(b)
		g.Today = g.Today || known && days == 0 && b.Rule != string(RuleKept) && !b.CopyOnly && !b.Tail
	}
	return g
}

func sum(list []int64) (all int64) {
	for _, n := range list {
		all += n
	}
	return all
}
