// Package stream is the format in which the laboratory's backups leave it: blocks of
// 64 KiB on 1 to 64 devices, shaped as SQL Server's media are.
//
// Every device (media family) begins with a head that says which set it belongs to,
// which of how many families it is and what is backed up; then come blocks of
// content, dealt out to the devices in turn; then a tail with the final header. So
// each device alone says what it is, and all together are needed for the content:
// extents in the order of the files, then log records, each with its length. A
// device may hold several sets one after the other.
//
// A block: "TAPE" 4 (as in the Microsoft Tape Format), kind 1, family 1, families 1,
// zero 1, number in its set and device 4, used bytes 4, set GUID 16, CRC-32C 4 over
// the whole block without this field, then the bytes.
package stream

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// BlockBytes is the length of a block; a device's length is a multiple of it.
const BlockBytes = 64 << 10

// MostDevices is how many families a media set may have.
const MostDevices = 64

const (
	magic     = "TAPE"
	atKind    = 4
	atFamily  = 5
	atCount   = 6
	atNumber  = 8
	atUsed    = 12
	atSet     = 16
	atSum     = 32
	headBytes = 36

	kindHead = 1
	kindData = 2
	kindTail = 3
)

// Types of backup as RESTORE HEADERONLY numbers them.
const (
	TypeFull         = 1
	TypeLog          = 2
	TypeDifferential = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is a backup set's description: the columns of RESTORE HEADERONLY and,
// with Files and Boot, those of RESTORE FILELISTONLY and what a restore needs.
// LastLSN, FinishDate and BackupSize are final in the tail alone.
type Header struct {
	BackupName, BackupDescription    string
	BackupType                       uint8
	Position                         int
	DeviceType                       int
	UserName, ServerName             string
	MachineName                      string
	DatabaseName                     string
	DatabaseVersion                  int
	DatabaseCreationDate             time.Time
	BackupSize                       int64
	FirstLSN, LastLSN                lsn.LSN
	CheckpointLSN, DatabaseBackupLSN lsn.LSN
	StartDate, FinishDate            time.Time
	// TimeZone is the server's offset from UTC in quarter hours.
	TimeZone                          int
	SoftwareVersion                   string
	Collation                         string
	BindingID, FamilyGUID             value.GUID
	RecoveryForkID                    value.GUID
	FirstRecoveryForkID               value.GUID
	ForkPointLSN                      lsn.LSN
	RecoveryModel                     string
	DifferentialBaseLSN               lsn.LSN
	DifferentialBaseGUID              value.GUID
	BackupSetGUID                     value.GUID
	HasBulkLoggedData, IsSnapshot     bool
	IsReadOnly, IsSingleUser          bool
	HasBackupChecksums                bool
	BeginsLogChain, IsForceOffline    bool
	HasIncompleteMetaData, IsCopyOnly bool
	Files                             []storage.File
	Boot                              storage.Boot
}

// tail is what a set's end adds to its head.
type tail struct {
	BackupSize int64
	LastLSN    lsn.LSN
	FinishDate time.Time
}

// What an item of content is.
const (
	itemExtent = 1
	itemRecord = 2
	itemBulk   = 3
)

// Item is a piece of content: exactly one of its fields is set.
type Item struct {
	Extent *storage.Extent
	Record *wal.Record
	Bulk   *storage.Extent // an extent that the log does not describe
}

// WriteError is a device that took no more.
type WriteError struct {
	Device int
	Err    error
}

// Error names the device by number.
func (e *WriteError) Error() string { return fmt.Sprintf("write device %d: %v", e.Device+1, e.Err) }

// Unwrap gives the device's own error.
func (e *WriteError) Unwrap() error { return e.Err }

// Writer writes one backup set. The devices are written in turn by the caller's
// goroutine: whoever reads them reads all at once.
type Writer struct {
	devices []io.Writer
	set     value.GUID
	numbers []uint32
	turn    int
	block   []byte
	used    int
	written int64
}

// NewWriter writes the heads. Errors of a device are *WriteError.
func NewWriter(devices []io.Writer, h Header) (*Writer, error) {
	w := &Writer{devices: devices, set: h.BackupSetGUID, numbers: make([]uint32, len(devices)), block: make([]byte, BlockBytes)}
	return w, w.everywhere(kindHead, h)
}

// everywhere writes a header to all devices.
func (w *Writer) everywhere(kind byte, header any) error {
	raw, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("write backup header: %w", err)
	}
	if len(raw) > BlockBytes-headBytes {
		return fmt.Errorf("write backup header of %d bytes: it does not fit a block", len(raw))
	}
	for i := range w.devices {
		w.used = copy(w.block[headBytes:], raw)
		if err := w.flush(kind, i); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the block to a device and begins another one.
func (w *Writer) flush(kind byte, device int) error {
	b := w.block
	clear(b[headBytes+w.used:])
	copy(b, magic)
	b[atKind], b[atFamily], b[atCount], b[7] = kind, byte(device), byte(len(w.devices)), 0
	binary.LittleEndian.PutUint32(b[atNumber:], w.numbers[device])
	binary.LittleEndian.PutUint32(b[atUsed:], uint32(w.used))
	copy(b[atSet:], w.set[:])
	binary.LittleEndian.PutUint32(b[atSum:], sum(b))
	w.numbers[device]++
	w.used = 0
	w.written += BlockBytes
	if _, err := w.devices[device].Write(b); err != nil {
		return &WriteError{device, err}
	}
	return nil
}

func sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:atSum], castagnoli), castagnoli, b[headBytes:])
}

