package chain

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrNotTracking is returned when there is no map: tracking is off, or was when the
// snapshot was taken.
var ErrNotTracking = errors.New("change tracking is not active")

// ErrChangeID is returned for a change ID that is malformed, of another tracking
// period, or from the future.
var ErrChangeID = errors.New("change ID is not known")

// ErrStart is returned for a start offset that does not lie inside the disk; the
// capacity itself does not.
var ErrStart = errors.New("start offset outside the disk")

// An Extent is a range of bytes.
type Extent struct{ Start, Length int64 }

// newID is the first half of a change ID, "52 de c0 d9 33 98 ea 2d-1a a7 9d 8d 8a 5c 2b
// 3c".
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	id[0] = 0x52
	return fmt.Sprintf("% x-% x", id[:8], id[8:])
}

// tracker remembers for each block when it was written last. Zero means: before
// tracking began. It goes on noting while tracking is off, as the laboratory's own
// knowledge of what was ever written.
type tracker struct {
	on    bool
	uuid  string // "" when the map does not exist
	epoch uint64 // sequence of the next snapshot
	full  bool   // the map cannot tell what was written before the period
	marks map[int64]uint64
}

func (t *tracker) note(block int64, epoch uint64) { t.marks[block] = epoch }

func (t *tracker) has(block int64) bool { _, ok := t.marks[block]; return ok }

// begin starts a period: everything known so far was written before it.
func (t *tracker) begin(uuid string) {
	for b := range t.marks {
		t.marks[b] = 0
	}
	t.on, t.uuid, t.epoch = true, uuid, 1
}

func (t *tracker) extents(block, size int64, want func(uint64) bool) []Extent {
	var blocks []int64
	for b, e := range t.marks {
		if want(e) && b*block < size {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	var out []Extent
	for _, b := range blocks {
		start, end := b*block, min((b+1)*block, size)
		if n := len(out); n > 0 && out[n-1].Start+out[n-1].Length == start {
			out[n-1].Length = end - out[n-1].Start
			continue
		}
		out = append(out, Extent{start, end - start})
	}
	return out
}

// Track switches change tracking at once; the caller knows when a host lets it take
// effect. Switching it on when it was off begins a period with a new uuid. When it was
// asked for while the VM had snapshots, blind, the map does not know what was written
// before: "*" is answered with the whole disk.
func (d *Disk) Track(on, blind bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case on && !d.track.on:
		d.track.begin(d.opt.NewID())
		d.track.full = blind
	case !on:
		d.track.on, d.track.uuid = false, ""
	}
}

// Tracking says whether changes are tracked now.
func (d *Disk) Tracking() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.track.on
}

// Reset begins a new period, as a host does that found the map unusable after a power
// loss.
func (d *Disk) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.track.on {
		d.track.begin(d.opt.NewID())
	}
}

// ChangeID is the change ID that the snapshot id recorded, "" without tracking.
func (d *Disk) ChangeID(id string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.held[id]
	if !ok || p.track.uuid == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", p.track.uuid, p.track.epoch)
}

// Changed lists what was written between the change ID since and the snapshot id, or,
// when since is "*", what was ever written. The answer begins at start, holds at most
// limit extents and covers exactly length bytes; the next question begins where it
// ends. Errors: ErrNoPoint, ErrNotTracking, ErrChangeID, ErrStart.
func (d *Disk) Changed(id, since string, start int64, limit int) (changed []Extent, length int64, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.held[id]
	switch {
	case !ok:
		return nil, 0, ErrNoPoint
	case p.track.uuid == "" || !d.track.on:
		return nil, 0, ErrNotTracking
	case start < 0 || start >= p.size:
		return nil, 0, ErrStart
	}
	all, err := d.since(p, since)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range all {
		if e.Start+e.Length <= start {
			continue
		}
		// The window ends with the last extent that fits: nothing is known of what follows, so
		// the next question must begin right there.
		if len(changed) == limit {
			last := changed[len(changed)-1]
			return changed, last.Start + last.Length - start, nil
		}
		if e.Start < start {
			e = Extent{start, e.Start + e.Length - start}
		}
		changed = append(changed, e)
	}
	return changed, p.size - start, nil
}

func (d *Disk) since(p *point, since string) ([]Extent, error) {
	if since == "*" {
		if p.track.full {
			return []Extent{{0, p.size}}, nil
		}
		return p.track.extents(d.opt.Block, p.size, func(uint64) bool { return true }), nil
	}
	uuid, seq, ok := strings.Cut(since, "/")
	n, err := strconv.ParseUint(seq, 10, 64)
	// The live period counts, too: after a reset the maps of older snapshots are gone.
	if !ok || err != nil || uuid != p.track.uuid || uuid != d.track.uuid || n == 0 || n > p.track.epoch {
		return nil, ErrChangeID
	}
	return p.track.extents(d.opt.Block, p.size, func(e uint64) bool { return e > n }), nil
}
