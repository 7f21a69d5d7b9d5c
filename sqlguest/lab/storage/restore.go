package storage

import (
	"errors"
	"fmt"
	"holdfast/sqlguest/lab/storage/engine"
	"time"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// RestoreOptions begin the restore of a full backup.
type RestoreOptions struct {
	Name string
	ID   int
	// Boot is the boot record that the backup set carries.
	Boot Boot
	// Files are the set's files with the places where they go.
	Files []File
	// Set is the backup set's GUID if a differential may count from it, else zero.
	Set value.GUID
	// Base is what the restored files count changes from.
	Base  Base
	Owner string
}

// NewRestoring makes the files of a database that is to be filled by WriteExtent
// and EndData. Its state is RESTORING. 5170 if a file exists.
func NewRestoring(env Env, o RestoreOptions) (*Database, error) {
	db := newDatabase(env, engine.New(env.engine()))
	db.e.Boot = o.Boot.Clone()
	b := &db.e.Boot
	b.Name, b.ID, b.Files, b.Owner = o.Name, o.ID, nil, o.Owner
	b.State, b.Incomplete, b.DatabaseGUID, b.RestoredSet = Restoring, true, env.GUID(), o.Set
	b.Standby, b.ReadOnly, b.Created = false, o.Boot.ReadOnly, Local(env.Now())
	b.Access, b.Trustworthy, b.Chaining, b.Broker = MultiUser, false, false, false
	for _, f := range o.Files {
		if err := db.restoreFile(f, o.Base); err != nil {
			_ = db.e.RemoveFiles() // the first error counts
			return nil, err
		}
	}
	return db, db.e.SaveBoot()
}

// restoreFile makes one file of a restore.
func (db *Database) restoreFile(f File, base Base) error {
	if f.Type == Log {
		file, err := db.e.Env.FS.Create(f.Physical)
		if err != nil {
			return message.Fail(5170, f.Physical)
		}
		if db.e.Log, err = wal.Create(file, lsn.LSN{}); err != nil {
			return err
		}
	} else {
		d, err := engine.CreateData(db.e.Env.FS, f)
		if err != nil {
			return err
		}
		db.e.Data[f.ID] = d
		f.Base = base
	}
	db.e.Boot.Files = append(db.e.Boot.Files, f)
	return nil
}

// BeginDifferential gets a RESTORING database ready for a differential's extents:
// files that it does not know are made, those that it lacks are dropped.
func (db *Database) BeginDifferential(boot Boot, files []File) error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.endStandby(); err != nil {
		return err
	}
	base := db.e.File(1).Base
	keep := map[uint16]bool{}
	for _, f := range files {
		keep[f.ID] = true
		old := db.e.File(f.ID)
		switch {
		case f.Type == Log:
		case old != nil && old.GUID == f.GUID && old.DropLSN.IsZero():
			if err := db.e.SetSize(f.ID, f.Pages); err != nil {
				return err
			}
			old.Logical, old.CreateLSN = f.Logical, f.CreateLSN
		default:
			if old != nil {
				if err := db.e.DropFile(f.ID, boot.Checkpoint); err != nil {
					return err
				}
				db.e.ForgetFile(f.ID)
			}
			if err := db.restoreFile(f, Base{}); err != nil {
				return err
			}
		}
	}
	for _, f := range append([]File(nil), db.e.Boot.Files...) {
		if !keep[f.ID] {
			if err := db.e.DropFile(f.ID, boot.Checkpoint); err != nil {
				return err
			}
			db.e.ForgetFile(f.ID)
		}
	}
	db.e.Boot.Take(boot, base)
	db.e.Boot.Incomplete = true
	return db.e.SaveBoot()
}

// WriteExtent writes eight pages of a data backup. The boot record's extent is left
// out: a restored database has its own. With verify, 3183 if a page is damaged.
func (db *Database) WriteExtent(x Extent, verify bool) error {
	db.e.Lock()
	defer db.e.Unlock()
	return db.writeExtent(x, verify)
}

