// Package chain is the laboratory's storage: one virtual disk as a host keeps it on a
// datastore.
//
// A disk is a tree of layers. The root is a flat file with the bytes of the disk; every
// snapshot freezes the layer that took the writes until then and puts a new, sparse one
// on top of it, so the files of a snapshot never change while the guest goes on
// writing. Dropping a snapshot merges each layer that nobody holds any more with its
// only child, as the consolidation of a real host does; reverting throws the newest
// layer away and begins another, under another file name, on the snapshot's layer.
//
// Beside the bytes a disk keeps changed-block tracking by the published rules (KB
// 320557 and the "Changed Block Tracking on Virtual Disks" chapter of the VDDK guide):
// a change ID is "uuid/sequence", the sequence rises with each snapshot, goes back with
// a revert under the same uuid, and the uuid is new whenever tracking begins anew.
// Answers are as coarse as Options.Block, so a caller sees false positives, and never a
// miss.
//
// The package knows nothing of vSphere's API; the laboratory translates.
package chain

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrNoPoint is returned for a snapshot that froze nothing of this disk.
var ErrNoPoint = errors.New("disk has no such snapshot")

// ErrRange is returned when a read or a write would leave the disk.
var ErrRange = errors.New("offset outside the disk")

// ErrFrozen is returned by a change that a disk with snapshots does not allow.
var ErrFrozen = errors.New("disk has snapshots")

// defaultBlock is the granularity of tracking on ESXi before hardware version 17.
const defaultBlock = 64 << 10

// Options shape a Disk; the zero value works.
type Options struct {
	Block int64         // bytes per tracked block, default 64 KiB
	NewID func() string // makes a change-tracking uuid, random by default
}

// A layer is one file of the tree: the flat root or a sparse delta over its parent.
type layer struct {
	name   string // descriptor's file name
	cid    uint32
	parent *layer
	file   store
}

// store is the extent file of a layer; a delta reads what it lacks from the layer
// below.
type store interface {
	readAt(p []byte, off int64) error
	writeAt(p []byte, off int64) error
	each(fn func(off, length int64) error) error // what the delta has of its own; unused for the root
	close() error
}

// A point is what a snapshot holds of a disk.
type point struct {
	layer *layer
	track tracker
	size  int64
}

// Disk is one virtual disk. Its methods may be called from several goroutines.
type Disk struct {
	dir, base string
	opt       Options

	mu    sync.RWMutex
	size  int64
	leaf  *layer
	all   []*layer // root first
	held  map[string]*point
	track tracker
}

// Open takes the disk whose descriptor is (or will be) the file path, ending in
// ".vmdk", and whose flat file beside it either is missing or empty, then it is made
// sparse with size bytes, or has content, then its length is the disk's size.
func Open(path string, size int64, opt Options) (*Disk, error) {
	if opt.Block <= 0 {
		opt.Block = defaultBlock
	}
	if opt.NewID == nil {
		opt.NewID = newID
	}
	base := strings.TrimSuffix(filepath.Base(path), ".vmdk")
	d := &Disk{dir: filepath.Dir(path), base: base, opt: opt, held: map[string]*point{}, track: tracker{marks: map[int64]uint64{}}}
	f, err := os.OpenFile(filepath.Join(d.dir, base+"-flat.vmdk"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open flat file: %w", err)
	}
	if err := d.adopt(f, size); err != nil {
		_ = f.Close()
		return nil, err
	}
	return d, nil
}

func (d *Disk) adopt(f *os.File, size int64) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read size of flat file: %w", err)
	}
	d.size = size
	if fi.Size() > 0 {
		d.size = fi.Size()
	} else if err := f.Truncate(size); err != nil {
		return fmt.Errorf("size flat file: %w", err)
	}
	// ESXi writes fffffffe as the content ID of a disk that was never written; a stranger
	// checks only that a child's parentCID fits.
	root := &layer{name: d.base + ".vmdk", cid: 0xfffffffe, file: flat{f}}
	d.leaf, d.all = root, []*layer{root}
	if fi.Size() > 0 {
		if err := d.markContent(f); err != nil {
			return err
		}
	}
	return d.describe(root)
}

