// Package engine is a database below its tables: files of pages, the log, the one
// transaction that writes, checkpoints, crash recovery, and what backups read.
//
// It knows pages, extents and records, and neither tables nor SQL. Except where a
// method says otherwise the caller holds the engine's lock (Lock, Unlock): a method
// of the storage package is one thing that happens to a database at once.
package engine

import (
	"encoding/json"
	"time"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// Env is the machine below a database. All fields are needed.
type Env struct {
	FS filesystem.FS
	// Now is the server's local time, with its offset.
	Now  func() time.Time
	GUID func() value.GUID
}

// Local is the time that SQL Server notes: local, without offset (kept as if it
// were UTC), rounded as datetime is, to 1/300 s.
func Local(t time.Time) time.Time {
	ticks := (int64(t.Nanosecond())*300 + 500_000_000) / 1_000_000_000
	ms := (ticks*1000 + 150) / 300
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC).
		Add(time.Duration(ms) * time.Millisecond)
}

// Mark is a marked transaction's commit, as logmarkhistory has it.
type Mark struct {
	Name, Description, User string
	LSN                     lsn.LSN
	Time                    time.Time
}

// Model is a recovery model, numbered as sys.databases does.
type Model uint8

// The recovery models.
const (
	Full       Model = 1
	BulkLogged Model = 2
	Simple     Model = 3
)

// String is the model as recovery_model_desc has it.
func (m Model) String() string {
	return [...]string{"", "FULL", "BULK_LOGGED", "SIMPLE"}[m&3]
}

// State is a database's state, numbered as sys.databases does. A database in
// STANDBY is Online there, and Info.Standby.
type State uint8

// The states.
const (
	Online          State = 0
	Restoring       State = 1
	RecoveryPending State = 3
	Offline         State = 6
)

// String is the state as state_desc has it.
func (s State) String() string {
	switch s {
	case Online:
		return "ONLINE"
	case Restoring:
		return "RESTORING"
	case RecoveryPending:
		return "RECOVERY_PENDING"
	}
	return "OFFLINE"
}

// Access says who may use a database, numbered as sys.databases.user_access.
type Access uint8

// The kinds of access.
const (
	MultiUser      Access = 0
	SingleUser     Access = 1
	RestrictedUser Access = 2
)

// String is the access as user_access_desc has it.
func (a Access) String() string {
	return [...]string{"MULTI_USER", "SINGLE_USER", "RESTRICTED_USER", ""}[a&3]
}

// FileType tells data from log, numbered as sys.master_files does.
type FileType uint8

// The types of files.
const (
	Rows FileType = 0
	Log  FileType = 1
)

// File is one file of a database.
type File struct {
	ID       uint16     `json:"id"`
	GUID     value.GUID `json:"guid"`
	Type     FileType   `json:"type"`
	Logical  string     `json:"logical"`
	Physical string     `json:"physical"`
	// Pages is the file's size; a log's is its bytes, rounded up.
	Pages     uint32  `json:"pages"`
	CreateLSN lsn.LSN `json:"create_lsn"`
	// DropLSN is not NULL for a file that was removed; it is listed until the next
	// backup of the log or the database.
	DropLSN lsn.LSN `json:"drop_lsn"`
	Base    Base    `json:"base"`
}

// Base is a differential base: the full backup that the map of changed extents
// counts from. The zero Base means that there is none.
type Base struct {
	GUID value.GUID `json:"guid"` // backup_set_uuid of the full
	LSN  lsn.LSN    `json:"lsn"`  // its checkpoint
	Time time.Time  `json:"time"`
}

// Fork is one stretch of a database's history: from Start on, until the next.
type Fork struct {
	GUID  value.GUID `json:"guid"`
	Start lsn.LSN    `json:"start"`
}

