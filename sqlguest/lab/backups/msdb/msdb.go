// Package msdb holds the rows that SQL Server keeps of backups and restores in its
// database msdb: what was written where, and what was restored from what.
//
// The rows are history, not truth: they are lost with msdb, and a virtual machine's
// snapshot takes them back. What a backup is stands in its stream.
package msdb

import (
	"slices"
	"time"

	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// Tables are the rows, oldest first. Times are the server's local ones.
type Tables struct {
	Sets     []BackupSet
	Media    []MediaSet
	Families []MediaFamily
	Files    []BackupFile
	Restores []Restore
	Marks    []LogMark
	// LastRestore is the number that the newest restore got: it is not given out again
	// when the row is deleted.
	LastRestore int
}

// BackupSet is a row of backupset. A zero LSN or GUID is NULL.
type BackupSet struct {
	ID                                                  int
	UUID                                                value.GUID
	MediaSetID                                          int
	Name, Description, UserName                         string
	Type                                                string // D, L or I
	Position                                            int
	FirstLSN, LastLSN, CheckpointLSN, DatabaseBackupLSN lsn.LSN
	DatabaseCreationDate, StartDate, FinishDate         time.Time
	TimeZone                                            int
	BackupSize                                          int64
	DatabaseName, ServerName, MachineName               string
	RecoveryModel                                       string
	Collation                                           string
	IsPasswordProtected, HasBulkLoggedData              bool
	IsReadOnly, IsSingleUser, HasBackupChecksums        bool
	BeginsLogChain, HasIncompleteMetadata               bool
	IsForceOffline, IsCopyOnly, IsSnapshot, IsDamaged   bool
	FirstRecoveryFork, LastRecoveryFork                 value.GUID
	ForkPointLSN                                        lsn.LSN
	DatabaseGUID, FamilyGUID                            value.GUID
	DifferentialBaseLSN                                 lsn.LSN
	DifferentialBaseGUID                                value.GUID
	SoftwareMajor, SoftwareMinor, SoftwareBuild         int
	DatabaseVersion, CompatibilityLevel                 int
	LastValidRestoreTime                                time.Time
}

// MediaSet is a row of backupmediaset.
type MediaSet struct {
	ID          int
	UUID        value.GUID
	FamilyCount int
	Software    string
}

// MediaFamily is a row of backupmediafamily. DeviceType is 2 for a file, 7 for a
// virtual device.
type MediaFamily struct {
	MediaSetID   int
	Sequence     int
	UUID         value.GUID
	PhysicalName string
	LogicalName  string
	DeviceType   int
}

// BackupFile is a row of backupfile.
type BackupFile struct {
	BackupSetID          int
	FileNumber           int
	FileType             string // D or L
	LogicalName          string
	PhysicalName         string
	FileGUID             value.GUID
	FileSize             int64
	BackedUpPageCount    int64
	CreateLSN, DropLSN   lsn.LSN
	DifferentialBaseLSN  lsn.LSN
	DifferentialBaseGUID value.GUID
	IsPresent            bool
}

// Restore is a row of restorehistory.
type Restore struct {
	ID                  int
	Date                time.Time
	DestinationDatabase string
	UserName            string
	BackupSetID         int
	BackupSetUUID       value.GUID
	Type                string // D, L or I
	Replace             bool
	Recovery            bool
	StopAt              time.Time // zero is NULL
	StopAtMark          string
	StopBefore          bool
}

// LogMark is a row of logmarkhistory.
type LogMark struct {
	DatabaseName, Name, Description, UserName string
	LSN                                       lsn.LSN
	Time                                      time.Time
}

// Clone is a copy that shares nothing.
func (t *Tables) Clone() Tables {
	return Tables{slices.Clone(t.Sets), slices.Clone(t.Media), slices.Clone(t.Families), slices.Clone(t.Files),
		slices.Clone(t.Restores), slices.Clone(t.Marks), t.LastRestore}
}

// Add takes a backup's rows in and gives them their numbers.
func (t *Tables) Add(set BackupSet, media MediaSet, families []MediaFamily, files []BackupFile) int {
	media.ID, set.ID = 1, 1
	if n := len(t.Media); n > 0 {
		media.ID = t.Media[n-1].ID + 1
	}
	if n := len(t.Sets); n > 0 {
		set.ID = t.Sets[n-1].ID + 1
	}
	set.MediaSetID = media.ID
	t.Media, t.Sets = append(t.Media, media), append(t.Sets, set)
	for _, f := range families {
		f.MediaSetID = media.ID
		t.Families = append(t.Families, f)
	}
	for _, f := range files {
		f.BackupSetID = set.ID
		t.Files = append(t.Files, f)
	}
	return set.ID
}

// AddRestore takes a restore's row in; the backup set is found by its GUID, if its
// row is here.
func (t *Tables) AddRestore(r Restore) {
	t.LastRestore++
	r.ID = t.LastRestore
	for _, s := range t.Sets {
		if s.UUID == r.BackupSetUUID {
			r.BackupSetID = s.ID
		}
	}
	t.Restores = append(t.Restores, r)
}

// Rename gives a database's marks and nothing else another name: backup sets keep
// the name that the database had.
func (t *Tables) Rename(from, to string) {
	for i := range t.Marks {
		if t.Marks[i].DatabaseName == from {
			t.Marks[i].DatabaseName = to
		}
	}
}

// Forget deletes a database's rows (sp_delete_database_backuphistory).
func (t *Tables) Forget(database string) {
	gone, media := map[int]bool{}, map[int]bool{}
	for _, s := range t.Sets {
		if s.DatabaseName == database {
			gone[s.ID], media[s.MediaSetID] = true, true
		}
	}
	t.Sets = slices.DeleteFunc(t.Sets, func(s BackupSet) bool { return gone[s.ID] })
	t.Files = slices.DeleteFunc(t.Files, func(f BackupFile) bool { return gone[f.BackupSetID] })
	t.Media = slices.DeleteFunc(t.Media, func(m MediaSet) bool { return media[m.ID] })
	t.Families = slices.DeleteFunc(t.Families, func(f MediaFamily) bool { return media[f.MediaSetID] })
	t.Restores = slices.DeleteFunc(t.Restores, func(r Restore) bool { return r.DestinationDatabase == database })
}
