package siege_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
)

// sum is the SHA-256 of an image.
type sum string

func sumOf(data []byte) sum {
	s := sha256.Sum256(data)
	return sum(hex.EncodeToString(s[:]))
}

// book is what the program has promised.
type book struct {
	mu      sync.Mutex
	begun   map[string]int          // backups, by source
	held    map[string]map[sum]bool // what a source ever held when a backup began
	claims  map[string]*claim       // by the point's id
	doubts  map[string]error        // points that could not be restored while others forgot
	counted map[string]int          // how often things happened, for the log
}

// claim is a point that was reported.
type claim struct {
	source string
	nth    int // backup of its source
	sum    sum
	mayGo  bool // a forget named it, or may have
}

func newBook() *book {
	return &book{begun: map[string]int{}, held: map[string]map[sum]bool{}, claims: map[string]*claim{}, doubts: map[string]error{}, counted: map[string]int{}}
}

// begin notes that a backup begins, and says which of its source it is.
func (b *book) begin(source string, s sum) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[source] == nil {
		b.held[source] = map[sum]bool{}
	}
	b.held[source][s] = true
	b.begun[source]++
	return b.begun[source]
}

// report notes a point that the program says is safe.
func (b *book) report(id, source string, nth int, s sum) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claims[id] = &claim{source: source, nth: nth, sum: s}
}

// count notes that something happened.
func (b *book) count(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted[what]++
}

// counts tells how often things happened.
func (b *book) counts() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var words []string
	for what, n := range b.counted {
		words = append(words, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// happened is how often one thing did.
func (b *book) happened(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counted[what]
}

// release notes that a forget names these points: from the attempt on nobody may
// count on them.
func (b *book) release(ids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if c := b.claims[id]; c != nil {
			c.mayGo = true
		}
	}
}

// releaseOld notes that a forget that keeps the last so many of each source was
// killed: which points it has dropped by then is not known. source "" is all.
func (b *book) releaseOld(source string, keep int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.claims {
		ours := source == "" || c.source == source
		c.mayGo = c.mayGo || ours && c.nth <= b.begun[c.source]-keep
	}
}

// judged notes what a forget says it did. It must not have dropped a point that
// its policy keeps.
func (b *book) judged(keep int, out string) error {
	first, _, _ := strings.Cut(out, "\n")
	var rows []struct{ ID, Action string }
	if err := json.Unmarshal([]byte(first), &rows); err != nil {
		return fmt.Errorf("forget says %q: %w", first, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, row := range rows {
		c := b.claims[row.ID]
		if c == nil || row.Action != "forget" {
			continue
		}
		if c.nth > b.begun[c.source]-keep {
			return fmt.Errorf("forget --keep-last %d dropped %s, backup %d of %d of %s", keep, row.ID, c.nth, b.begun[c.source], c.source)
		}
		c.mayGo = true
	}
	return nil
}

// any picks a reported point, "" if there is none.
func (b *book) any(rng *rand.Rand, want func(c *claim) bool) (string, sum) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for id, c := range b.claims {
		if want(c) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", ""
	}
	slices.Sort(ids)
	id := ids[rng.IntN(len(ids))]
	return id, b.claims[id].sum
}

func standing(c *claim) bool { return !c.mayGo }

// doubt keeps an error of a point for the end, when it is known whether somebody
// had forgotten it.
func (b *book) doubt(id string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts[id] = err
}

// listed is a line of points --json, and what its restore brought.
type listed struct {
	ID, Source string
	got        sum
	err        error
}

// settle holds the points that are listed, and restored, against the book.
func (b *book) settle(points []listed) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	there := map[string]bool{}
	for _, p := range points {
		there[p.ID] = true
		c := b.claims[p.ID]
		switch {
		case p.err != nil:
			errs = append(errs, fmt.Errorf("point %s of %s does not restore: %w", p.ID, p.Source, p.err))
		case c != nil && p.got != c.sum:
			errs = append(errs, fmt.Errorf("point %s of %s came back different", p.ID, p.Source))
		case !b.held[p.Source][p.got]:
			errs = append(errs, fmt.Errorf("point %s holds what %s never held", p.ID, p.Source))
		}
	}
	for id, c := range b.claims {
		if !there[id] && !c.mayGo {
			errs = append(errs, fmt.Errorf("point %s, backup %d of %s, was reported, and nobody forgot it, and it is gone", id, c.nth, c.source))
		}
	}
	for id, err := range b.doubts {
		if !b.claims[id].mayGo {
			errs = append(errs, fmt.Errorf("point %s was not forgotten, and could not be restored once: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

const (
	blockBytes = 64 << 10
	pool       = 60 // blocks that all disks draw from
)

// disk is an image that changes between backups. Many of its blocks are those of
// other disks, too; now and then it goes back to what it was long ago, so that a
// backup finds again what was forgotten meanwhile.
type disk struct {
	path   string
	rng    *rand.Rand
	own    uint64 // numbers of blocks that no other disk has
	blocks []uint64
	past   [][]uint64
}

func newDisk(path string, seed uint64, blocks int) *disk {
	d := &disk{path: path, rng: rand.New(rand.NewPCG(seed, 7)), own: (seed%1e6 + 1) << 32, blocks: make([]uint64, blocks)}
	for i := range d.blocks {
		d.blocks[i] = d.block()
	}
	return d
}

// block is the number of a block as it might be written; 0 is a hole.
func (d *disk) block() uint64 {
	switch n := d.rng.IntN(10); {
	case n == 0:
		return 0
	case n < 6:
		return 1 + d.rng.Uint64N(pool)
	}
	d.own++
	return d.own
}

// change writes to the disk, and returns the sum of what it holds now.
func (d *disk) change() (sum, error) {
	d.past = append(d.past, slices.Clone(d.blocks))
	if len(d.past) > 8 {
		d.past = d.past[1:]
	}
	if d.rng.IntN(5) == 0 {
		copy(d.blocks, d.past[d.rng.IntN(len(d.past))])
	}
	for range d.rng.IntN(1 + len(d.blocks)/4) {
		d.blocks[d.rng.IntN(len(d.blocks))] = d.block()
	}
	data := make([]byte, len(d.blocks)*blockBytes)
	for i, n := range d.blocks {
		if n != 0 {
			fill(data[i*blockBytes:][:blockBytes], n)
		}
	}
	return sumOf(data), os.WriteFile(d.path, data, 0o600)
}

// fill makes the content of a block of that number.
func fill(block []byte, n uint64) {
	noise := rand.NewPCG(n, 0)
	for ; len(block) > 0; block = block[8:] {
		binary.LittleEndian.PutUint64(block, noise.Uint64())
	}
}