func (w *Writer) item(kind byte, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if err := w.put(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(n))); err != nil {
		return err
	}
	for _, p := range parts {
		if err := w.put(p); err != nil {
			return err
		}
	}
	return nil
}

// put appends content, over as many blocks as it takes.
func (w *Writer) put(b []byte) error {
	for len(b) > 0 {
		n := copy(w.block[headBytes+w.used:], b)
		w.used += n
		b = b[n:]
		if w.used == BlockBytes-headBytes {
			if err := w.flush(kindData, w.turn); err != nil {
				return err
			}
			w.turn = (w.turn + 1) % len(w.devices)
		}
	}
	return nil
}

// Extent writes eight pages.
func (w *Writer) Extent(x storage.Extent) error { return w.extent(itemExtent, x) }

// Bulk writes an extent that the log does not describe.
func (w *Writer) Bulk(x storage.Extent) error { return w.extent(itemBulk, x) }

func (w *Writer) extent(kind byte, x storage.Extent) error {
	head := binary.LittleEndian.AppendUint16(nil, x.File)
	return w.item(kind, binary.LittleEndian.AppendUint32(head, x.Number), x.Data)
}

// Record writes a log record.
func (w *Writer) Record(r *wal.Record) error { return w.item(itemRecord, r.Encode(nil)) }

// Written is how many bytes the devices have got.
func (w *Writer) Written() int64 { return w.written }

// Close writes the rest and the tails with what is final in h: LastLSN, FinishDate
// and BackupSize.
func (w *Writer) Close(h Header) error {
	if w.used > 0 {
		if err := w.flush(kindData, w.turn); err != nil {
			return err
		}
	}
	return w.everywhere(kindTail, tail{h.BackupSize, h.LastLSN, h.FinishDate})
}

// decodeItem reads an item's body; the extent's bytes are not copied.
func decodeItem(kind byte, body []byte) (Item, error) {
	switch kind {
	case itemRecord:
		r, err := wal.Decode(body)
		return Item{Record: &r}, err
	case itemExtent, itemBulk:
		if len(body) != 6+page.ExtentBytes {
			break
		}
		x := &storage.Extent{File: binary.LittleEndian.Uint16(body), Number: binary.LittleEndian.Uint32(body[2:]), Data: body[6:]}
		if kind == itemBulk {
			return Item{Bulk: x}, nil
		}
		return Item{Extent: x}, nil
	}
	return Item{}, fmt.Errorf("read item of kind %d and %d bytes: unknown", kind, len(body))
}
