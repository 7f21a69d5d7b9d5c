package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// ErrExtents: the list of changed extents cannot be understood.
var ErrExtents = errors.New("changed extents are malformed")

// ErrEmpty: standard input ended before its first byte.
var ErrEmpty = errors.New("the stream is empty")

// ErrChanged: the image changed its size while it was read.
var ErrChanged = errors.New("the image changed while it was read")

// RandomAccess is an opened disk image of any format: raw bytes at any offset.
type RandomAccess interface {
	io.ReaderAt
	io.Closer
}

// ImageSource backs up a disk image, a block device or standard input as one
// disk named "disk-0".
type ImageSource struct {
	Label string    // what the source is called: image/LABEL
	Time  time.Time // the moment the data is of
	// Bytes is the size of the disk; -1 with OpenStream.
	Bytes      int64
	Open       func(ctx context.Context) (RandomAccess, error)
	OpenStream func(ctx context.Context) (io.ReadCloser, error)
	// Allocated, if not nil, is a superset of what is not zero.
	Allocated []image.Extent
	// Changed, with UseChanged, is a superset of what differs from the parent.
	Changed    []image.Extent
	UseChanged bool
	// Facts is kept in the point: path, format …
	Facts any
}

// Kind is recovery.Image.
func (s *ImageSource) Kind() recovery.Kind { return recovery.Image }

// Name is image/LABEL.
func (s *ImageSource) Name() string { return "image/" + s.Label }

// Identity is the name: an image has nothing else that stays.
func (s *ImageSource) Identity() string { return "image:" + s.Label }

// Freeze decides what to read; an image needs no freezing.
func (s *ImageSource) Freeze(_ context.Context, parent *recovery.Point) (Frozen, error) {
	facts, err := json.Marshal(s.Facts)
	if err != nil {
		return nil, fmt.Errorf("describe image: %w", err)
	}
	// A local file seeks for nothing: what lies between two areas is not read.
	d := &Disk{Bytes: s.Bytes, OpenStream: s.OpenStream, Gap: 1}
	if s.Open != nil {
		d.Open = func(ctx context.Context) (DiskReader, error) {
			f, err := s.Open(ctx)
			if err != nil {
				return nil, err
			}
			return fileReader{f}, nil
		}
	}
	s.decide(d, parent)
	state := State{Time: s.Time, Consistency: recovery.Crash, Attrs: facts}
	return &frozenImage{state: state, items: []Item{{Name: ImageItem, Label: s.Label, Disk: d}}}, nil
}

// ImageItem is the name of the one disk of an image's point.
const ImageItem = "disk-0"

// decide chooses between the changed extents and a full read.
func (s *ImageSource) decide(d *Disk, parent *recovery.Point) {
	switch {
	case s.OpenStream != nil:
		d.ReadMode, d.Rule, d.Reason = recovery.ReadStream, "IMG-STREAM", "a stream is read from its first byte to its last"
	case !s.UseChanged && s.Allocated != nil:
		d.Extents, d.ReadMode, d.Rule = s.Allocated, recovery.ReadAllocated, "IMG-ALLOCATED"
		d.Reason = "no list of changed extents; holes of the file are zeros"
	case !s.UseChanged:
		d.ReadMode, d.Rule, d.Reason = recovery.ReadFull, "IMG-FULL", "no list of changed extents"
	case parent == nil || parent.Item(ImageItem) == nil || parent.Item(ImageItem).Disk == nil:
		d.Extents, d.ReadMode, d.Rule = s.Allocated, recovery.ReadFull, "IMG-PARENT"
		d.Reason = "there is no parent that the changed extents could refer to"
		if s.Allocated != nil {
			d.ReadMode = recovery.ReadAllocated
		}
	default:
		d.Incremental, d.Extents = true, s.Changed
		d.ReadMode, d.Rule, d.Reason = recovery.ReadExtents, "IMG-EXTENTS", "only the listed extents changed since "+parent.ID
	}
}

type frozenImage struct {
	state State
	items []Item
}

func (f *frozenImage) State() State                                     { return f.state }
func (f *frozenImage) Items() []Item                                    { return f.items }
func (f *frozenImage) Committed(context.Context, *recovery.Point) error { return nil }
func (f *frozenImage) Release(context.Context) error                    { return nil }

// fileReader reads ranges in full: a short read means that the image shrank.
type fileReader struct{ f RandomAccess }

func (r fileReader) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := r.f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("only %d of %d bytes at %d: %w", n, len(p), off, ErrChanged)
	}
	return err
}

func (r fileReader) Close() error { return r.f.Close() }

// ReadExtents reads a JSON list of {"start":bytes,"length":bytes}, in any
// order, overlaps allowed. Negative numbers and unknown fields are ErrExtents.
func ReadExtents(path string) ([]image.Extent, error) {
	// Looked at before it is opened: opening a pipe waits for its writer for ever.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read changed extents: %s is no regular file: %w", path, ErrExtents)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read changed extents: %w", err)
	}
	defer f.Close()
	return parseExtents(f)
}

func parseExtents(in io.Reader) ([]image.Extent, error) {
	var list []struct {
		Start  *int64 `json:"start"`
		Length *int64 `json:"length"`
	}
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("read changed extents: %w: %w", ErrExtents, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read changed extents: more than one list: %w", ErrExtents)
	}
	if list == nil {
		return nil, fmt.Errorf("read changed extents: null is no list: %w", ErrExtents)
	}
	extents := make([]image.Extent, 0, len(list))
	for i, e := range list {
		if e.Start == nil || e.Length == nil || *e.Start < 0 || *e.Length < 0 || *e.Length > math.MaxInt64-*e.Start {
			return nil, fmt.Errorf("read changed extents: entry %d: %w", i, ErrExtents)
		}
		extents = append(extents, image.Extent{Start: *e.Start, Length: *e.Length})
	}
	return extents, nil
}
