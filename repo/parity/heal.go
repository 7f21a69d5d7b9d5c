package parity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/reedsolomon"
)

// searchBudget bounds the trials, one row each, that a heal spends on finding
// bad cells whose sums are lost. A trial takes some 50 µs.
const searchBudget = 1 << 14

// manyCells bad cells make it worth while to keep inverted matrices.
const manyCells = 8

// Heal mends an object without a key. If nothing is wrong it returns obj
// itself; otherwise fixed is new memory and bit for bit what was once written,
// and d tells what was wrong. With more damage than parity can mend the error
// is ErrLost, d.Lost names the cells that are gone, and fixed, unless nil,
// holds all that could be mended, for a reader with the key to try; such
// bytes must never be written back. obj is not changed.
func Heal(obj []byte) (fixed []byte, d Damage, err error) {
	o, err := lay(obj)
	if err != nil {
		return nil, d, fmt.Errorf("heal object: %w", err)
	}
	if o.damage.Clean() {
		return obj, d, nil
	}
	if o.damage.Length == 0 {
		o.buf = bytes.Clone(o.buf) // the intact pages stay where they are, in obj
	}
	if err := o.healRows(); err != nil {
		return nil, o.damage, fmt.Errorf("heal object: %w", err)
	}
	if !o.damage.Healable() {
		return o.buf, o.damage, fmt.Errorf("heal object: %d cells lost, %d unproven: %w", len(o.damage.Lost), o.damage.Unproven, ErrLost)
	}
	o.healPages()
	return o.buf, o.damage, nil
}

// row is one code word in the course of being healed.
type row struct {
	o       *object
	code    reedsolomon.Encoder
	number  int
	shards  [][]byte // the cells as the decoder sees them
	scratch [][]byte // cells that recomputed bytes go to until they are proven
	erased  []int    // shards known to be bad
	unknown []int    // shards whose sums are lost
	budget  *int
}

// healRows mends each row with bad cells or with cells of unknown sums.
func (o *object) healRows() error {
	rows, n := o.Shape.Rows(), o.Shape.K+o.Shape.M
	bad := make([][]int, rows)
	for _, c := range o.damage.Cells {
		bad[c%rows] = append(bad[c%rows], c/rows)
	}
	code, err := o.decoder()
	if err != nil {
		return err
	}
	budget := searchBudget
	w := &row{o: o, code: code, shards: make([][]byte, n), budget: &budget}
	for r := range rows {
		w.number, w.erased, w.unknown = r, bad[r], w.unknown[:0]
		for s := range n {
			if _, known := o.sum(s*rows + r); !known {
				w.unknown = append(w.unknown, s)
			}
		}
		w.heal()
	}
	return nil
}

// decoder makes a decoder of its own for the heal of much damage: the inversion
// cache, a matrix a pattern, saves the work that rows of one burst share, and
// goes away with the heal. Little damage is healed by the shared encoder.
func (o *object) decoder() (reedsolomon.Encoder, error) {
	if o.Shape.M == 0 {
		return nil, nil
	}
	if len(o.damage.Cells) <= manyCells {
		return encoder(o.Shape)
	}
	code, err := reedsolomon.New(o.Shape.K, o.Shape.M, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("make decoder %d+%d: %w", o.Shape.K, o.Shape.M, err)
	}
	return code, nil
}

// heal mends the row, or notes its bad cells as lost.
func (w *row) heal() {
	if len(w.erased) == 0 && len(w.unknown) == 0 {
		return
	}
	if erase, ok := w.search(); ok && w.try(erase) {
		for i, s := range erase {
			copy(w.cell(s), w.scratch[i])
		}
		return
	}
	for _, s := range w.erased {
		w.o.damage.Lost = append(w.o.damage.Lost, w.cellNumber(s))
	}
	w.o.damage.Unproven += len(w.unknown)
}

func (w *row) cellNumber(shard int) int { return shard*w.o.Shape.Rows() + w.number }
func (w *row) cell(shard int) []byte    { return w.o.cell(w.cellNumber(shard)) }

// search finds the shards to erase: those known to be bad, and as few as
// possible of those that nobody vouches for. Two answers of one size are none.
func (w *row) search() ([]int, bool) {
	m, e := w.o.Shape.M, len(w.erased)
	for t := 0; t <= len(w.unknown) && e+t <= m; t++ {
		if e == 0 && t == m {
			break // any m cells can be recomputed to something; nothing would prove it
		}
		var found [][]int
		w.subsets(t, 0, w.erased, &found)
		if *w.budget < 0 || len(found) > 1 {
			return nil, false
		}
		if len(found) == 1 {
			return found[0], true
		}
	}
	return nil, false
}

// subsets tries every way to erase t more of the unknown shards from index
// from on, and collects those that decode.
func (w *row) subsets(t, from int, erase []int, found *[][]int) {
	if *w.budget < 0 {
		return
	}
	if t == 0 {
		*w.budget--
		if w.try(erase) {
			*found = append(*found, slices.Clone(erase))
		}
		return
	}
	for i := from; i < len(w.unknown); i++ {
		w.subsets(t-1, i+1, append(slices.Clone(erase), w.unknown[i]), found)
	}
}

// try recomputes the erased shards into scratch and tells whether the outcome
// is proven: by their sums, and, if cells without sums took part, by what
// parity is left over.
func (w *row) try(erase []int) bool {
	if w.code == nil || len(erase) > w.o.Shape.M {
		return false
	}
	for s := range w.shards {
		w.shards[s] = w.cell(s)
	}
	for i, s := range erase {
		if i == len(w.scratch) {
			w.scratch = append(w.scratch, make([]byte, CellBytes))
		}
		w.shards[s] = w.scratch[i][:0]
	}
	if len(erase) > 0 && w.code.Reconstruct(w.shards) != nil {
		return false
	}
	for _, s := range erase {
		if want, known := w.o.sum(w.cellNumber(s)); known && cellSum(w.shards[s]) != want {
			return false
		}
	}
	if len(w.unknown) == 0 || len(erase) == w.o.Shape.M {
		return true
	}
	ok, err := w.code.Verify(w.shards)
	return ok && err == nil
}

// healPages rebuilds lost pages from the cells, all of them proven by now, and
// gives every page both its copies.
func (o *object) healPages() {
	for i := range o.pages {
		if o.pages[i] == nil {
			o.pages[i] = o.rebuildPage(i)
		}
		copy(o.buf[i*PageBytes:(i+1)*PageBytes], o.pages[i])
		copy(mirror(o.buf, i), o.pages[i])
	}
}

func (o *object) rebuildPage(i int) []byte {
	page := make([]byte, PageBytes)
	from, to := pageCells(i)
	for c := from; c < min(to, o.Shape.Cells()); c++ {
		_, offset := sumPlace(c)
		binary.LittleEndian.PutUint32(page[offset:], cellSum(o.cell(c)))
	}
	sealPage(page, i)
	return page
}
