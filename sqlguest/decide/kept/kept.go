// Package kept decides what becomes of the files that earlier runs have left of a
// database. Like decide, whose words it uses, it asks nobody.
package kept

import (
	"fmt"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
)

// File is a backup of ours that an earlier run has left in a file of the staging
// directory.
type File struct {
	Device string     // the file's name: a GUID in braces
	Row    *chain.Row // msdb's row of the device, nil if it has none
	Header *chain.Row // what the file itself says, nil if it cannot be read
	// Running: SQL Server is backing up a log of the database, perhaps into this file.
	Running bool
}

// Fate is what becomes of a File.
type Fate struct {
	Device string
	// Take: it becomes a point. Drop: nothing needs it, it is deleted. Neither: it stays
	// where it is, since nobody can tell what it is worth.
	Take, Drop   bool
	Decision     decide.Decision // with rule and reason
	Confirmation chain.Confirmation
}

// Decide decides on the files that earlier runs have left of a database (SQL-16), the
// oldest by LSN first. A log in a file is the only copy of what SQL Server has
// truncated, so it is taken in wherever it belongs; a full only if it is SQL Server's
// differential base and not here; what the repository has already is dropped. SQL Server
// must have finished it: msdb's row says so, which must agree with the file's header, or
// the log that follows it, which begins where it ends. A log before which SQL Server
// stands is taken in by itself, unless something is running: SQL Server writes a file's
// header last, so it came to the end of it, and the database may have been set back since.
// Ours are all backups of the database, in any state.
func Decide(files []File, ours []chain.Backup, db *facts.Database) []Fate {
	var known []File
	var fates []Fate
	for _, k := range files {
		switch {
		case k.Header == nil:
			fates = append(fates, k.unread(ours, db))
		case k.Row != nil && !agree(&k.Row.Header, &k.Header.Header):
			fates = append(fates, Fate{Device: k.Device, Decision: saying(decide.Skip, "its header is of another backup than msdb's row of its name")})
		default:
			known = append(known, k)
		}
	}
	slices.SortStableFunc(known, func(a, b File) int { return b.Header.First.Compare(a.Header.First) })
	stand := *db // where SQL Server stood when the file was written, as far as later files tell
	for _, k := range known {
		f := k.fate(ours, &stand)
		if f.Take && k.Header.Kind == chain.Log && f.Confirmation.By != chain.ByItself {
			stand.LastLog, stand.Fork = k.Header.First, k.Header.FirstFork
		}
		fates = append(fates, f)
	}
	slices.Reverse(fates)
	return fates
}

// saying is a decision on a file.
func saying(do decide.Action, reason string) decide.Decision {
	return decide.Decision{Do: do, Rule: decide.RuleKept, Reason: reason}
}

// agree tells whether a file's header and msdb's row are of one backup.
func agree(row, header *chain.Header) bool {
	return row.Set == header.Set && row.Kind == header.Kind && row.Family == header.Family && row.First == header.First && row.Last == header.Last
}

// unread decides on a file without a readable header, which a BACKUP that was cut leaves:
// it goes where it cannot be that its log was truncated.
func (k *File) unread(ours []chain.Backup, db *facts.Database) Fate {
	f := Fate{Device: k.Device}
	switch {
	case k.Row != nil:
		f.Decision = saying(decide.Skip, "msdb has its row, and nobody can read its header: look whether the file is damaged, and delete it once a full backup has followed")
	case k.Running:
		f.Decision = saying(decide.Skip, "nobody can read its header, and SQL Server may be writing it")
	case !whole(ours, db) && !neverLogged(ours, db):
		f.Decision = saying(decide.Skip, "nobody can read its header, and it is not seen that nothing of the log is missing: delete it once a full backup has followed")
	default:
		f.Drop, f.Decision = true, saying(decide.Skip, "of a backup that was never finished: what SQL Server has truncated is here")
	}
	return f
}

// neverLogged tells whether no backup of ours can be of a log: a log of ours begins on a
// data backup of ours, and all of them are of SIMPLE, as the database is now.
func neverLogged(ours []chain.Backup, db *facts.Database) bool {
	return db.Model == "SIMPLE" && len(ours) > 0 && !slices.ContainsFunc(ours, func(b chain.Backup) bool { return b.Model != "SIMPLE" })
}

// whole tells whether our logs follow each other up to where SQL Server's next one begins.
func whole(ours []chain.Backup, db *facts.Database) bool {
	reaches := false
	for i := range ours {
		b := &ours[i]
		if b.Kind != chain.Log || !b.Usable() {
			continue
		}
		if ParentOf(b, ours) == "" && !inside(&b.Header, ours) {
			return false
		}
		reaches = reaches || b.Last == db.LastLog && b.Fork == db.Fork
	}
	return reaches
}

