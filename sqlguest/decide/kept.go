package decide

import (
	"fmt"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
)

// KeptFile is a backup of ours that an earlier run has left in a file of the staging
// directory.
type KeptFile struct {
	Device string       // the file's name: a GUID in braces
	Row    *chain.Row   // msdb's row of the device, nil if it has none
	Header *chain.Row   // what the file itself says, nil if it cannot be read
	set    chain.Header // of either
}

// Fate is what becomes of a KeptFile.
type Fate struct {
	Device string
	// Take: it becomes a point. Drop: nothing needs it, it is deleted. Neither: it stays
	// where it is, since nobody can tell what it is worth.
	Take, Drop   bool
	Decision     Decision // with rule and reason
	Confirmation chain.Confirmation
}

// Keep decides on the files that earlier runs have left of a database (SQL-16), the
// oldest by LSN first. A log in a file is the only copy of what SQL Server has
// truncated, so it is taken in wherever it belongs; a full only if it is SQL Server's
// differential base and not here; what the repository has already, or what the
// database itself still holds, is dropped. SQL Server must have finished it: msdb's row
// says so, or the log that follows it, which begins where it ends. Ours are all backups
// of the database, in any state.
func Keep(files []KeptFile, ours []chain.Backup, db *facts.Database) []Fate {
	var known []KeptFile
	var fates []Fate
	for _, k := range files {
		switch {
		case k.Row != nil:
			k.set = k.Row.Header
		case k.Header != nil:
			k.set = k.Header.Header
		default:
			fates = append(fates, Fate{Device: k.Device, Decision: kept(Skip, "nobody can read its header, and msdb has no row of it")})
			continue
		}
		known = append(known, k)
	}
	slices.SortStableFunc(known, func(a, b KeptFile) int { return b.set.First.Compare(a.set.First) })
	stand := *db // where SQL Server stood when the file was written, as far as later files tell
	for _, k := range known {
		f := k.fate(ours, &stand)
		if f.Take && k.set.Kind == chain.Log {
			stand.LastLog, stand.Fork = k.set.First, k.set.FirstFork
		}
		fates = append(fates, f)
	}
	slices.Reverse(fates)
	return fates
}

// kept is a decision on a file.
func kept(do Action, reason string) Decision { return Decision{Do: do, Rule: RuleKept, Reason: reason} }

// fate decides on one file.
func (k *KeptFile) fate(ours []chain.Backup, stand *facts.Database) Fate {
	f := Fate{Device: k.Device}
	at := slices.IndexFunc(ours, func(b chain.Backup) bool { return b.Device == k.Device || b.Set != "" && b.Set == k.set.Set })
	switch {
	case at >= 0 && (ours[at].State != chain.Confirmed || ours[at].Damage != ""):
		f.Decision = kept(Skip, fmt.Sprintf("point %s holds it, and is not confirmed or not whole", ours[at].Point))
		return f
	case at >= 0:
		f.Drop, f.Decision = true, kept(Skip, fmt.Sprintf("point %s holds it", ours[at].Point))
		return f
	case k.set.Kind != chain.Log && (k.set.Kind != chain.Full || k.set.CopyOnly || stand.Base != k.set.Set):
		f.Drop, f.Decision = true, kept(Skip, fmt.Sprintf("a %s backup that nothing refers to", k.set.Kind))
		return f
	}
	var header *chain.Header
	if k.Header != nil {
		header = &k.Header.Header
	}
	planned := chain.Backup{Header: chain.Header{Kind: k.set.Kind, Family: stand.Family, CopyOnly: k.set.CopyOnly}}
	f.Confirmation = Settle(planned, k.Row, header, stand)
	if f.Confirmation.State != chain.Confirmed {
		f.Decision = kept(Skip, f.Confirmation.Reason)
		return f
	}
	if k.set.Kind == chain.Log {
		f.Decision = kept(DoLog, fmt.Sprintf("the log from %s to %s, which SQL Server had truncated when an earlier run failed: its file was kept, and is taken in", k.set.First, k.set.Last))
	} else {
		f.Decision = kept(DoFull, "the full that SQL Server's differentials refer to, from the file that an earlier run has left")
	}
	f.Take, f.Decision.First, f.Decision.CopyOnly = true, k.set.First, k.set.CopyOnly
	return f
}

// ParentOf is the point of ours that a log continues: the log that ends where it
// begins, else the newest data backup that it opens on, "" if there is neither.
func ParentOf(log *chain.Header, ours []chain.Backup) string {
	point := ""
	for i := range ours {
		switch b := &ours[i]; {
		case !b.Usable():
		case chain.Continues(&b.Header, log):
			return b.Point
		case chain.Opens(&b.Header, log):
			point = b.Point
		}
	}
	return point
}
