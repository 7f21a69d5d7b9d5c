package segment

import (
	"fmt"
	"io"
	"iter"
	"sort"
	"sync"

	"github.com/cespare/xxhash/v2"

	"holdfast/repo/blob"
)

// Segment is an open index segment. Packs and fences are in memory, entries
// stay where the reader has them. All methods may be called concurrently.
type Segment struct {
	r       io.ReaderAt
	packs   []Pack
	bytes   []uint32 // sizes of the packs: what every row is held against
	fences  []Key
	entries uint64
}

// Open reads the trailer, the packs and the fences of the segment of size bytes
// in r, and checks them; pages are checked as they are read. It returns
// ErrCorrupt for bytes that are no whole segment, ErrConservation if the packs'
// counts do not add up to the number of entries, or the reader's own error.
// r must stay readable for as long as the segment is used.
func Open(r io.ReaderAt, size int64) (*Segment, error) {
	s, err := open(r, size)
	if err != nil {
		return nil, fmt.Errorf("open index segment: %w", err)
	}
	return s, nil
}

func open(r io.ReaderAt, size int64) (*Segment, error) {
	if size < trailerBytes {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrCorrupt)
	}
	var tail [trailerBytes]byte
	if err := ReadAt(r, tail[:], size-trailerBytes); err != nil {
		return nil, err
	}
	t, err := getTrailer(tail[:], size)
	if err != nil {
		return nil, err
	}
	lists := make([]byte, int64(t.packs)*packBytes+int64(t.pages)*fenceBytes)
	if err := ReadAt(r, lists, int64(t.pages)*pageBytes); err != nil {
		return nil, err
	}
	if xxhash.Sum64(lists) != t.check {
		return nil, fmt.Errorf("packs and fences: bad check: %w", ErrCorrupt)
	}
	s := &Segment{r: r, entries: t.entries}
	packs, fences := lists[:int(t.packs)*packBytes], lists[int(t.packs)*packBytes:]
	if err := s.loadPacks(packs); err != nil {
		return nil, err
	}
	return s, s.loadFences(fences)
}

// ReadAt fills b from offset at. Bytes that end too early are ErrCorrupt, since
// their size was told; other errors are the reader's own.
func ReadAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("%d bytes missing at %d: %w", len(b)-n, at, ErrCorrupt)
	}
	return err
}

func (s *Segment) loadPacks(b []byte) error {
	s.packs = make([]Pack, 0, len(b)/packBytes)
	s.bytes = make([]uint32, 0, len(b)/packBytes)
	sid, entries := "", uint64(0)
	for ; len(b) > 0; b = b[packBytes:] {
		p, err := getPack(b, sid)
		if err != nil {
			return err
		}
		if n := len(s.packs); n > 0 && Compare(s.packs[n-1], p) >= 0 {
			return fmt.Errorf("pack %s out of order: %w", p.Name(), ErrCorrupt)
		}
		s.packs, s.bytes = append(s.packs, p), append(s.bytes, p.Bytes)
		sid, entries = p.SID, entries+uint64(p.Count)
	}
	if entries != s.entries {
		return fmt.Errorf("%d entries where packs tell %d: %w", s.entries, entries, ErrConservation)
	}
	return nil
}

func (s *Segment) loadFences(b []byte) error {
	s.fences = make([]Key, 0, len(b)/fenceBytes)
	for ; len(b) > 0; b = b[fenceBytes:] {
		key := Key(b[:fenceBytes])
		if n := len(s.fences); n > 0 && compareKeys(s.fences[n-1], key) > 0 {
			return fmt.Errorf("fence %d out of order: %w", n, ErrCorrupt)
		}
		s.fences = append(s.fences, key)
	}
	return nil
}

// Packs are the packs that the segment lists, sorted by session, kind and id.
// The slice is the segment's own: do not change it.
func (s *Segment) Packs() []Pack { return s.packs }

// Len is the number of entries.
func (s *Segment) Len() int { return int(s.entries) }

// Span is above the place of every row (see Find), and hardly larger than Len
// in a segment as it is written, with full pages.
func (s *Segment) Span() int { return len(s.fences) * pageEntries }

// pagePool holds page buffers, so that a look-up allocates only its answer.
var pagePool = sync.Pool{New: func() any { return new([pageBytes]byte) }}

