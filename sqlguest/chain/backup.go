// Package chain is what the repository knows of a database's SQL Server backups,
// and which of them belong together.
//
// SQL Server's backups do not name their neighbours. A log backup covers log from
// its first LSN up to, not including, its last one and continues whichever log
// ended there; a differential names the full it was read against by GUID; every
// recovery that does not reach the end of the known log starts a new recovery fork,
// on which LSNs are given out a second time. So backups form a tree of forks within
// a database family, and everything here compares GUIDs and LSNs: never names,
// which change, and never clocks, which lie.
//
// The rules carry the numbers R1 to R12 of sqlguest/DESIGN.md. Nothing here reads a
// repository or a server: a Backup comes from a point's attributes and from its
// confirmation, and the caller says so.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/lsn"
)

// Kind is what a backup set is.
type Kind string

// The kinds. Other stands for file, partial and their differential backups, which
// are never ours and which nothing of ours can be built on.
const (
	Full  Kind = "full"
	Diff  Kind = "diff"
	Log   Kind = "log"
	Other Kind = "other"
)

// State says whether SQL Server agrees that a backup happened.
type State string

// States. Only a Confirmed backup is a link of a chain or a differential base.
const (
	Unconfirmed State = ""          // the point was committed; SQL Server's word is not known yet
	Confirmed   State = "confirmed" // SQL Server finished it, and says with which LSNs
	Denied      State = "denied"    // SQL Server gave it up, or nobody can tell any more
)

// Header is what SQL Server itself says of a backup set: a row of
// msdb.dbo.backupset, or of RESTORE HEADERONLY. GUIDs are in upper case, "" is NULL.
type Header struct {
	Set          string `json:"set,omitempty"` // backup_set_uuid: the set's identity
	Kind         Kind   `json:"kind"`
	Database     string `json:"database"`                // its name at that time
	Family       string `json:"family,omitempty"`        // family_guid: for life, over renames and restores
	DatabaseGUID string `json:"database_guid,omitempty"` // new when a restore creates the database

	FirstFork string  `json:"first_fork,omitempty"` // recovery fork at First
	Fork      string  `json:"fork,omitempty"`       // recovery fork at Last
	ForkPoint lsn.LSN `json:"fork_point,omitzero"`  // where Fork left FirstFork, if they differ

	First          lsn.LSN `json:"first,omitzero"`           // oldest record in the set
	Last           lsn.LSN `json:"last,omitzero"`            // the record after the set
	Checkpoint     lsn.LSN `json:"checkpoint,omitzero"`      // where redo begins
	DatabaseBackup lsn.LSN `json:"database_backup,omitzero"` // checkpoint of the newest full before it
	Base           string  `json:"base,omitempty"`           // of a differential: Set of its full; "" if it has several
	BaseLSN        lsn.LSN `json:"base_lsn,omitzero"`

	CopyOnly           bool `json:"copy_only,omitempty"`
	BulkLogged         bool `json:"bulk_logged,omitempty"`
	BeginsChain        bool `json:"begins_chain,omitempty"`
	Tail               bool `json:"tail,omitempty"` // taken WITH NORECOVERY
	Snapshot           bool `json:"snapshot,omitempty"`
	Damaged            bool `json:"damaged,omitempty"` // SQL Server met damage and went on
	IncompleteMetadata bool `json:"incomplete_metadata,omitempty"`
	Checksums          bool `json:"checksums,omitempty"`

	// Started and Finished are the server's own local time, whole seconds, with the
	// offset that it had then. ZoneAssumed: the set did not say its offset, the one
	// that the server has now stands for it.
	Started     time.Time `json:"started,omitzero"`
	Finished    time.Time `json:"finished,omitzero"`
	ZoneAssumed bool      `json:"zone_assumed,omitempty"`

	Bytes         int64  `json:"bytes,omitempty"` // as SQL Server counts them
	ServerVersion string `json:"server_version,omitempty"`
	ServerName    string `json:"server_name,omitempty"`
	Model         string `json:"model,omitempty"` // recovery model: FULL, SIMPLE, BULK_LOGGED
}

