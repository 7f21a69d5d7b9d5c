package engine

import (
	"fmt"
	"io"
	"slices"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
)

// DataBackup reads a full or differential backup while writing goes on: its pages
// are of different moments, and the log from First to the end makes them whole.
// Exactly one of Complete and Abort ends it.
type DataBackup struct {
	First, Checkpoint lsn.LSN
	Differential      bool
	// Base is what a differential counts from.
	Base Base
	// Verify checks every page that is read (BACKUP … WITH CHECKSUM): 3043.
	Verify bool
	e      *Engine
	full   bool // resets the maps
	file   int
	extent uint32
	used   Bitmap
}

// BeginData begins a data backup. 3023 while another one runs, 3035 for a
// differential without a base; 927, 942, 945 by state, 3036 in standby.
func (e *Engine) BeginData(differential, copyOnly bool) (*DataBackup, error) {
	e.Lock()
	defer e.Unlock()
	if err := e.Usable(); err != nil {
		return nil, err
	}
	if e.Boot.Standby {
		return nil, message.Fail(3036, e.Boot.Name)
	}
	if e.backup != nil {
		return nil, message.Fail(3023)
	}
	b := &DataBackup{e: e, Differential: differential, full: !differential && !copyOnly, Base: e.File(1).Base}
	if differential && b.Base == (Base{}) {
		return nil, message.Fail(3035, e.Boot.Name)
	}
	if !e.Boot.ReadOnly {
		if err := e.Checkpoint(); err != nil {
			return nil, err
		}
	}
	b.Checkpoint, b.First = e.Boot.Checkpoint, e.Boot.Checkpoint
	if tx := e.active; tx != nil && tx.id != 0 && tx.first.Less(b.First) {
		b.First = tx.first
	}
	if b.full {
		for _, d := range e.Data {
			d.fresh = newBitmap()
		}
	}
	if e.Boot.LastLogBackup.IsZero() {
		for _, d := range e.Data {
			d.freshBulk = newBitmap() // a chain that begins here owes nothing from before
		}
	}
	e.backup = b
	return b, nil
}

// Files are the database's files at this moment, dropped ones left out.
func (b *DataBackup) Files() []File {
	b.e.Lock()
	defer b.e.Unlock()
	return slices.DeleteFunc(slices.Clone(b.e.Boot.Files), func(f File) bool { return !f.DropLSN.IsZero() })
}

// Boot is the boot record at this moment.
func (b *DataBackup) Boot() Boot {
	b.e.Lock()
	defer b.e.Unlock()
	return b.e.Boot.Clone()
}

// Next reads the next extent that belongs to the backup into buf (page.ExtentBytes
// long). At the end the error is io.EOF. A full has every extent with pages in use,
// a differential those that were changed since its base; both have extents 0 and 1.
func (b *DataBackup) Next(buf []byte) (file uint16, extent uint32, err error) {
	e := b.e
	e.Lock()
	defer e.Unlock()
	for ; b.file < len(e.Boot.Files); b.file++ {
		f := &e.Boot.Files[b.file]
		d := e.Data[f.ID]
		if d == nil {
			continue // the log, or a dropped file
		}
		for b.extent*page.ExtentPages < f.Pages {
			n := b.extent
			b.extent++
			if n == 0 {
				p := make(page.Page, page.Bytes)
				if err := e.ReadPage(page.ID{File: f.ID, Page: AllocatedPage}, p); err != nil {
					return 0, 0, err
				}
				b.used = Bitmap(p.Body())
			}
			if n >= 2 && !b.wants(d, n) {
				continue
			}
			return f.ID, n, e.readExtent(f, d, n, buf, b.Verify)
		}
		b.extent = 0
	}
	return 0, 0, io.EOF
}

// wants tells whether an extent belongs to the backup. Of a file that was added since
// the base everything that it holds counts as changed.
func (b *DataBackup) wants(d *DataFile, n uint32) bool {
	if b.Differential {
		return d.Changed.Has(n)
	}
	return b.used.Any(n*page.ExtentPages, (n+1)*page.ExtentPages)
}

