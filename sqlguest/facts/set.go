package facts

import (
	"cmp"
	"slices"

	"holdfast/sqlguest/chain"
)

// SetOf is the set of databases that a server has (M11.12), whichever of them are asked
// for. Each is known by its first file's GUID, which a closed one tells as well, and which
// stays through renames; so a copy that a restore made beside its database, for as long as
// there is one, is none of its own. Snapshots and tempdb are never backed up.
func SetOf(all []Database) string {
	const tempdb = 2
	var members []string
	for i := range all {
		d := &all[i]
		if d.ID == tempdb || d.SnapshotOf != 0 {
			continue
		}
		first := slices.IndexFunc(d.Files, func(f File) bool { return f.ID == 1 })
		guid := ""
		if first >= 0 {
			guid = d.Files[first].GUID
		}
		members = append(members, cmp.Or(guid, d.Family, d.Name))
	}
	return chain.SetHash(members)
}