// markContent notes every block of an adopted file that is not all zero as written
// before tracking began.
func (d *Disk) markContent(r io.ReaderAt) error {
	buf := make([]byte, d.opt.Block)
	for off := int64(0); off < d.size; off += d.opt.Block {
		n, err := r.ReadAt(buf[:min(d.opt.Block, d.size-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("scan flat file: %w", err)
		}
		if !zero(buf[:n]) {
			d.track.note(off/d.opt.Block, 0)
		}
	}
	return nil
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Size is the capacity in bytes.
func (d *Disk) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size
}

// ReadAt reads the present content through all layers. It implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.read(d.leaf, d.size, p, off)
}

func (d *Disk) read(l *layer, size int64, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrRange
	}
	n := int64(len(p))
	if off >= size {
		return 0, io.EOF
	}
	n = min(n, size-off)
	if err := l.file.readAt(p[:n], off); err != nil {
		return 0, fmt.Errorf("read %s: %w", l.name, err)
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// below reads the layer under l, whichever that is at the time, for a merge may change
// it.
type below struct{ l *layer }

func (b below) ReadAt(p []byte, off int64) (int, error) {
	if err := b.l.parent.file.readAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt writes as the guest does: into the newest layer, seen by tracking. It
// implements io.WriterAt.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, ErrRange
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := d.leaf.file.writeAt(p, off); err != nil {
		return 0, fmt.Errorf("write %s: %w", d.leaf.name, err)
	}
	// The whole block counts as changed, whatever was written of it: a false positive.
	for b := off / d.opt.Block; b <= (off+int64(len(p))-1)/d.opt.Block; b++ {
		d.track.note(b, d.track.epoch)
	}
	return len(p), nil
}

// SHA256 is the hash of the present content, all Size bytes.
func (d *Disk) SHA256() ([32]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d, 0, d.Size())); err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// Extend gives the disk size bytes. A disk with snapshots cannot grow: ErrFrozen.
func (d *Disk) Extend(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if size == d.size {
		return nil
	}
	if len(d.all) > 1 {
		return ErrFrozen
	}
	if size < d.size {
		return fmt.Errorf("extend disk to %d bytes: %w", size, ErrRange)
	}
	if err := d.leaf.file.(flat).Truncate(size); err != nil {
		return fmt.Errorf("extend flat file: %w", err)
	}
	d.size = size
	return d.describe(d.leaf)
}

// Replace stores r as the flat file, whose length becomes the disk's size, without
// telling change tracking, as an upload over a datastore's file door does. A disk with
// snapshots refuses: ErrFrozen.
func (d *Disk) Replace(r io.Reader) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) > 1 {
		return ErrFrozen
	}
	f := d.leaf.file.(flat).File
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("empty flat file: %w", err)
	}
	size, err := CopySparse(f, r, func(off, length int64) {
		for b := off / d.opt.Block; b <= (off+length-1)/d.opt.Block; b++ {
			if !d.track.has(b) {
				d.track.note(b, 0)
			}
		}
	})
	d.size = size
	return err
}

// CopySparse writes r to the empty file f, leaving holes for zeros, and reports where
// each page of 64 KiB with data went. It returns the length, also after an error.
func CopySparse(f *os.File, r io.Reader, data func(off, length int64)) (int64, error) {
	buf := make([]byte, 64<<10)
	var off int64
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 && !zero(buf[:n]) {
			if _, werr := f.WriteAt(buf[:n], off); werr != nil {
				return off, fmt.Errorf("write flat file: %w", werr)
			}
			data(off, int64(n))
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return off, f.Truncate(off)
		}
		if err != nil {
			return off, errors.Join(fmt.Errorf("read upload: %w", err), f.Truncate(off))
		}
	}
}

// Close closes the files; the disk must not be used afterwards.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, l := range d.all {
		errs = append(errs, l.file.close())
	}
	return errors.Join(errs...)
}

// Remove closes the disk and deletes all its files; what is gone already is no error.
func (d *Disk) Remove() error {
	err := d.Close()
	for _, l := range d.all {
		for _, name := range []string{l.name, l.extent()} {
			if rerr := os.Remove(filepath.Join(d.dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return err
}

// A Layer names the two files of one link of a chain.
type Layer struct {
	Descriptor, Extent string // file names in the disk's directory
	Delta              bool   // a sparse link over its parent, not the flat file
}

// Chain lists the links, base first, of the snapshot id, or of the live disk when id is
// "". Unknown: nil.
func (d *Disk) Chain(id string) []Layer {
	d.mu.RLock()
	defer d.mu.RUnlock()
	l := d.leaf
	if id != "" {
		p, ok := d.held[id]
		if !ok {
			return nil
		}
		l = p.layer
	}
	var out []Layer
	for ; l != nil; l = l.parent {
		out = append([]Layer{{Descriptor: l.name, Extent: l.extent(), Delta: l.parent != nil}}, out...)
	}
	return out
}

// Part says whether the file name belongs to the disk, and whether it takes the guest's
// writes now.
func (d *Disk) Part(name string) (ours, live bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, l := range d.all {
		if name == l.name || name == l.extent() {
			return true, l == d.leaf && name != l.name
		}
	}
	return false, false
}
