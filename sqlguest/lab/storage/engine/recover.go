package engine

import (
	"encoding/json"
	"fmt"

	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
)

// Setting is a logged change of what the boot record holds.
type Setting struct {
	Model   Model  `json:"model,omitempty"`
	File    uint16 `json:"file,omitempty"`
	Logical string `json:"logical,omitempty"`
}

// Redo does again what a record says. Pages that have the change are left alone.
func (e *Engine) Redo(r *wal.Record, place func(File) File) error {
	switch r.Op {
	case wal.Change:
		return e.redoChange(r)
	case wal.Bulk:
		for _, id := range r.Pages {
			d := e.Data[id.File]
			if err := d.note(id.File, id.Page/page.ExtentPages); err != nil {
				return err
			}
			if err := d.NoteBulk(id.File, id.Page/page.ExtentPages); err != nil {
				return err
			}
		}
	case wal.FileSize:
		return e.SetSize(r.Page.File, r.Page.Page)
	case wal.FileAdd, wal.FileDrop:
		var f File
		if err := json.Unmarshal(r.Text, &f); err != nil {
			return fmt.Errorf("redo %s: %w", r.LSN, err)
		}
		if r.Op == wal.FileDrop {
			return e.DropFile(f.ID, r.LSN)
		}
		f.CreateLSN = r.LSN
		return e.redoFileAdd(f, place)
	case wal.Setting:
		var s Setting
		if err := json.Unmarshal(r.Text, &s); err != nil {
			return fmt.Errorf("redo %s: %w", r.LSN, err)
		}
		e.set(s)
	case wal.Checkpoint:
		e.Boot.Checkpoint = r.LSN
	}
	if r.Time.After(e.Boot.RedoTime) {
		e.Boot.RedoTime = r.Time
	}
	e.Boot.NextTx = max(e.Boot.NextTx, r.Tx+1)
	return nil
}

func (e *Engine) redoChange(r *wal.Record) error {
	d := e.Data[r.Page.File]
	f := e.File(r.Page.File)
	if d == nil || f == nil || !f.DropLSN.IsZero() {
		return nil // of a file that is gone
	}
	if r.LSN.Less(f.CreateLSN) {
		return nil // of an earlier file with that number
	}
	p := e.pageA
	if err := e.ReadPage(r.Page, p); err != nil {
		return err
	}
	if !p.LSN().Less(r.LSN) {
		return nil
	}
	if r.Format {
		clear(p)
	}
	p.Apply(r.Ranges, false)
	return e.WritePage(r.Page, p, r.LSN)
}

func (e *Engine) redoFileAdd(f File, place func(File) File) error {
	if old := e.File(f.ID); old != nil && old.GUID == f.GUID {
		return nil // the data backup had it
	}
	if place != nil {
		f = place(f)
	}
	d, err := CreateData(e.Env.FS, f)
	if err != nil {
		return err
	}
	e.Data[f.ID] = d
	e.ForgetFile(f.ID)
	e.Boot.Files = append(e.Boot.Files, f)
	return nil
}

func (e *Engine) set(s Setting) {
	if s.Model != 0 {
		e.Boot.Model = s.Model
	}
	if f := e.File(s.File); f != nil && s.Logical != "" {
		f.Logical = s.Logical
	}
}

// Losers finds the transactions that the log leaves open, each with the changes
// that have not been compensated.
func Losers(recs []wal.Record) map[uint64][]Undo {
	open := map[uint64][]Undo{}
	for i := range recs {
		switch r := &recs[i]; r.Op {
		case wal.Begin:
			open[r.Tx] = nil
		case wal.Commit, wal.Abort:
			delete(open, r.Tx)
		case wal.Change:
			done, ok := open[r.Tx]
			switch {
			case !ok: // began before the log does, and so ended in it
			case r.Undo && len(done) > 0:
				open[r.Tx] = done[:len(done)-1]
			case !r.Undo:
				open[r.Tx] = append(done, Undo{r.Page, r.Format, r.Ranges})
			}
		}
	}
	return open
}

// crashRecover makes the files whole after the database was not closed: redo of
// pages that a crash kept from the file, then undo.
func (e *Engine) crashRecover() error {
	recs := e.Log.From(lsn.LSN{})
	sizes := map[uint16]uint32{}
	for i := range recs {
		r := &recs[i]
		e.Boot.NextTx = max(e.Boot.NextTx, r.Tx+1)
		// Of several sizes only the last counts: going through them all would cut off
		// pages that the log does not hold.
		if r.Op == wal.FileSize && e.Boot.Checkpoint.Less(r.LSN) {
			sizes[r.Page.File] = r.Page.Page
		}
		if r.Op == wal.Change {
			if err := e.Redo(r, nil); err != nil {
				return err
			}
		}
	}
	for id, pages := range sizes {
		if f := e.File(id); f != nil && f.DropLSN.IsZero() {
			if err := e.SetSize(id, pages); err != nil {
				return err
			}
		}
	}
	if err := e.UndoLosers(recs); err != nil {
		return err
	}
	if e.Boot.ReadOnly {
		return nil
	}
	return e.Checkpoint()
}

// UndoLosers undoes what records leave open.
func (e *Engine) UndoLosers(recs []wal.Record) error {
	open := Losers(recs)
	// At most one transaction writes at a time, so there is no order to keep.
	for id, done := range open {
		if err := e.undo(id, done); err != nil {
			return err
		}
	}
	return nil
}

// Checkpoint notes that all pages are in the files; in SIMPLE, and as long as no
// data backup has begun a chain, it truncates the log.
func (e *Engine) Checkpoint() error {
	e.Log.CloseBlock()
	at, err := e.Append(wal.Record{Op: wal.Checkpoint, Time: Local(e.Env.Now())})
	if err != nil {
		return err
	}
	e.Log.CloseBlock()
	e.Boot.Checkpoint, e.since = at, 0
	if e.Boot.LastLogBackup.IsZero() {
		if err := e.Truncate(); err != nil {
			return err
		}
	}
	return e.SaveBoot()
}

// limits are the LSNs before which the log is not needed, each for its own reason,
// with the number and the name of log_reuse_wait.
func (e *Engine) limits() (at []lsn.LSN, wait []int) {
	add := func(l lsn.LSN, n int) { at, wait = append(at, l), append(wait, n) }
	if !e.Boot.LastLogBackup.IsZero() {
		add(e.Boot.LastLogBackup, 2)
	}
	if e.backup != nil {
		add(e.backup.First, 3)
	}
	if e.active != nil && e.active.id != 0 {
		add(e.active.first, 4)
	}
	add(e.Boot.Checkpoint, 0)
	return at, wait
}

// Truncate forgets the log that nobody needs.
func (e *Engine) Truncate() error {
	at, _ := e.limits()
	least := at[0]
	for _, l := range at[1:] {
		if l.Less(least) {
			least = l
		}
	}
	return e.Log.Truncate(least)
}

var waits = map[int]string{0: "NOTHING", 2: "LOG_BACKUP", 3: "ACTIVE_BACKUP_OR_RESTORE", 4: "ACTIVE_TRANSACTION"}

// reuseWait says what keeps the log from being reused.
func (e *Engine) reuseWait() (int, string) {
	at, wait := e.limits()
	least, why := at[len(at)-1], 0
	for i, l := range at {
		if l.Less(least) {
			least, why = l, wait[i]
		}
	}
	return why, waits[why]
}
