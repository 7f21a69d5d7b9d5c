// Package fault wraps a backend and makes it fail on purpose.
//
// The crash matrix uses a Plan: run a scenario once without one and read Calls;
// then, for each N up to their number and each Mode, run it again with
// Plan{At: N, Mode: …, Stop: true}. The process "stops" at call N: that call is
// either not done or done with its answer lost, and every call after it fails.
// What is then in the inner backend (or in its crash clone) must check clean.
//
// Rules fail, shorten, flip or delay calls by kind and name, for tests of
// single errors. For a caller that makes its calls one after the other all is
// deterministic; for a concurrent one the numbering is the order of arrival.
package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/repo/backend"
)

// ErrInjected: the failure was ordered by a Plan or a Rule.
var ErrInjected = errors.New("injected fault")

// ErrStopped: the call came after the one at which the Plan stopped the
// process. It matches ErrInjected too.
var ErrStopped = fmt.Errorf("process is stopped: %w", ErrInjected)

// Op is a method of the backend.
type Op string

// The methods that can fail. All but Get, Stat and List change something, and
// Sync decides what stays changed; they are what a Plan counts by default.
const (
	Put         Op = "put"
	PutIfAbsent Op = "put-if-absent"
	Delete      Op = "delete"
	Sync        Op = "sync"
	Get         Op = "get"
	Stat        Op = "stat"
	List        Op = "list"
	UseReserve  Op = "use-reserve"
	Refill      Op = "refill"
	Extend      Op = "extend-retention"
)

func (o Op) changes() bool { return o != Get && o != Stat && o != List }

// Mode is how a call fails.
type Mode int

const (
	// NotDone: the inner backend is not called.
	NotDone Mode = iota
	// DoneButLost: the inner backend is called and its answer thrown away.
	DoneButLost
)

// String is the name of the mode.
func (m Mode) String() string {
	if m == DoneButLost {
		return "done-but-lost"
	}
	return "not-done"
}

// Modes are all of them, for loops.
var Modes = []Mode{NotDone, DoneButLost}

// Plan fails one call by its number.
type Plan struct {
	At   int // counted calls begin at 1; 0 means none
	Mode Mode
	Stop bool // every later call fails with ErrStopped
}

// Rule treats some calls by kind and name.
type Rule struct {
	Op     Op     // "" means any
	Prefix string // of the name; Sync has the name "", List its prefix
	Skip   int    // leave the first matches alone
	Count  int    // then apply to so many; 0 means to all

	// Err fails the call, as Mode says; it is wrapped together with ErrInjected.
	Err  error
	Mode Mode
	// Truncate takes so many bytes off the end of what Get returns.
	Truncate int
	// Flip changes bits of what Get returns: byte Flip[i]/8, bit Flip[i]%8, if
	// there is such a byte.
	Flip []int64
	// Delay waits before the call, or until its context ends.
	Delay time.Duration
}

// Options of New. The zero value changes nothing and records all calls.
type Options struct {
	Plan  Plan
	Rules []Rule
	// FullAt is the numbered call from which on the place is full: Put and
	// PutIfAbsent fail with ErrNoSpace, not done, but between UseReserve and
	// Refill; if Delete was called in between, there is room for good afterwards.
	// 0 means never.
	FullAt int
	// CountReads numbers Get, Stat and List too.
	CountReads bool
}

// Call is one call that was numbered.
type Call struct {
	Op   Op
	Name string
}

// String is "op name".
func (c Call) String() string { return string(c.Op) + " " + c.Name }

// Backend fails as told; it implements backend.Backend.
type Backend struct {
	inner backend.Backend
	opts  Options

	mu      sync.Mutex
	calls   []Call
	stopped bool
	matched []int // of each rule: calls seen
	space   space
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner.
func New(inner backend.Backend, opts Options) *Backend {
	return &Backend{inner: inner, opts: opts, matched: make([]int, len(opts.Rules))}
}

// Calls returns the numbered calls so far: number n is element n-1.
func (b *Backend) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Call(nil), b.calls...)
}

// Stopped reports whether the plan has stopped the process.
func (b *Backend) Stopped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped
}

// verdict is what becomes of one call.
type verdict struct {
	err      error
	mode     Mode
	truncate int
	flip     []int64
	delay    time.Duration
}

