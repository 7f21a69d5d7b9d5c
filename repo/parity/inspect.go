package parity

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Damage is what is wrong with an object. The zero Damage is a clean object.
type Damage struct {
	// Length is the object's length less the one its shape demands, in bytes:
	// negative for a truncated object.
	Length int
	// Pages are the places of damaged header pages, in the object's order: with
	// p pages at each end, 0 … p−1 are H and p … 2p−1 are H′.
	Pages []int
	// Cells are the numbers of the cells whose bytes differ from their sums.
	Cells []int
	// Lost are those among Cells that parity cannot bring back.
	Lost []int
	// Unproven counts cells whose sums are lost in both copies of their page
	// and which no parity could prove. They may be good: the seal decides.
	Unproven int
}

// Clean reports whether nothing at all is wrong.
func (d Damage) Clean() bool {
	return d.Length == 0 && len(d.Pages) == 0 && len(d.Cells) == 0 && d.Unproven == 0
}

// Healable reports whether, as far as known, Heal brings every byte back.
func (d Damage) Healable() bool { return len(d.Lost) == 0 && d.Unproven == 0 }

// String says it in the words of a report.
func (d Damage) String() string {
	if d.Clean() {
		return "clean"
	}
	s := fmt.Sprintf("%d bad cells, %d bad header pages", len(d.Cells), len(d.Pages))
	if d.Length != 0 {
		s += fmt.Sprintf(", length off by %d bytes", d.Length)
	}
	if !d.Healable() {
		s += fmt.Sprintf(", %d cells lost, %d unproven", len(d.Lost), d.Unproven)
	}
	return s
}

// object is bytes laid out as their header says, with the pages to be trusted.
type object struct {
	Header
	buf    []byte   // StoredBytes long
	pages  [][]byte // the intact copy of each header page; nil if both are bad
	damage Damage
}

// locate reads page 0 from whichever end has an intact one.
func locate(obj []byte) (h Header, page []byte, err error) {
	if len(obj) < PageBytes {
		return Header{}, nil, fmt.Errorf("find header in %d bytes: %w", len(obj), ErrLost)
	}
	front, back := obj[:PageBytes], obj[len(obj)-PageBytes:]
	h, err = ReadHeader(front)
	if err == nil {
		return h, front, nil
	}
	h, backErr := ReadHeader(back)
	if backErr == nil {
		return h, back, nil
	}
	for _, e := range []error{err, backErr} {
		if errors.Is(e, ErrUnsupported) {
			return Header{}, nil, e
		}
	}
	return Header{}, nil, fmt.Errorf("find header: both copies damaged: %w", ErrLost)
}

// FindHeader reads the header of a whole object from whichever end has an
// intact page 0, and checks nothing else. Errors as of Inspect.
func FindHeader(obj []byte) (Header, error) {
	h, _, err := locate(obj)
	return h, err
}

// lay brings the bytes into the order that their header demands and finds the
// intact pages and bad cells. It changes obj never, but shares its memory
// unless the length is wrong.
func lay(obj []byte) (*object, error) {
	h, page0, err := locate(obj)
	if err != nil {
		return nil, err
	}
	o := &object{Header: h, buf: obj, pages: make([][]byte, h.Shape.Pages())}
	o.damage.Length = len(obj) - h.Shape.StoredBytes()
	if o.damage.Length != 0 {
		o.buf = make([]byte, h.Shape.StoredBytes())
		copy(o.buf, obj)
	}
	o.pages[0] = page0
	o.findPages(obj)
	o.findCells(obj)
	return o, nil
}

// fromBack is the same place of the object counted from the end of the bytes
// as found: what it held before bytes in front of it went missing or came in.
// Nil where the length is right or the bytes do not reach.
func (o *object) fromBack(obj []byte, at int) []byte {
	from := at + o.damage.Length
	if o.damage.Length == 0 || from < 0 || from+CellBytes > len(obj) {
		return nil
	}
	return obj[from : from+CellBytes]
}

// findPages picks, for each page, the copy that passes its check.
func (o *object) findPages(obj []byte) {
	p := len(o.pages)
	for i := range p {
		for _, at := range [2]int{i * PageBytes, len(o.buf) - (i+1)*PageBytes} {
			page := o.buf[at : at+PageBytes]
			if alt := o.fromBack(obj, at); alt != nil && !o.pageGood(page, i) && o.pageGood(alt, i) {
				copy(page, alt)
			}
			if o.pageGood(page, i) {
				if o.pages[i] == nil {
					o.pages[i] = page
				}
				continue
			}
			o.damage.Pages = append(o.damage.Pages, pagePlace(at, i, p))
		}
	}
}

// pagePlace numbers a page copy for Damage.Pages.
func pagePlace(at, i, p int) int {
	if at == i*PageBytes {
		return i
	}
	return 2*p - 1 - i
}

// pageGood tells whether page is an intact page i of this object, and, once a
// copy has been chosen, the same as that one.
func (o *object) pageGood(page []byte, i int) bool {
	if o.pages[i] != nil {
		return string(page) == string(o.pages[i])
	}
	return pageIntact(page, i) && spareSumsZero(page, i, o.Shape)
}

// sum is the sum that cell c should have; false if its page is lost.
func (o *object) sum(c int) (uint32, bool) {
	page, offset := sumPlace(c)
	if o.pages[page] == nil {
		return 0, false
	}
	return binary.LittleEndian.Uint32(o.pages[page][offset:]), true
}

// cell is a view of cell c.
func (o *object) cell(c int) []byte {
	at := o.Shape.CellOffset(c)
	return o.buf[at : at+CellBytes : at+CellBytes]
}

// findCells compares every cell with its sum.
func (o *object) findCells(obj []byte) {
	for c := range o.Shape.Cells() {
		want, known := o.sum(c)
		if !known || cellSum(o.cell(c)) == want {
			continue
		}
		if alt := o.fromBack(obj, o.Shape.CellOffset(c)); alt != nil && cellSum(alt) == want {
			copy(o.cell(c), alt)
			continue
		}
		o.damage.Cells = append(o.damage.Cells, c)
	}
}

// Inspect verifies an object without a key: every page and every cell against
// its sum. Damage tells what is wrong, and Damage.Healable whether Heal can
// mend it. The error is ErrLost when both copies of page 0 are gone,
// ErrUnsupported when an intact page 0 is of another format.
func Inspect(obj []byte) (Header, Damage, error) {
	o, err := lay(obj)
	if err != nil {
		return Header{}, Damage{}, fmt.Errorf("inspect object: %w", err)
	}
	rows := o.Shape.Rows()
	bad := make([]int, rows)
	for _, c := range o.damage.Cells {
		bad[c%rows]++
	}
	for _, c := range o.damage.Cells {
		if bad[c%rows] > o.Shape.M {
			o.damage.Lost = append(o.damage.Lost, c)
		}
	}
	return o.Header, o.damage, nil
}
