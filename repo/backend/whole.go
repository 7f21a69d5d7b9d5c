package backend

import (
	"context"
	"errors"
)

const (
	sectorBytes  = 4096
	fetchStride  = 256 << 10 // ranges by which an object with bad sectors is read
	fetchRefused = 2048      // so many refused reads are no bad sectors any more
)

// Whole reads a whole object. A sick disk does not hand out wrong bytes, it
// refuses the sectors it has lost, and the whole read with them. Then all else
// is read around them, and they come as zeros: parity can do the rest. The
// error is that of the whole read.
func Whole(ctx context.Context, be Backend, name string) ([]byte, error) {
	object, err := be.Get(ctx, name, 0, -1)
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
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
		for cell := off; cell < end && refused < fetchRefused && ctx.Err() == nil; cell += sectorBytes {
			read(cell, min(sectorBytes, end-cell))
		}
	}
	if got == 0 || ctx.Err() != nil || refused >= fetchRefused {
		return nil, err
	}
	return object, nil
}
