// Package chunk cuts byte streams into chunks whose bounds depend on content:
// insert a byte at the front of a stream and all cuts but the first few stay
// where they were, relative to the bytes around them. Disks do not need this
// (their chunks are fixed and aligned); streams, whose parts move, do.
//
// The method is FastCDC (Xia et al., USENIX ATC 2016) with a keyed gear table.
// A gear hash is h = h<<1 + table[byte]: bit n of it depends on the last n+1
// bytes, so the hash forgets what is more than 64 bytes back. A cut falls where
// the bits of a mask are all zero. Before the average length the mask has two
// bits more than the average asks for, after it two bits fewer (normalization
// level 2), which draws the lengths together around the average.
//
// The table comes from a secret key, so that cuts, and with them lengths, do
// not tell an onlooker which known file is stored. The hash starts 64 bytes
// before the first place where a cut may fall: from there on, whether a cut
// falls depends on the content alone and not on where the chunk began.
package chunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/zeebo/blake3"
)

// ErrParams: Params do not satisfy 64 ≤ Min < Avg < Max ≤ 32 MiB.
var ErrParams = errors.New("impossible chunk sizes")

// Params are the bounds of chunk lengths, in bytes. Only the last chunk of a
// stream may be shorter than Min; Avg counts as its largest power of two not
// above it. The zero value stands for SQL().
type Params struct {
	Min, Avg, Max int
}

// SQL is for database backup streams: pages of 8 KiB in extents of 64 KiB,
// whose sizes shift between backups.
func SQL() Params { return Params{Min: 64 << 10, Avg: 256 << 10, Max: 1 << 20} }

// Files is for files and large streams of unknown content.
func Files() Params { return Params{Min: 256 << 10, Avg: 1 << 20, Max: 4 << 20} }

// maxChunkBytes is the largest plaintext of a chunk (FORMAT.md §4).
const maxChunkBytes = 32 << 20

// windowBytes is how far back a 64-bit gear hash remembers.
const windowBytes = 64

// normalization is how many bits the mask has more before Avg, fewer after.
const normalization = 2

func (p Params) check() error {
	if p.Min < windowBytes || p.Min >= p.Avg || p.Avg >= p.Max || p.Max > maxChunkBytes {
		return fmt.Errorf("cut with min %d, avg %d, max %d: %w", p.Min, p.Avg, p.Max, ErrParams)
	}
	return nil
}

// table is a keyed gear table.
type table [256]uint64

// newTable reads the table from the BLAKE3 output stream of key (FORMAT.md §7).
func newTable(key [32]byte) *table {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only for keys that are not 32 bytes long
	}
	var raw [256 * 8]byte
	_, _ = h.Digest().Read(raw[:]) // the output stream has no end and no errors
	t := new(table)
	for i := range t {
		t[i] = binary.LittleEndian.Uint64(raw[i*8:])
	}
	return t
}

// spreadMask has n bits set, spread evenly from the top of the word, where a
// bit has seen the most bytes.
func spreadMask(n int) uint64 {
	step := 64 / n
	var m uint64
	for i := range n {
		m |= 1 << (63 - i*step)
	}
	return m
}

// cutter finds cuts in a buffer. It has no state.
type cutter struct {
	table          *table
	min, avg, max  int
	warm           int // bytes hashed before min
	strict, loosen uint64
}

func newCutter(t *table, p Params, warm int) cutter {
	n := bits.Len(uint(p.Avg)) - 1
	return cutter{
		table: t, min: p.Min, avg: p.Avg, max: p.Max, warm: warm,
		strict: spreadMask(n + normalization), loosen: spreadMask(n - normalization),
	}
}

// cut is the length of the first chunk of b, which holds max bytes or the rest
// of the stream.
func (c *cutter) cut(b []byte) int {
	if len(b) <= c.min {
		return len(b)
	}
	b = b[:min(len(b), c.max)]
	var h uint64
	for _, x := range b[c.min-c.warm : c.min] {
		h = h<<1 + c.table[x]
	}
	mid := min(c.avg, len(b))
	n, h := c.scan(b[c.min:mid], h, c.strict)
	if n >= 0 {
		return c.min + n
	}
	if n, _ = c.scan(b[mid:], h, c.loosen); n >= 0 {
		return mid + n
	}
	return len(b)
}

// scan returns the first place in b where the hash has no bit of mask, or -1,
// and the hash there.
func (c *cutter) scan(b []byte, h, mask uint64) (int, uint64) {
	t := c.table
	for i, x := range b {
		h = h<<1 + t[x]
		if h&mask == 0 {
			return i, h
		}
	}
	return -1, h
}

// Splitter cuts one stream. Not for concurrent use. It holds a buffer of twice
// Params.Max.
type Splitter struct {
	r          io.Reader
	cutter     cutter
	buf        []byte
	start, end int // bytes read and not yet cut
	err        error
}

// New makes a Splitter of r under key (K_cdc of the repository). Impossible
// Params are told by the first Next, as ErrParams.
func New(r io.Reader, key [32]byte, p Params) *Splitter {
	return newSplitter(r, newTable(key), p, windowBytes)
}

func newSplitter(r io.Reader, t *table, p Params, warm int) *Splitter {
	if p == (Params{}) {
		p = SQL()
	}
	if err := p.check(); err != nil {
		return &Splitter{err: err}
	}
	return &Splitter{r: r, cutter: newCutter(t, p, warm), buf: make([]byte, 2*p.Max)}
}

// Next returns the next chunk, never empty and valid until the next call;
// io.EOF after the last. An error of the reader is returned as it is, and again
// by every later call: what was read before it and not yet returned is no
// chunk, since where it ends is not known.
func (s *Splitter) Next() ([]byte, error) {
	if err := s.fill(); err != nil && err != io.EOF {
		return nil, err
	}
	if s.start == s.end {
		return nil, io.EOF
	}
	n := s.cutter.cut(s.buf[s.start:s.end])
	chunk := s.buf[s.start : s.start+n : s.start+n]
	s.start += n
	return chunk, nil
}

// idleReads is how many reads in a row may bring nothing.
const idleReads = 100

// fill reads until a whole chunk of any length is in the buffer or the stream
// has ended.
func (s *Splitter) fill() error {
	if s.end-s.start >= s.cutter.max || s.err != nil {
		return s.err
	}
	if len(s.buf)-s.start < s.cutter.max {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	for idle := 0; s.end-s.start < s.cutter.max && s.err == nil; idle++ {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.err = err
		if n > 0 {
			idle = 0
		} else if idle == idleReads && err == nil {
			s.err = io.ErrNoProgress
		}
	}
	return s.err
}
