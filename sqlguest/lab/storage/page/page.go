// Package page is the laboratory's 8 KiB page: a header, rows that grow from the
// front, and slots that grow from the end and say where the rows are.
//
// Whatever changes a page is logged as ranges of bytes with their old and new
// content (Diff), so that redo and undo need to know nothing of rows. A page's
// header carries the LSN of its last change: redo skips what a page has already,
// which is what makes a backup of pages that were read at different moments whole.
package page

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"holdfast/sqlguest/lsn"
)

// Sizes in bytes, and pages.
const (
	Bytes       = 8192
	HeaderBytes = 96
	// ExtentPages is how many pages are counted together as changed or not.
	ExtentPages = 8
	ExtentBytes = ExtentPages * Bytes
	slotBytes   = 4
	// MaxRowBytes is the longest row that fits a page of its own.
	MaxRowBytes = 8060
)

// ID names a page: the file's number, from 1, and the page's in it, from 0.
type ID struct {
	File uint16 `json:"f"`
	Page uint32 `json:"p"`
}

// String is the form 1:20.
func (id ID) String() string { return fmt.Sprintf("%d:%d", id.File, id.Page) }

// IsZero tells whether this names no page (0:0 ends a chain of pages).
func (id ID) IsZero() bool { return id == ID{} }

// Page is the content of one page, Bytes long.
type Page []byte

