package chain

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// Freeze makes the present content the snapshot id, twice on top of each other when
// quiesced: an application- quiesced snapshot has a second redo log, into which the
// writers finish their work.
func (d *Disk) Freeze(id string, quiesced bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if quiesced {
		if err := d.grow(d.leaf); err != nil {
			return err
		}
	}
	p := &point{layer: d.leaf, size: d.size, track: d.track.clone()}
	if err := d.grow(d.leaf); err != nil {
		return err
	}
	d.held[id] = p
	d.track.epoch++
	return nil
}

// grow begins a new leaf on parent, under the lowest free number.
func (d *Disk) grow(parent *layer) error {
	name := ""
	for n := 1; ; n++ {
		name = fmt.Sprintf("%s-%06d.vmdk", d.base, n)
		if _, err := os.Lstat(filepath.Join(d.dir, name)); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	l := &layer{name: name, cid: parent.cid - 1, parent: parent}
	f, err := newDelta(filepath.Join(d.dir, l.extent()), d.size, below{l})
	if err != nil {
		return err
	}
	l.file = f
	if err := d.describe(l); err != nil {
		return errors.Join(err, f.close())
	}
	d.leaf, d.all = l, append(d.all, l)
	return nil
}

// Revert goes back to the snapshot id: the newest layer is thrown away, another begins
// on the snapshot's. The tracking's sequence goes back as well, under the same uuid.
func (d *Disk) Revert(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.held[id]
	if !ok {
		return ErrNoPoint
	}
	old := d.leaf
	// The new leaf is made while the old one is still there, so it cannot get the same name:
	// a changed leaf file is how a caller can tell that there was a revert.
	if err := d.grow(p.layer); err != nil {
		return err
	}
	d.track = p.track.clone()
	d.track.epoch++
	d.size = p.size
	if old.parent == nil {
		return nil
	}
	return d.drop(old)
}

// Release lets the snapshot id go. The files stay as they are until Consolidate.
func (d *Disk) Release(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.held, id)
}

// NeedsConsolidation says whether there is a layer that nobody holds.
func (d *Disk) NeedsConsolidation() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.loose() != nil
}

// loose finds a layer without a holder that has no child or one.
func (d *Disk) loose() *layer {
	held := map[*layer]bool{d.leaf: true}
	for _, p := range d.held {
		held[p.layer] = true
	}
	for _, l := range d.all {
		if !held[l] && len(d.children(l)) < 2 && (l.parent != nil || len(d.children(l)) == 1) {
			return l
		}
	}
	return nil
}

func (d *Disk) children(l *layer) (out []*layer) {
	for _, c := range d.all {
		if c.parent == l {
			out = append(out, c)
		}
	}
	return out
}

// Consolidate merges every layer that nobody holds with its only child and deletes
// those without one.
func (d *Disk) Consolidate() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Each step leaves a valid chain, and makes one layer fewer.
	for l := d.loose(); l != nil; l = d.loose() {
		kids := d.children(l)
		if len(kids) == 0 {
			if err := d.drop(l); err != nil {
				return err
			}
			continue
		}
		if err := d.merge(l, kids[0]); err != nil {
			return err
		}
	}
	return nil
}

// merge moves what the child has into l, which takes the child's place.
func (d *Disk) merge(l, child *layer) error {
	buf := make([]byte, grainBytes)
	err := child.file.each(func(off, n int64) error {
		if err := child.file.readAt(buf[:n], off); err != nil {
			return err
		}
		return l.file.writeAt(buf[:n], off)
	})
	if err != nil {
		return fmt.Errorf("merge %s into %s: %w", child.name, l.name, err)
	}
	// Whoever stood on the child stands on l now.
	for _, c := range d.children(child) {
		c.parent = l
		if err := d.describe(c); err != nil {
			return err
		}
	}
	for _, p := range d.held {
		if p.layer == child {
			p.layer = l
		}
	}
	if d.leaf == child {
		d.leaf = l
	}
	return d.drop(child)
}

// drop deletes the files of a layer that nothing refers to.
func (d *Disk) drop(l *layer) error {
	for i, x := range d.all {
		if x == l {
			d.all = append(d.all[:i], d.all[i+1:]...)
			break
		}
	}
	err := l.file.close()
	return errors.Join(err,
		os.Remove(filepath.Join(d.dir, l.name)),
		os.Remove(filepath.Join(d.dir, l.extent())))
}

// A Frozen is the content of a disk at a snapshot. It is an io.ReaderAt.
type Frozen struct {
	d     *Disk
	p     *point
	Bytes int64 // capacity at that time
}

// At gives the content frozen by the snapshot id, or ErrNoPoint.
func (d *Disk) At(id string) (*Frozen, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.held[id]
	if !ok {
		return nil, ErrNoPoint
	}
	return &Frozen{d: d, p: p, Bytes: p.size}, nil
}

// ReadAt reads through the layers below the snapshot.
func (f *Frozen) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return f.d.read(f.p.layer, f.p.size, p, off)
}

// Written lists what was ever written, rounded to blocks, sorted, neighbours joined.
func (f *Frozen) Written() []Extent {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return f.p.track.extents(f.d.opt.Block, f.p.size, func(uint64) bool { return true })
}

func (t tracker) clone() tracker {
	t.marks = maps.Clone(t.marks)
	return t
}
