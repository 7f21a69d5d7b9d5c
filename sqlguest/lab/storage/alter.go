package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"holdfast/sqlguest/lab/storage/engine"
	"slices"
	"unicode/utf16"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// alone runs a change of the database's shape: no transaction writes meanwhile, and
// no data backup runs (3023).
func (db *Database) alone(ctx context.Context, change func() error) error {
	if err := db.e.Wait(ctx); err != nil {
		return err
	}
	defer func() { db.e.Leave() }()
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Writable(); err != nil {
		return err
	}
	if db.e.DataBackupRuns() {
		return message.Fail(3023)
	}
	if err := change(); err != nil {
		return err
	}
	return db.e.SaveBoot()
}

// AddFile adds a data file; Logical, Physical and Pages count. 1828 if the logical
// name is taken, 5170 if the file exists, 3023 while a data backup runs.
func (db *Database) AddFile(ctx context.Context, f File) error {
	return db.alone(ctx, func() error {
		if err := db.mayName(f.Logical); err != nil {
			return err
		}
		f.ID, f.GUID, f.Type, f.Base = 3, db.e.Env.GUID(), Rows, Base{}
		for db.e.File(f.ID) != nil {
			f.ID++
		}
		f.Pages = max(f.Pages, engine.SmallestFile)
		d, err := engine.CreateData(db.e.Env.FS, f)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("add file %s: %w", f.Logical, err)
		}
		if f.CreateLSN, err = db.e.Append(wal.Record{Op: wal.FileAdd, Text: raw}); err != nil {
			return err
		}
		db.e.Log.CloseBlock()
		db.e.Data[f.ID] = d
		db.e.Boot.Files = append(db.e.Boot.Files, f)
		return nil
	})
}

// RemoveFile removes a data file; 5009 if it is unknown, 5020 for the first data
// file and the log, 5042 if it has pages in use (ShrinkFile with empty moves them).
func (db *Database) RemoveFile(ctx context.Context, logical string) error {
	return db.alone(ctx, func() error {
		f := db.e.Logical(logical)
		if f == nil {
			return message.Fail(5009)
		}
		if f.ID <= engine.LogFileID {
			return message.Fail(5020)
		}
		if used, err := db.e.Allocated(f.ID); err != nil {
			return err
		} else if used.Any(engine.FirstFree, f.Pages) {
			return message.Fail(5042, f.Logical)
		}
		raw, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("remove file %s: %w", logical, err)
		}
		at, err := db.e.Append(wal.Record{Op: wal.FileDrop, Text: raw})
		if err != nil {
			return err
		}
		db.e.Log.CloseBlock()
		return db.e.DropFile(f.ID, at)
	})
}

// mayName is 1828 for a logical name that is taken, 103 for one that is too long.
func (db *Database) mayName(logical string) error {
	const most = 128 // sysname, in UTF-16 units
	if len(utf16.Encode([]rune(logical))) > most {
		return message.Fail(103, string([]rune(logical)[:most/2]), most)
	}
	if db.e.Logical(logical) != nil {
		return message.Fail(1828, logical)
	}
	return nil
}

// RenameFile gives a file another logical name (MODIFY FILE, NEWNAME).
func (db *Database) RenameFile(ctx context.Context, logical, newName string) error {
	return db.alone(ctx, func() error {
		f := db.e.Logical(logical)
		if f == nil {
			return message.Fail(5009)
		}
		if err := db.mayName(newName); err != nil {
			return err
		}
		return db.e.LogSetting(engine.Setting{File: f.ID, Logical: newName})
	})
}

// SetModel changes the recovery model. To and from SIMPLE the log chain ends; the
// message 4219 says so.
func (db *Database) SetModel(ctx context.Context, m Model) ([]server.Message, error) {
	var out []server.Message
	err := db.alone(ctx, func() error {
		old := db.e.Boot.Model
		if err := db.e.LogSetting(engine.Setting{Model: m}); err != nil {
			return err
		}
		if m == Simple && old != Simple {
			if !db.e.Boot.LastLogBackup.IsZero() {
				out = append(out, message.New(4219))
			}
			db.e.Boot.LastLogBackup, db.e.Boot.BeginsChain = lsn.LSN{}, false
		}
		return db.e.Checkpoint()
	})
	return out, err
}

