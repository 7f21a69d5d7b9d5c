package engine

import (
	"errors"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
)

// ErrFinished: the transaction has been committed or rolled back already.
var ErrFinished = errors.New("transaction is finished")

// Tx is the transaction that writes.
type Tx struct {
	Name     string
	Mark     wal.Mark
	Finished bool
	id       uint64 // 0 until the first change is logged
	first    lsn.LSN
	done     []Undo
}

// Undo is one logged change, as undo needs it.
type Undo struct {
	Page   page.ID
	Format bool
	Ranges []page.Range
}

// Commit is what became of a transaction.
type Commit struct {
	// LSN is the commit record's; NULL if nothing was changed, and then nothing
	// was logged, a mark neither.
	LSN  lsn.LSN
	Mark *Mark
}

// ID is the transaction's number in the log, 0 before its first change.
func (tx *Tx) ID() uint64 { return tx.id }

// NewTx begins a transaction; the caller has the writer's token.
func (e *Engine) NewTx(name string) *Tx {
	e.active = &Tx{Name: name}
	return e.active
}

// CommitTx makes a transaction's changes last. The token stays with the caller.
func (e *Engine) CommitTx(tx *Tx) (Commit, error) {
	tx.Finished, e.active = true, nil
	if tx.id == 0 {
		return Commit{}, nil
	}
	now := Local(e.Env.Now())
	at, err := e.Append(wal.Record{Op: wal.Commit, Tx: tx.id, Time: now, Mark: tx.Mark})
	if err != nil {
		return Commit{}, err
	}
	e.Log.CloseBlock()
	c := Commit{LSN: at}
	if m := tx.Mark; m.Name != "" {
		c.Mark = &Mark{m.Name, m.Description, m.User, at, now}
	}
	if e.since > checkpointEvery {
		err = e.Checkpoint()
	}
	return c, err
}

// RollbackTx undoes a transaction's changes. The token stays with the caller.
func (e *Engine) RollbackTx(tx *Tx) error {
	tx.Finished, e.active = true, nil
	if tx.id == 0 {
		return nil
	}
	return e.undo(tx.id, tx.done)
}

// undo takes changes back, the last one first, and logs that it did.
func (e *Engine) undo(id uint64, done []Undo) error {
	p := make(page.Page, page.Bytes)
	for i := len(done) - 1; i >= 0; i-- {
		c := done[i]
		r := wal.Record{Op: wal.Change, Tx: id, Page: c.Page, Undo: true}
		for _, x := range c.Ranges {
			if !c.Format { // a page that was made is given back by the map alone
				r.Ranges = append(r.Ranges, page.Range{Offset: x.Offset, Before: x.After, After: x.Before})
			}
		}
		at, err := e.Append(r)
		if err != nil {
			return err
		}
		if err := e.ReadPage(c.Page, p); err != nil {
			return err
		}
		p.Apply(r.Ranges, false)
		if err := e.WritePage(c.Page, p, at); err != nil {
			return err
		}
		if c.Page.Page == AllocatedPage {
			e.Data[c.Page.File].hint = FirstFree
		}
	}
	_, err := e.Append(wal.Record{Op: wal.Abort, Tx: id, Time: Local(e.Env.Now())})
	e.Log.CloseBlock()
	return err
}

// Append logs a record and counts it.
func (e *Engine) Append(r wal.Record) (lsn.LSN, error) {
	e.since++
	return e.Log.Append(r)
}

// begun logs the transaction's begin before its first change.
func (e *Engine) begun(tx *Tx) error {
	if tx.Finished {
		return ErrFinished
	}
	if tx.id != 0 {
		return nil
	}
	id := e.Boot.NextTx
	e.Boot.NextTx++
	at, err := e.Append(wal.Record{Op: wal.Begin, Tx: id, Time: Local(e.Env.Now()), Text: []byte(tx.Name)})
	if err != nil {
		return err
	}
	tx.id, tx.first = id, at
	return nil
}

// Change lets mutate change a page, logs the difference and writes the page. With
// format the page is emptied first. Without a difference nothing is logged.
func (e *Engine) Change(tx *Tx, id page.ID, format bool, mutate func(page.Page) error) error {
	if err := e.begun(tx); err != nil {
		return err
	}
	before, after := e.pageA, e.pageB
	if format {
		clear(before)
	} else if err := e.ReadPage(id, before); err != nil {
		return err
	}
	copy(after, before)
	if err := mutate(after); err != nil {
		return err
	}
	r := wal.Record{Op: wal.Change, Tx: tx.id, Page: id, Format: format, Ranges: page.Diff(before, after)}
	if len(r.Ranges) == 0 && !format {
		return nil
	}
	at, err := e.Append(r)
	if err != nil {
		return err
	}
	tx.done = append(tx.done, Undo{id, format, r.Ranges})
	return e.WritePage(id, after, at)
}

// Allocate takes a free page for an object and formats it. The files take turns.
func (e *Engine) Allocate(tx *Tx, object uint32) (page.ID, error) {
	var files []File
	for _, f := range e.Boot.Files {
		if f.Type == Rows && f.DropLSN.IsZero() {
			files = append(files, f)
		}
	}
	for range files {
		f := files[e.turn%len(files)]
		e.turn++
		n, err := e.FreePage(f)
		if err != nil {
			return page.ID{}, err
		}
		if n == 0 {
			continue // full
		}
		id := page.ID{File: f.ID, Page: n}
		if err := e.MapPage(tx, id, true); err != nil {
			return page.ID{}, err
		}
		err = e.Change(tx, id, true, func(p page.Page) error { p.Init(id, object); return nil })
		return id, err
	}
	return page.ID{}, message.Fail(1105, "dbo", e.Boot.Name, "PRIMARY")
}

// MapPage marks a page as allocated or free in its file's map.
func (e *Engine) MapPage(tx *Tx, id page.ID, used bool) error {
	return e.Change(tx, page.ID{File: id.File, Page: AllocatedPage}, false, func(p page.Page) error {
		if used {
			Bitmap(p.Body()).set(id.Page)
		} else {
			Bitmap(p.Body()).clearBit(id.Page)
			e.Data[id.File].hint = min(e.Data[id.File].hint, id.Page)
		}
		return nil
	})
}

// FreePage finds a free page, growing the file if it must; 0 if the file is full.
func (e *Engine) FreePage(f File) (uint32, error) {
	d := e.Data[f.ID]
	if err := e.ReadPage(page.ID{File: f.ID, Page: AllocatedPage}, e.pageA); err != nil {
		return 0, err
	}
	used := Bitmap(e.pageA.Body())
	for n := d.hint; n < f.Pages; n++ {
		if !used.Has(n) {
			d.hint = n
			return n, nil
		}
	}
	if f.Pages+growPages > MaxPages {
		return 0, nil
	}
	n := f.Pages
	d.hint = n
	return n, e.Resize(f.ID, f.Pages+growPages)
}

// Resize gives a data file another size, logged outside of any transaction.
func (e *Engine) Resize(file uint16, pages uint32) error {
	if _, err := e.Append(wal.Record{Op: wal.FileSize, Page: page.ID{File: file, Page: pages}}); err != nil {
		return err
	}
	return e.SetSize(file, pages)
}

// SetSize gives a data file another size without a word in the log, as redo does.
func (e *Engine) SetSize(file uint16, pages uint32) error {
	f, d := e.File(file), e.Data[file]
	if f == nil || d == nil {
		return message.Fail(945, e.Boot.Name)
	}
	f.Pages = pages
	d.hint = FirstFree
	return d.Truncate(int64(pages) * page.Bytes)
}
