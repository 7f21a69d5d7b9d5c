package fault

import (
	"context"
	"time"

	"holdfast/repo/backend"
)

// space is the state of a place that Options.FullAt fills up. It stands for a
// disk that others have filled: what the caller deletes counts only while the
// reserve is in use, as before that somebody else would take the room.
type space struct {
	filled bool // FullAt has come
	using  bool // the reserve is in use
	freed  bool // and something was deleted meanwhile
}

// full reports whether a call finds the place full. Called with mu held.
func (b *Backend) full(op Op) bool {
	if at := b.opts.FullAt; at > 0 && len(b.calls) == at && (op.changes() || b.opts.CountReads) {
		b.space.filled = true
	}
	return b.space.filled && !b.space.using && (op == Put || op == PutIfAbsent)
}

// setUsing follows UseReserve.
func (b *Backend) setUsing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.space.using, b.space.freed = true, false
}

// setFreed follows Delete.
func (b *Backend) setFreed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.space.freed = b.space.using
}

// refilled follows Refill; missing is whether there was no room for it.
func (b *Backend) refilled() (missing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.space.using = false
	if b.space.freed {
		b.space.filled = false
	}
	return b.space.filled
}

// Lend implements backend.Lender: the abilities of the inner backend fail like
// its methods do. A place that FullAt fills has a reserve in any case.
func (b *Backend) Lend(target any) bool {
	switch want := target.(type) {
	case *backend.Reserver:
		inner, ok := backend.As[backend.Reserver](b.inner)
		if ok || b.opts.FullAt > 0 {
			*want = reserver{b, inner}
			return true
		}
	case *backend.Versioned:
		if inner, ok := backend.As[backend.Versioned](b.inner); ok {
			*want = versioned{b, inner}
			return true
		}
	case *backend.Retainer:
		if inner, ok := backend.As[backend.Retainer](b.inner); ok {
			*want = retainer{b, inner}
			return true
		}
	}
	return false
}

// reserveBytes is what Refill says is missing where the inner backend has no
// reserve of its own.
const reserveBytes = 1 << 20

type reserver struct {
	b     *Backend
	inner backend.Reserver // nil if there is none
}

// UseReserve implements backend.Reserver.
func (r reserver) UseReserve(ctx context.Context) error {
	_, err := r.b.run(ctx, UseReserve, "", func() error {
		r.b.setUsing()
		if r.inner == nil {
			return ctx.Err()
		}
		return r.inner.UseReserve(ctx)
	})
	return err
}

// Refill implements backend.Reserver.
func (r reserver) Refill(ctx context.Context) (missing int64, err error) {
	_, err = r.b.run(ctx, Refill, "", func() (err error) {
		if r.b.refilled() {
			missing = reserveBytes
			return ctx.Err()
		}
		if r.inner != nil {
			missing, err = r.inner.Refill(ctx)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return missing, nil
}

// versioned fails by the rules for Get (GetVersion) and List (Versions).
type versioned struct {
	b     *Backend
	inner backend.Versioned
}

// Versions implements backend.Versioned.
func (v versioned) Versions(ctx context.Context, name string) (all []backend.Version, err error) {
	_, err = v.b.run(ctx, List, name, func() (err error) {
		all, err = v.inner.Versions(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// GetVersion implements backend.Versioned.
func (v versioned) GetVersion(ctx context.Context, name, id string) ([]byte, error) {
	return v.b.get(ctx, name, func() ([]byte, error) { return v.inner.GetVersion(ctx, name, id) })
}

// retainer fails by the rules for Extend.
type retainer struct {
	b     *Backend
	inner backend.Retainer
}

// ExtendRetention implements backend.Retainer.
func (r retainer) ExtendRetention(ctx context.Context, name string, until time.Time) error {
	_, err := r.b.run(ctx, Extend, name, func() error { return r.inner.ExtendRetention(ctx, name, until) })
	return err
}