// judge numbers a call and decides.
func (b *Backend) judge(op Op, name string) verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return verdict{err: fmt.Errorf("%s %s: %w", op, name, ErrStopped)}
	}
	if op.changes() || b.opts.CountReads {
		b.calls = append(b.calls, Call{op, name})
		if p := b.opts.Plan; len(b.calls) == p.At {
			b.stopped = p.Stop
			return verdict{err: fmt.Errorf("%s %s: call %d %s: %w", op, name, p.At, p.Mode, ErrInjected), mode: p.Mode}
		}
	}
	if b.full(op) {
		return verdict{err: fmt.Errorf("%s %s: %w: %w", op, name, ErrInjected, backend.ErrNoSpace)}
	}
	var v verdict
	for i, r := range b.opts.Rules {
		if r.Op != "" && r.Op != op || !strings.HasPrefix(name, r.Prefix) {
			continue
		}
		b.matched[i]++
		if n := b.matched[i]; n <= r.Skip || r.Count > 0 && n > r.Skip+r.Count {
			continue
		}
		if r.Err != nil {
			v.err = fmt.Errorf("%s %s: %w: %w", op, name, ErrInjected, r.Err)
			v.mode = r.Mode
		}
		v.truncate = max(v.truncate, r.Truncate)
		v.flip = append(v.flip, r.Flip...)
		v.delay += r.Delay
	}
	return v
}

// run makes a call as the verdict says.
func (b *Backend) run(ctx context.Context, op Op, name string, call func() error) (verdict, error) {
	v := b.judge(op, name)
	if v.delay > 0 {
		timer := time.NewTimer(v.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return v, fmt.Errorf("%s %s: %w", op, name, ctx.Err())
		}
	}
	if v.err != nil && v.mode == NotDone {
		return v, v.err
	}
	err := call()
	if v.err != nil {
		return v, v.err // whatever the answer was, it is lost
	}
	return v, err
}

// Unwrap is the backend that fails. What is reached through it, and not through
// backend.As, does not fail.
func (b *Backend) Unwrap() backend.Backend { return b.inner }

// Put implements backend.Backend.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	_, err := b.run(ctx, Put, name, func() error { return b.inner.Put(ctx, name, data) })
	return err
}

// PutIfAbsent implements backend.Backend.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	_, err := b.run(ctx, PutIfAbsent, name, func() error { return b.inner.PutIfAbsent(ctx, name, data) })
	return err
}

// Get implements backend.Backend. A truncated or flipped answer comes without
// an error: that is the fault.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	return b.get(ctx, name, func() ([]byte, error) { return b.inner.Get(ctx, name, offset, length) })
}

func (b *Backend) get(ctx context.Context, name string, call func() ([]byte, error)) ([]byte, error) {
	var data []byte
	v, err := b.run(ctx, Get, name, func() (err error) {
		data, err = call()
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, bit := range v.flip {
		if at := bit / 8; at < int64(len(data)) {
			data[at] ^= 1 << (bit % 8)
		}
	}
	return data[:max(0, len(data)-v.truncate)], nil
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, name string) (backend.Info, error) {
	var info backend.Info
	_, err := b.run(ctx, Stat, name, func() (err error) {
		info, err = b.inner.Stat(ctx, name)
		return err
	})
	if err != nil {
		return backend.Info{}, err
	}
	return info, nil
}

// List implements backend.Backend. With DoneButLost fn sees every object before
// the listing fails.
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	_, err := b.run(ctx, List, prefix, func() error { return b.inner.List(ctx, prefix, fn) })
	return err
}

// Delete implements backend.Backend.
func (b *Backend) Delete(ctx context.Context, name string) error {
	_, err := b.run(ctx, Delete, name, func() error {
		b.setFreed()
		return b.inner.Delete(ctx, name)
	})
	return err
}

// Sync implements backend.Backend.
func (b *Backend) Sync(ctx context.Context) error {
	_, err := b.run(ctx, Sync, "", func() error { return b.inner.Sync(ctx) })
	return err
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// SingleWriter implements backend.Backend.
func (b *Backend) SingleWriter() string { return b.inner.SingleWriter() }

// Close closes the inner backend. It never fails on purpose, not even after a
// stop: a test has to get its resources back.
func (b *Backend) Close() error { return b.inner.Close() }
