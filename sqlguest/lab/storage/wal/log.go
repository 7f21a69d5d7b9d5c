package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lsn"
)

// ErrLog: a file is no log, or its header is damaged.
var ErrLog = errors.New("not a transaction log")

const (
	magic      = "HFLOG001"
	noteAt     = 4096
	headBytes  = 64 << 10
	blockBytes = 60 << 10
	sector     = 512
	firstBlock = 16 // a virtual log file begins with its own header
	firstSlot  = 1
	// VLFBytes is how much a virtual log file holds before the next one begins.
	VLFBytes   = 256 << 10
	wasteBytes = 256 << 10
	frameBytes = 8 // length 4, CRC-32C 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Log is a transaction log in a file. What is in the file is also in memory, as
// records. Log is not safe for use at once; the database serialises.
type Log struct {
	file filesystem.File
	recs []Record
	offs []int64 // where each record's frame begins
	end  int64   // where the next frame goes
	next lsn.LSN
	open int // bytes in the current block
	buf  []byte
}

// Create makes an empty log in a new file; its first record will have the LSN next,
// or the first of virtual log file 34 if next is zero.
func Create(file filesystem.File, next lsn.LSN) (*Log, error) {
	if next.IsZero() {
		next = lsn.LSN{VLF: 34, Block: firstBlock, Slot: firstSlot}
	}
	l := &Log{file: file, next: next, end: headBytes}
	if err := file.Truncate(headBytes); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return l, l.writeHead(headBytes)
}

// Open reads a log. Its end is where the frames stop being whole, as after a crash.
func Open(file filesystem.File) (*Log, error) {
	size, err := file.Size()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("open log: %w", err)
	}
	le := binary.LittleEndian
	if len(data) < headBytes || string(data[:8]) != magic || le.Uint32(data[26:]) != crc32.Checksum(data[:26], castagnoli) {
		return nil, fmt.Errorf("open log: %w", ErrLog)
	}
	l := &Log{file: file, end: int64(le.Uint64(data[8:]))}
	l.next = lsn.LSN{VLF: le.Uint32(data[16:]), Block: le.Uint32(data[20:]), Slot: le.Uint16(data[24:])}
	for l.end+frameBytes <= size {
		n, sum := int64(le.Uint32(data[l.end:])), le.Uint32(data[l.end+4:])
		body := l.end + frameBytes
		if n == 0 || n > size-body || crc32.Checksum(data[body:body+n], castagnoli) != sum {
			break
		}
		r, err := Decode(data[body : body+n])
		if err != nil {
			break
		}
		l.remember(r, l.end, frameBytes+int(n))
	}
	return l, file.Truncate(l.end)
}

// remember takes a record that is in the file into the list and moves the end on.
func (l *Log) remember(r Record, at int64, bytes int) {
	if r.LSN.VLF != l.next.VLF || r.LSN.Block != l.next.Block {
		l.open = 0
	}
	l.recs, l.offs = append(l.recs, r), append(l.offs, at)
	l.end = at + int64(bytes)
	l.open += bytes
	l.next = r.LSN
	l.next.Slot++
}

// writeHead notes where the first live frame is and which LSN follows the last
// record (which only matters while there are no records).
func (l *Log) writeHead(start int64) error {
	var head [30]byte
	le := binary.LittleEndian
	copy(head[:], magic)
	le.PutUint64(head[8:], uint64(start))
	le.PutUint32(head[16:], l.next.VLF)
	le.PutUint32(head[20:], l.next.Block)
	le.PutUint16(head[24:], l.next.Slot)
	le.PutUint32(head[26:], crc32.Checksum(head[:26], castagnoli))
	if _, err := l.file.WriteAt(head[:], 0); err != nil {
		return fmt.Errorf("write log header: %w", err)
	}
	return nil
}

// SetNote keeps a copy of the database's description in the log's header, so that
// the tail of the log can be backed up when the data files are lost.
func (l *Log) SetNote(note []byte) error {
	if len(note)+4 > headBytes-noteAt {
		return fmt.Errorf("write a note of %d bytes in the log's header: %w", len(note), ErrLog)
	}
	b := append(binary.LittleEndian.AppendUint32(l.buf[:0], uint32(len(note))), note...)
	if _, err := l.file.WriteAt(b, noteAt); err != nil {
		return fmt.Errorf("write log header: %w", err)
	}
	return nil
}

// ReadNote gives what SetNote kept in a log's file.
func ReadNote(file filesystem.File) ([]byte, error) {
	head := make([]byte, headBytes)
	if _, err := file.ReadAt(head, 0); err != nil || string(head[:8]) != magic {
		return nil, fmt.Errorf("read log header: %w", ErrLog)
	}
	n := binary.LittleEndian.Uint32(head[noteAt:])
	if n > headBytes-noteAt-4 {
		return nil, fmt.Errorf("read log header: %w", ErrLog)
	}
	return head[noteAt+4 : noteAt+4+n], nil
}

