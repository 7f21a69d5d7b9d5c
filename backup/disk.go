package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

const (
	defaultReads     = 4
	defaultReadBytes = 4 << 20
	defaultGap       = 256 << 10
)

// RuleMiss is the rule of a disk that was read in full because verification
// found a change that tracking had missed.
const RuleMiss = "CBT-MISS"

// disk stores one disk: only what differs from the parent where the source can
// tell, everything else otherwise, and says why.
func (r *run) disk(ctx context.Context, item Item) (saved, error) {
	d := item.Disk
	out := saved{item: recovery.Item{
		Name: item.Name, Label: item.Label, Key: item.Key, Attrs: item.Attrs,
		Bytes: d.Bytes, ReadMode: d.ReadMode, Reason: d.Reason, Rule: d.Rule,
	}}
	if d.OpenStream != nil {
		return r.once(ctx, item, out)
	}
	reader, err := d.Open(ctx)
	if err != nil {
		return saved{}, fmt.Errorf("open %s: %w", item.Name, err)
	}
	defer reader.Close()
	plan := r.plan(d, r.parent.Item(item.Name), &out.item)
	var compared int64 // read to be compared with the parent alone
	if plan.parent != nil && r.opts.VerifyUnchanged > 0 {
		same, n, err := r.verifyUnchanged(ctx, reader, plan)
		compared = n
		if err != nil {
			return saved{}, fmt.Errorf("verify %s: %w", item.Name, err)
		}
		if !same {
			out.missed = true
			out.item.ReadMode, out.item.Rule = recovery.ReadFull, RuleMiss
			out.item.Reason = "verification found a change that tracking had missed"
			plan.whole()
		}
	}
	m, n, err := r.read(ctx, item.Label, reader, d, plan)
	if err != nil {
		return saved{}, fmt.Errorf("back up %s: %w", item.Name, err)
	}
	out.item.Disk, out.bytesRead, out.incremental = &m, n+compared, plan.parent != nil
	return out, nil
}

// diskPlan is what to read and what to take from the parent.
type diskPlan struct {
	parent     *image.Map // nil: chunks that are not read are zeros
	read       []image.Extent
	bytes      int64
	chunkBytes int64
}

// whole makes it a full read.
func (p *diskPlan) whole() {
	p.parent = nil
	p.read = image.Normalize([]image.Extent{{Start: 0, Length: p.bytes}}, p.bytes, p.chunkBytes)
}

// isWhole reports whether every byte is read.
func (p *diskPlan) isWhole() bool {
	return p.bytes == 0 || len(p.read) == 1 && p.read[0] == image.Extent{Start: 0, Length: p.bytes}
}

// plan decides what must be read. Where the format needs more than the source
// asked for (another chunk size, a resized disk), the reason is kept in the item.
func (r *run) plan(d *Disk, parent *recovery.Item, item *recovery.Item) diskPlan {
	p := diskPlan{bytes: d.Bytes, chunkBytes: r.repo.Config().DiskChunkBytes}
	if !d.Incremental {
		if d.Extents == nil {
			p.whole()
		} else {
			p.read = image.Normalize(d.Extents, d.Bytes, p.chunkBytes)
		}
		return p
	}
	if parent != nil {
		p.parent = parent.Disk
	}
	var why string
	p.read, why = image.ReadPlan(p.parent, d.Bytes, p.chunkBytes, d.Extents)
	if why != "" {
		item.Reason = why
	}
	if p.isWhole() && why != "" {
		p.whole()
		item.ReadMode, item.Rule = recovery.ReadFull, "MAP"
	}
	return p
}

// piece is one read: a range of whole chunks (the disk's end apart).
type piece struct {
	off, length int64
	ids         chan []blob.ID // filled once the piece is stored
}

