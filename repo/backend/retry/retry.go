// Package retry repeats calls that failed for a passing reason: an unreachable
// store, a broken connection, an error nobody knows. It is the only place that
// retries, so that waits do not multiply.
//
// Repeating is safe by the contract of backend.Backend: Put of the same bytes
// and Delete are idempotent, and PutIfAbsent answers nil when its own bytes are
// there already, which is how a lost answer looks. Waits grow from Base to Max,
// each drawn evenly between nothing and its bound ("full jitter", AWS
// Architecture Blog, Exponential Backoff And Jitter, 2015), so that many
// clients of a store that comes back do not all come back at once.
package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"holdfast/repo/backend"
)

// Options of New; the zero value tries six times within about half a minute.
type Options struct {
	Attempts int           // calls in all; 0 means 6
	Base     time.Duration // bound of the first wait; 0 means 500 ms
	Max      time.Duration // bound of any wait; 0 means 15 s
	// BusyAttempts takes the place of Attempts while the store says that it gets
	// too many requests (backend.ErrBusy): a bucket that spreads itself over more
	// machines says so for a minute or two. 0 means twice Attempts.
	BusyAttempts int
	// Sleep waits or returns ctx's error. nil means the real clock.
	Sleep func(ctx context.Context, d time.Duration) error
	// Rand draws from [0, 1). nil means math/rand.
	Rand func() float64
	// Log hears of each repetition. nil discards.
	Log *slog.Logger
}

// Backend retries; it implements backend.Backend.
type Backend struct {
	inner backend.Backend
	opts  Options
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner.
func New(inner backend.Backend, opts Options) *Backend {
	opts.Attempts = cmp.Or(opts.Attempts, 6)
	opts.BusyAttempts = cmp.Or(opts.BusyAttempts, 2*opts.Attempts)
	opts.Base = cmp.Or(opts.Base, 500*time.Millisecond)
	opts.Max = cmp.Or(opts.Max, 15*time.Second)
	if opts.Sleep == nil {
		opts.Sleep = sleep
	}
	if opts.Rand == nil {
		opts.Rand = rand.Float64
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{inner: inner, opts: opts}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// final are the answers that asking again does not change. ErrDurability is
// among them for a sharper reason: a second fsync would lie.
var final = []error{
	backend.ErrNotFound, backend.ErrExists, backend.ErrNoSpace, backend.ErrRange, backend.ErrDurability, backend.ErrRefused,
	context.Canceled, context.DeadlineExceeded,
}

// Transient reports whether err may go away by itself. An ended context is
// never transient, not even one of the store's own.
func Transient(err error) bool {
	for _, f := range final {
		if errors.Is(err, f) {
			return false
		}
	}
	return err != nil && !errors.As(err, new(verbatim))
}

// verbatim carries an error of the caller's own function through do.
type verbatim struct{ error }

// do calls until it succeeds, fails for good, or was tried often enough; then
// the last error is returned as it came.
func (b *Backend) do(ctx context.Context, verb, name string, call func() error) error {
	bound := b.opts.Base
	for n := 1; ; n++ {
		err := call()
		if err == nil || !Transient(err) || n >= b.attempts(err) {
			return err
		}
		if cerr := ctx.Err(); cerr != nil {
			return fmt.Errorf("%s %s: %w after: %w", verb, name, cerr, err)
		}
		wait := time.Duration(b.opts.Rand() * float64(bound))
		b.opts.Log.Warn("storage call failed, trying again", "call", verb, "object", name, "attempt", n, "wait", wait, "err", err)
		if serr := b.opts.Sleep(ctx, wait); serr != nil {
			return fmt.Errorf("%s %s: %w after: %w", verb, name, serr, err)
		}
		bound = min(2*bound, b.opts.Max)
	}
}

// attempts is how often a call is made that ends in err.
func (b *Backend) attempts(err error) int {
	if errors.Is(err, backend.ErrBusy) {
		return max(b.opts.Attempts, b.opts.BusyAttempts)
	}
	return b.opts.Attempts
}

// Put implements backend.Backend.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	return b.do(ctx, "put", name, func() error { return b.inner.Put(ctx, name, data) })
}

// PutIfAbsent implements backend.Backend.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return b.do(ctx, "put new", name, func() error { return b.inner.PutIfAbsent(ctx, name, data) })
}

// Get implements backend.Backend.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) (data []byte, err error) {
	err = b.do(ctx, "get", name, func() error {
		data, err = b.inner.Get(ctx, name, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, name string) (info backend.Info, err error) {
	err = b.do(ctx, "stat", name, func() error {
		info, err = b.inner.Stat(ctx, name)
		return err
	})
	if err != nil {
		return backend.Info{}, err
	}
	return info, nil
}

// List implements backend.Backend. A listing that broke off is begun again
// without what fn has seen; the order by name makes the last one enough to
// know. An error of fn's own is returned as it is.
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	last := ""
	err := b.do(ctx, "list", prefix, func() error {
		return b.inner.List(ctx, prefix, func(info backend.Info) error {
			if last != "" && info.Name <= last {
				return nil
			}
			last = info.Name
			if err := fn(info); err != nil {
				return verbatim{err}
			}
			return nil
		})
	})
	if own, ok := errors.AsType[verbatim](err); ok {
		return own.error
	}
	return err
}

// Delete implements backend.Backend.
func (b *Backend) Delete(ctx context.Context, name string) error {
	return b.do(ctx, "delete", name, func() error { return b.inner.Delete(ctx, name) })
}

// Sync implements backend.Backend.
func (b *Backend) Sync(ctx context.Context) error {
	return b.do(ctx, "sync", b.Location(), func() error { return b.inner.Sync(ctx) })
}

// Unwrap is the backend whose calls are repeated.
func (b *Backend) Unwrap() backend.Backend { return b.inner }

// Lend implements backend.Lender for the abilities that talk to a network.
// Reading is idempotent, and so is ExtendRetention, which never shortens.
func (b *Backend) Lend(target any) bool {
	switch want := target.(type) {
	case *backend.Versioned:
		inner, ok := backend.As[backend.Versioned](b.inner)
		if ok {
			*want = versioned{b, inner}
		}
		return ok
	case *backend.Retainer:
		inner, ok := backend.As[backend.Retainer](b.inner)
		if ok {
			*want = retainer{b, inner}
		}
		return ok
	}
	return false
}

type versioned struct {
	b     *Backend
	inner backend.Versioned
}

// Versions implements backend.Versioned.
func (v versioned) Versions(ctx context.Context, name string) (all []backend.Version, err error) {
	err = v.b.do(ctx, "list versions", name, func() error {
		all, err = v.inner.Versions(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// GetVersion implements backend.Versioned.
func (v versioned) GetVersion(ctx context.Context, name, id string) (data []byte, err error) {
	err = v.b.do(ctx, "get version", name, func() error {
		data, err = v.inner.GetVersion(ctx, name, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

type retainer struct {
	b     *Backend
	inner backend.Retainer
}

// ExtendRetention implements backend.Retainer.
func (r retainer) ExtendRetention(ctx context.Context, name string, until time.Time) error {
	return r.b.do(ctx, "extend retention", name, func() error { return r.inner.ExtendRetention(ctx, name, until) })
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// SingleWriter implements backend.Backend.
func (b *Backend) SingleWriter() string { return b.inner.SingleWriter() }

// Close implements backend.Backend; it is not repeated.
func (b *Backend) Close() error { return b.inner.Close() }
