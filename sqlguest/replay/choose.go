package replay

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/repo/recovery"
)

// Source is a database that a repository has backups of.
type Source struct {
	Name     string // sql/PLACE/DATABASE, as it was called last
	Identity string
}

// Choose finds the database that an operator means: DATABASE, PLACE/DATABASE or
// sql/PLACE/DATABASE, where place, if given, is the PLACE. What it is called now goes
// before what it was called once, and what is written so before what differs in case
// alone. Errors: recovery.ErrUnknown, recovery.ErrAmbiguous.
func Choose(points []recovery.Brief, name, place string) (Source, error) {
	type source struct {
		now  string
		once []string
	}
	all := map[string]*source{}
	var ids []string
	for i := range points {
		p := &points[i]
		if !strings.HasPrefix(string(p.Kind()), "sql-") {
			continue
		}
		s := all[p.Identity()]
		if s == nil {
			s = &source{}
			all[p.Identity()] = s
			ids = append(ids, p.Identity())
		}
		if s.now = p.Source(); !slices.Contains(s.once, s.now) {
			s.once = append(s.once, s.now)
		}
	}
	same := func(a, b string) bool { return a == b }
	for _, equal := range []func(a, b string) bool{same, strings.EqualFold} {
		for _, now := range []bool{true, false} {
			var found []Source
			for _, id := range ids {
				s := all[id]
				if now && means(s.now, name, place, equal) || !now && slices.ContainsFunc(s.once, func(n string) bool { return means(n, name, place, equal) }) {
					found = append(found, Source{s.now, id})
				}
			}
			switch {
			case len(found) == 1:
				return found[0], nil
			case len(found) > 1:
				var names []string
				for _, f := range found {
					names = append(names, f.Name)
				}
				return Source{}, fmt.Errorf("find database %q: %w: it may be %s", name, recovery.ErrAmbiguous, strings.Join(names, " or "))
			}
		}
	}
	return Source{}, fmt.Errorf("find database %q: %w: the repository has no backup of it", name, recovery.ErrUnknown)
}

// means tells whether a source's name is what was asked for.
func means(source, name, place string, equal func(a, b string) bool) bool {
	rest := strings.TrimPrefix(source, "sql/")
	at, database, _ := strings.Cut(rest, "/")
	if place != "" && !strings.EqualFold(at, place) {
		return false
	}
	return equal(database, name) || equal(rest, name) || equal(source, name)
}
