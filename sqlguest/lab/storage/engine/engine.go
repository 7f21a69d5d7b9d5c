package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// Engine is one open database without its tables.
type Engine struct {
	Env Env
	// writer holds one token: who has it may change the database.
	writer chan struct{}

	mu sync.Mutex // guards everything below
	// Boot, Data and Log are what the files hold.
	Boot   Boot
	Data   map[uint16]*DataFile
	Log    *wal.Log
	active *Tx
	turn   int // which file the next page comes from
	// since is how many records were logged since the last checkpoint.
	since   int
	backup  *DataBackup // running; file changes wait for it (3023)
	logBack *LogBackup
	pageA   page.Page
	pageB   page.Page
}

// Lock takes the engine's lock.
func (e *Engine) Lock() { e.mu.Lock() }

// Unlock gives the engine's lock back.
func (e *Engine) Unlock() { e.mu.Unlock() }

// checkpointEvery is after how many log records a checkpoint comes by itself.
const checkpointEvery = 500

// CreateOptions describe a new database.
type CreateOptions struct {
	Name string
	ID   int
	// Data and Log are the files: logical and physical names, and pages if more
	// than the smallest (24 for data). At least one of each is needed.
	Data  []File
	Log   File
	Model Model // 0 is Full
	Owner string
}

// New is an engine without files, which a restore fills.
func New(env Env) *Engine {
	return &Engine{Env: env, writer: make(chan struct{}, 1), Data: map[uint16]*DataFile{},
		pageA: make(page.Page, page.Bytes), pageB: make(page.Page, page.Bytes)}
}

// Create makes a database's files. 5170 if one is there already.
func Create(env Env, o CreateOptions) (*Engine, error) {
	e := New(env)
	now := Local(env.Now())
	e.Boot = Boot{Name: o.Name, ID: o.ID, FamilyGUID: env.GUID(), DatabaseGUID: env.GUID(), Model: o.Model,
		Forks: []Fork{{GUID: env.GUID()}}, Owner: o.Owner, Broker: true, Created: now, NextObject: SystemObject + 1, NextTx: 1}
	if o.Model == 0 {
		e.Boot.Model = Full
	}
	if err := e.createFiles(o); err != nil {
		_ = e.RemoveFiles() // the first error counts
		return nil, err
	}
	tx := e.NewTx("CREATE DATABASE")
	id, err := e.Allocate(tx, SystemObject)
	if err == nil {
		e.Boot.System = id
		_, err = e.CommitTx(tx)
	}
	if err == nil {
		err = e.Checkpoint()
	}
	return e, err
}

func (e *Engine) createFiles(o CreateOptions) error {
	id := uint16(1)
	for _, f := range o.Data {
		f.ID, f.GUID, f.Type = id, e.Env.GUID(), Rows
		f.Pages = max(f.Pages, SmallestFile)
		d, err := CreateData(e.Env.FS, f)
		if err != nil {
			return err
		}
		e.Data[id] = d
		e.Boot.Files = append(e.Boot.Files, f)
		if id++; id == LogFileID {
			id++
		}
	}
	o.Log.ID, o.Log.GUID, o.Log.Type = LogFileID, e.Env.GUID(), Log
	file, err := e.Env.FS.Create(o.Log.Physical)
	if err != nil {
		return message.Fail(5170, o.Log.Physical)
	}
	if e.Log, err = wal.Create(file, lsn.LSN{}); err != nil {
		return err
	}
	e.Boot.Files = append(e.Boot.Files, o.Log)
	return nil
}

// LogFileID is the log's number; SystemObject is the table of tables.
const (
	LogFileID    = 2
	SystemObject = 1
)

// Open opens a database by its primary file and recovers it, as at start and at
// attach. logPath is for a database whose primary file is lost: then the state is
// RecoveryPending and only the tail of its log can be backed up. moved gives new
// physical paths by logical name (attach from elsewhere); it may be nil.
func Open(env Env, primary, logPath string, moved map[string]string) (*Engine, error) {
	e := New(env)
	file, err := env.FS.Open(primary)
	if err != nil {
		return openTail(env, logPath)
	}
	e.Boot, err = readBoot(file)
	_ = file.Close() // it was only read
	if err != nil {
		return openTail(env, logPath)
	}
	for i := range e.Boot.Files {
		f := &e.Boot.Files[i]
		if p, ok := moved[f.Logical]; ok {
			f.Physical = p
		}
	}
	return e, e.Start()
}

// openTail makes what it can of a log whose data is lost.
func openTail(env Env, logPath string) (*Engine, error) {
	file, err := env.FS.Open(logPath)
	if err != nil {
		return nil, message.Fail(5120, logPath, "2(The system cannot find the file specified.)")
	}
	note, err := wal.ReadNote(file)
	if err != nil {
		return nil, err
	}
	e := New(env)
	if err := json.Unmarshal(note, &e.Boot); err != nil {
		return nil, fmt.Errorf("read log header: %w", err)
	}
	if e.Log, err = wal.Open(file); err != nil {
		return nil, err
	}
	e.Boot.State = RecoveryPending
	return e, e.alignLog()
}

