// Package wal is a database's transaction log: records with LSNs in a file, written
// before the pages that they change.
//
// An LSN names a place as in SQL Server: virtual log file, block, slot. A block
// takes the records of one transaction or 60 KB; a virtual log file is full after
// VLFBytes. Restoring keeps the LSNs that the records had, so that the same log on
// two servers has the same numbers.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lsn"
)

// ErrRecord: bytes that are no log record.
var ErrRecord = errors.New("not a log record")

// Op is what a record says.
type Op uint8

// The records.
const (
	Begin      Op = iota + 1 // a transaction's first change follows
	Change                   // bytes of a page
	Commit                   // with a mark, if Mark is not empty
	Abort                    // all of the transaction's changes have been undone
	Checkpoint               // all pages are in the files
	Bulk                     // pages were filled without logging their content
	FileAdd                  // Text is the file
	FileDrop                 // Text is the file
	FileSize                 // Page.File has Page.Page pages now
	Setting                  // Text is a change of the database's options
)

// Record is one log record.
type Record struct {
	LSN lsn.LSN
	Tx  uint64 // 0: of no transaction
	Op  Op
	// Time is the server's local time, kept as if it were UTC; begin, commit, abort
	// and checkpoint have it.
	Time time.Time
	Page page.ID
	// Format says that the page was emptied first; Undo that the record compensates
	// one that stands before it.
	Format, Undo bool
	Ranges       []page.Range
	Mark         Mark
	Text         []byte
	// Pages are those of Bulk.
	Pages []page.ID
}

// Mark is a transaction's mark (BEGIN TRANSACTION … WITH MARK).
type Mark struct{ Name, Description, User string }

const (
	flagFormat = 1 << iota
	flagUndo
	flagTime
	flagMark
)

// Encode appends the record's bytes to out.
func (r *Record) Encode(out []byte) []byte {
	le := binary.LittleEndian
	flags := byte(0)
	if r.Format {
		flags |= flagFormat
	}
	if r.Undo {
		flags |= flagUndo
	}
	if !r.Time.IsZero() {
		flags |= flagTime
	}
	if r.Mark.Name != "" {
		flags |= flagMark
	}
	out = le.AppendUint32(out, r.LSN.VLF)
	out = le.AppendUint32(out, r.LSN.Block)
	out = le.AppendUint16(out, r.LSN.Slot)
	out = append(out, byte(r.Op), flags)
	out = binary.AppendUvarint(out, r.Tx)
	if flags&flagTime != 0 {
		out = le.AppendUint64(out, uint64(r.Time.UnixNano()))
	}
	if flags&flagMark != 0 {
		out = appendBytes(appendBytes(appendBytes(out, r.Mark.Name), r.Mark.Description), r.Mark.User)
	}
	out = appendID(out, r.Page)
	out = binary.AppendUvarint(out, uint64(len(r.Ranges)))
	for _, x := range r.Ranges {
		out = le.AppendUint16(out, x.Offset)
		out = appendBytes(appendBytes(out, x.Before), x.After)
	}
	out = appendBytes(out, r.Text)
	out = binary.AppendUvarint(out, uint64(len(r.Pages)))
	for _, id := range r.Pages {
		out = appendID(out, id)
	}
	return out
}

func appendBytes[T string | []byte](out []byte, b T) []byte {
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

func appendID(out []byte, id page.ID) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(out, id.File), id.Page)
}

// Decode reads a record; its slices share b's memory.
func Decode(b []byte) (Record, error) {
	d := decoder{b: b}
	r := Record{LSN: lsn.LSN{VLF: d.u32(), Block: d.u32(), Slot: d.u16()}, Op: Op(d.byte())}
	flags := d.byte()
	r.Format, r.Undo = flags&flagFormat != 0, flags&flagUndo != 0
	r.Tx = d.uvarint()
	if flags&flagTime != 0 {
		lo, hi := d.u32(), d.u32()
		r.Time = time.Unix(0, int64(uint64(hi)<<32|uint64(lo))).UTC()
	}
	if flags&flagMark != 0 {
		r.Mark = Mark{string(d.bytes()), string(d.bytes()), string(d.bytes())}
	}
	r.Page = d.id()
	for range d.count() {
		x := page.Range{Offset: d.u16(), Before: d.bytes(), After: d.bytes()}
		if len(x.Before) != len(x.After) || int(x.Offset)+len(x.After) > page.Bytes {
			d.bad = true
			break
		}
		r.Ranges = append(r.Ranges, x)
	}
	r.Text = d.bytes()
	for range d.count() {
		r.Pages = append(r.Pages, d.id())
	}
	if d.bad || len(d.b) > 0 || r.Op < Begin || r.Op > Setting {
		return Record{}, fmt.Errorf("decode %d bytes: %w", len(b), ErrRecord)
	}
	return r, nil
}

// decoder takes bytes apart; after the first mistake all that it gives is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count is a number of things that take at least two bytes each.
func (d *decoder) count() uint64 {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return 0
	}
	return n
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) id() page.ID { return page.ID{File: d.u16(), Page: d.u32()} }
