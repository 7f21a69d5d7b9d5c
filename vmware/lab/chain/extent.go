package chain

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/vmware/vmdk"
)

// grainBytes is the unit that a delta copies up.
const grainBytes = 4096

// flat is the root's file.
type flat struct{ *os.File }

func (f flat) readAt(p []byte, off int64) error {
	n, err := f.File.ReadAt(p, off)
	if errors.Is(err, io.EOF) && n == len(p) {
		err = nil
	}
	return err
}

func (f flat) writeAt(p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	return err
}

func (f flat) each(func(off, length int64) error) error { return nil }
func (f flat) close() error                             { return f.Close() }

// delta is a real seSparse file over a parent. Which grains it has of its own is kept
// in memory, too, for the merge.
type delta struct {
	f      *os.File
	s      *vmdk.SESparse
	grains map[int64]struct{}
}

func newDelta(path string, size int64, parent io.ReaderAt) (*delta, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create delta: %w", err)
	}
	s, err := vmdk.CreateSESparse(f, size, parent)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create delta: %w", err), f.Close(), os.Remove(path))
	}
	return &delta{f: f, s: s, grains: map[int64]struct{}{}}, nil
}

func (d *delta) readAt(p []byte, off int64) error {
	n, err := d.s.ReadAt(p, off)
	if errors.Is(err, io.EOF) && n == len(p) {
		err = nil
	}
	return err
}

func (d *delta) writeAt(p []byte, off int64) error {
	if _, err := d.s.WriteAt(p, off); err != nil {
		return err
	}
	for g := off / grainBytes; g <= (off+int64(len(p))-1)/grainBytes; g++ {
		d.grains[g] = struct{}{}
	}
	return nil
}

func (d *delta) each(fn func(off, length int64) error) error {
	order := make([]int64, 0, len(d.grains))
	for g := range d.grains {
		order = append(order, g)
	}
	slices.Sort(order)
	for _, g := range order {
		if err := fn(g*grainBytes, min(grainBytes, d.s.Size()-g*grainBytes)); err != nil {
			return err
		}
	}
	return nil
}

func (d *delta) close() error { return d.f.Close() }

// extent is the file beside the descriptor that holds the bytes.
func (l *layer) extent() string {
	stem := strings.TrimSuffix(l.name, ".vmdk")
	if l.parent == nil {
		return stem + "-flat.vmdk"
	}
	return stem + "-sesparse.vmdk"
}

// describe writes the text descriptor of a layer.
func (d *Disk) describe(l *layer) error {
	text := vmdk.NewFlatDescriptor(l.extent(), d.size)
	if l.parent != nil {
		text = vmdk.NewDeltaDescriptor(l.extent(), l.parent.name, l.parent.cid, d.size)
	}
	text.CID = l.cid
	if err := os.WriteFile(filepath.Join(d.dir, l.name), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write descriptor: %w", err)
	}
	return nil
}
