// Package transfer carries the content of recovery points from one repository
// into another. Ids are keyed, so nothing can be copied as it lies: every chunk
// is opened with the keys of the one and stored with those of the other, and the
// maps above are built anew from the bottom. Of a point whose forerunner was
// carried before, only what differs is read.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
	"holdfast/repo/chunk"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

const (
	batchChunks = 256 // loaded and stored in one go
	putsAtOnce  = 4
)

// From is the repository that has the point.
type From interface {
	Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error
}

// To is the session of the repository that gets it.
type To interface {
	Put(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, error)
}

// Carrier carries points of one source, the oldest first. It remembers the disks
// of the last one.
type Carrier struct {
	From       From
	Back       From // reads the target: the nodes of maps made before
	ChunkBytes int64
	CDC        [32]byte // of the target
	Progress   func(bytes int64)

	disks map[string]pair
}

// pair is one disk on both sides.
type pair struct{ from, to image.Map }

// Items carries all items of a point and returns them as the target has them. The
// next point is carried as what differs from this one: unless this one is committed,
// which only the caller knows, Forget must come between.
func (c *Carrier) Items(ctx context.Context, to To, p *recovery.Point) ([]recovery.Item, error) {
	items := make([]recovery.Item, len(p.Items))
	next := map[string]pair{}
	for i, item := range p.Items {
		items[i] = item
		switch {
		case item.Disk != nil:
			m, err := c.disk(ctx, to, item.Name, *item.Disk)
			if err != nil {
				return nil, fmt.Errorf("copy %s of point %s: %w", item.Name, p.ID, err)
			}
			next[item.Name] = pair{*item.Disk, m}
			items[i].Disk = &m
		case item.Stream != nil:
			s, err := c.stream(ctx, to, p.Kind, *item.Stream)
			if err != nil {
				return nil, fmt.Errorf("copy %s of point %s: %w", item.Name, p.ID, err)
			}
			items[i].Stream = &s
		}
	}
	// Not before everything is stored; if the point is not committed, Forget it.
	c.disks = next
	return items, nil
}

// Known tells of items that were carried before: those of the next point are read
// as what differs from them.
func (c *Carrier) Known(there, here []recovery.Item) {
	c.disks = map[string]pair{}
	for _, from := range there {
		for _, to := range here {
			if from.Name == to.Name && from.Disk != nil && to.Disk != nil && from.Disk.ChunkBytes == to.Disk.ChunkBytes {
				c.disks[from.Name] = pair{*from.Disk, *to.Disk}
			}
		}
	}
}

// Forget makes the next point be carried whole.
func (c *Carrier) Forget() { c.disks = nil }

func (c *Carrier) told(n int64) {
	if c.Progress != nil {
		c.Progress(n)
	}
}

func (c *Carrier) disk(ctx context.Context, to To, name string, m image.Map) (image.Map, error) {
	if err := m.Validate(); err != nil {
		return m, err
	}
	if m.ChunkBytes != c.ChunkBytes {
		return c.recut(ctx, to, m)
	}
	before, known := c.disks[name]
	var parent *image.Map
	if known && before.from.ChunkBytes == m.ChunkBytes {
		parent = &before.to
	} else {
		before.from = image.Map{Bytes: m.Bytes, ChunkBytes: m.ChunkBytes} // a disk of zeros
	}
	b, err := image.NewBuilder(to, c.Back, parent, m.Bytes, m.ChunkBytes)
	if err != nil {
		return m, err
	}
	w := &batch{c: c, to: to, b: b}
	err = image.Diff(ctx, c.From, before.from, m, func(at int64, _, id blob.ID) error {
		if at >= m.Chunks() {
			return nil // beyond the end of a disk that has shrunk
		}
		return w.add(ctx, at, id)
	})
	if err == nil {
		err = w.flush(ctx)
	}
	if err != nil {
		return m, err
	}
	return b.Finish(ctx)
}

// batch gathers chunks that differ, loads them together and stores them side by
// side.
type batch struct {
	c   *Carrier
	to  To
	b   *image.Builder
	at  []int64
	ids []blob.ID
}

func (w *batch) add(ctx context.Context, at int64, id blob.ID) error {
	w.at, w.ids = append(w.at, at), append(w.ids, id)
	if len(w.at) < batchChunks {
		return nil
	}
	return w.flush(ctx)
}

func (w *batch) flush(ctx context.Context) error {
	made := make([]blob.ID, len(w.ids))
	var wanted []blob.ID
	var where []int
	for i, id := range w.ids {
		if !id.IsZero() {
			wanted, where = append(wanted, id), append(where, i)
		}
	}
	group, putCtx := errgroup.WithContext(ctx)
	group.SetLimit(putsAtOnce)
	err := w.c.From.Load(putCtx, blob.DiskChunk, wanted, func(i int, plain []byte) error {
		data := append([]byte(nil), plain...)
		group.Go(func() (err error) {
			made[where[i]], err = w.to.Put(putCtx, blob.DiskChunk, data)
			return err
		})
		w.c.told(int64(len(data)))
		return putCtx.Err()
	})
	// What went wrong while storing has cancelled the loading: it is the cause.
	if putErr := group.Wait(); putErr != nil {
		err = putErr
	}
	if err != nil {
		return err
	}
	for i, at := range w.at {
		if err := w.b.Set(ctx, at, made[i]); err != nil {
			return err
		}
	}
	w.at, w.ids = w.at[:0], w.ids[:0]
	return nil
}

// recut carries a disk into a repository with another chunk size.
func (c *Carrier) recut(ctx context.Context, to To, m image.Map) (image.Map, error) {
	r, err := image.NewReader(ctx, c.From, m)
	if err != nil {
		return m, err
	}
	extents, err := r.Extents(ctx)
	if err != nil {
		return m, err
	}
	b, err := image.NewBuilder(to, nil, nil, m.Bytes, c.ChunkBytes)
	if err != nil {
		return m, err
	}
	for _, e := range image.Normalize(extents, m.Bytes, c.ChunkBytes) {
		for at := e.Start; at < e.Start+e.Length; at += c.ChunkBytes {
			plain := make([]byte, c.ChunkBytes) // the last one is padded with zeros
			if _, err := r.ReadAt(plain[:min(c.ChunkBytes, m.Bytes-at)], at); err != nil && !errors.Is(err, io.EOF) {
				return m, err
			}
			c.told(c.ChunkBytes)
			if isZero(plain) {
				continue
			}
			id, err := to.Put(ctx, blob.DiskChunk, plain)
			if err != nil {
				return m, err
			}
			if err := b.Set(ctx, at/c.ChunkBytes, id); err != nil {
				return m, err
			}
		}
	}
	return b.Finish(ctx)
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// stream carries a byte stream, cut by the target's own rule, so that the
// target's backups find it again.
func (c *Carrier) stream(ctx context.Context, to To, kind recovery.Kind, s stream.Stream) (stream.Stream, error) {
	params := chunk.Files()
	if kind == recovery.SQLFull || kind == recovery.SQLDiff || kind == recovery.SQLLog {
		params = chunk.SQL()
	}
	in := stream.Open(ctx, c.From, s)
	out, err := stream.Write(ctx, to, chunk.New(in, c.CDC, params), stream.Options{Parallel: putsAtOnce})
	if err != nil {
		return s, errors.Join(err, in.Close())
	}
	c.told(out.Bytes)
	return out, in.Close()
}
