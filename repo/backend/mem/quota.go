package mem

import (
	"context"
	"fmt"

	"holdfast/repo/backend"
)

var _ backend.Reserver = (*Backend)(nil)

// usedBytes is what visible objects and the reserve take. Called with mu held.
func (b *Backend) usedBytes() int64 {
	total := b.reserve
	for _, o := range b.visible {
		total += int64(len(o.data))
	}
	return total
}

// checkRoom is ErrNoSpace if name cannot grow to so many bytes. Called with mu held.
func (b *Backend) checkRoom(verb, name string, bytes int) error {
	if b.quota <= 0 {
		return nil
	}
	grows := int64(bytes - len(b.visible[name].data))
	if used := b.usedBytes(); grows > 0 && used+grows > b.quota {
		return fmt.Errorf("%s %s: %d bytes more on %d of %d: %w", verb, name, grows, used, b.quota, backend.ErrNoSpace)
	}
	return nil
}

// Used is how many bytes objects and the reserve take.
func (b *Backend) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usedBytes()
}

// SetQuota bounds the store to so many bytes from now on; 0 takes the bound
// away. What is there already stays, and below Used nothing more fits: so
// SetQuota(b.Used()) makes it full.
func (b *Backend) SetQuota(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quota = bytes
}

// UseReserve implements backend.Reserver: the reserve's bytes are free.
func (b *Backend) UseReserve(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("use reserve: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserve = 0
	return nil
}

// Refill implements backend.Reserver: all of the reserve or nothing.
func (b *Backend) Refill(ctx context.Context) (missing int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("refill reserve: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if need := b.opts.ReserveBytes - b.reserve; b.quota > 0 && b.usedBytes()+need > b.quota {
		return need, nil
	}
	b.reserve = b.opts.ReserveBytes
	return 0, nil
}