// Row is a Header as msdb keeps it: with who made it and where it went.
type Row struct {
	Header
	ID   int64  `json:"id"`             // backup_set_id, in the order of msdb
	Name string `json:"name,omitempty"` // WITH NAME
	// Description is WITH DESCRIPTION, see Owner.
	Description string `json:"description,omitempty"`
	User        string `json:"user,omitempty"`
	Machine     string `json:"machine,omitempty"`
	Device      string `json:"device,omitempty"` // physical_device_name of the first family
	DeviceType  int    `json:"device_type,omitempty"`
}

// File is one file of a database, as it was when a backup began: the fingerprint
// by which additions, removals, moves and shrinking are seen.
type File struct {
	ID     int     `json:"id"`
	GUID   string  `json:"guid,omitempty"`
	Type   int     `json:"type"` // 0 rows, 1 log, 2 FILESTREAM, 4 full-text
	Name   string  `json:"name"`
	Path   string  `json:"path"`
	Pages  int64   `json:"pages"` // of 8 KiB
	Create lsn.LSN `json:"create,omitzero"`
	Drop   lsn.LSN `json:"drop,omitzero"`
}

// Backup is one recovery point of ours that holds a SQL Server backup. Its JSON
// goes into the point's attributes before the commit, with as much of Header as is
// known then (for a log, First is the LSN at which it was expected to begin); what
// only SQL Server can tell comes as a Confirmation.
type Backup struct {
	Header
	Point string `json:"-"` // the recovery point's id
	State State  `json:"-"`
	By    string `json:"-"` // where the confirmation came from
	// Damage is why the repository cannot give the streams back, "" if it can.
	Damage string `json:"-"`
	// Marks are the marked transactions in a log, by LSN; they come with its
	// confirmation.
	Marks []Mark `json:"-"`
	// Unlisted is from where on the log may hold marks that are not among Marks; NULL: it
	// holds none.
	Unlisted lsn.LSN `json:"-"`
	// Why is what the confirmation says beside its verdict, in sentences.
	Why []string `json:"-"`
	// Warned are those of them that somebody should read: what was left out or is not known.
	Warned []string `json:"-"`

	Device      string  `json:"device"`             // name of the first device: a GUID in braces
	Transport   string  `json:"transport"`          // as package server names it
	Stripes     int     `json:"stripes"`            // streams, in the order of devices
	StreamBytes []int64 `json:"stream_bytes"`       // of each stream
	Files       []File  `json:"files,omitempty"`    //
	SetHash     string  `json:"set_hash,omitempty"` // of the databases of the run, see SetHash
	ReadOnly    bool    `json:"read_only,omitempty"`
	// Zone is the server's time zone as SQL Server calls it (CURRENT_TIMEZONE_ID), "" if
	// it does not say: then the offsets of Started and Finished are all that is known.
	Zone string `json:"zone,omitempty"`
	// Guest is the virtual machine through which it was taken, "" if the server was
	// reached directly.
	Guest string `json:"guest,omitempty"`
	// Address is HOST:PORT where the server was reached so; "" where its name leads to it.
	Address string `json:"address,omitempty"`
	// Settings are what a restore does not bring back; nil if nobody asked.
	Settings *Settings `json:"settings,omitempty"`
	// Protector is the thumbprint, in hexadecimal, of the certificate that the database
	// is encrypted with: a server without it cannot restore the backup.
	Protector string `json:"protector,omitempty"`
	// Certificate is its name on the server that was backed up.
	Certificate string   `json:"certificate,omitempty"`
	Rule        string   `json:"rule"`               // which rule chose the kind
	Reason      string   `json:"reason"`             // its sentence
	Abandons    []string `json:"abandons,omitempty"` // sets that were seen to be of a history that the database left without a fork
	// Left are the sets that earlier backups of the database saw abandoned, said once more:
	// the one that saw it may get lost.
	Left []string `json:"left,omitempty"`
	// LastRestore is what msdb told of restores over the database in the look that the
	// backup was decided on, before it began; nil if nobody asked.
	LastRestore *LastRestore `json:"last_restore,omitempty"`
	// LogEnd is where the database's log ended in that look, as SQL Server writes it: equal
	// or not, never reckoned with; "" if it did not say.
	LogEnd string `json:"log_end,omitempty"`
	// Run tells during which run of SQL Server it was made: when the service was started, by
	// its own clock; equal or not, never reckoned with. "" in an availability group, whose
	// backups come from several servers, and where SQL Server did not say.
	Run string `json:"run,omitempty"`
	// Fresh: it was taken in from a file in the very run of SQL Server in which it was made,
	// and so is younger than whatever was made in another one before it was taken in.
	Fresh bool `json:"fresh,omitempty"`
}

