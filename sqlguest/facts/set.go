package facts

import (
	"cmp"
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
)

// SetOf is the set of databases that a server has (M11.12). Each is known by its first file's GUID, which a closed one tells as well, and which
// stays through renames; so a copy that a restore made beside its database, for as long as
// there is one, is none of its own. Snapshots and tempdb are never backed up.
//
// What runs leave out by names, whose places except are, is none of it, so that a database
// that is made anew each day can be kept out. Sets of runs that leave out others cannot be
// compared: what stands before the colon is another then. The names count as they were
// said, for they mean the same while nothing has them.
func SetOf(all []Database, except []int, names []string) string {
	const tempdb = 2
	var members, left []string
	for _, name := range names {
		left = append(left, strings.ToLower(name))
	}
	for i := range all {
		d := &all[i]
		if slices.Contains(except, i) || d.ID == tempdb || d.SnapshotOf != 0 {
			continue
		}
		first := slices.IndexFunc(d.Files, func(f File) bool { return f.ID == 1 })
		guid := ""
		if first >= 0 {
			guid = d.Files[first].GUID
		}
		members = append(members, cmp.Or(guid, d.Family, d.Name))
	}
	return "without " + chain.SetHash(left)[:8] + ":" + chain.SetHash(members)
}