func (db *Database) writeExtent(x Extent, verify bool) error {
	d := db.e.Data[x.File]
	if d == nil || len(x.Data) != page.ExtentBytes {
		return message.Fail(3287, x.File, "")
	}
	if x.File == 1 && x.Number == 1 {
		return nil
	}
	for i := range uint32(page.ExtentPages) {
		if verify && !page.Page(x.Data[i*page.Bytes:(i+1)*page.Bytes]).Intact() {
			return message.Fail(3183, x.File, x.Number*page.ExtentPages+i, db.e.Boot.Name)
		}
	}
	if _, err := d.WriteAt(x.Data, int64(x.Number)*page.ExtentBytes); err != nil {
		return fmt.Errorf("write extent %d: %w", x.Number, err)
	}
	return nil
}

// EndData ends the restore of a data backup: the log part is put into the log and
// redone. full says that the set is a full backup that counts as differential base,
// from which on the map of changes is kept.
func (db *Database) EndData(recs []wal.Record, first, last lsn.LSN, counts bool) error {
	db.e.Lock()
	defer db.e.Unlock()
	for id, d := range db.e.Data {
		if err := d.LoadMaps(); err != nil {
			return err
		}
		if counts {
			clear(d.Changed)
		}
		clear(d.Bulk)
		if err := d.SaveMap(id, engine.ChangedPage, d.Changed); err != nil {
			return err
		}
	}
	if err := db.e.Log.Reset(first); err != nil {
		return err
	}
	if err := db.replay(recs, nil); err != nil {
		return err
	}
	if err := db.e.Log.SetEnd(last); err != nil {
		return err
	}
	b := &db.e.Boot
	b.LastLogBackup, b.BeginsChain = lsn.LSN{}, false
	if b.Model != Simple {
		b.LastLogBackup = last
	}
	b.RedoStart, b.RedoFork, b.Incomplete = last, b.Fork(), false
	if err := db.clearBulk(); err != nil {
		return err
	}
	return db.e.SaveBoot()
}

// clearBulk empties the maps of extents filled without logging.
func (db *Database) clearBulk() error {
	for id, d := range db.e.Data {
		clear(d.Bulk)
		if err := d.SaveMap(id, engine.BulkPage, d.Bulk); err != nil {
			return err
		}
	}
	return nil
}

// replay appends records to the log and redoes them.
func (db *Database) replay(recs []wal.Record, place func(File) File) error {
	for i := range recs {
		r := &recs[i]
		if r.LSN.Less(db.e.Log.End()) {
			continue // the database has it
		}
		if err := db.e.Log.AppendAt(*r); err != nil {
			return err
		}
		if err := db.e.Redo(r, place); err != nil {
			return err
		}
	}
	return nil
}

// Roll is a log backup to be rolled forward.
type Roll struct {
	Records     []wal.Record
	First, Last lsn.LSN
	Forks       []Fork
	Bulk        []Extent
	// Stop is the LSN at which to stop, NULL for the end of the log backup: the
	// record that has it is not redone.
	Stop lsn.LSN
	// Place says where a file goes that the log adds.
	Place func(File) File
}

// RollForward redoes a log backup on a RESTORING or STANDBY database. The rules
// which log fits are the caller's.
func (db *Database) RollForward(o Roll) error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.endStandby(); err != nil {
		return err
	}
	end := o.Last
	recs := o.Records
	if !o.Stop.IsZero() {
		end = o.Stop
		for i := range recs {
			if !recs[i].LSN.Less(o.Stop) {
				recs = recs[:i]
				break
			}
		}
	}
	if err := db.replay(recs, o.Place); err != nil {
		return err
	}
	// The extents that the log does not describe are as of its end, and whoever has
	// some does not stop before: they overwrite what redo made of them.
	for _, x := range o.Bulk {
		if db.e.Data[x.File] == nil {
			continue // of a file that the log drops
		}
		if err := db.writeExtent(x, false); err != nil {
			return err
		}
	}
	if err := db.e.Log.SetEnd(end); err != nil {
		return err
	}
	b := &db.e.Boot
	b.RedoStart, b.Forks = end, pathUntil(o.Forks, end)
	b.RedoFork = ForkBefore(b.Forks, end)
	if b.Model == Simple {
		b.LastLogBackup = lsn.LSN{}
	} else if end == o.Last {
		b.LastLogBackup = end
		if err := db.clearBulk(); err != nil {
			return err
		}
	}
	return db.e.SaveBoot()
}