// readExtent reads eight pages and checks them if it is asked to.
func (e *Engine) readExtent(f *File, d *DataFile, n uint32, buf []byte, verify bool) error {
	clear(buf)
	if _, err := d.ReadAt(buf, int64(n)*page.ExtentBytes); err != nil && err != io.EOF {
		return fmt.Errorf("read extent %d of %s: %w", n, f.Physical, err)
	}
	if !verify || f.ID == 1 && n == 1 {
		return nil // the boot record is no page
	}
	for i := range uint32(page.ExtentPages) {
		if p := page.Page(buf[i*page.Bytes : (i+1)*page.Bytes]); !p.Intact() {
			return message.Fail(3043, e.Boot.Name, f.ID, n*page.ExtentPages+i, f.Physical)
		}
	}
	return nil
}

// Log is the part of the log that makes the pages whole, and where it ends. It is
// asked for after the last extent.
func (b *DataBackup) Log() (recs []wal.Record, last lsn.LSN) {
	e := b.e
	e.Lock()
	defer e.Unlock()
	e.Log.CloseBlock()
	return e.Log.From(b.First), e.Log.End()
}

// Complete says that the backup is safe: a full becomes the differential base, and
// in FULL and BULK_LOGGED a chain of log backups may begin.
func (b *DataBackup) Complete(base Base) error {
	e := b.e
	e.Lock()
	defer e.Unlock()
	if e.backup != b {
		return ErrFinished
	}
	e.backup = nil
	if b.full {
		for id, d := range e.Data {
			d.Changed, d.fresh = d.fresh, nil
			if err := d.SaveMap(id, ChangedPage, d.Changed); err != nil {
				return err
			}
		}
		for i := range e.Boot.Files {
			if e.Boot.Files[i].Type == Rows {
				e.Boot.Files[i].Base = base
			}
		}
		e.Boot.DatabaseBackup = b.Checkpoint
	}
	if (b.full || b.Differential) && e.Boot.Model != Simple && e.Boot.LastLogBackup.IsZero() && !e.Boot.ReadOnly {
		e.Boot.LastLogBackup, e.Boot.BeginsChain = b.First, true
		for id, d := range e.Data {
			d.Bulk = d.freshBulk
			if err := d.SaveMap(id, BulkPage, d.Bulk); err != nil {
				return err
			}
		}
	}
	if e.logBack == nil {
		for _, d := range e.Data {
			d.freshBulk = nil
		}
	}
	e.forgetDropped()
	if e.Boot.LastLogBackup.IsZero() {
		if err := e.Truncate(); err != nil {
			return err
		}
	}
	return e.SaveBoot()
}

// Abort ends the backup without any effect. After Complete it does nothing.
func (b *DataBackup) Abort() {
	e := b.e
	e.Lock()
	defer e.Unlock()
	if e.backup != b {
		return
	}
	e.backup = nil
	for _, d := range e.Data {
		d.fresh = nil
	}
}

// LogOptions are those of BACKUP LOG.
type LogOptions struct {
	CopyOnly bool
	// NoTruncate takes the log of a database whose data is lost; it is copy-only.
	NoTruncate bool
	// NoRecovery leaves the database RESTORING.
	NoRecovery bool
}

// LogBackup reads the log since the last log backup. Exactly one of Complete and
// Abort ends it.
type LogBackup struct {
	First, Last lsn.LSN
	Records     []wal.Record
	// Bulk are the extents filled without full logging, as file and extent, with
	// their content at this moment.
	Bulk []Extent
	// Boot is the boot record at the backup's start.
	Boot    Boot
	e       *Engine
	options LogOptions
	release func()
}

// Extent is the content of eight pages.
type Extent struct {
	File   uint16
	Number uint32
	Data   []byte
}