// Boot is what a database knows of itself; it is kept in the primary file and, as a
// copy, in the log's header.
type Boot struct {
	Name         string     `json:"name"`
	ID           int        `json:"id"`
	FamilyGUID   value.GUID `json:"family"`
	DatabaseGUID value.GUID `json:"database"`
	Forks        []Fork     `json:"forks"`
	Model        Model      `json:"model"`
	State        State      `json:"state"`
	Access       Access     `json:"access"`
	ReadOnly     bool       `json:"read_only"`
	AutoClose    bool       `json:"auto_close"`
	Owner        string     `json:"owner"`
	// What follows a restore puts to off, whatever the backup says.
	Trustworthy bool `json:"trustworthy"`
	Chaining    bool `json:"chaining"`
	Broker      bool `json:"broker"`
	// Protector is the thumbprint, in hexadecimal, of the certificate that locks the
	// database's encryption key; "" without one. Encrypted is TDE itself.
	Protector string    `json:"protector,omitempty"`
	Encrypted bool      `json:"encrypted,omitempty"`
	Created   time.Time `json:"created"`
	// LastLogBackup is where the next log backup starts; NULL if none is possible.
	LastLogBackup lsn.LSN `json:"last_log_backup"`
	// BeginsChain says that the next log backup is the first of its chain.
	BeginsChain bool    `json:"begins_chain"`
	Checkpoint  lsn.LSN `json:"checkpoint"`
	// DatabaseBackup is the checkpoint of the latest full backup that counts.
	DatabaseBackup lsn.LSN `json:"database_backup"`
	Files          []File  `json:"files"`
	System         page.ID `json:"system"` // first page of the table of tables
	NextObject     uint32  `json:"next_object"`
	NextTx         uint64  `json:"next_tx"`

	// The rest concerns a database that is being restored.
	Standby     bool       `json:"standby"`
	UndoFile    string     `json:"undo_file"`
	RedoStart   lsn.LSN    `json:"redo_start"` // where the next log must begin or contain
	RedoFork    value.GUID `json:"redo_fork"`
	RestoredSet value.GUID `json:"restored_set"` // the full backup that was restored, if it can be a base
	RedoTime    time.Time  `json:"redo_time"`    // the latest time that was restored
	Incomplete  bool       `json:"incomplete"`   // a data restore did not reach its end
}

// Fork is the current recovery fork.
func (b *Boot) Fork() value.GUID { return b.Forks[len(b.Forks)-1].GUID }

// ForkBefore is the fork of the last record before an LSN, on the path forks.
func ForkBefore(forks []Fork, at lsn.LSN) value.GUID {
	g := forks[0].GUID
	for _, f := range forks[1:] {
		if f.Start.Less(at) {
			g = f.GUID
		}
	}
	return g
}

// ForkAt is the fork of the record that has an LSN, on the path forks.
func ForkAt(forks []Fork, at lsn.LSN) value.GUID {
	g := forks[0].GUID
	for _, f := range forks[1:] {
		if !at.Less(f.Start) {
			g = f.GUID
		}
	}
	return g
}

// Clone is a copy that shares nothing.
func (b *Boot) Clone() Boot {
	c := *b
	c.Forks = append([]Fork(nil), b.Forks...)
	c.Files = append([]File(nil), b.Files...)
	return c
}

// Take takes over what a backup set says of the database itself; base is for files
// that have one.
func (b *Boot) Take(from Boot, base Base) {
	b.Forks = append([]Fork(nil), from.Forks...)
	b.Model, b.ReadOnly, b.System = from.Model, from.ReadOnly, from.System
	b.NextObject, b.NextTx = from.NextObject, max(b.NextTx, from.NextTx)
	b.DatabaseBackup = from.DatabaseBackup
	b.Protector, b.Encrypted = from.Protector, from.Encrypted
	for i := range b.Files {
		if b.Files[i].Type == Rows && b.Files[i].Base.GUID != (value.GUID{}) {
			b.Files[i].Base = base
		}
	}
}

// Info is a database's Boot with what follows from its log.
type Info struct {
	Boot
	// FirstFork and ForkPoint are those of the next log backup: NULL ForkPoint if
	// no fork lies behind its start.
	FirstFork value.GUID
	ForkPoint lsn.LSN
	// LogReuseWait is sys.databases' number and LogReuseWaitDesc its text.
	LogReuseWait     int
	LogReuseWaitDesc string
	LogBytes         int64
	LogEnd           lsn.LSN
}

func (b *Boot) encode() ([]byte, error) { return json.Marshal(b) }
