package vmdk

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"holdfast/vmware/vmdk/extent"
)

// maxChain bounds the links of a chain. VMware allows 32 snapshots, linked
// clones a few more; a loop of parents ends here, too.
const maxChain = 256

// OpenExtent opens a file that a descriptor names and returns it with its
// length in bytes. The name is always a plain file name, to be looked for where
// the descriptor lies. Closing what it opened is its owner's business.
type OpenExtent = func(name string) (io.ReaderAt, int64, error)

// Image is a disk as a guest sees it. It is safe for parallel use when the
// files under it are.
type Image struct {
	size       int64
	descriptor *Descriptor
	parts      []part
	parent     *Image
}

// part is an extent in its place.
type part struct {
	start, end int64 // bytes of the disk
	extent     extent.Reader
}

// Open opens the VMDK in r, a file of size bytes: a sparse file with its
// descriptor inside, or a text descriptor, whose extents are opened by
// openExtent (nil will do for a single file).
//
// Errors: ErrFormat and ErrTruncated for damaged or hostile files, ErrHasParent
// for a delta, ErrNeedsDescriptor for a bare extent of either sparse kind
// (alone it would read as zeros what its parent holds, or be a part of a disk),
// ErrUnsupported, and what openExtent returned.
func Open(r io.ReaderAt, size int64, openExtent OpenExtent) (*Image, error) {
	im, err := openImage(r, size, openExtent)
	if err != nil {
		return nil, fmt.Errorf("open vmdk: %w", err)
	}
	if im.descriptor.HasParent() {
		return nil, fmt.Errorf("open vmdk: parent %q: %w", im.descriptor.ParentHint, ErrHasParent)
	}
	return im, nil
}

// OpenChain is Open for a disk that may be a delta: parents are opened through
// openExtent by the name that the child's descriptor has for them. A parent
// whose content id is not the one that the child saw is ErrParentMismatch.
func OpenChain(r io.ReaderAt, size int64, openExtent OpenExtent) (*Image, error) {
	top, err := openImage(r, size, openExtent)
	if err != nil {
		return nil, fmt.Errorf("open vmdk chain: %w", err)
	}
	child := top
	for depth := 1; child.descriptor.HasParent(); depth++ {
		hint := child.descriptor.ParentHint
		if depth == maxChain {
			return nil, fmt.Errorf("open vmdk chain: more than %d links: %w", maxChain, ErrFormat)
		}
		r, size, err := openNamed(hint, openExtent)
		if err != nil {
			return nil, fmt.Errorf("open vmdk chain: parent: %w", err)
		}
		parent, err := openImage(r, size, openExtent)
		if err != nil {
			return nil, fmt.Errorf("open vmdk chain: parent %q: %w", hint, err)
		}
		if parent.descriptor.CID != child.descriptor.ParentCID {
			return nil, fmt.Errorf("open vmdk chain: parent %q has content id %08x, child saw %08x: %w",
				hint, parent.descriptor.CID, child.descriptor.ParentCID, ErrParentMismatch)
		}
		child.parent, child = parent, parent
	}
	return top, nil
}

func openNamed(name string, openExtent OpenExtent) (io.ReaderAt, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	if openExtent == nil {
		return nil, 0, fmt.Errorf("open %q: only one file was given: %w", name, ErrUnsupported)
	}
	r, size, err := openExtent(name)
	if err != nil {
		return nil, 0, fmt.Errorf("open %q: %w", name, err)
	}
	return r, size, nil
}

// openImage opens one link; its descriptor is never nil.
func openImage(r io.ReaderAt, size int64, openExtent OpenExtent) (*Image, error) {
	head := make([]byte, min(max(size, 0), SectorBytes))
	if err := extent.ReadFull(r, head, 0); err != nil {
		return nil, err
	}
	switch kindOf(head) {
	case kindHosted:
		return openSingle(r, size)
	case kindDescriptor:
		return openText(r, size, openExtent)
	case kindCOWD, kindSESparse:
		return nil, ErrNeedsDescriptor
	}
	return nil, fmt.Errorf("neither magic nor descriptor: %w", ErrFormat)
}

// openSingle opens a sparse file that is a whole disk. Only a stream may lack
// the descriptor: a split disk is never deflated.
func openSingle(r io.ReaderAt, size int64) (*Image, error) {
	e, h, text, err := extent.OpenHosted(r, size)
	if err != nil {
		return nil, err
	}
	d, err := parseEmbedded(text)
	if err != nil {
		return nil, err
	}
	if d == nil {
		if !h.Compressed() {
			return nil, ErrNeedsDescriptor
		}
		d = NewFlatDescriptor("disk.vmdk", h.SizeBytes())
		d.CreateType, d.Extents[0].Type = "streamOptimized", "SPARSE"
	}
	return &Image{size: h.SizeBytes(), descriptor: d, parts: []part{{0, h.SizeBytes(), e}}}, nil
}

func openText(r io.ReaderAt, size int64, openExtent OpenExtent) (*Image, error) {
	if size > extent.MaxDescriptorBytes {
		return nil, fmt.Errorf("descriptor of %d bytes: %w", size, ErrFormat)
	}
	text := make([]byte, size)
	if err := extent.ReadFull(r, text, 0); err != nil {
		return nil, err
	}
	d, err := ParseDescriptor(text)
	if err != nil {
		return nil, err
	}
	if len(d.Extents) == 0 {
		return nil, fmt.Errorf("descriptor without extents: %w", ErrFormat)
	}
	im := &Image{descriptor: d}
	for _, line := range d.Extents {
		length := line.Sectors * SectorBytes
		e, err := openLine(line, d.HasParent(), openExtent)
		if err != nil {
			return nil, fmt.Errorf("extent %q: %w", line.Name, err)
		}
		im.parts = append(im.parts, part{im.size, im.size + length, e})
		im.size += length
	}
	return im, nil
}