// Start opens the files and recovers. A data file that cannot be opened leaves the
// database RecoveryPending, which is no error.
func (e *Engine) Start() error {
	if e.Boot.State == Offline {
		return nil
	}
	f := e.File(LogFileID)
	file, err := e.Env.FS.Open(f.Physical)
	if err != nil {
		return message.Fail(5120, f.Physical, "2(The system cannot find the file specified.)")
	}
	if e.Log, err = wal.Open(file); err != nil {
		return message.Fail(9004, e.Boot.Name)
	}
	for _, f := range e.Boot.Files {
		if f.Type != Rows || !f.DropLSN.IsZero() {
			continue
		}
		d, err := openData(e.Env.FS, f)
		if err != nil {
			e.Boot.State = RecoveryPending
			continue
		}
		e.Data[f.ID] = d
	}
	if err := e.alignLog(); err != nil || e.Boot.State != Online || e.Boot.Standby {
		return err
	}
	return e.crashRecover()
}

// alignLog moves the log's end to where backups and restores have promised that it
// is: exactly to the point of a database that is being restored, and behind the last
// log backup of one that goes on.
func (e *Engine) alignLog() error {
	at := e.Boot.RedoStart
	if e.Boot.State != Restoring && !e.Boot.Standby {
		e.Log.CloseBlock()
		at = e.Boot.LastLogBackup
	}
	if e.Log.End().Less(at) {
		return e.Log.SetEnd(at)
	}
	return nil
}

// File finds a file by number; nil if there is none.
func (e *Engine) File(id uint16) *File {
	for i := range e.Boot.Files {
		if e.Boot.Files[i].ID == id {
			return &e.Boot.Files[i]
		}
	}
	return nil
}

// CloseFiles closes the files without a word in them.
func (e *Engine) CloseFiles() error {
	var first error
	for id, d := range e.Data {
		if err := d.Close(); err != nil && first == nil {
			first = err
		}
		delete(e.Data, id)
	}
	if e.Log != nil {
		if err := e.Log.Close(); err != nil && first == nil {
			first = err
		}
		e.Log = nil
	}
	return first
}

// RemoveFiles closes the files and deletes them.
func (e *Engine) RemoveFiles() error {
	err := e.CloseFiles()
	for _, f := range e.Boot.Files {
		if f.DropLSN.IsZero() && e.Env.FS.Exists(f.Physical) {
			if e := e.Env.FS.Remove(f.Physical); e != nil && err == nil {
				err = e
			}
		}
	}
	return err
}

// Info describes the database at this moment.
func (e *Engine) Info() Info {
	e.Lock()
	defer e.Unlock()
	b := e.Boot.Clone()
	i := Info{Boot: b, FirstFork: b.Forks[0].GUID}
	if e.Log != nil {
		i.LogEnd, i.LogBytes = e.Log.End(), e.Log.Bytes()
		for j := range i.Files {
			if i.Files[j].Type == Log {
				i.Files[j].Pages = uint32(i.LogBytes/page.Bytes) + SmallestFile
			}
		}
	}
	i.FirstFork, i.ForkPoint = b.span(b.LastLogBackup)
	i.LogReuseWait, i.LogReuseWaitDesc = e.reuseWait()
	return i
}

// span gives the fork in which a log backup from an LSN would begin, and the point
// of the fork that lies in it, NULL if none does.
func (b *Boot) span(from lsn.LSN) (first value.GUID, point lsn.LSN) {
	if from.IsZero() {
		return b.Fork(), lsn.LSN{}
	}
	first = ForkBefore(b.Forks, from)
	if first != b.Fork() {
		point = b.Forks[len(b.Forks)-1].Start
	}
	return first, point
}

// Seize takes the database for one that must be alone in it: RESTORE over it, taking
// it offline, dropping it. ok is false while somebody has a transaction open.
func (e *Engine) Seize() (release func(), ok bool) {
	select {
	case e.writer <- struct{}{}:
		return sync.OnceFunc(e.Leave), true
	default:
		return nil, false
	}
}

// DataBackupRuns tells whether a data backup runs; the caller holds the lock.
func (e *Engine) DataBackupRuns() bool { return e.backup != nil }

// Busy tells whether a backup runs.
func (e *Engine) Busy() bool {
	e.Lock()
	defer e.Unlock()
	return e.backup != nil || e.logBack != nil
}

// Wait takes the writer's token, without the lock.
func (e *Engine) Wait(ctx context.Context) error {
	select {
	case e.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave gives the writer's token back.
func (e *Engine) Leave() { <-e.writer }

// Usable says why a database cannot be read: 927, 942, 945.
func (e *Engine) Usable() error {
	switch e.Boot.State {
	case Online:
		return nil
	case Restoring:
		return message.Fail(927, e.Boot.Name)
	case Offline:
		return message.Fail(942, e.Boot.Name)
	}
	return message.Fail(945, e.Boot.Name)
}

// Writable adds 3906.
func (e *Engine) Writable() error {
	if err := e.Usable(); err != nil {
		return err
	}
	if e.Boot.ReadOnly || e.Boot.Standby {
		return message.Fail(3906, e.Boot.Name)
	}
	return nil
}
