package image

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
)

// DefaultWindow is the number of chunks that Copy asks the loader for at once.
const DefaultWindow = 256

// CopyOptions steers Copy; the zero value works.
type CopyOptions struct {
	Window   int // chunks a Load; 0 = DefaultWindow. The loader groups them as they lie
	Parallel int // Loads at the same time; 0 = 1
}

// Copy calls fn with the data of every chunk that is not zero: off in bytes,
// data cut to the size of the disk and valid only during the call. The target
// must read as zeros where fn is not called.
//
// The map is walked in ascending order, a window of chunks at a time; inside a
// window chunks come as the loader finds them. With Parallel above 1 windows
// overlap and fn is called from several goroutines, never twice for one chunk.
// The first error of fn ends it. Chunks of a wrong length give ErrMap.
func Copy(ctx context.Context, loader Loader, m Map, opts CopyOptions, fn func(off int64, data []byte) error) error {
	window := opts.Window
	if window <= 0 {
		window = DefaultWindow
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, opts.Parallel))

	batch := make([]place, 0, window)
	send := func() {
		full := batch
		batch = make([]place, 0, window)
		group.Go(func() error { return copyChunks(ctx, loader, m, full, fn) })
	}
	err := Walk(ctx, loader, m, 0, m.Bytes, func(chunk int64, id blob.ID) error {
		batch = append(batch, place{chunk, id})
		if len(batch) == window {
			send()
		}
		return ctx.Err()
	})
	if err != nil {
		// A walk that stopped because a window failed reports the window.
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel()
		_ = group.Wait()
		return err
	}
	if len(batch) > 0 {
		send()
	}
	return group.Wait()
}

func copyChunks(ctx context.Context, loader Loader, m Map, at []place, fn func(off int64, data []byte) error) error {
	return loadChunks(ctx, loader, m, at, func(i int, plain []byte) error {
		off := at[i].index * m.ChunkBytes
		return fn(off, plain[:min(m.ChunkBytes, m.Bytes-off)])
	})
}

// loadChunks loads disk chunks and checks that all come, at their full length.
func loadChunks(ctx context.Context, loader Loader, m Map, at []place, fn func(i int, plain []byte) error) error {
	ids := make([]blob.ID, len(at))
	for i, p := range at {
		ids[i] = p.id
	}
	came := 0
	err := loader.Load(ctx, blob.DiskChunk, ids, func(i int, plain []byte) error {
		came++
		if int64(len(plain)) != m.ChunkBytes {
			return fmt.Errorf("read disk chunk %s: %d bytes, not %d: %w", at[i].id, len(plain), m.ChunkBytes, ErrMap)
		}
		return fn(i, plain)
	})
	if err == nil && came != len(at) {
		return fmt.Errorf("load disk chunks: %d of %d were delivered: %w", came, len(at), ErrMap)
	}
	return err
}