// openLine opens the file of an extent line and checks that it holds as much as
// the line says.
func openLine(line DescriptorExtent, delta bool, openExtent OpenExtent) (extent.Reader, error) {
	if line.Access == "NOACCESS" {
		return nil, fmt.Errorf("access is denied by the descriptor: %w", ErrUnsupported)
	}
	switch line.Type {
	case "ZERO":
		return extent.Hole{}, nil
	case "FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE":
	default:
		return nil, fmt.Errorf("type %s: %w", line.Type, ErrUnsupported)
	}
	r, size, err := openNamed(line.Name, openExtent)
	if err != nil {
		return nil, err
	}
	length := line.Sectors * SectorBytes
	if line.Type == "FLAT" || line.Type == "VMFS" {
		start := line.Offset * SectorBytes
		if start > size || length > size-start {
			return nil, fmt.Errorf("%d bytes at %d of a file of %d: %w", length, start, size, ErrTruncated)
		}
		return extent.Flat{File: r, Start: start}, nil
	}
	e, capacity, err := openSparse(line.Type, r, size, delta)
	if err != nil {
		return nil, err
	}
	if capacity < length {
		return nil, fmt.Errorf("holds %d bytes, descriptor says %d: %w", capacity, length, ErrFormat)
	}
	return e, nil
}

func openSparse(kind string, r io.ReaderAt, size int64, delta bool) (extent.Reader, int64, error) {
	switch kind {
	case "VMFSSPARSE":
		return extent.OpenCOWD(r, size)
	case "SESPARSE":
		return extent.OpenSESparse(r, size)
	}
	e, h, text, err := extent.OpenHosted(r, size)
	if err != nil {
		return nil, 0, err
	}
	d, err := parseEmbedded(text)
	if err != nil {
		return nil, 0, err
	}
	if d != nil && d.HasParent() && !delta {
		return nil, 0, ErrHasParent
	}
	return e, h.SizeBytes(), nil
}

// Size is the disk's size in bytes, a multiple of 512.
func (im *Image) Size() int64 { return im.size }

// Descriptor is what the disk says about itself; not to be changed.
func (im *Image) Descriptor() *Descriptor { return im.descriptor }

// Parent is the next link of the chain, nil at its end.
func (im *Image) Parent() *Image { return im.parent }

// ReadAt reads the disk's bytes, those of its parents included. At the disk's
// end it returns io.EOF with what there was.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read vmdk at %d: %w", off, ErrSize)
	}
	short := int64(len(p)) > max(0, im.size-off)
	if short {
		p = p[:max(0, im.size-off)]
	}
	if err := im.read(p, off); err != nil {
		return 0, fmt.Errorf("read vmdk at %d: %w", off, err)
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// locate asks the extent at off.
func (im *Image) locate(off, max int64) (part, extent.Run, error) {
	i := sort.Search(len(im.parts), func(i int) bool { return im.parts[i].end > off })
	p := im.parts[i]
	r, err := p.extent.Locate(off-p.start, min(max, p.end-off))
	if err == nil && r.Length <= 0 {
		err = errors.New("extent answered with an empty run")
	}
	return p, r, err
}

func (im *Image) read(p []byte, off int64) error {
	for len(p) > 0 {
		pt, r, err := im.locate(off, int64(len(p)))
		if err != nil {
			return err
		}
		dst := p[:r.Length]
		switch {
		case r.State == extent.Data:
			err = pt.extent.Read(dst, off-pt.start, r)
		case r.State == extent.Absent && im.parent != nil:
			// A parent may be shorter: disks grow between snapshots.
			below := dst[:min(r.Length, max(0, im.parent.size-off))]
			clear(dst[len(below):])
			err = im.parent.read(below, off)
		default:
			clear(dst)
		}
		if err != nil {
			return err
		}
		p, off = p[r.Length:], off+r.Length
	}
	return nil
}

// Allocated are the ranges of [off, off+length) that some link of the chain
// stores, in order, joined, cut to the window; everything else reads as zero.
// Flat extents are stored everywhere. The answer has at most one entry for two
// grains, so ask in windows (1 GiB of seSparse: up to 131,072 entries).
func (im *Image) Allocated(off, length int64) ([]Extent, error) {
	if off < 0 || length < 0 {
		return nil, fmt.Errorf("list allocated %d bytes at %d: %w", length, off, ErrSize)
	}
	if off >= im.size {
		return nil, nil
	}
	out, err := im.allocated(nil, off, off+min(length, im.size-off))
	if err != nil {
		return nil, fmt.Errorf("list allocated %d bytes at %d: %w", length, off, err)
	}
	return out, nil
}

func (im *Image) allocated(out []Extent, off, end int64) ([]Extent, error) {
	for off < end {
		_, r, err := im.locate(off, end-off)
		if err != nil {
			return nil, err
		}
		switch {
		case r.State == extent.Data:
			out = appendExtent(out, off, r.Length)
		case r.State == extent.Absent && im.parent != nil:
			if out, err = im.parent.allocated(out, off, min(off+r.Length, im.parent.size)); err != nil {
				return nil, err
			}
		}
		off += r.Length
	}
	return out, nil
}

func appendExtent(out []Extent, start, length int64) []Extent {
	if n := len(out); n > 0 && out[n-1].Start+out[n-1].Length == start {
		out[n-1].Length += length
		return out
	}
	return append(out, Extent{start, length})
}
