package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"holdfast/repo/blob"
)

const (
	cachedNodes  = 64      // map nodes a Reader keeps: 256 KiB
	cachedBytes  = 2 << 20 // chunks a Reader keeps, at least one
	readerWindow = 64      // chunks a Reader asks for at once
)

// Reader reads a disk at any place: an io.ReaderAt over a map. Zeros cost no
// load once the nodes above them are known. Chunks that a read takes in part
// are kept for the next, so small reads in a row load each chunk once. It may
// be used from several goroutines.
type Reader struct {
	// The context is kept because io.ReaderAt has no place for one.
	ctx    context.Context
	m      Map
	tree   *tree
	chunks *recent[blob.ID, []byte]
}

// NewReader opens a map for reading; ctx ends all reads. ErrMap for impossible
// sizes; nothing is loaded yet.
func NewReader(ctx context.Context, loader Loader, m Map) (*Reader, error) {
	t, err := newTree(loader, m)
	if err != nil {
		return nil, err
	}
	t.cache = newRecent[spot, node](cachedNodes)
	keep := max(1, int(cachedBytes/m.ChunkBytes))
	return &Reader{ctx: ctx, m: m, tree: t, chunks: newRecent[blob.ID, []byte](keep)}, nil
}

// Size is the size of the disk in bytes.
func (r *Reader) Size() int64 { return r.m.Bytes }

// Extents lists the runs of chunks that hold data, ascending, cut to the size.
// For disks with very many runs, see the function Extents.
func (r *Reader) Extents(ctx context.Context) ([]Extent, error) {
	var out []Extent
	err := Extents(ctx, r.tree.loader, r.m, func(e Extent) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

// ReadAt implements io.ReaderAt: it returns io.EOF with what there is if p
// reaches beyond the end of the disk. After another error n is 0 and what p
// holds is undefined.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk: offset %d: %w", off, io.ErrUnexpectedEOF)
	}
	if off >= r.m.Bytes {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > r.m.Bytes-off {
		p, end = p[:r.m.Bytes-off], io.EOF
	}
	if len(p) == 0 {
		return 0, end
	}
	clear(p)
	if err := r.fill(p, off); errors.Is(err, io.EOF) {
		// A connection that ended is not the end of the disk.
		return 0, fmt.Errorf("read disk: %v: %w", err, io.ErrUnexpectedEOF)
	} else if err != nil {
		return 0, err
	}
	return len(p), end
}

// fill puts the data into p, which is zeros and lies within the disk.
func (r *Reader) fill(p []byte, off int64) error {
	from, to := off/r.m.ChunkBytes, (off+int64(len(p))-1)/r.m.ChunkBytes+1
	var wanted []place
	load := func() error {
		err := loadChunks(r.ctx, r.tree.loader, r.m, wanted, func(i int, plain []byte) error {
			if r.take(p, off, wanted[i].index, plain) < len(plain) {
				r.chunks.put(wanted[i].id, bytes.Clone(plain))
			}
			return nil
		})
		wanted = wanted[:0]
		return err
	}
	err := r.tree.walk(r.ctx, from, to, chunksOnly(func(chunk int64, id blob.ID) error {
		if plain, ok := r.chunks.get(id); ok {
			r.take(p, off, chunk, plain)
			return nil
		}
		if wanted = append(wanted, place{chunk, id}); len(wanted) == readerWindow {
			return load()
		}
		return nil
	}))
	if err != nil || len(wanted) == 0 {
		return err
	}
	return load()
}

// take copies what a read at off wants of a chunk, and returns how much.
func (r *Reader) take(p []byte, off, chunk int64, plain []byte) int {
	start := chunk * r.m.ChunkBytes
	if start < off {
		return copy(p, plain[off-start:])
	}
	return copy(p[start-off:], plain)
}
