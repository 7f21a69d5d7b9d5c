package sqlguest

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

// Identity is what stays of a database while its name, files and place in SQL
// Server's list change: its family on its server (PlaceOf).
func Identity(place, family string) string { return "sql:" + place + ":" + family }

// Identities gives each of a server's databases its identity, in their order; "" to
// those whose family is not known, because they are not open. Of several databases
// of one family (one was restored from the other) the one that ours are of keeps the
// family's identity; known are our backups of an identity, the oldest first.
func Identities(place string, databases []facts.Database, known func(identity string) ([]chain.Backup, error)) ([]string, error) {
	ids := make([]string, len(databases))
	families := map[string][]int{}
	for i, d := range databases {
		if d.Family != "" {
			families[d.Family] = append(families[d.Family], i)
		}
	}
	for family, members := range families {
		first := members[0]
		if len(members) > 1 {
			ours, err := known(Identity(place, family))
			if err != nil {
				return nil, err
			}
			first = heir(databases, members, ours)
		}
		for _, i := range members {
			ids[i] = Identity(place, family)
			if i != first {
				ids[i] += "/" + databases[i].GUID
			}
		}
	}
	return ids, nil
}

// heir is which of a family's databases our backups are of: by database GUID, else by
// name, else the one that was created first.
func heir(databases []facts.Database, members []int, ours []chain.Backup) int {
	for _, fits := range []func(b chain.Backup, d facts.Database) bool{
		func(b chain.Backup, d facts.Database) bool { return b.DatabaseGUID == d.GUID },
		func(b chain.Backup, d facts.Database) bool { return b.Database == d.Name },
	} {
		for k := len(ours) - 1; k >= 0; k-- {
			for _, i := range members {
				if fits(ours[k], databases[i]) {
					return i
				}
			}
		}
	}
	return slices.MinFunc(members, func(a, b int) int {
		return cmp.Or(databases[a].Created.Compare(databases[b].Created), cmp.Compare(databases[a].ID, databases[b].ID))
	})
}
