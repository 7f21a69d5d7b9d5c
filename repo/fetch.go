package repo

import (
	"context"
	"errors"

	"holdfast/repo/backend"
	"holdfast/repo/parity"
)

const (
	fetchStride  = 256 << 10 // ranges by which an object with bad sectors is read
	fetchRefused = 2048      // so many refused reads are no bad sectors any more
)

// fetch reads a whole object. A sick disk does not hand out wrong bytes, it
// refuses the sectors it has lost, and the whole read with them. Then all else
// is read around them, and they come as zeros: parity can do the rest. The
// error is that of the whole read.
func fetch(ctx context.Context, be backend.Backend, name string) ([]byte, error) {
	object, err := be.Get(ctx, name, 0, -1)
	if err == nil || isGone(err) || errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil {
		return object, err
	}
	info, statErr := be.Stat(ctx, name)
	if statErr != nil {
		return nil, err
	}
	object = make([]byte, info.Bytes)
	got, refused := int64(0), 0
	read := func(off, length int64) bool {
		part, partErr := be.Get(ctx, name, off, length)
		if partErr != nil || int64(len(part)) != length {
			refused++
			return false
		}
		got += length
		copy(object[off:], part)
		return true
	}
	for off := int64(0); off < info.Bytes; off += fetchStride {
		end := min(off+fetchStride, info.Bytes)
		if read(off, end-off) {
			continue
		}
		for cell := off; cell < end && refused < fetchRefused && ctx.Err() == nil; cell += parity.CellBytes {
			read(cell, min(parity.CellBytes, end-cell))
		}
	}
	if got == 0 || ctx.Err() != nil || refused >= fetchRefused {
		return nil, err
	}
	return object, nil
}