// read brings the planned ranges into the repository, many at once, and builds
// the map in order.
func (r *run) read(ctx context.Context, label string, reader DiskReader, d *Disk, plan diskPlan) (image.Map, int64, error) {
	pieces := cut(plan.read, orDefault64(d.Gap, defaultGap), orDefault64(d.ReadBytes, defaultReadBytes), plan.chunkBytes)
	var total int64
	for _, p := range pieces {
		total += p.length
	}
	r.opts.Progress.Begin(label, total)
	defer r.opts.Progress.End(label)
	builder, err := image.NewBuilder(r.session, r.repo, plan.parent, plan.bytes, plan.chunkBytes)
	if err != nil {
		return image.Map{}, 0, err
	}
	reads := orDefault(r.opts.Reads, defaultReads)
	queue := make(chan piece, reads)
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.readPieces(gctx, reader, pieces, reads, plan, queue) })
	group.Go(func() error {
		for p := range queue {
			ids, ok := <-p.ids
			if !ok {
				return nil // the reader's error tells
			}
			for i, id := range ids {
				if err := builder.Set(gctx, p.off/plan.chunkBytes+int64(i), id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return image.Map{}, 0, err
	}
	m, err := builder.Finish(ctx)
	return m, total, err
}

func orDefault64(n, otherwise int64) int64 {
	if n > 0 {
		return n
	}
	return otherwise
}

// cut joins ranges whose gap is small and cuts them to reads of one size. What
// lies in a gap is read from the frozen source, so its chunks are as good as
// the parent's.
func cut(extents []image.Extent, gap, readBytes, chunkBytes int64) []piece {
	readBytes = max(chunkBytes, readBytes-readBytes%chunkBytes)
	var pieces []piece
	for i := 0; i < len(extents); {
		start, end := extents[i].Start, extents[i].Start+extents[i].Length
		for i++; i < len(extents) && extents[i].Start-end <= gap; i++ {
			end = extents[i].Start + extents[i].Length
		}
		for off := start; off < end; off += readBytes {
			pieces = append(pieces, piece{off: off, length: min(readBytes, end-off)})
		}
	}
	return pieces
}

// readPieces reads and stores pieces in parallel; queue gets them in order.
func (r *run) readPieces(ctx context.Context, reader DiskReader, pieces []piece, reads int, plan diskPlan, queue chan<- piece) error {
	defer close(queue)
	buffers := sync.Pool{New: func() any { return new([]byte) }}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(reads)
	for _, p := range pieces {
		p.ids = make(chan []blob.ID, 1)
		select {
		case queue <- p:
		case <-gctx.Done():
			close(p.ids)
			return errors.Join(group.Wait(), ctx.Err())
		}
		group.Go(func() error {
			defer close(p.ids)
			buf := buffers.Get().(*[]byte)
			defer buffers.Put(buf)
			*buf = grow(*buf, roundUp(p.length, plan.chunkBytes))
			if err := reader.ReadAt(gctx, (*buf)[:p.length], p.off); err != nil {
				return fmt.Errorf("read %d bytes at %d: %w", p.length, p.off, err)
			}
			clear((*buf)[p.length:])
			ids, err := r.putChunks(gctx, *buf, plan.chunkBytes)
			if err != nil {
				return err
			}
			p.ids <- ids
			r.opts.Progress.Read(p.length)
			return nil
		})
	}
	return group.Wait()
}

// putChunks stores whole chunks; zeros get the zero id and are not stored.
func (r *run) putChunks(ctx context.Context, buf []byte, chunkBytes int64) ([]blob.ID, error) {
	ids := make([]blob.ID, 0, int64(len(buf))/chunkBytes)
	for off := int64(0); off < int64(len(buf)); off += chunkBytes {
		c := buf[off : off+chunkBytes]
		if isZero(c) {
			ids = append(ids, blob.ID{})
			continue
		}
		id, err := r.session.Put(ctx, blob.DiskChunk, c)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func grow(buf []byte, n int64) []byte {
	if int64(cap(buf)) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// isZero is fast because the comparison of words stops at the first that is not.
func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// verifyUnchanged reads a share of the chunks that will be taken from the
// parent and compares them with it. read is how many bytes that took.
func (r *run) verifyUnchanged(ctx context.Context, reader DiskReader, plan diskPlan) (same bool, read int64, err error) {
	changed := plan.read
	inChanged := func(off int64) bool {
		for len(changed) > 0 && changed[0].Start+changed[0].Length <= off {
			changed = changed[1:]
		}
		return len(changed) > 0 && changed[0].Start <= off
	}
	buf := make([]byte, plan.chunkBytes)
	same = true
	next := int64(0)
	check := func(chunk int64, want blob.ID) error {
		off := chunk * plan.chunkBytes
		if off >= plan.bytes || inChanged(off) || !r.opts.Pick(r.opts.VerifyUnchanged) {
			return nil
		}
		n := min(plan.chunkBytes, plan.bytes-off)
		if err := reader.ReadAt(ctx, buf[:n], off); err != nil {
			return err
		}
		read += n
		clear(buf[n:])
		var got blob.ID
		if !isZero(buf) {
			got = r.repo.IDOf(blob.DiskChunk, buf)
		}
		if got != want {
			same = false
			return errDiffers
		}
		return nil
	}
	upTo := func(end int64) error { // the zeros between the parent's chunks
		for ; next < end; next++ {
			if err := check(next, blob.ID{}); err != nil {
				return err
			}
		}
		return nil
	}
	err = image.Walk(ctx, r.repo, *plan.parent, 0, plan.parent.Chunks(), func(chunk int64, id blob.ID) error {
		if err := upTo(chunk); err != nil {
			return err
		}
		next = chunk + 1
		return check(chunk, id)
	})
	if err == nil {
		err = upTo(min(plan.parent.Chunks(), (plan.bytes+plan.chunkBytes-1)/plan.chunkBytes))
	}
	if errors.Is(err, errDiffers) {
		err = nil
	}
	return same, read, err
}

var errDiffers = errors.New("chunk differs")

// once stores a disk that can be read only once. The ids go to a temporary
// file, since the map can be built only when the size is known.
func (r *run) once(ctx context.Context, item Item, out saved) (saved, error) {
	src, err := item.Disk.OpenStream(ctx)
	if err != nil {
		return saved{}, fmt.Errorf("open %s: %w", item.Name, err)
	}
	defer src.Close()
	r.opts.Progress.Begin(item.Label, item.Disk.Bytes)
	defer r.opts.Progress.End(item.Label)
	spool, err := os.CreateTemp("", "holdfast-ids-*")
	if err != nil {
		return saved{}, fmt.Errorf("spool ids: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	size, err := r.spoolStream(ctx, src, spool)
	if err != nil {
		return saved{}, fmt.Errorf("back up %s: %w", item.Name, err)
	}
	if size == 0 {
		return saved{}, fmt.Errorf("back up %s: %w", item.Name, ErrEmpty)
	}
	if before := r.session.Parent().Item(item.Name); before != nil && size < before.Bytes {
		r.shrunk = fmt.Sprintf("%s: %d bytes came, %d the time before: was the stream cut off?", item.Label, size, before.Bytes)
	}
	m, err := r.buildFrom(ctx, spool, size)
	if err != nil {
		return saved{}, fmt.Errorf("back up %s: %w", item.Name, err)
	}
	out.item.Disk, out.item.Bytes, out.bytesRead = &m, size, size
	return out, nil
}

// spoolStream stores the stream's chunks and writes their ids to spool. It
// returns the length of the stream.
func (r *run) spoolStream(ctx context.Context, src io.Reader, spool io.Writer) (int64, error) {
	w := bufio.NewWriter(spool)
	chunkBytes := r.repo.Config().DiskChunkBytes
	buf := make([]byte, roundUp(defaultReadBytes, chunkBytes))
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.ReadFull(src, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return 0, fmt.Errorf("read at %d: %w", size, err)
		}
		size += int64(n)
		whole := roundUp(int64(n), chunkBytes)
		clear(buf[n:whole])
		ids, err := r.putChunks(ctx, buf[:whole], chunkBytes)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			w.Write(id[:]) // a bufio.Writer keeps its first error for Flush
		}
		r.opts.Progress.Read(int64(n))
		if end {
			return size, w.Flush()
		}
	}
}

// buildFrom builds the map from spooled ids.
func (r *run) buildFrom(ctx context.Context, spool io.ReadSeeker, size int64) (image.Map, error) {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return image.Map{}, err
	}
	builder, err := image.NewBuilder(r.session, r.repo, nil, size, r.repo.Config().DiskChunkBytes)
	if err != nil {
		return image.Map{}, err
	}
	in := bufio.NewReader(spool)
	for i := int64(0); ; i++ {
		var id blob.ID
		if _, err := io.ReadFull(in, id[:]); errors.Is(err, io.EOF) {
			return builder.Finish(ctx)
		} else if err != nil {
			return image.Map{}, err
		}
		if id.IsZero() {
			continue
		}
		if err := builder.Set(ctx, i, id); err != nil {
			return image.Map{}, err
		}
	}
}
