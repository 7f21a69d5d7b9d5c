package fault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
	"holdfast/repo/backend/mem"
)

func TestConformanceWithoutFaults(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return New(mem.New(), Options{}) })
}

// play makes six calls that change something, and some that do not, and returns
// the errors of the former.
func play(ctx context.Context, b backend.Backend) []error {
	errs := []error{
		b.Put(ctx, "data/s/p", []byte("pack")),
		b.Sync(ctx),
		b.PutIfAbsent(ctx, "commit/s/1", []byte("slot")),
	}
	_, _ = b.Get(ctx, "data/s/p", 0, -1)
	_, _ = b.Stat(ctx, "data/s/p")
	_ = b.List(ctx, "", func(backend.Info) error { return nil })
	return append(errs,
		b.Put(ctx, "data/s/q", []byte("pack")),
		b.Delete(ctx, "data/s/p"),
		b.Sync(ctx),
	)
}

var played = []Call{
	{Put, "data/s/p"}, {Sync, ""}, {PutIfAbsent, "commit/s/1"}, {Put, "data/s/q"}, {Delete, "data/s/p"}, {Sync, ""},
}

func TestDryRunRecordsCallsThatChange(t *testing.T) {
	b := New(mem.New(), Options{})
	for i, err := range play(t.Context(), b) {
		if err != nil {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if got := b.Calls(); !slices.Equal(got, played) {
		t.Errorf("calls %v", got)
	}
	all := New(mem.New(), Options{CountReads: true})
	play(t.Context(), all)
	if got := all.Calls(); len(got) != len(played)+3 || got[3] != (Call{Get, "data/s/p"}) {
		t.Errorf("calls with reads %v", got)
	}
}

func names(t *testing.T, b backend.Backend) []string {
	t.Helper()
	var all []string
	err := b.List(t.Context(), "", func(info backend.Info) error {
		all = append(all, info.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPlanStopsAtEachPoint: at each call, the call is done or not as the mode
// says, all before it is done and nothing after it.
func TestPlanStopsAtEachPoint(t *testing.T) {
	states := [][]string{ // visible after n calls
		nil, {"data/s/p"}, {"data/s/p"}, {"commit/s/1", "data/s/p"}, {"commit/s/1", "data/s/p", "data/s/q"},
		{"commit/s/1", "data/s/q"}, {"commit/s/1", "data/s/q"},
	}
	for at := 1; at <= len(played); at++ {
		for _, mode := range Modes {
			inner := mem.New()
			b := New(inner, Options{Plan: Plan{At: at, Mode: mode, Stop: true}})
			for i, err := range play(t.Context(), b) {
				if errors.Is(err, ErrInjected) != (i+1 >= at) || errors.Is(err, ErrStopped) != (i+1 > at) {
					t.Errorf("%s at %d: call %d: %v", mode, at, i+1, err)
				}
			}
			done := at - 1
			if mode == DoneButLost {
				done = at
			}
			if got := names(t, inner); !slices.Equal(got, states[done]) {
				t.Errorf("%s at %d: left %q, want %q", mode, at, got, states[done])
			}
			if !b.Stopped() || len(b.Calls()) != at {
				t.Errorf("%s at %d: stopped %v after %v", mode, at, b.Stopped(), b.Calls())
			}
			if _, err := b.Get(t.Context(), "commit/s/1", 0, -1); !errors.Is(err, ErrStopped) {
				t.Errorf("%s at %d: a stopped process reads: %v", mode, at, err)
			}
		}
	}
}

func TestPlanWithoutStopFailsOnce(t *testing.T) {
	b := New(mem.New(), Options{Plan: Plan{At: 3}})
	for i, err := range play(t.Context(), b) {
		if (err != nil) != (i == 2) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

func TestRuleFailsByKindAndNameSoManyTimes(t *testing.T) {
	b := New(mem.New(), Options{Rules: []Rule{
		{Op: Put, Prefix: "data/", Skip: 1, Count: 2, Err: backend.ErrNoSpace},
		{Op: List, Err: backend.ErrUnreachable, Mode: DoneButLost},
	}})
	var got []bool
	for _, name := range []string{"data/1", "meta/1", "data/2", "data/3", "data/4"} {
		err := b.Put(t.Context(), name, nil)
		if err != nil && !(errors.Is(err, backend.ErrNoSpace) && errors.Is(err, ErrInjected)) {
			t.Errorf("put %s: %v", name, err)
		}
		got = append(got, err != nil)
	}
	if !slices.Equal(got, []bool{false, false, true, true, false}) {
		t.Errorf("failed: %v", got)
	}
	seen := 0
	err := b.List(t.Context(), "", func(backend.Info) error { seen++; return nil })
	if !errors.Is(err, backend.ErrUnreachable) || seen != 3 {
		t.Errorf("list: %d objects, %v", seen, err)
	}
}

func TestRuleSpoilsWhatGetReturns(t *testing.T) {
	inner := mem.New()
	data := backendtest.Bytes(1, 100)
	if err := inner.Put(t.Context(), "x", data); err != nil {
		t.Fatal(err)
	}
	b := New(inner, Options{Rules: []Rule{{Op: Get, Count: 1, Flip: []int64{13, 8 * 5000}}, {Op: Get, Skip: 1, Count: 1, Truncate: 7}}})
	flipped := bytes.Clone(data)
	flipped[1] ^= 1 << 5
	for i, want := range [][]byte{flipped, data[:93], data} {
		if got, err := b.Get(t.Context(), "x", 0, -1); err != nil || !bytes.Equal(got, want) {
			t.Errorf("get %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func TestRuleDelaysAndObeysContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New(), Options{Rules: []Rule{{Op: Put, Delay: time.Hour}}})
		begin := time.Now()
		if err := b.Put(t.Context(), "x", nil); err != nil || time.Since(begin) != time.Hour {
			t.Errorf("put took %v, %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin = time.Now()
		if err := b.Put(ctx, "y", nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("put took %v, %v", time.Since(begin), err)
		}
		if got := names(t, b); !slices.Equal(got, []string{"x"}) {
			t.Errorf("put in spite of its context: %q", got)
		}
	})
}