// inside tells whether a data backup of ours holds all of a log itself, as of a database
// into which nothing was written between the two: a restore has nothing to take from it.
func inside(log *chain.Header, ours []chain.Backup) bool {
	return slices.ContainsFunc(ours, func(b chain.Backup) bool {
		return (b.Kind == chain.Full || b.Kind == chain.Diff) && b.Usable() && b.Family == log.Family && b.Fork == log.Fork &&
			b.First.Compare(log.First) <= 0 && log.Last.Compare(b.Last) <= 0
	})
}

// fate decides on one file that was read.
func (k *File) fate(ours []chain.Backup, stand *facts.Database) Fate {
	f, set := Fate{Device: k.Device}, &k.Header.Header
	at := slices.IndexFunc(ours, func(b chain.Backup) bool { return b.Device == k.Device || b.Set != "" && b.Set == set.Set })
	switch {
	case at >= 0 && (ours[at].State != chain.Confirmed || ours[at].Damage != ""):
		f.Decision = saying(decide.Skip, fmt.Sprintf("point %s holds it, and is not confirmed or not whole", ours[at].Point))
		return f
	case at >= 0:
		f.Drop, f.Decision = true, saying(decide.Skip, fmt.Sprintf("point %s holds it", ours[at].Point))
		return f
	case set.Kind != chain.Log && (set.Kind != chain.Full || set.CopyOnly || stand.Base != set.Set):
		f.Drop, f.Decision = true, saying(decide.Skip, fmt.Sprintf("a %s backup that nothing refers to", set.Kind))
		return f
	}
	planned := chain.Backup{Header: chain.Header{Kind: set.Kind, Family: stand.Family, CopyOnly: set.CopyOnly}}
	f.Confirmation = decide.Settle(planned, k.Row, set, stand)
	if why := undone(set, ours, stand); f.Confirmation.State == chain.Confirmed && f.Confirmation.By != chain.ByItself && why != "" {
		f.Confirmation.By = chain.ByItself
		f.Confirmation.Reason += "; " + why + ": the database was set back since, whatever msdb remembers. It restores to its end, and nothing later is built on it"
	}
	if f.Confirmation.State != chain.Confirmed || f.Confirmation.By == chain.ByItself && k.Running {
		f.Decision = saying(decide.Skip, f.Confirmation.Reason)
		f.Drop = f.Confirmation.State == chain.Denied && f.Confirmation.By == chain.ByServer && !k.Running
		return f
	}
	switch {
	case f.Confirmation.By == chain.ByItself:
		f.Decision = saying(decide.DoLog, fmt.Sprintf("the log from %s to %s, which is in no other place if the database was set back since: its file was kept, and is taken in", set.First, set.Last))
	case set.Kind == chain.Log:
		f.Decision = saying(decide.DoLog, fmt.Sprintf("the log from %s to %s, which SQL Server had truncated when an earlier run failed: its file was kept, and is taken in", set.First, set.Last))
	default:
		f.Decision = saying(decide.DoFull, "the full that SQL Server's differentials refer to, from the file that an earlier run has left")
	}
	f.Take, f.Decision.First, f.Decision.CopyOnly = true, set.First, set.CopyOnly
	return f
}

// undone is why the history of a finished log is one that the database has left without a
// trace in msdb, "" if nothing tells so.
func undone(log *chain.Header, ours []chain.Backup, stand *facts.Database) string {
	switch {
	case log.Kind != chain.Log || log.CopyOnly:
		return ""
	case twice(log, ours):
		return "a log of ours covers the same LSNs"
	case !stand.ReadOnly && stand.Fork == log.Fork && !stand.LastLog.IsZero() && stand.LastLog.Less(log.Last):
		return fmt.Sprintf("SQL Server's next log begins at %s, not at its end %s", stand.LastLog, log.Last)
	}
	return ""
}

// twice tells whether a log covers LSNs that a confirmed log of ours covers, too: SQL Server
// hands out a log once, unless it was given up or undone. One that is known to be undone
// tells nothing.
func twice(log *chain.Header, ours []chain.Backup) bool {
	left := map[string]bool{}
	for i := range ours {
		for _, set := range slices.Concat(ours[i].Abandons, ours[i].Left) {
			left[set] = true
		}
	}
	return slices.ContainsFunc(ours, func(b chain.Backup) bool {
		return b.Kind == chain.Log && !b.CopyOnly && b.State == chain.Confirmed && b.By != chain.ByItself && b.Fork == log.Fork && !left[b.Set] &&
			b.First.Less(log.Last) && log.First.Less(b.Last)
	})
}

// ParentOf is the point of ours that a log continues: the log that ends where it
// begins, else the newest data backup that it opens on, "" if there is neither.
func ParentOf(log *chain.Backup, ours []chain.Backup) string {
	point := ""
	for i := range ours {
		switch b := &ours[i]; {
		case !b.Usable():
		case chain.Continues(&b.Header, &log.Header):
			return b.Point
		case chain.Opens(b, log):
			point = b.Point
		}
	}
	return point
}
