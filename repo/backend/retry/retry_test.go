package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
)

// noWait is a Sleep for tests of everything but time.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return New(mem.New(), Options{Sleep: noWait}) })
}

// TestConformanceOverAnUnsteadyStore: every third call fails or loses its
// answer, and the contract holds all the same.
func TestConformanceOverAnUnsteadyStore(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend {
		return New(&unsteady{Backend: mem.New()}, Options{Sleep: noWait, Attempts: 40})
	})
}

// unsteady does every third changing call and loses the answer of another third.
type unsteady struct {
	*mem.Backend
	turn atomic.Int64
}

func (u *unsteady) flaky(call func() error) error {
	switch u.turn.Add(1) % 3 {
	case 0:
		return backend.ErrUnreachable
	case 1:
		if err := call(); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	}
	return call()
}

func (u *unsteady) Put(ctx context.Context, name string, data []byte) error {
	return u.flaky(func() error { return u.Backend.Put(ctx, name, data) })
}

func (u *unsteady) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return u.flaky(func() error { return u.Backend.PutIfAbsent(ctx, name, data) })
}

func (u *unsteady) Delete(ctx context.Context, name string) error {
	return u.flaky(func() error { return u.Backend.Delete(ctx, name) })
}

func (u *unsteady) Sync(ctx context.Context) error {
	return u.flaky(func() error { return u.Backend.Sync(ctx) })
}

func TestFinalAnswersAreNotAskedForAgain(t *testing.T) {
	for _, final := range []error{
		backend.ErrNotFound, backend.ErrExists, backend.ErrNoSpace, backend.ErrRange, backend.ErrDurability, context.Canceled, context.DeadlineExceeded,
	} {
		f := fault.New(mem.New(), fault.Options{Rules: []fault.Rule{{Err: final}}})
		b := New(f, Options{Sleep: noWait})
		if err := b.Put(t.Context(), "a", nil); !errors.Is(err, final) {
			t.Errorf("put: %v, want %v", err, final)
		}
		if n := len(f.Calls()); n != 1 {
			t.Errorf("%v: asked %d times", final, n)
		}
	}
}

func TestGivesUpWithTheLastError(t *testing.T) {
	f := fault.New(mem.New(), fault.Options{Rules: []fault.Rule{{Err: backend.ErrUnreachable}}})
	err := New(f, Options{Sleep: noWait, Attempts: 4}).Sync(t.Context())
	if !errors.Is(err, backend.ErrUnreachable) || len(f.Calls()) != 4 {
		t.Errorf("sync: %v after %d calls", err, len(f.Calls()))
	}
}

func TestLostAnswerOfPutIfAbsentIsSuccess(t *testing.T) {
	inner := mem.New()
	f := fault.New(inner, fault.Options{Plan: fault.Plan{At: 1, Mode: fault.DoneButLost}})
	b := New(f, Options{Sleep: noWait})
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); err != nil {
		t.Errorf("put new: %v", err)
	}
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("other")); !errors.Is(err, backend.ErrExists) {
		t.Errorf("put new of other bytes: %v", err)
	}
}

// TestListGoesOnWhereItBroke: wherever and however often a listing breaks, fn
// sees each name once, in order.
func TestListGoesOnWhereItBroke(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		breaks := rapid.SliceOfN(rapid.IntRange(0, 30), 0, 6).Draw(t, "breaks")
		inner := &breaking{Backend: mem.New(), breaks: breaks}
		var want, got []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("data/%02d", i))
			if err := inner.Put(context.Background(), want[i], nil); err != nil {
				t.Fatal(err)
			}
		}
		err := New(inner, Options{Sleep: noWait, Attempts: 7}).List(context.Background(), "data/", func(info backend.Info) error {
			got = append(got, info.Name)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("list: %q, %v", got, err)
		}
	})
}

// breaking ends its listings early, each after so many names.
type breaking struct {
	*mem.Backend
	breaks []int
}

func (b *breaking) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	if len(b.breaks) == 0 {
		return b.Backend.List(ctx, prefix, fn)
	}
	left := b.breaks[0]
	b.breaks = b.breaks[1:]
	return b.Backend.List(ctx, prefix, func(info backend.Info) error {
		if left == 0 {
			return io.ErrUnexpectedEOF
		}
		left--
		return fn(info)
	})
}

func TestListDoesNotRepeatForAnErrorOfFn(t *testing.T) {
	inner := mem.New()
	for _, name := range []string{"a", "b"} {
		if err := inner.Put(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	own, calls := errors.New("own"), 0
	err := New(inner, Options{Sleep: noWait}).List(t.Context(), "", func(backend.Info) error {
		calls++
		return own
	})
	if err != own || calls != 1 { //nolint:errorlint // it must come back as it was
		t.Errorf("list: %v after %d calls", err, calls)
	}
}

func TestWaitsGrowToTheirBound(t *testing.T) {
	f := fault.New(mem.New(), fault.Options{Rules: []fault.Rule{{Err: io.EOF}}})
	var waits []time.Duration
	b := New(f, Options{
		Attempts: 7, Base: time.Second, Max: 10 * time.Second,
		Rand:  func() float64 { return 0.5 },
		Sleep: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
	})
	if err := b.Delete(t.Context(), "x"); !errors.Is(err, io.EOF) {
		t.Errorf("delete: %v", err)
	}
	want := []time.Duration{500e6, 1e9, 2e9, 4e9, 5e9, 5e9}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fault.New(mem.New(), fault.Options{Rules: []fault.Rule{{Err: backend.ErrUnreachable}}})
		b := New(f, Options{Base: time.Hour, Max: time.Hour, Rand: func() float64 { return 0.99 }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		_, err := b.Stat(ctx, "x")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, backend.ErrUnreachable) || time.Since(begin) != time.Minute {
			t.Errorf("stat: %v after %v", err, time.Since(begin))
		}
	})
}

func TestReadsAreRepeated(t *testing.T) {
	f := fault.New(mem.New(), fault.Options{Rules: []fault.Rule{
		{Op: fault.Get, Count: 2, Err: io.EOF}, {Op: fault.Stat, Count: 1, Err: io.EOF, Mode: fault.DoneButLost},
	}})
	b := New(f, Options{Sleep: noWait})
	if err := b.Put(t.Context(), "x", []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if data, err := b.Get(t.Context(), "x", 1, 3); err != nil || string(data) != "yte" {
		t.Errorf("get: %q, %v", data, err)
	}
	if info, err := b.Stat(t.Context(), "x"); err != nil || info.Bytes != 5 {
		t.Errorf("stat: %+v, %v", info, err)
	}
}