// BeginLog begins a log backup: 4208 in SIMPLE, 4214 without a chain, 3023 while
// another log backup runs, 4202 if bulk changes cannot be read, 3101 if the tail is
// wanted (NoRecovery) while a transaction is open; 927, 942, 945 by state.
func (e *Engine) BeginLog(o LogOptions) (*LogBackup, error) {
	b := &LogBackup{e: e, options: o, release: func() {}}
	if o.NoRecovery {
		release, ok := e.Seize()
		if !ok {
			return nil, message.Fail(3101)
		}
		b.release = release
	}
	e.Lock()
	defer e.Unlock()
	if err := b.begin(); err != nil {
		b.release()
		return nil, err
	}
	e.logBack = b
	return b, nil
}

func (b *LogBackup) begin() error {
	e := b.e
	if err := e.Usable(); err != nil && (!b.options.NoTruncate || e.Boot.State != RecoveryPending) {
		return err
	}
	switch {
	case e.Boot.Standby:
		return message.Fail(3036, e.Boot.Name)
	case e.Boot.Model == Simple:
		return message.Fail(4208)
	case e.Boot.LastLogBackup.IsZero():
		return message.Fail(4214)
	case e.logBack != nil:
		return message.Fail(3023)
	}
	e.Log.CloseBlock()
	b.First, b.Last = e.Boot.LastLogBackup, e.Log.End()
	b.Records = e.Log.From(b.First)
	b.Boot = e.Boot.Clone()
	for _, f := range e.Boot.Files {
		if err := b.bulkOf(&f); err != nil {
			return err
		}
	}
	return nil
}

// bulkOf reads a file's extents that were filled without logging. With a lost data
// file nobody knows of any in it; if the log speaks of some, they cannot be had.
func (b *LogBackup) bulkOf(f *File) error {
	d := b.e.Data[f.ID]
	if d == nil {
		if f.Type == Rows && f.DropLSN.IsZero() && slices.ContainsFunc(b.Records, func(r wal.Record) bool { return r.Op == wal.Bulk }) {
			return message.Fail(4202)
		}
		return nil
	}
	d.freshBulk = newBitmap()
	for n := range (f.Pages + page.ExtentPages - 1) / page.ExtentPages {
		if !d.Bulk.Has(n) {
			continue
		}
		x := Extent{f.ID, n, make([]byte, page.ExtentBytes)}
		if err := b.e.readExtent(f, d, n, x.Data, false); err != nil {
			return err
		}
		b.Bulk = append(b.Bulk, x)
	}
	return nil
}

// Complete says that the backup is safe: the log before its end is truncated, and
// the next log backup begins there. Copy-only does neither, nor does a read-only
// database.
func (b *LogBackup) Complete() error {
	e := b.e
	e.Lock()
	defer e.Unlock()
	if e.logBack != b {
		return ErrFinished
	}
	e.logBack = nil
	defer b.release()
	keep := b.options.CopyOnly || b.options.NoTruncate || e.Boot.ReadOnly ||
		e.Boot.LastLogBackup != b.First // the chain was broken meanwhile
	for id, d := range e.Data {
		if !keep && d.freshBulk != nil {
			d.Bulk = d.freshBulk
			if err := d.SaveMap(id, BulkPage, d.Bulk); err != nil {
				return err
			}
		}
		d.freshBulk = nil
	}
	if !keep {
		e.Boot.LastLogBackup, e.Boot.BeginsChain = b.Last, false
		e.forgetDropped()
		if err := e.Truncate(); err != nil {
			return err
		}
	}
	if b.options.NoRecovery {
		e.Boot.State = Restoring
		e.Boot.RedoStart, e.Boot.RedoFork = b.Last, e.Boot.Fork()
		e.Boot.RestoredSet = e.File(1).Base.GUID
	}
	return e.SaveBoot()
}

// Abort ends the backup without any effect. After Complete it does nothing.
func (b *LogBackup) Abort() {
	e := b.e
	e.Lock()
	defer e.Unlock()
	if e.logBack != b {
		return
	}
	e.logBack = nil
	for _, d := range e.Data {
		d.freshBulk = nil
	}
	b.release()
}
