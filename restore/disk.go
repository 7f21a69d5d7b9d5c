package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

const (
	aheadBlockBytes = 8 << 20 // a Sequential view fetches so much at once
	aheadBlocks     = 3       // and so many of these beyond the one being read
	keptBlocks      = 4       // blocks behind the newest that stay for readers that lag
	copyLoads       = 2       // loads at once in Copy
)

// disk is a point's disk in the repository.
type disk struct {
	*image.Reader
	r    *repo.Repository
	m    image.Map
	tell Progress
}

// OpenDisk opens a disk item for a target; progress is told what Copy and
// Sequential deliver.
func OpenDisk(ctx context.Context, r *repo.Repository, item recovery.Item, progress Progress) (Disk, error) {
	if item.Disk == nil {
		return nil, fmt.Errorf("open %s as a disk: %w", item.Name, ErrItem)
	}
	reader, err := image.NewReader(ctx, r, *item.Disk)
	if err != nil {
		return nil, err
	}
	return &disk{Reader: reader, r: r, m: *item.Disk, tell: progress}, nil
}

func (d *disk) Extents(ctx context.Context, fn func(start, length int64) error) error {
	return image.Extents(ctx, d.r, d.m, func(e image.Extent) error { return fn(e.Start, e.Length) })
}

func (d *disk) Copy(ctx context.Context, fn func(off int64, data []byte) error) error {
	return image.Copy(ctx, d.r, d.m, image.CopyOptions{Parallel: copyLoads}, func(off int64, data []byte) error {
		if err := fn(off, data); err != nil {
			return err
		}
		d.tell.Read(int64(len(data)))
		return nil
	})
}

// Matches compares by content ids: no data is read from the repository.
func (d *disk) Matches(ctx context.Context, off int64, data []byte) (bool, error) {
	if off%d.m.ChunkBytes != 0 || off < 0 || off+int64(len(data)) > d.m.Bytes {
		return false, fmt.Errorf("compare %d bytes at %d: not on chunk bounds: %w", len(data), off, image.ErrMap)
	}
	first := off / d.m.ChunkBytes
	want := make([]blob.ID, (int64(len(data))+d.m.ChunkBytes-1)/d.m.ChunkBytes)
	err := image.Walk(ctx, d.r, d.m, first, first+int64(len(want)), func(chunk int64, id blob.ID) error {
		want[chunk-first] = id
		return nil
	})
	if err != nil {
		return false, err
	}
	for i, id := range want {
		c := data[int64(i)*d.m.ChunkBytes:]
		if int64(len(c)) < d.m.ChunkBytes {
			if off+int64(len(data)) != d.m.Bytes {
				return false, fmt.Errorf("compare %d bytes at %d: not whole chunks: %w", len(data), off, image.ErrMap)
			}
			c = append(make([]byte, 0, d.m.ChunkBytes), c...)[:d.m.ChunkBytes]
		}
		c = c[:d.m.ChunkBytes]
		var got blob.ID
		if !allZero(c) {
			got = d.r.IDOf(blob.DiskChunk, c)
		}
		if got != id {
			return false, nil
		}
	}
	return true, nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Sequential gives a view that fetches ahead; close it when done.
func (d *disk) Sequential(ctx context.Context) (io.ReaderAt, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	reader, err := image.NewReader(ctx, d.r, d.m)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	a := &ahead{disk: d, reader: reader, blocks: map[int64]*block{}}
	return a, func() { cancel(); a.wait.Wait() }, nil
}

// ahead keeps a window of blocks around the place that is being read.
type ahead struct {
	disk   *disk
	reader *image.Reader
	wait   sync.WaitGroup

	mu     sync.Mutex
	blocks map[int64]*block
	newest int64
}

// block is one fetch; done is closed when data or err is set.
type block struct {
	done chan struct{}
	data []byte
	err  error
}

func (a *ahead) ReadAt(p []byte, off int64) (int, error) {
	size := a.disk.m.Bytes
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && off < size {
		number := off / aheadBlockBytes
		b := a.block(number)
		<-b.done
		if b.err != nil {
			return n, b.err
		}
		c := copy(p[n:], b.data[off-number*aheadBlockBytes:])
		n += c
		off += int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// block returns a block, starts it and those after it, and drops those that
// lie far behind.
func (a *ahead) block(number int64) *block {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := a.fetch(number)
	for next := number + 1; next <= number+aheadBlocks && next*aheadBlockBytes < a.disk.m.Bytes; next++ {
		a.fetch(next)
	}
	a.newest = max(a.newest, number)
	for old := range a.blocks {
		if old < a.newest-keptBlocks && old != number {
			delete(a.blocks, old)
		}
	}
	return wanted
}

// fetch starts a block unless it is there; a.mu is held.
func (a *ahead) fetch(number int64) *block {
	if b, ok := a.blocks[number]; ok {
		return b
	}
	b := &block{done: make(chan struct{})}
	a.blocks[number] = b
	a.wait.Go(func() {
		defer close(b.done)
		off := number * aheadBlockBytes
		b.data = make([]byte, min(aheadBlockBytes, a.disk.m.Bytes-off))
		if _, err := a.reader.ReadAt(b.data, off); err != nil && !errors.Is(err, io.EOF) {
			b.err = err
			return
		}
		a.disk.tell.Read(int64(len(b.data)))
	})
	return b
}
