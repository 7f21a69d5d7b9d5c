// Package storage is a database as SQL Server keeps one: tables of rows on 8 KiB
// pages, a transaction log, transactions, crash recovery, the maps that backups
// read, and the states that restores pass through.
//
// The order of things on disk is simple: a change is logged (write-ahead), then its
// page is written at once. Crash recovery therefore finds every committed change in
// the files and has only to undo transactions that were open; redo does its real
// work when pages come from a backup, where they were read at different moments.
//
//   - Extent 0 of each data file holds its header (page 0), the map of allocated
//     pages (2), of extents changed since the differential base (6) and of extents
//     filled without full logging (7). Extent 1 of the first file holds the boot
//     record: the database's identity, options, files and LSNs.
//   - One transaction at a time writes; others wait for it as long as their
//     context lasts. It may stay open while a backup runs.
//   - Time and GUIDs come from Env, so that a seed fixes everything.
//
// Pages, log and recovery are in package engine below; here are tables, changes of
// shape and state, and what a restore does to a database. Failures that SQL Server
// has a number for are *server.Error.
package storage

import (
	"context"
	"time"

	"holdfast/sqlguest/lab/storage/engine"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// The engine's nouns under the names that users of this package say.
type (
	// Boot is what a database knows of itself.
	Boot = engine.Boot
	// Info is a database's Boot with what follows from its log.
	Info = engine.Info
	// File is one file of a database.
	File = engine.File
	// FileType tells data from log.
	FileType = engine.FileType
	// Base is a differential base.
	Base = engine.Base
	// Fork is one stretch of a database's history.
	Fork = engine.Fork
	// Model is a recovery model.
	Model = engine.Model
	// State is a database's state.
	State = engine.State
	// Access says who may use a database.
	Access = engine.Access
	// Mark is a marked transaction's commit.
	Mark = engine.Mark
	// Commit is what became of a transaction.
	Commit = engine.Commit
	// Extent is the content of eight pages.
	Extent = engine.Extent
	// DataBackup reads a full or differential backup.
	DataBackup = engine.DataBackup
	// LogBackup reads a log backup.
	LogBackup = engine.LogBackup
	// LogOptions are those of BACKUP LOG.
	LogOptions = engine.LogOptions
	// CreateOptions describe a new database.
	CreateOptions = engine.CreateOptions
)

// The engine's constants; see there.
const (
	Full            = engine.Full
	BulkLogged      = engine.BulkLogged
	Simple          = engine.Simple
	Online          = engine.Online
	Restoring       = engine.Restoring
	RecoveryPending = engine.RecoveryPending
	Offline         = engine.Offline
	MultiUser       = engine.MultiUser
	SingleUser      = engine.SingleUser
	RestrictedUser  = engine.RestrictedUser
	Rows            = engine.Rows
	Log             = engine.Log
)

// ErrFinished: the transaction has been committed or rolled back already.
var ErrFinished = engine.ErrFinished

// Local is the time that SQL Server notes: local, without offset (kept as if it
// were UTC), rounded as datetime is, to 1/300 s.
func Local(t time.Time) time.Time { return engine.Local(t) }

// ForkBefore is the fork of the last record before an LSN, on the path forks.
func ForkBefore(forks []Fork, at lsn.LSN) value.GUID { return engine.ForkBefore(forks, at) }

// ForkAt is the fork of the record that has an LSN, on the path forks.
func ForkAt(forks []Fork, at lsn.LSN) value.GUID { return engine.ForkAt(forks, at) }

// Env is the machine below a database. All fields but the last are needed.
type Env struct {
	FS filesystem.FS
	// Now is the server's local time, with its offset.
	Now  func() time.Time
	GUID func() value.GUID
	// Marked is called after a marked transaction has been committed; may be nil.
	Marked func(*Database, Mark)
}

func (e Env) engine() engine.Env { return engine.Env{FS: e.FS, Now: e.Now, GUID: e.GUID} }

// Database is one open database. Its methods may be called at once.
type Database struct {
	env    Env
	e      *engine.Engine
	tables map[string]*Table // by lower-case name; guarded by the engine's lock
	tails  map[uint32]page.ID
}

func newDatabase(env Env, e *engine.Engine) *Database {
	return &Database{env: env, e: e, tables: map[string]*Table{}, tails: map[uint32]page.ID{}}
}

// Create makes a database's files. 5170 if one is there already.
func Create(env Env, o CreateOptions) (*Database, error) {
	e, err := engine.Create(env.engine(), o)
	if err != nil {
		return nil, err
	}
	return newDatabase(env, e), nil
}

// Open opens a database by its primary file and recovers it, as at start and at
// attach. logPath is for a database whose primary file is lost: then the state is
// RecoveryPending and only the tail of its log can be backed up. moved gives new
// physical paths by logical name (attach from elsewhere); it may be nil.
func Open(env Env, primary, logPath string, moved map[string]string) (*Database, error) {
	e, err := engine.Open(env.engine(), primary, logPath, moved)
	if err != nil {
		return nil, err
	}
	db := newDatabase(env, e)
	e.Lock()
	defer e.Unlock()
	if e.Boot.State != Online {
		return db, nil
	}
	return db, db.loadTables()
}

// Close closes the files without a word in them: the next Open recovers. A
// transaction that is open is undone then.
func (db *Database) Close() error {
	db.e.Lock()
	defer db.e.Unlock()
	return db.e.CloseFiles()
}

// Remove closes the database and deletes its files.
func (db *Database) Remove() error {
	db.e.Lock()
	defer db.e.Unlock()
	return db.e.RemoveFiles()
}

// Info describes the database at this moment.
func (db *Database) Info() Info { return db.e.Info() }

// Seize takes the database for one that must be alone in it: RESTORE over it, taking
// it offline, dropping it. ok is false while somebody has a transaction open.
func (db *Database) Seize() (release func(), ok bool) { return db.e.Seize() }

// Usage counts the pages that backups would hold; see engine.Usage.
func (db *Database) Usage() ([]engine.Usage, error) { return db.e.Usage() }

// Busy tells whether a backup runs.
func (db *Database) Busy() bool { return db.e.Busy() }

// BeginData begins a data backup; see engine.DataBackup.
func (db *Database) BeginData(differential, copyOnly bool) (*DataBackup, error) {
	return db.e.BeginData(differential, copyOnly)
}

// BeginLog begins a log backup; see engine.LogBackup.
func (db *Database) BeginLog(o LogOptions) (*LogBackup, error) { return db.e.BeginLog(o) }

// Checkpoint notes that all pages are in the files; in SIMPLE, and as long as no
// data backup has begun a chain, it truncates the log.
func (db *Database) Checkpoint() error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Writable(); err != nil {
		return err
	}
	return db.e.Checkpoint()
}

