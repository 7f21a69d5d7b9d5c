package engine

import (
	"encoding/json"
	"fmt"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
	"slices"
	"strings"
)

// DropFile deletes a file and keeps its row with the LSN at which it went.
func (e *Engine) DropFile(id uint16, at lsn.LSN) error {
	f := e.File(id)
	if f == nil || !f.DropLSN.IsZero() {
		return nil
	}
	f.DropLSN = at
	if d := e.Data[id]; d != nil {
		delete(e.Data, id)
		if err := d.Close(); err != nil {
			return fmt.Errorf("close %s: %w", f.Physical, err)
		}
	}
	return e.Env.FS.Remove(f.Physical)
}

// ForgetFile takes a dropped file's row away.
func (e *Engine) ForgetFile(id uint16) {
	e.Boot.Files = slices.DeleteFunc(e.Boot.Files, func(f File) bool { return f.ID == id })
}

// forgetDropped takes the rows of dropped files away: a backup has them now.
func (e *Engine) forgetDropped() {
	e.Boot.Files = slices.DeleteFunc(e.Boot.Files, func(f File) bool { return !f.DropLSN.IsZero() })
}

// Logical finds a file by its logical name in any case; nil if there is none.
func (e *Engine) Logical(name string) *File {
	for i := range e.Boot.Files {
		if f := &e.Boot.Files[i]; strings.EqualFold(f.Logical, name) && f.DropLSN.IsZero() {
			return f
		}
	}
	return nil
}

// LogSetting logs a change of the boot record and makes it.
func (e *Engine) LogSetting(s Setting) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("log a setting: %w", err)
	}
	if _, err := e.Append(wal.Record{Op: wal.Setting, Text: raw}); err != nil {
		return err
	}
	e.Log.CloseBlock()
	e.set(s)
	return nil
}
