package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"holdfast/repo/blob"
)

// windowBytes is about how much of a stream is asked for at once. A Reader holds
// the window being read, the next one, and one on its way.
const windowBytes = 8 << 20

// load brings chunks in a batch and checks that all come, at their length.
func (t *tree) load(ctx context.Context, at []place, fn func(i int, plain []byte) error) error {
	came := 0
	err := t.loader.Load(ctx, blob.StreamChunk, idsOf(at), func(i int, plain []byte) error {
		came++
		if int64(len(plain)) != at[i].length {
			return fmt.Errorf("read stream chunk %s: %d bytes, not %d: %w", at[i].id, len(plain), at[i].length, ErrStream)
		}
		return fn(i, plain)
	})
	if err == nil && came != len(at) {
		return fmt.Errorf("load stream chunks: %d of %d were delivered: %w", came, len(at), ErrStream)
	}
	return err
}

// notTheEnd makes sure that a loader's io.EOF, a connection that ended, is not
// taken for the end of the stream.
func notTheEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("read stream: %v: %w", err, io.ErrUnexpectedEOF)
	}
	return err
}

// windows calls fn with the chunks that touch a range, in order, in batches that
// are worth a load. The batch is fn's to keep.
func (t *tree) windows(ctx context.Context, from, to int64, fn func(batch []place) error) error {
	var batch []place
	held := int64(0)
	err := t.walk(ctx, from, to, func(kind blob.Kind, p place) (bool, error) {
		if kind != blob.StreamChunk {
			return true, nil
		}
		batch, held = append(batch, p), held+p.length
		if held < windowBytes && len(batch) < windowChunks {
			return false, nil
		}
		full := batch
		batch, held = nil, 0
		return false, fn(full)
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return fn(batch)
}

// Reader reads a stream from front to end while the next window is on its way.
// It is an io.ReadCloser and an io.WriterTo, for one goroutine.
type Reader struct {
	cancel context.CancelFunc
	ahead  chan [][]byte // windows of chunks; closed at the end
	err    error         // why it ended; set before ahead is closed
	now    [][]byte      // what is left of the window being read
	closed bool
}

// Open begins to read a stream. It starts a goroutine, which Close ends and
// waits for. All errors, of a bad Stream too, come from Read: ErrStream for bad
// content, ctx's and the loader's own. io.EOF comes only after Stream.Bytes.
func Open(ctx context.Context, loader Loader, s Stream) *Reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &Reader{cancel: cancel, ahead: make(chan [][]byte, 1)}
	t := &tree{loader: loader, s: s}
	go func() {
		defer close(r.ahead)
		r.err = notTheEnd(t.windows(ctx, 0, s.Bytes, func(batch []place) error { return r.fetch(ctx, t, batch) }))
	}()
	return r
}

// fetch loads a window and hands it over.
func (r *Reader) fetch(ctx context.Context, t *tree, batch []place) error {
	chunks := make([][]byte, len(batch))
	err := t.load(ctx, batch, func(i int, plain []byte) error {
		chunks[i] = bytes.Clone(plain)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case r.ahead <- chunks:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chunk is what is left of the chunk being read, never empty without an error.
func (r *Reader) chunk() ([]byte, error) {
	if r.closed {
		return nil, fmt.Errorf("read stream: %w", fs.ErrClosed)
	}
	for {
		for len(r.now) > 0 {
			if len(r.now[0]) > 0 {
				return r.now[0], nil
			}
			r.now[0], r.now = nil, r.now[1:]
		}
		window, more := <-r.ahead
		if !more && r.err != nil {
			return nil, r.err
		}
		if !more {
			return nil, io.EOF
		}
		r.now = window
	}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	chunk, err := r.chunk()
	if err != nil {
		return 0, err
	}
	n := copy(p, chunk)
	r.now[0] = chunk[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: a Write for each chunk.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		chunk, err := r.chunk()
		if err == io.EOF { //nolint:errorlint // only the bare value is the end
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(chunk)
		total += int64(n)
		r.now[0] = chunk[n:]
		if err != nil {
			return total, err
		}
		if n < len(chunk) {
			return total, io.ErrShortWrite
		}
	}
}

// Close stops the reading ahead and waits for it. It returns nil.
func (r *Reader) Close() error {
	r.closed = true
	r.cancel()
	for range r.ahead { // until the goroutine has ended
	}
	return nil
}

// ReaderAt reads a stream at any place: an io.ReaderAt. It keeps the nodes of
// the last path and the last chunk, so reads close to each other load little.
// It may be used from several goroutines, one after the other.
type ReaderAt struct {
	// The context is kept because io.ReaderAt has no place for one.
	ctx context.Context

	mu   sync.Mutex
	tree tree
	last place // the chunk in data
	data []byte
}

// NewReaderAt opens a stream for reading; ctx ends all reads. ErrStream for
// impossible numbers; nothing is loaded yet.
func NewReaderAt(ctx context.Context, loader Loader, s Stream) (*ReaderAt, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &ReaderAt{ctx: ctx, tree: tree{loader: loader, s: s, keep: true}}, nil
}

// Size is the length of the stream in bytes.
func (r *ReaderAt) Size() int64 { return r.tree.s.Bytes }

// ReadAt implements io.ReaderAt: it returns io.EOF with what there is if p
// reaches beyond the end. After another error n is 0 and what p holds is
// undefined.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read stream: offset %d: %w", off, io.ErrUnexpectedEOF)
	}
	size := r.Size()
	if off >= size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > size-off {
		p, end = p[:size-off], io.EOF
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.tree.windows(r.ctx, off, off+int64(len(p)), func(batch []place) error {
		if r.data != nil && batch[0].off == r.last.off {
			take(p, off, batch[0], r.data)
			batch = batch[1:]
		}
		if len(batch) == 0 {
			return nil
		}
		return r.tree.load(r.ctx, batch, func(i int, plain []byte) error {
			take(p, off, batch[i], plain)
			if i == len(batch)-1 {
				r.last, r.data = batch[i], append(r.data[:0], plain...)
			}
			return nil
		})
	})
	if err != nil {
		return 0, notTheEnd(err)
	}
	return len(p), end
}

// take copies what a read at off wants of a chunk.
func take(p []byte, off int64, at place, plain []byte) {
	if at.off < off {
		copy(p, plain[off-at.off:])
		return
	}
	copy(p[at.off-off:], plain)
}
