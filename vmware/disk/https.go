package disk

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"holdfast/vmware/vmdk"
)

const (
	maxDescriptor = 1 << 20
	// RangeBytes is the size of one read: ESXi throttles each connection, and
	// small ranges would pay the round trip over and over.
	RangeBytes = 16 << 20
	// GapBytes is how far apart two changed areas may lie and still be cheaper
	// in one read.
	GapBytes = 256 << 10
	// connections at a time: more do not help, and hosts count them.
	connections = 6
	// cachedBlock and cachedBlocks hold what deltas need over and over: their
	// tables and neighbouring grains.
	cachedBlock  = 1 << 20
	cachedBlocks = 32
)

// OpenHTTPS opens a frozen disk over the datastore's file door. A disk of one
// flat file is read directly; a chain of deltas is put together from its
// descriptors, which must agree with the backing chain that vSphere reports.
// Anything that does not fit together is ErrTransport: the caller may export.
func OpenHTTPS(ctx context.Context, f *Folder, d Device) (Reader, error) {
	top, err := ParsePath(d.File())
	if err != nil {
		return nil, err
	}
	text, err := f.ReadFile(ctx, top, maxDescriptor)
	if err != nil {
		if len(d.Chain) == 1 && ctx.Err() == nil {
			return openGuessed(ctx, f, d, top, err)
		}
		return nil, fmt.Errorf("open disk %d over https: %w: %w", d.Key, ErrTransport, err)
	}
	desc, err := vmdk.ParseDescriptor(text)
	if err != nil {
		return nil, fmt.Errorf("open disk %d over https: %w: %w", d.Key, ErrTransport, err)
	}
	if e := desc.Extents; len(e) == 1 && !desc.HasParent() && len(d.Chain) == 1 && e[0].Offset == 0 &&
		(e[0].Type == "VMFS" || e[0].Type == "FLAT") && plain(e[0].Name) {
		return openFlat(ctx, f, d, top.Sibling(e[0].Name))
	}
	return openChain(ctx, f, d, top, text)
}