// LastRestore is the newest row of msdb's restorehistory about a database, by what
// tells it from every other row: numbers begin anew where msdb does, and where a
// machine is set back they are given out twice. No row is the number 0.
type LastRestore struct {
	Server string `json:"server"`        // whose msdb: each replica of an availability group has its own
	ID     int64  `json:"id"`            // restore_history_id
	At     string `json:"at,omitempty"`  // restore_date, its digits: compared, never reckoned with
	Set    string `json:"set,omitempty"` // backup_set_uuid of what was restored, "" if msdb does not say
}

// Confirmation is the second half of a Backup: SQL Server's word.
type Confirmation struct {
	State  State  `json:"state"`
	By     string `json:"by"` // ByRow, ByHeader, ByServer, ByItself or ByVerdict
	Reason string `json:"reason,omitempty"`
	// Header is given if State is Confirmed.
	Header *Header `json:"header,omitempty"`
	// Marks are the marked transactions that the log holds, at most MaxMarks.
	Marks []Mark `json:"marks,omitempty"`
	// Unlisted: marks from that LSN on are not known, or were too many to be kept.
	Unlisted lsn.LSN `json:"marks_unlisted_from,omitzero"`
	// Warnings are what was found when the header was held against the chain.
	Warnings []string `json:"warnings,omitempty"`
}

// SetName is the name that our backups carry in msdb (BACKUP … WITH NAME). It tells
// people who made a row; nothing but words depends on it.
const SetName = "Holdfast"

// Owner is the description (BACKUP … WITH DESCRIPTION) by which a repository knows its
// own sets in files. Only its own are its to take in or to delete.
func Owner(repository string) string { return "holdfast " + repository }

// Where a confirmation comes from.
const (
	ByRow    = "msdb"   // msdb's row, found by the device's name
	ByHeader = "header" // the stream's own header
	ByServer = "server" // the header, and the server's state that fits it alone
	// ByItself is of a log whose bytes are whole and before which SQL Server stands: it was
	// given up, or the machine was set back behind it. It restores to its end; whether
	// anything later lies on its history nobody can tell, so nothing does.
	ByItself  = "itself"
	ByVerdict = "verdict" // the statement's own failure
)

// Parse reads a Backup from a point's attributes, and its confirmation if there is
// one (nil: none, the backup is unconfirmed).
func Parse(point string, attrs, confirmation []byte) (Backup, error) {
	var b Backup
	if err := json.Unmarshal(attrs, &b); err != nil {
		return Backup{}, fmt.Errorf("read attributes of point %s: %w", point, err)
	}
	b.Point = point
	if confirmation == nil {
		return b, nil
	}
	var c Confirmation
	if err := json.Unmarshal(confirmation, &c); err != nil {
		return Backup{}, fmt.Errorf("read confirmation of point %s: %w", point, err)
	}
	return b.With(c), nil
}

// With is the backup after SQL Server's word: confirmed with its header, or denied.
// A confirmation without a header leaves the backup denied, for it says nothing.
func (b Backup) With(c Confirmation) Backup {
	switch {
	case c.State == Confirmed && c.Header != nil:
		b.State, b.By, b.Header, b.Marks, b.Unlisted = Confirmed, c.By, *c.Header, c.Marks, c.Unlisted
	case c.State != Unconfirmed:
		b.State, b.By = Denied, c.By
	}
	if c.Reason != "" {
		b.Why = append(b.Why, c.Reason)
	}
	b.Why, b.Warned = append(b.Why, c.Warnings...), append(b.Warned, c.Warnings...)
	return b
}