// Rename gives the database another name.
func (db *Database) Rename(name string) error {
	return db.option(func(b *Boot) { b.Name = name })
}

// SetAccess changes who may use the database; sessions are the caller's to end.
func (db *Database) SetAccess(a Access) error { return db.option(func(b *Boot) { b.Access = a }) }

// SetOwner changes the owner; 927, 942, 3906 if the database cannot be written to.
func (db *Database) SetOwner(login string) error {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Writable(); err != nil {
		return err
	}
	db.e.Boot.Owner = login
	return db.e.SaveBoot()
}

// SetAutoClose changes AUTO_CLOSE, which is only noted.
func (db *Database) SetAutoClose(on bool) error {
	return db.option(func(b *Boot) { b.AutoClose = on })
}

// SetProtector changes the certificate, by its thumbprint, that locks the database's
// encryption key, and whether it is encrypted.
func (db *Database) SetProtector(thumbprint string, encrypted bool) error {
	return db.option(func(b *Boot) { b.Protector, b.Encrypted = thumbprint, encrypted })
}

// SetTrust changes TRUSTWORTHY, DB_CHAINING and ENABLE_BROKER, each unless it is nil.
// They are only noted.
func (db *Database) SetTrust(trustworthy, chaining, broker *bool) error {
	return db.option(func(b *Boot) {
		for _, x := range []struct{ to, from *bool }{{&b.Trustworthy, trustworthy}, {&b.Chaining, chaining}, {&b.Broker, broker}} {
			if x.from != nil {
				*x.to = *x.from
			}
		}
	})
}

// SetID gives the database another database_id.
func (db *Database) SetID(id int) error { return db.option(func(b *Boot) { b.ID = id }) }

func (db *Database) option(set func(*Boot)) error {
	db.e.Lock()
	defer db.e.Unlock()
	set(&db.e.Boot)
	if db.e.Boot.State == Offline {
		return nil // the files are closed; it is written when they are opened
	}
	return db.e.SaveBoot()
}

// SetReadOnly changes READ_ONLY; a checkpoint stands before it.
func (db *Database) SetReadOnly(ctx context.Context, on bool) error {
	if err := db.e.Wait(ctx); err != nil {
		return err
	}
	defer func() { db.e.Leave() }()
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Usable(); err != nil {
		return err
	}
	if db.e.Boot.Standby {
		return message.Fail(5004)
	}
	db.e.Boot.ReadOnly = false
	if err := db.e.Checkpoint(); err != nil {
		return err
	}
	db.e.Boot.ReadOnly = on
	return db.e.SaveBoot()
}

// SetOffline closes the database; 5064 while a transaction is open.
func (db *Database) SetOffline() error {
	release, ok := db.e.Seize()
	if !ok {
		return message.Fail(5064, db.e.Info().Name)
	}
	defer release()
	db.e.Lock()
	defer db.e.Unlock()
	if db.e.Boot.State != Online {
		return message.Fail(5052, db.e.Boot.State)
	}
	if !db.e.Boot.ReadOnly && !db.e.Boot.Standby {
		if err := db.e.Checkpoint(); err != nil {
			return err
		}
	}
	db.e.Boot.State = Offline
	if err := db.e.SaveBoot(); err != nil {
		return err
	}
	return db.e.CloseFiles()
}

// SetOnline opens a database that is Offline or RecoveryPending again.
func (db *Database) SetOnline() error {
	db.e.Lock()
	defer db.e.Unlock()
	if db.e.Boot.State != Offline && db.e.Boot.State != RecoveryPending {
		return nil
	}
	if db.e.Boot.State == RecoveryPending {
		if err := db.e.CloseFiles(); err != nil {
			return err
		}
	}
	db.e.Boot.State = Online
	if err := db.e.Start(); err != nil {
		db.e.Boot.State = RecoveryPending
		return err
	}
	return db.e.SaveBoot()
}