// pathUntil is the path of forks up to an LSN.
func pathUntil(forks []Fork, at lsn.LSN) []Fork {
	out := []Fork{forks[0]}
	for _, f := range forks[1:] {
		if f.Start.Less(at) {
			out = append(out, f)
		}
	}
	return out
}

// Recover ends a restore: transactions that are open are undone, a new recovery
// fork begins and the database goes online.
func (db *Database) Recover() error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.endStandby(); err != nil {
		return err
	}
	b := &db.e.Boot
	b.Forks = append(b.Forks, Fork{GUID: db.e.Env.GUID(), Start: db.e.Log.End()})
	if len(b.Forks) > mostForks {
		b.Forks = b.Forks[len(b.Forks)-mostForks:]
	}
	b.State, b.RedoStart, b.RedoFork, b.RedoTime = Online, lsn.LSN{}, value.GUID{}, time.Time{}
	db.e.Log.CloseBlock()
	if err := db.e.UndoLosers(db.e.Log.From(lsn.LSN{})); err != nil {
		return err
	}
	if err := db.loadTables(); err != nil {
		return err
	}
	return db.e.Checkpoint()
}

// mostForks is how many forks a database remembers; a boot record has its limits.
const mostForks = 64

// Standby opens a RESTORING database for reading: transactions that are open are
// undone in the pages alone, and the pages as they were go into the undo file, from
// which the next restore puts them back. 3170 if the file exists already.
func (db *Database) Standby(undoFile string) error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.endStandby(); err != nil {
		return err
	}
	file, err := db.e.Env.FS.Create(undoFile)
	if err != nil {
		return message.Fail(3170)
	}
	defer file.Close()
	saved := map[page.ID]bool{}
	var off int64
	p := make(page.Page, page.Bytes)
	for _, done := range engine.Losers(db.e.Log.From(lsn.LSN{})) {
		for i := len(done) - 1; i >= 0; i-- {
			c := done[i]
			if err := db.e.ReadPage(c.Page, p); err != nil {
				return err
			}
			if !saved[c.Page] {
				saved[c.Page] = true
				if _, err := file.WriteAt(p, off); err != nil {
					return fmt.Errorf("write undo file: %w", err)
				}
				off += page.Bytes
			}
			if !c.Format {
				p.Apply(c.Ranges, true)
			}
			if err := db.e.WritePage(c.Page, p, p.LSN()); err != nil {
				return err
			}
		}
	}
	db.e.Boot.State, db.e.Boot.Standby, db.e.Boot.UndoFile = Online, true, undoFile
	if err := db.loadTables(); err != nil {
		return err
	}
	return db.e.SaveBoot()
}

// EndStandby makes a database in STANDBY a RESTORING one again; others stay as they
// are. 3170 if the undo file is lost.
func (db *Database) EndStandby() error {
	db.e.Lock()
	defer db.e.Unlock()
	return db.endStandby()
}

// endStandby puts back what Standby undid. 3170 if the undo file is lost or damaged.
func (db *Database) endStandby() error {
	if !db.e.Boot.Standby {
		return nil
	}
	data, err := filesystem.ReadFile(db.e.Env.FS, db.e.Boot.UndoFile)
	if err != nil || len(data)%page.Bytes != 0 {
		return message.Fail(3170)
	}
	for ; len(data) > 0; data = data[page.Bytes:] {
		p := page.Page(data[:page.Bytes])
		if !p.Intact() {
			return message.Fail(3170)
		}
		if err := db.e.WritePage(p.ID(), p, p.LSN()); err != nil {
			return err
		}
	}
	err = db.e.Env.FS.Remove(db.e.Boot.UndoFile)
	db.e.Boot.State, db.e.Boot.Standby, db.e.Boot.UndoFile = Restoring, false, ""
	return errors.Join(err, db.e.SaveBoot())
}
