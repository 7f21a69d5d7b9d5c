// Package limit keeps a backend's traffic below given rates, so that a backup
// at noon leaves some of the line to others.
//
// A backend moves whole objects, so whole objects are booked: an upload goes out
// when those before it and it itself are paid for; a download, whose size may
// be known only afterwards, is booked when it is there and handed over when
// paid for. Within one object the line runs at its own speed; over a few of
// them the rate holds exactly, however many goroutines call.
package limit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/repo/backend"
)

// Backend limits; it implements backend.Backend.
type Backend struct {
	inner    backend.Backend
	up, down bucket
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner. Rates are in bytes per second; 0 or less means no limit.
func New(inner backend.Backend, uploadBytesPerSec, downloadBytesPerSec int64) *Backend {
	return &Backend{
		inner: inner,
		up:    bucket{bytesPerSec: uploadBytesPerSec},
		down:  bucket{bytesPerSec: downloadBytesPerSec},
	}
}

// bucket books bytes against time, first come first served.
type bucket struct {
	bytesPerSec int64

	mu   sync.Mutex
	paid time.Time // when all that was booked will have been paid for
}

// book adds n bytes and waits until they are paid for. Who gives up waiting gives
// back what was not paid yet, if moved is false: bytes that will never move must not
// hold up what follows, which may be the clean-up of an interrupted run.
func (b *bucket) book(ctx context.Context, n int, moved bool) error {
	if b.bytesPerSec <= 0 || n == 0 {
		return ctx.Err()
	}
	b.mu.Lock()
	now := time.Now()
	if b.paid.Before(now) {
		b.paid = now // an idle line saves nothing up
	}
	cost := time.Duration(float64(n) / float64(b.bytesPerSec) * float64(time.Second))
	b.paid = b.paid.Add(cost)
	wait := b.paid.Sub(now)
	b.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		if !moved {
			b.mu.Lock()
			b.paid = b.paid.Add(-min(cost, max(0, wait-time.Since(now))))
			b.mu.Unlock()
		}
		return ctx.Err()
	}
}

// Unwrap is the backend that is limited.
func (b *Backend) Unwrap() backend.Backend { return b.inner }

// Lend implements backend.Lender: what versions bring counts as download.
func (b *Backend) Lend(target any) bool {
	want, ok := target.(*backend.Versioned)
	if !ok {
		return false
	}
	inner, ok := backend.As[backend.Versioned](b.inner)
	if ok {
		*want = versioned{inner, b}
	}
	return ok
}

type versioned struct {
	backend.Versioned
	b *Backend
}

// GetVersion implements backend.Versioned.
func (v versioned) GetVersion(ctx context.Context, name, id string) ([]byte, error) {
	data, err := v.Versioned.GetVersion(ctx, name, id)
	if err != nil {
		return nil, err
	}
	if err := v.b.down.book(ctx, len(data), true); err != nil {
		return nil, fmt.Errorf("get version of %s: %w", name, err)
	}
	return data, nil
}

// Put implements backend.Backend.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	if err := b.up.book(ctx, len(data), false); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return b.inner.Put(ctx, name, data)
}

// PutIfAbsent implements backend.Backend.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := b.up.book(ctx, len(data), false); err != nil {
		return fmt.Errorf("put new %s: %w", name, err)
	}
	return b.inner.PutIfAbsent(ctx, name, data)
}

// Get implements backend.Backend.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := b.inner.Get(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	if err := b.down.book(ctx, len(data), true); err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return data, nil
}

// Stat implements backend.Backend; it is not limited.
func (b *Backend) Stat(ctx context.Context, name string) (backend.Info, error) {
	return b.inner.Stat(ctx, name)
}

// List implements backend.Backend; it is not limited.
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	return b.inner.List(ctx, prefix, fn)
}

// Delete implements backend.Backend; it is not limited.
func (b *Backend) Delete(ctx context.Context, name string) error { return b.inner.Delete(ctx, name) }

// Sync implements backend.Backend; it is not limited.
func (b *Backend) Sync(ctx context.Context) error { return b.inner.Sync(ctx) }

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// SingleWriter implements backend.Backend.
func (b *Backend) SingleWriter() string { return b.inner.SingleWriter() }

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.inner.Close() }