// The header: magic 2, file 2, page 4, object 4, next file 2, next page 4, slots 2,
// free 2, LSN 10, checksum 4; the rest is zero.
const (
	magic       = 0x4850
	atFile      = 2
	atPage      = 4
	atObject    = 8
	atNextFile  = 12
	atNextPage  = 14
	atSlots     = 18
	atFree      = 20
	atLSN       = 22
	atSum       = 32
	endVolatile = 36 // LSN and checksum are no part of a logged change
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Init makes an empty page of an object.
func (p Page) Init(id ID, object uint32) {
	clear(p)
	le := binary.LittleEndian
	le.PutUint16(p, magic)
	le.PutUint16(p[atFile:], id.File)
	le.PutUint32(p[atPage:], id.Page)
	le.PutUint32(p[atObject:], object)
	le.PutUint16(p[atFree:], HeaderBytes)
}

// ID says which page this is.
func (p Page) ID() ID {
	return ID{binary.LittleEndian.Uint16(p[atFile:]), binary.LittleEndian.Uint32(p[atPage:])}
}

// Object is whose rows the page holds.
func (p Page) Object() uint32 { return binary.LittleEndian.Uint32(p[atObject:]) }

// Next is the object's next page, zero at the end.
func (p Page) Next() ID {
	return ID{binary.LittleEndian.Uint16(p[atNextFile:]), binary.LittleEndian.Uint32(p[atNextPage:])}
}

// SetNext links the page to the object's next one.
func (p Page) SetNext(id ID) {
	binary.LittleEndian.PutUint16(p[atNextFile:], id.File)
	binary.LittleEndian.PutUint32(p[atNextPage:], id.Page)
}

// LSN is the log record that changed the page last; zero for a page never written.
func (p Page) LSN() lsn.LSN {
	le := binary.LittleEndian
	return lsn.LSN{VLF: le.Uint32(p[atLSN:]), Block: le.Uint32(p[atLSN+4:]), Slot: le.Uint16(p[atLSN+8:])}
}

// Stamp notes the log record that changed the page and renews the checksum. Every
// write of a page goes through it.
func (p Page) Stamp(at lsn.LSN) {
	le := binary.LittleEndian
	le.PutUint32(p[atLSN:], at.VLF)
	le.PutUint32(p[atLSN+4:], at.Block)
	le.PutUint16(p[atLSN+8:], at.Slot)
	le.PutUint32(p[atSum:], p.sum())
}

// Intact tells whether the checksum fits; a page never written (all zero) does.
func (p Page) Intact() bool {
	if binary.LittleEndian.Uint16(p) == 0 && binary.LittleEndian.Uint32(p[atSum:]) == 0 {
		for _, b := range p {
			if b != 0 {
				return false
			}
		}
		return true
	}
	return binary.LittleEndian.Uint32(p[atSum:]) == p.sum()
}

func (p Page) sum() uint32 {
	s := crc32.Checksum(p[:atSum], castagnoli)
	return crc32.Update(s, castagnoli, p[endVolatile:])
}

// Body is what lies behind the header, for pages that hold a bitmap.
func (p Page) Body() []byte { return p[HeaderBytes:] }

// Slots is how many slots the page has, deleted ones among them.
func (p Page) Slots() int { return int(binary.LittleEndian.Uint16(p[atSlots:])) }

func (p Page) slot(i int) []byte { return p[Bytes-(i+1)*slotBytes:] }

// Row is the row in a slot; ok is false for a deleted or unknown one. The bytes are
// the page's own.
func (p Page) Row(i int) (row []byte, ok bool) {
	if i < 0 || i >= p.Slots() || HeaderBytes+(i+1)*slotBytes > Bytes {
		return nil, false
	}
	le := binary.LittleEndian
	off, n := int(le.Uint16(p.slot(i))), int(le.Uint16(p.slot(i)[2:]))
	if off < HeaderBytes || off+n > Bytes {
		return nil, false
	}
	return p[off : off+n], true
}

// room is how many bytes are free between rows and slots.
func (p Page) room() int {
	return Bytes - p.Slots()*slotBytes - int(binary.LittleEndian.Uint16(p[atFree:]))
}

// Insert puts a row into a slot of its own; ok is false if the page has no room.
func (p Page) Insert(row []byte) (slot int, ok bool) {
	if p.room() < len(row)+slotBytes {
		p.compact()
		if p.room() < len(row)+slotBytes {
			return 0, false
		}
	}
	i := p.Slots()
	binary.LittleEndian.PutUint16(p[atSlots:], uint16(i+1))
	p.put(i, row)
	return i, true
}

// put writes a row at the free place and points slot i to it.
func (p Page) put(i int, row []byte) {
	le := binary.LittleEndian
	off := int(le.Uint16(p[atFree:]))
	copy(p[off:], row)
	le.PutUint16(p[atFree:], uint16(off+len(row)))
	le.PutUint16(p.slot(i), uint16(off))
	le.PutUint16(p.slot(i)[2:], uint16(len(row)))
}

// Replace gives a slot another row; ok is false if the page has no room for it,
// and then the old row stands.
func (p Page) Replace(i int, row []byte) (ok bool) {
	old, ok := p.Row(i)
	if !ok {
		return false
	}
	if len(row) <= len(old) {
		copy(old, row)
		binary.LittleEndian.PutUint16(p.slot(i)[2:], uint16(len(row)))
		return true
	}
	if p.room() < len(row) {
		saved := append(Page(nil), p...)
		p.Delete(i)
		p.compact()
		if p.room() < len(row) {
			copy(p, saved)
			return false
		}
	}
	p.put(i, row)
	return true
}

// Delete empties a slot. The slot's number stays taken, so that row ids last.
func (p Page) Delete(i int) { clear(p.slot(i)[:slotBytes]) }

// compact moves the rows together, so that the room of deleted ones is usable.
func (p Page) compact() {
	old := append(Page(nil), p...)
	le := binary.LittleEndian
	n := p.Slots()
	clear(p[HeaderBytes : Bytes-n*slotBytes])
	le.PutUint16(p[atFree:], HeaderBytes)
	for i := range n {
		if row, ok := old.Row(i); ok {
			p.put(i, row)
		}
	}
}

// TakeRows gives the page the rows, slots and next page of another one.
func (p Page) TakeRows(from Page) {
	copy(p[HeaderBytes:], from[HeaderBytes:])
	copy(p[atNextFile:atLSN], from[atNextFile:atLSN])
}