// plain admits only a file beside the descriptor.
func plain(name string) bool { return name != "" && name != ".." && !strings.ContainsAny(name, `/\`) }

// openGuessed is for descriptors that the host does not hand out: the flat file
// stands beside it under a known name, without the number of a delta.
func openGuessed(ctx context.Context, f *Folder, d Device, top Path, cause error) (Reader, error) {
	base := strings.TrimSuffix(path.Base(top.File), ".vmdk")
	names := []string{base + "-flat.vmdk"}
	if i := len(base) - len("-000001"); i > 0 && base[i] == '-' && strings.Trim(base[i+1:], "0123456789") == "" {
		names = append(names, base[:i]+"-flat.vmdk")
	}
	for _, name := range names {
		if r, err := openFlat(ctx, f, d, top.Sibling(name)); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("open disk %d over https: %w: %w", d.Key, ErrTransport, cause)
}

func openFlat(ctx context.Context, f *Folder, d Device, p Path) (Reader, error) {
	size, err := f.Size(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("open disk %d over https: %w: %w", d.Key, ErrTransport, err)
	}
	if size != d.Bytes {
		return nil, fmt.Errorf("open disk %d over https: %s has %d bytes, the disk %d: %w", d.Key, p, size, d.Bytes, ErrTransport)
	}
	return &flatReader{f, p, size, make(chan struct{}, connections)}, nil
}

type flatReader struct {
	folder *Folder
	file   Path
	size   int64
	slots  chan struct{} // one a connection
}

func (r *flatReader) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || int64(len(p)) > r.size-off {
		return fmt.Errorf("read %d bytes at %d of a disk of %d: %w", len(p), off, r.size, ErrLength)
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return r.folder.ReadRange(ctx, r.file, p, off)
}

func (r *flatReader) Close() error { return nil }

// openChain puts a disk together from several files. Every name must be one
// that vSphere's own chain or a descriptor in the same directory gives.
func openChain(ctx context.Context, f *Folder, d Device, top Path, text []byte) (Reader, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	slots := make(chan struct{}, connections)
	open := func(name string) (io.ReaderAt, int64, error) {
		p := top.Sibling(name)
		size, err := f.Size(ctx, p)
		if err != nil {
			return nil, 0, err
		}
		if size <= maxDescriptor {
			small, err := f.ReadFile(ctx, p, maxDescriptor)
			return bytes.NewReader(small), int64(len(small)), err
		}
		return newCached(ctx, &flatReader{f, p, size, slots}), size, nil
	}
	im, err := vmdk.OpenChain(bytes.NewReader(text), int64(len(text)), open)
	if err == nil {
		err = agree(im, d)
	}
	if err != nil {
		cancel(err)
		return nil, fmt.Errorf("open disk %d over https: %w: %w", d.Key, ErrTransport, err)
	}
	return &chainReader{im, cancel}, nil
}

// agree compares what the descriptors say with what vSphere says.
func agree(im *vmdk.Image, d Device) error {
	if im.Size() != d.Bytes {
		return fmt.Errorf("the files make %d bytes, the disk has %d", im.Size(), d.Bytes)
	}
	at := im
	for i := 1; i < len(d.Chain); i++ {
		if at.Parent() == nil || at.Descriptor().ParentHint != path.Base(d.Chain[i]) {
			return fmt.Errorf("link %d of the chain is not %s", i, path.Base(d.Chain[i]))
		}
		at = at.Parent()
	}
	if at.Parent() != nil {
		return errors.New("the files have more links than the backing chain")
	}
	return nil
}

type chainReader struct {
	image *vmdk.Image
	stop  context.CancelCauseFunc
}

// ReadAt ends early with the context that the disk was opened with; formats know
// no contexts.
func (r *chainReader) ReadAt(ctx context.Context, p []byte, off int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, err := r.image.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = ErrLength
	}
	return fmt.Errorf("read disk at %d: %w", off, err)
}

func (r *chainReader) Close() error {
	r.stop(errors.New("disk was closed"))
	return nil
}

// cached is a remote file read in whole blocks, of which the latest stay.
type cached struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has no place for it; ended by Close
	file *flatReader

	mu     sync.Mutex
	blocks map[int64]*list.Element
	recent *list.List // of *block, newest first
}

type block struct {
	index int64
	once  sync.Once
	data  []byte
	err   error
}

func newCached(ctx context.Context, file *flatReader) *cached {
	return &cached{ctx: ctx, file: file, blocks: map[int64]*list.Element{}, recent: list.New()}
}

// ReadAt implements io.ReaderAt. Long reads go past the cache: they are data
// that will not be asked for again.
func (c *cached) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.file.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), c.file.size-off))
	n := 0
	if want >= cachedBlock {
		if err := c.file.ReadAt(c.ctx, p[:want], off); err != nil {
			return 0, err
		}
		n = want
	}
	for n < want {
		at := off + int64(n)
		b, err := c.block(at / cachedBlock)
		if err != nil {
			return n, err
		}
		n += copy(p[n:want], b[at%cachedBlock:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *cached) block(index int64) ([]byte, error) {
	c.mu.Lock()
	e, ok := c.blocks[index]
	if ok {
		c.recent.MoveToFront(e)
	} else {
		e = c.recent.PushFront(&block{index: index})
		c.blocks[index] = e
		if c.recent.Len() > cachedBlocks {
			old := c.recent.Remove(c.recent.Back()).(*block)
			delete(c.blocks, old.index)
		}
	}
	b := e.Value.(*block)
	c.mu.Unlock()
	b.once.Do(func() {
		b.data = make([]byte, min(cachedBlock, c.file.size-index*cachedBlock))
		b.err = c.file.ReadAt(c.ctx, b.data, index*cachedBlock)
	})
	if b.err != nil {
		c.forget(b)
	}
	return b.data, b.err
}

// forget lets the next reader try a block again.
func (c *cached) forget(b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.blocks[b.index]; ok && e.Value == any(b) {
		c.recent.Remove(e)
		delete(c.blocks, b.index)
	}
}