// Tx is a transaction that may write. It holds the database's only place for a
// writer from Begin until Commit or Rollback.
type Tx struct {
	db *Database
	t  *engine.Tx
}

// Begin waits until no other transaction writes and begins one. 927, 942, 945 and
// 3906 say that the database cannot be written.
func (db *Database) Begin(ctx context.Context, name string) (*Tx, error) {
	if err := db.e.Wait(ctx); err != nil {
		return nil, err
	}
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Writable(); err != nil {
		db.e.Leave()
		return nil, err
	}
	return &Tx{db: db, t: db.e.NewTx(name)}, nil
}

// SetMark marks the transaction: its commit can be a restore's target.
func (tx *Tx) SetMark(name, description, user string) {
	tx.t.Mark.Name, tx.t.Mark.Description, tx.t.Mark.User = name, description, user
}

// Commit makes the changes last.
func (tx *Tx) Commit() (Commit, error) {
	db := tx.db
	db.e.Lock()
	if tx.t.Finished {
		db.e.Unlock()
		return Commit{}, ErrFinished
	}
	c, err := db.e.CommitTx(tx.t)
	db.e.Unlock()
	db.e.Leave()
	if err == nil && c.Mark != nil && db.env.Marked != nil {
		db.env.Marked(db, *c.Mark)
	}
	return c, err
}

// Rollback undoes the changes. After Commit or Rollback it does nothing.
func (tx *Tx) Rollback() error {
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	if tx.t.Finished {
		return nil
	}
	defer db.e.Leave()
	if err := db.e.RollbackTx(tx.t); err != nil {
		return err
	}
	return db.loadTables()
}