// ShrinkFile makes a data file as small as its pages in use allow, but not smaller
// than pages; with empty all its pages move to the other files. Rows that lie on
// pages which move get other row ids. 3023 while a data backup runs.
func (db *Database) ShrinkFile(ctx context.Context, logical string, pages uint32, empty bool) error {
	return db.alone(ctx, func() error {
		f := db.e.Logical(logical)
		if f == nil {
			return message.Fail(5009)
		}
		if f.Type == Log {
			return db.e.Truncate()
		}
		id := f.ID
		tx := &Tx{db: db, t: db.e.NewTx("SHRINK")}
		if err := db.moveOut(tx, id, max(pages, engine.SmallestFile), empty); err != nil {
			tx.t.Finished = true
			return fmt.Errorf("shrink %s: %w", logical, err)
		}
		if _, err := db.e.CommitTx(tx.t); err != nil {
			return err
		}
		used, err := db.e.Allocated(id)
		if err != nil {
			return err
		}
		last := db.e.File(id).Pages
		for last > max(pages, engine.SmallestFile) && !used.Has(last-1) {
			last--
		}
		if last == db.e.File(id).Pages {
			return nil
		}
		err = db.e.Resize(id, last)
		db.e.Log.CloseBlock()
		return err
	})
}

// moveOut moves the pages of a file that lie behind limit (or all) to free places:
// in front of limit in the same file, or in other files if empty.
func (db *Database) moveOut(tx *Tx, file uint16, limit uint32, empty bool) error {
	tables := []*Table{db.system()}
	for _, t := range db.tables {
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b *Table) int { return int(a.ID) - int(b.ID) })
	for _, t := range tables[1:] { // the table of tables stays where it is
		ids, err := db.chain(t)
		if err != nil {
			return err
		}
		for i, id := range ids {
			if id.File != file || (id.Page < limit && !empty) {
				continue
			}
			to, ok, err := db.room(file, limit, empty)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := db.movePage(tx, t, ids, i, to); err != nil {
				return err
			}
			ids[i] = to
		}
		delete(db.tails, t.ID)
	}
	return nil
}

// room finds a free page to move to.
func (db *Database) room(file uint16, limit uint32, empty bool) (page.ID, bool, error) {
	for _, f := range db.e.Boot.Files {
		if f.Type != Rows || !f.DropLSN.IsZero() || (f.ID == file) == empty {
			continue
		}
		n, err := db.e.FreePage(f)
		if err != nil {
			return page.ID{}, false, err
		}
		if n != 0 && (empty || n < limit) {
			return page.ID{File: f.ID, Page: n}, true, nil
		}
	}
	return page.ID{}, false, nil
}

// movePage copies the i-th page of a table to another place and relinks the chain.
func (db *Database) movePage(tx *Tx, t *Table, ids []page.ID, i int, to page.ID) error {
	content := make(page.Page, page.Bytes)
	if err := db.e.ReadPage(ids[i], content); err != nil {
		return err
	}
	if err := db.e.MapPage(tx.t, to, true); err != nil {
		return err
	}
	err := db.e.Change(tx.t, to, true, func(p page.Page) error {
		p.Init(to, t.ID)
		p.TakeRows(content)
		return nil
	})
	if err != nil {
		return err
	}
	if err := db.e.MapPage(tx.t, ids[i], false); err != nil {
		return err
	}
	if i > 0 {
		return db.e.Change(tx.t, ids[i-1], false, func(p page.Page) error { p.SetNext(to); return nil })
	}
	t.first = to
	raw, err := t.row()
	if err != nil {
		return err
	}
	return db.e.Change(tx.t, t.at.Page, false, func(p page.Page) error {
		if !p.Replace(t.at.Slot, raw) {
			return message.Fail(1105, t.Name, db.e.Boot.Name, "PRIMARY")
		}
		return nil
	})
}