// Lookup returns every place the segment knows for id, none if it knows none.
// It reads one page; two where equal ids may straddle a page's end. Errors:
// ErrCorrupt for a page whose check, order or content is wrong.
func (s *Segment) Lookup(id blob.ID) ([]Location, error) {
	var found []Location
	err := s.Find(KeyOf(id), func(r Row, _ int) bool {
		found = append(found, Location{Pack: s.packs[r.Pack], Offset: r.Offset, Stored: r.Stored})
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", id, err)
	}
	return found, nil
}

// Find calls fn for each row of key, until fn returns false. at is the row's
// place in the segment: it is below Span, no other row has it, and every way of
// reading tells the same one. Costs and errors are those of Lookup.
func (s *Segment) Find(key Key, fn func(r Row, at int) bool) error {
	// Rows of key start in the page before the first fence that is not below
	// key, and go on in all pages whose fence is key itself.
	first := sort.Search(len(s.fences), func(i int) bool { return compareKeys(s.fences[i], key) >= 0 })
	last := first
	for last < len(s.fences) && s.fences[last] == key {
		last++
	}
	page := pagePool.Get().(*[pageBytes]byte)
	defer pagePool.Put(page)
	for i := max(first-1, 0); i < last || i == first-1; i++ {
		if err := ReadAt(s.r, page[:], int64(i)*pageBytes); err != nil {
			return err
		}
		count, err := s.checkPage(i, page[:])
		if err != nil {
			return err
		}
		n := sort.Search(count, func(j int) bool { return compareKeys(Key(page[j*entryBytes:][:16]), key) >= 0 })
		more, err := s.rowsOf(key, page[:], i, n, count, fn)
		if !more || err != nil {
			return err
		}
	}
	return nil
}

// rowsOf calls fn for the rows of key in page i, which has count rows, from row
// n on, and reports whether fn wants more.
func (s *Segment) rowsOf(key Key, page []byte, i, n, count int, fn func(r Row, at int) bool) (bool, error) {
	for ; n < count; n++ {
		r := getRow(page[n*entryBytes:])
		if r.Key != key {
			break
		}
		if err := s.checkRow(r); err != nil {
			return false, err
		}
		if !fn(r, i*pageEntries+n) {
			return false, nil
		}
	}
	return true, nil
}

// checkPage checks that page is whole and that it is the page of fence i, and
// returns its number of entries.
func (s *Segment) checkPage(i int, page []byte) (int, error) {
	count, err := openPage(page)
	if err != nil {
		return 0, fmt.Errorf("page %d: %w", i, err)
	}
	if Key(page[:16]) != s.fences[i] {
		return 0, fmt.Errorf("page %d is not the page of its fence: %w", i, ErrCorrupt)
	}
	return count, nil
}

func (s *Segment) checkRow(r Row) error {
	if int64(r.Pack) >= int64(len(s.bytes)) || !fits(s.bytes[r.Pack], r.Offset, r.Stored) {
		return fmt.Errorf("entry %x outside its pack: %w", r.Key, ErrCorrupt)
	}
	return nil
}

// Item is one entry as a segment returns it: where the chunk with this key is.
type Item struct {
	Key Key
	Location
}

// Entries goes through all entries, sorted by key, then pack, then offset. It
// holds a few pages in memory. An error comes once, with a zero Item, and ends
// the sequence.
func (s *Segment) Entries() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for r, err := range s.rows() {
			if err != nil {
				yield(Item{}, fmt.Errorf("read index segment: %w", err))
				return
			}
			if !yield(Item{r.Key, Location{s.packs[r.Pack], r.Offset, r.Stored}}, nil) {
				return
			}
		}
	}
}

// rows goes through all rows; an error ends it.
func (s *Segment) rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		c := newCursor(s, cursorPages)
		for {
			r, ok, err := c.next()
			if !ok && err == nil || !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Verify reads all pages and checks every one, the order of all entries and
// the conservation law. It returns ErrCorrupt, ErrConservation or the reader's
// error. Memory: 16 bytes a pack.
func (s *Segment) Verify() error {
	law := make(tally, len(s.packs))
	for r, err := range s.rows() {
		if err != nil {
			return fmt.Errorf("verify index segment: %w", err)
		}
		law.add(r)
	}
	if err := law.check(s.packs); err != nil {
		return fmt.Errorf("verify index segment: %w", err)
	}
	return nil
}

// tally adds up the entries seen of each pack, by ordinal.
type tally []struct {
	sum   uint64
	count uint32
}

func (t tally) add(r Row) {
	t[r.Pack].count++
	t[r.Pack].sum += keyHash(r.Key, r.Offset, r.Stored)
}

// check compares with what the packs say of themselves.
func (t tally) check(packs []Pack) error {
	for i, p := range packs {
		if t[i].count != p.Count || t[i].sum != p.Sum {
			return fmt.Errorf("pack %s: %d entries with sum %016x where it has %d with %016x: %w",
				p.Name(), t[i].count, t[i].sum, p.Count, p.Sum, ErrConservation)
		}
	}
	return nil
}

// cursorPages is how many pages a lone cursor reads at once: 256 KiB.
const cursorPages = 64

// cursor walks a segment's rows in order, checking each page and row.
type cursor struct {
	seg     *Segment
	buf     []byte
	at      int // number of the next page
	page    []byte
	rest    []byte // pages read and not yet begun
	i, n    int    // next row and number of rows in page
	last    Row
	started bool
}

func newCursor(s *Segment, pages int) *cursor {
	return &cursor{seg: s, buf: make([]byte, min(max(pages, 1), max(len(s.fences), 1))*pageBytes)}
}

// place is that of the row which next returned last.
func (c *cursor) place() int { return (c.at-1)*pageEntries + c.i - 1 }

// next returns the next row; ok is false at the end.
func (c *cursor) next() (r Row, ok bool, err error) {
	if c.i == c.n {
		if ok, err := c.turn(); !ok || err != nil {
			return Row{}, false, err
		}
	}
	r = getRow(c.page[c.i*entryBytes:])
	c.i++
	if err := c.seg.checkRow(r); err != nil {
		return Row{}, false, err
	}
	if c.started && !before(&c.last, &r) {
		return Row{}, false, fmt.Errorf("entry %x out of order: %w", r.Key, ErrCorrupt)
	}
	c.last, c.started = r, true
	return r, true, nil
}

// turn goes to the next page, reading more when the buffer is used up.
func (c *cursor) turn() (bool, error) {
	if len(c.rest) == 0 {
		n := min(len(c.buf)/pageBytes, len(c.seg.fences)-c.at)
		c.rest = c.buf[:n*pageBytes]
		if n == 0 {
			return false, nil
		}
		if err := ReadAt(c.seg.r, c.rest, int64(c.at)*pageBytes); err != nil {
			return false, err
		}
	}
	count, err := c.seg.checkPage(c.at, c.rest[:pageBytes])
	c.page, c.rest, c.i, c.n, c.at = c.rest[:pageBytes], c.rest[pageBytes:], 0, count, c.at+1
	return err == nil, err
}