// Usable tells whether anything may be built on the backup: SQL Server confirmed
// it, met no damage, and the repository can give it back.
func (b *Backup) Usable() bool {
	return b.State == Confirmed && !b.Damaged && b.Damage == ""
}

// RuleKept is the rule of a backup that was taken in from a file, perhaps long after it
// was made.
const RuleKept = "S-kept"

// TakenIn tells of another backup whether it may be younger than this one, which was taken
// in from a file: all that reach beyond its beginning, but for the full that it names.
func (b *Backup) TakenIn(other *Backup) bool {
	return b.Rule == RuleKept && other.Point != b.Point && b.First.Less(other.Last) &&
		!(other.Kind == Full && !other.CopyOnly && other.Checkpoint == b.DatabaseBackup)
}

// LeftBy are the sets that these backups of a family saw abandoned, sorted, for one of that
// kind. A full says them all, for a copy of the repository may have what is gone from this
// one; of those that are gone the many others need not know.
func LeftBy(backups []Backup, family string, kind Kind) []string {
	here := map[string]bool{}
	for i := range backups {
		here[backups[i].Set] = true
	}
	var sets []string
	for i := range backups {
		if b := &backups[i]; b.Family == family {
			sets = append(sets, slices.Concat(b.Abandons, b.Left)...)
		}
	}
	sets = slices.DeleteFunc(sets, func(set string) bool { return kind != Full && !here[set] })
	slices.Sort(sets)
	return slices.Compact(sets)
}

// SeenBefore is what a backup that an earlier run has made may have seen of restores: as
// much as the newest confirmed one of ours, at least. Where that is too little, a full more
// follows than would be needed, and none less.
func SeenBefore(ours []Backup) *LastRestore {
	for _, b := range slices.Backward(ours) {
		if b.State == Confirmed {
			return b.LastRestore
		}
	}
	return &LastRestore{}
}

// SetHash is one text for the databases that a run protects, whatever their order:
// the members are their family GUIDs or names.
func SetHash(members []string) string {
	sorted := slices.Clone(members)
	slices.Sort(sorted)
	h := sha256.New()
	for _, m := range slices.Compact(sorted) {
		// The length keeps ("a","bc") and ("ab","c") apart.
		fmt.Fprintf(h, "%d:%s", len(m), m)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// FileChanges is how a database's files differ from an earlier list. The texts are
// logical file names.
type FileChanges struct {
	Added, Removed, Renamed, Moved, Shrunk []string
}

// CompareFiles holds today's files against an earlier list. A file is the same if
// its id and GUID are; a dropped file (Drop is set) counts as gone. Only data files
// can shrink in a way that matters.
func CompareFiles(then, now []File) FileChanges {
	type key struct {
		id   int
		guid string
	}
	var c FileChanges
	old := map[key]File{}
	for _, f := range then {
		if f.Drop.IsZero() {
			old[key{f.ID, f.GUID}] = f
		}
	}
	for _, f := range now {
		if !f.Drop.IsZero() {
			continue
		}
		was, known := old[key{f.ID, f.GUID}]
		delete(old, key{f.ID, f.GUID})
		switch {
		case !known:
			c.Added = append(c.Added, f.Name)
			continue
		case f.Name != was.Name:
			c.Renamed = append(c.Renamed, was.Name)
		case PathKey(f.Path) != PathKey(was.Path):
			c.Moved = append(c.Moved, f.Name)
		}
		if f.Type == 0 && f.Pages < was.Pages {
			c.Shrunk = append(c.Shrunk, f.Name)
		}
	}
	for _, f := range old {
		c.Removed = append(c.Removed, f.Name)
	}
	slices.Sort(c.Removed)
	return c
}

// PathKey is a path of a server's as its system tells it from others: Windows' ones,
// which have a backslash or a drive, without regard to case.
func PathKey(path string) string {
	if strings.ContainsRune(path, '\\') || len(path) > 1 && path[1] == ':' {
		return strings.ToLower(path)
	}
	return path
}
