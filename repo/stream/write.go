package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
)

// Cutter cuts a stream: each Next is the next chunk, not empty and at most
// MaxChunkBytes, valid until the call after it; io.EOF after the last.
type Cutter interface {
	Next() ([]byte, error)
}

// Options steers Write; the zero value works.
type Options struct {
	// Parallel is the number of chunks put at the same time; 0 = 1. Above 1 a
	// copy of each chunk under way is held.
	Parallel int
}

// Write stores all that the cutter gives and returns the stream. The first
// error of the cutter other than io.EOF ends it, so a stream that was read in
// part is never returned. Memory is bounded: one node a level and the chunks
// under way. Write does not return while Next blocks, even when ctx ends:
// whoever owns the source closes it for that.
func Write(ctx context.Context, store Store, cutter Cutter, opts Options) (Stream, error) {
	b := &builder{store: store}
	if opts.Parallel > 1 {
		if err := putParallel(ctx, store, cutter, opts.Parallel, b); err != nil {
			return Stream{}, err
		}
		return b.finish(ctx)
	}
	for {
		plain, err := next(ctx, cutter)
		if errors.Is(err, io.EOF) {
			return b.finish(ctx)
		}
		if err != nil {
			return Stream{}, err
		}
		id, err := putChunk(ctx, store, plain)
		if err != nil {
			return Stream{}, err
		}
		if err := b.add(ctx, 0, entry{id, int64(len(plain))}); err != nil {
			return Stream{}, err
		}
	}
}

// next takes a chunk from the cutter; bare io.EOF is the end.
func next(ctx context.Context, cutter Cutter) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plain, err := cutter.Next()
	switch {
	case err == io.EOF: //nolint:errorlint // a wrapped end is somebody else's
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read stream: %v: %w", err, io.ErrUnexpectedEOF)
	case err != nil:
		return nil, fmt.Errorf("read stream: %w", err)
	case len(plain) == 0 || len(plain) > MaxChunkBytes:
		return nil, fmt.Errorf("cut stream: chunk of %d bytes: %w", len(plain), ErrStream)
	}
	return plain, nil
}

func putChunk(ctx context.Context, store Store, plain []byte) (blob.ID, error) {
	id, err := store.Put(ctx, blob.StreamChunk, plain)
	if err != nil {
		return blob.ID{}, fmt.Errorf("store stream chunk: %w", err)
	}
	return id, nil
}

// putParallel puts chunks from several goroutines and adds their ids in order.
// The queue of promises is what keeps the order and what bounds the chunks.
func putParallel(ctx context.Context, store Store, cutter Cutter, parallel int, b *builder) error {
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan chan entry, parallel)
	buffers := make(chan []byte, parallel+2)
	group.Go(func() error {
		defer close(queue)
		puts, ctx := errgroup.WithContext(ctx)
		puts.SetLimit(parallel)
		err := cutAhead(ctx, cutter, queue, buffers, func(plain []byte, promise chan<- entry) {
			puts.Go(func() error {
				id, err := putChunk(ctx, store, plain)
				if err != nil {
					return err
				}
				promise <- entry{id, int64(len(plain))}
				offer(buffers, plain)
				return nil
			})
		})
		// A put that failed has ended the cutting; its error is the cause.
		if failed := puts.Wait(); failed != nil {
			return failed
		}
		return err
	})
	group.Go(func() error { return addInOrder(ctx, queue, b) })
	return group.Wait()
}

// cutAhead copies chunks and starts a put for each, its promise queued first.
func cutAhead(ctx context.Context, cutter Cutter, queue chan<- chan entry, buffers <-chan []byte, put func([]byte, chan<- entry)) error {
	for {
		plain, err := next(ctx, cutter)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var own []byte
		select {
		case own = <-buffers:
		default:
		}
		own = append(own[:0], plain...)
		promise := make(chan entry, 1)
		select {
		case queue <- promise:
		case <-ctx.Done():
			return ctx.Err()
		}
		put(own, promise)
	}
}

// offer keeps a buffer for reuse if there is room for it.
func offer(buffers chan<- []byte, b []byte) {
	select {
	case buffers <- b:
	default:
	}
}

func addInOrder(ctx context.Context, queue <-chan chan entry, b *builder) error {
	for promise := range queue {
		select {
		case e := <-promise:
			if err := b.add(ctx, 0, e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// builder makes the tree from the front: a level's node is stored when full.
type builder struct {
	store  Store
	levels [][]entry
	bytes  int64
	buf    []byte
}

func (b *builder) add(ctx context.Context, level int, e entry) error {
	if level == len(b.levels) {
		b.levels = append(b.levels, nil)
	}
	if level == 0 {
		b.bytes += e.length
	}
	b.levels[level] = append(b.levels[level], e)
	if len(b.levels[level]) < NodeEntries {
		return nil
	}
	return b.seal(ctx, level)
}

// seal stores the node of a level and adds it to the one above.
func (b *builder) seal(ctx context.Context, level int) error {
	entries := b.levels[level]
	sum := entry{}
	for _, e := range entries {
		sum.length += e.length
	}
	b.buf = encodeNode(b.buf[:0], entries)
	id, err := b.store.Put(ctx, blob.StreamNode+blob.Kind(level), b.buf)
	if err != nil {
		return fmt.Errorf("store stream node: level %d: %w", level, err)
	}
	sum.id = id
	b.levels[level] = entries[:0]
	return b.add(ctx, level+1, sum)
}

// finish stores the unfilled nodes from below; a level of one node is the top.
func (b *builder) finish(ctx context.Context) (Stream, error) {
	if b.bytes == 0 {
		return Stream{}, nil
	}
	for level := 0; ; level++ {
		entries := b.levels[level]
		if level == len(b.levels)-1 && level > 0 && len(entries) == 1 {
			return Stream{Bytes: b.bytes, Level: level - 1, Root: entries[0].id}, nil
		}
		if len(entries) == 0 {
			continue
		}
		if err := b.seal(ctx, level); err != nil {
			return Stream{}, err
		}
	}
}
