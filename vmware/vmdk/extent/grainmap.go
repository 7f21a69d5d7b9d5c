package extent

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// grainMap is the two-level table that KDMV, COWD and seSparse share: a
// directory of tables of entries, one entry a grain. What an entry means is the
// format's own business. Tables are read when needed and a few kept, so that
// memory does not follow the disk's size.
type grainMap struct {
	file      io.ReaderAt
	fileBytes int64
	capacity  int64 // bytes
	grain     int64 // bytes
	perTable  int64 // entries
	entry     int64 // bytes: 4 or 8
	directory int64 // byte offset in the file
	single    bool  // grains are records of their own: never join two

	// table is where the grain table of a directory entry lies; ok is false
	// when there is none.
	table func(entry uint64) (at int64, ok bool, err error)
	// decode tells what a table entry says about its grain.
	decode func(entry uint64) (State, int64, error)

	cache blockCache
}

// directoryPage is how much of the directory is read at once: 1 GiB of disk for
// seSparse, more for the others.
const directoryPage = 4096

func (m *grainMap) Locate(off, limit int64) (Run, error) {
	limit = min(limit, m.capacity-off)
	cover := m.grain * m.perTable
	group := off / cover
	limit = min(limit, (group+1)*cover-off)
	tableAt, ok, err := m.lookup(group)
	if err != nil {
		return Run{}, err
	}
	if !ok {
		return Run{Absent, limit, 0}, nil
	}
	tableBytes := m.perTable * m.entry
	if tableAt < 0 || tableAt > m.fileBytes-tableBytes {
		return Run{}, fmt.Errorf("read grain table at %d, file of %d: %w", tableAt, m.fileBytes, ErrTruncated)
	}
	table, err := m.cache.get(m.file, tableAt, tableBytes)
	if err != nil {
		return Run{}, fmt.Errorf("read grain table: %w", err)
	}
	return m.scan(table, off, limit)
}

// lookup reads the directory's entry of a table.
func (m *grainMap) lookup(group int64) (int64, bool, error) {
	total := RoundUp(m.capacity, m.grain*m.perTable) / (m.grain * m.perTable) * m.entry
	at := group * m.entry
	page := at / directoryPage * directoryPage
	bytes := min(directoryPage, total-page)
	b, err := m.cache.get(m.file, m.directory+page, bytes)
	if err != nil {
		return 0, false, fmt.Errorf("read grain directory: %w", err)
	}
	return m.table(m.value(b, at-page))
}

func (m *grainMap) value(b []byte, at int64) uint64 {
	if m.entry == 8 {
		return binary.LittleEndian.Uint64(b[at:])
	}
	return uint64(binary.LittleEndian.Uint32(b[at:]))
}

// scan joins the entries from off on that continue the first one: same state,
// and for data the next place in the file. That makes one request to a remote
// file out of many grains.
func (m *grainMap) scan(table []byte, off, limit int64) (Run, error) {
	index := off / m.grain % m.perTable
	inside := off % m.grain
	st, at, err := m.decode(m.value(table, index*m.entry))
	if err != nil {
		return Run{}, fmt.Errorf("grain at %d: %w", off-inside, err)
	}
	length := m.grain - inside
	for next := index + 1; next < m.perTable && length < limit && !(m.single && st == Data); next++ {
		st2, at2, err := m.decode(m.value(table, next*m.entry))
		if err != nil || st2 != st || (st == Data && at2 != at+(next-index)*m.grain) {
			break
		}
		length += m.grain
	}
	r := Run{st, min(length, limit), 0}
	if st != Data {
		return r, nil
	}
	if r.At = at; m.single {
		return r, nil
	}
	r.At += inside
	if r.At > m.fileBytes-r.Length {
		return Run{}, fmt.Errorf("grain at %d lies at %d, file of %d: %w", off, r.At, m.fileBytes, ErrTruncated)
	}
	return r, nil
}

func (m *grainMap) Read(p []byte, _ int64, r Run) error { return ReadFull(m.file, p, r.At) }

// blockCache keeps the blocks of a file that were used last. Its zero value
// works. Blocks are shared and must not be written.
type blockCache struct {
	mu    sync.Mutex
	order list.List // of *cachedBlock, last used first
	at    map[span]*list.Element
}

// span names a block. The length belongs to the name: in a hostile file a table
// may overlap the directory.
type span struct{ at, length int64 }

type cachedBlock struct {
	span
	data []byte
}

// cacheBlocks of up to 32 KiB (a seSparse table) are 1 MiB a file.
const cacheBlocks = 32

func (c *blockCache) get(file io.ReaderAt, at, length int64) ([]byte, error) {
	return c.load(span{at, length}, func() ([]byte, error) {
		b := make([]byte, length)
		return b, ReadFull(file, b, at)
	})
}

// load returns a block, made by fill when it is not there. Two callers may fill
// the same block at once; that costs time, not correctness.
func (c *blockCache) load(name span, fill func() ([]byte, error)) ([]byte, error) {
	if b, ok := c.find(name); ok {
		return b, nil
	}
	b, err := fill()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[span]*list.Element{}
	}
	if _, ok := c.at[name]; !ok {
		c.at[name] = c.order.PushFront(&cachedBlock{name, b})
	}
	if c.order.Len() > cacheBlocks {
		last := c.order.Remove(c.order.Back()).(*cachedBlock)
		delete(c.at, last.span)
	}
	return b, nil
}

func (c *blockCache) find(name span) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[name]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedBlock).data, true
}