// Append writes a record behind the last one and gives it its LSN.
func (l *Log) Append(r Record) (lsn.LSN, error) {
	if l.open > blockBytes {
		l.CloseBlock()
	}
	r.LSN = l.next
	return r.LSN, l.write(r)
}

// AppendAt writes a record that has its LSN already, which must not lie before End.
func (l *Log) AppendAt(r Record) error {
	if r.LSN.Less(l.next) {
		return fmt.Errorf("append record %s to a log that ends at %s: %w", r.LSN, l.next, ErrLog)
	}
	return l.write(r)
}

func (l *Log) write(r Record) error {
	b := r.Encode(append(l.buf[:0], make([]byte, frameBytes)...))
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameBytes))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[frameBytes:], castagnoli))
	l.buf = b
	if _, err := l.file.WriteAt(b, l.end); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	l.remember(r, l.end, len(b))
	return nil
}

// CloseBlock lets the next record begin a new block, as a flushed log does.
func (l *Log) CloseBlock() {
	if l.next.Slot <= firstSlot {
		return
	}
	// A block that a restore broke off may have no bytes of ours yet: LSNs grow all
	// the same.
	l.next.Block += uint32(max(1, (l.open+sector-1)/sector))
	l.next.Slot, l.open = firstSlot, 0
	if l.next.Block*sector > VLFBytes {
		l.next.VLF, l.next.Block = l.next.VLF+1, firstBlock
	}
}

// SetEnd moves the end forward to an LSN, which a backup set has named.
func (l *Log) SetEnd(to lsn.LSN) error {
	if to.Less(l.next) {
		return fmt.Errorf("move the log's end %s back to %s: %w", l.next, to, ErrLog)
	}
	l.next, l.open = to, 0
	if len(l.recs) == 0 {
		return l.writeHead(l.end)
	}
	return nil
}

// End is the LSN that the next record will have at the earliest.
func (l *Log) End() lsn.LSN { return l.next }

// Start is the LSN of the oldest record, or End of an empty log.
func (l *Log) Start() lsn.LSN {
	if len(l.recs) == 0 {
		return l.next
	}
	return l.recs[0].LSN
}

// From gives the records from an LSN on. They are the log's own: not to be changed.
func (l *Log) From(at lsn.LSN) []Record {
	i := sort.Search(len(l.recs), func(i int) bool { return !l.recs[i].LSN.Less(at) })
	return l.recs[i:len(l.recs):len(l.recs)]
}

// Bytes is how long the log is between its oldest record and its end.
func (l *Log) Bytes() int64 {
	if len(l.offs) == 0 {
		return 0
	}
	return l.end - l.offs[0]
}

// Truncate forgets the records before an LSN. The last record always stays, so that
// the file alone says where the log goes on.
func (l *Log) Truncate(before lsn.LSN) error {
	i := sort.Search(len(l.recs), func(i int) bool { return !l.recs[i].LSN.Less(before) })
	if i = min(i, len(l.recs)-1); i <= 0 {
		return nil
	}
	l.recs = append([]Record(nil), l.recs[i:]...)
	l.offs = append([]int64(nil), l.offs[i:]...)
	if l.offs[0]-headBytes > wasteBytes {
		return l.rewrite()
	}
	return l.writeHead(l.offs[0])
}

// rewrite moves the live records to the front of the file. They go behind
// everything first if they would overlap; a log here is small enough for memory.
func (l *Log) rewrite() error {
	live := make([]byte, l.end-l.offs[0])
	if _, err := l.file.ReadAt(live, l.offs[0]); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("compact log: %w", err)
	}
	if int64(headBytes+len(live)) > l.offs[0] {
		return l.writeHead(l.offs[0]) // they overlap: a crash between would lose them
	}
	if _, err := l.file.WriteAt(live, headBytes); err != nil {
		return fmt.Errorf("compact log: %w", err)
	}
	if err := l.writeHead(headBytes); err != nil {
		return err
	}
	shift := l.offs[0] - headBytes
	for i := range l.offs {
		l.offs[i] -= shift
	}
	l.end -= shift
	return l.file.Truncate(l.end)
}

// Reset empties the log; the next record has the LSN next.
func (l *Log) Reset(next lsn.LSN) error {
	l.recs, l.offs, l.end, l.next, l.open = nil, nil, headBytes, next, 0
	if err := l.file.Truncate(headBytes); err != nil {
		return fmt.Errorf("empty log: %w", err)
	}
	return l.writeHead(headBytes)
}

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
