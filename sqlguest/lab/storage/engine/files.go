package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lsn"
)

// Pages of extent 0 and 1 that have a fixed meaning.
const (
	headerPage    = 0
	AllocatedPage = 2
	ChangedPage   = 6
	BulkPage      = 7
	bootOffset    = page.ExtentBytes
	FirstFree     = 2 * page.ExtentPages
	// MaxPages is what one map page can tell of.
	MaxPages     = (page.Bytes - page.HeaderBytes) * 8
	growPages    = page.ExtentPages
	SmallestFile = FirstFree + page.ExtentPages
)

// Bitmap is one bit for each page or extent.
type Bitmap []byte

func newBitmap() Bitmap { return make(Bitmap, page.Bytes-page.HeaderBytes) }

// Has tells whether bit i is set.
func (b Bitmap) Has(i uint32) bool { return b[i/8]&(1<<(i%8)) != 0 }

func (b Bitmap) set(i uint32)      { b[i/8] |= 1 << (i % 8) }
func (b Bitmap) clearBit(i uint32) { b[i/8] &^= 1 << (i % 8) }

// Any tells whether a bit from from to before to is set.
func (b Bitmap) Any(from, to uint32) bool {
	for i := from; i < to; i++ {
		if b.Has(i) {
			return true
		}
	}
	return false
}

// DataFile is an open data file with its two maps of extents. fresh and freshBulk
// are the maps from the start of a backup on; they replace the others if it succeeds.
type DataFile struct {
	filesystem.File
	Changed, Bulk    Bitmap
	fresh, freshBulk Bitmap
	hint             uint32 // no page below is free
}

// CreateData makes a data file of n pages that holds nothing.
func CreateData(fs filesystem.FS, f File) (*DataFile, error) {
	file, err := fs.Create(f.Physical)
	if err != nil {
		return nil, message.Fail(5170, f.Physical)
	}
	d := &DataFile{File: file, Changed: newBitmap(), Bulk: newBitmap(), hint: FirstFree}
	if err := file.Truncate(int64(f.Pages) * page.Bytes); err != nil {
		return nil, fmt.Errorf("create %s: %w", f.Physical, err)
	}
	buf := make(page.Page, page.Bytes)
	for _, n := range []uint32{headerPage, AllocatedPage, ChangedPage, BulkPage} {
		buf.Init(page.ID{File: f.ID, Page: n}, 0)
		if n == AllocatedPage {
			for i := range uint32(FirstFree) {
				Bitmap(buf.Body()).set(i)
			}
		}
		if n == headerPage {
			copy(buf.Body(), f.GUID[:])
		}
		buf.Stamp(lsn.LSN{})
		if err := d.write(n, buf); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// openData opens a data file and reads its maps.
func openData(fs filesystem.FS, f File) (*DataFile, error) {
	file, err := fs.Open(f.Physical)
	if err != nil {
		return nil, message.Fail(5120, f.Physical, "2(The system cannot find the file specified.)")
	}
	d := &DataFile{File: file, hint: FirstFree}
	return d, d.LoadMaps()
}

// LoadMaps reads the maps of extents from the file.
func (d *DataFile) LoadMaps() error {
	for n, m := range map[uint32]*Bitmap{ChangedPage: &d.Changed, BulkPage: &d.Bulk} {
		buf := make(page.Page, page.Bytes)
		if err := d.read(n, buf); err != nil {
			return err
		}
		*m = Bitmap(buf.Body())
	}
	return nil
}

func (d *DataFile) read(n uint32, p page.Page) error {
	if _, err := d.ReadAt(p, int64(n)*page.Bytes); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read page %d: %w", n, err)
	} else if err != nil {
		clear(p) // behind the end: a page that redo is about to make
	}
	return nil
}

func (d *DataFile) write(n uint32, p page.Page) error {
	if _, err := d.WriteAt(p, int64(n)*page.Bytes); err != nil {
		return fmt.Errorf("write page %d: %w", n, err)
	}
	return nil
}

// SaveMap writes one of the maps into its page.
func (d *DataFile) SaveMap(file uint16, n uint32, m Bitmap) error {
	buf := make(page.Page, page.Bytes)
	buf.Init(page.ID{File: file, Page: n}, 0)
	copy(buf.Body(), m)
	buf.Stamp(lsn.LSN{})
	return d.write(n, buf)
}

// note marks an extent as changed.
func (d *DataFile) note(file uint16, extent uint32) error {
	if d.fresh != nil {
		d.fresh.set(extent)
	}
	if d.Changed.Has(extent) {
		return nil
	}
	d.Changed.set(extent)
	return d.SaveMap(file, ChangedPage, d.Changed)
}

// NoteBulk marks an extent as filled without logging.
func (d *DataFile) NoteBulk(file uint16, extent uint32) error {
	if d.freshBulk != nil {
		d.freshBulk.set(extent)
	}
	if d.Bulk.Has(extent) {
		return nil
	}
	d.Bulk.set(extent)
	return d.SaveMap(file, BulkPage, d.Bulk)
}

// ReadPage reads a page into p and checks it.
func (e *Engine) ReadPage(id page.ID, p page.Page) error {
	d := e.Data[id.File]
	if d == nil {
		return message.Fail(945, e.Boot.Name)
	}
	if err := d.read(id.Page, p); err != nil {
		return err
	}
	if !p.Intact() {
		return message.Fail(824, id.File, id.Page, e.Boot.Name)
	}
	return nil
}

// Allocated is a copy of a file's map of allocated pages.
func (e *Engine) Allocated(file uint16) (Bitmap, error) {
	p := make(page.Page, page.Bytes)
	err := e.ReadPage(page.ID{File: file, Page: AllocatedPage}, p)
	return Bitmap(p.Body()), err
}

// WritePage stamps a page with the record that changed it and writes it.
func (e *Engine) WritePage(id page.ID, p page.Page, at lsn.LSN) error {
	d := e.Data[id.File]
	if err := d.note(id.File, id.Page/page.ExtentPages); err != nil {
		return err
	}
	p.Stamp(at)
	return d.write(id.Page, p)
}

// SaveBoot writes the boot record into the primary file and the log's header.
func (e *Engine) SaveBoot() error {
	raw, err := e.Boot.encode()
	if err != nil {
		return fmt.Errorf("write boot record: %w", err)
	}
	if e.Log != nil {
		if err := e.Log.SetNote(raw); err != nil {
			return err
		}
	}
	d := e.Data[1]
	if d == nil {
		return nil // the log alone is left
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(raw)))
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(raw))
	b = append(b, raw...)
	if len(b) > page.ExtentBytes {
		return fmt.Errorf("write boot record of %d bytes: it does not fit its extent", len(b))
	}
	if _, err := d.WriteAt(b, bootOffset); err != nil {
		return fmt.Errorf("write boot record: %w", err)
	}
	return nil
}

// readBoot reads the boot record of a primary file.
func readBoot(f filesystem.File) (Boot, error) {
	var b Boot
	buf := make([]byte, page.ExtentBytes)
	if _, err := f.ReadAt(buf, bootOffset); err != nil && !errors.Is(err, io.EOF) {
		return b, fmt.Errorf("read boot record: %w", err)
	}
	n := binary.LittleEndian.Uint32(buf)
	if n > page.ExtentBytes-8 || crc32.ChecksumIEEE(buf[8:8+n]) != binary.LittleEndian.Uint32(buf[4:]) {
		return b, message.Fail(824, 1, page.ExtentPages, "")
	}
	if err := json.Unmarshal(buf[8:8+n], &b); err != nil {
		return b, fmt.Errorf("read boot record: %w", err)
	}
	return b, nil
}
