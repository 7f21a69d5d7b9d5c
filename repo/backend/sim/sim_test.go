package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/sim"
)

// run makes the calls of fn, one client, in a world of its own.
func run(t *testing.T, opts sim.Options, fn func(ctx context.Context, w *sim.World, c *sim.Client)) *sim.World {
	t.Helper()
	var w *sim.World
	synctest.Test(t, func(t *testing.T) {
		opts.Quiet = synctest.Wait
		w = sim.New(opts)
		c := w.Client("one", true)
		w.Go(func() { fn(t.Context(), w, c) })
		if err := w.Run(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func listed(ctx context.Context, be backend.Backend, prefix string) (names []string, err error) {
	err = be.List(ctx, prefix, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	return names, err
}

// TestCalmWorldKeepsTheContract: without faults it is a store like any other.
func TestCalmWorldKeepsTheContract(t *testing.T) {
	run(t, sim.Options{Seed: 1, Faults: sim.Faults{Hold: 300, Page: 500}}, func(ctx context.Context, _ *sim.World, c *sim.Client) {
		want := func(what string, err, target error) {
			if !errors.Is(err, target) || target == nil && err != nil {
				t.Errorf("%s: %v, not %v", what, err, target)
			}
		}
		want("put", c.Put(ctx, "a/1", []byte("one")), nil)
		want("put over", c.Put(ctx, "a/1", []byte("ONE")), nil)
		want("put new", c.PutIfAbsent(ctx, "a/2", []byte("two")), nil)
		want("put the same", c.PutIfAbsent(ctx, "a/2", []byte("two")), nil)
		want("put another", c.PutIfAbsent(ctx, "a/2", []byte("TWO")), backend.ErrExists)
		data, err := c.Get(ctx, "a/1", 1, 2)
		want("get", err, nil)
		if string(data) != "NE" {
			t.Errorf("got %q", data)
		}
		_, err = c.Get(ctx, "a/1", 2, 2)
		want("get beyond", err, backend.ErrRange)
		_, err = c.Get(ctx, "a/3", 0, -1)
		want("get nothing", err, backend.ErrNotFound)
		_, err = c.Stat(ctx, "a/3")
		want("stat nothing", err, backend.ErrNotFound)
		info, err := c.Stat(ctx, "a/2")
		want("stat", err, nil)
		if info.Bytes != 3 || info.Modified.IsZero() {
			t.Errorf("stat: %+v", info)
		}
		for i := range 20 {
			want("put", c.Put(ctx, fmt.Sprintf("b/%02d", i), nil), nil)
		}
		names, err := listed(ctx, c, "")
		want("list", err, nil)
		if len(names) != 22 || names[0] != "a/1" || names[21] != "b/19" {
			t.Errorf("list: %v", names)
		}
		want("delete", c.Delete(ctx, "a/1"), nil)
		want("delete nothing", c.Delete(ctx, "a/1"), nil)
		want("sync", c.Sync(ctx), nil)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		want("put for nobody", c.Put(ended, "a/9", nil), context.Canceled)
	})
}

// TestEveryFaultHappens, and leaves what it says.
func TestEveryFaultHappens(t *testing.T) {
	always := 1000
	for name, test := range map[string]struct {
		faults sim.Faults
		there  bool // after a failed put
	}{
		"error": {sim.Faults{Error: always}, false},
		"busy":  {sim.Faults{Busy: always}, false},
		"lost":  {sim.Faults{Lost: always}, true},
	} {
		run(t, sim.Options{Seed: 1, Faults: test.faults}, func(ctx context.Context, w *sim.World, c *sim.Client) {
			err := c.PutIfAbsent(ctx, "a", []byte("x"))
			if !errors.Is(err, backend.ErrUnreachable) || !errors.Is(err, sim.ErrInjected) || errors.Is(err, backend.ErrBusy) != (name == "busy") {
				t.Errorf("%s: %v", name, err)
			}
			if w.Has("a") != test.there {
				t.Errorf("%s: there: %v", name, w.Has("a"))
			}
		})
	}
}

// TestLateAndDuplicateRequestsComeBack: a request that failed is done later; one
// that succeeded is done again.
func TestLateAndDuplicateRequestsComeBack(t *testing.T) {
	late := run(t, sim.Options{Seed: 3, Faults: sim.Faults{Late: 1000}}, func(ctx context.Context, w *sim.World, c *sim.Client) {
		for i := range 30 {
			_ = c.Put(ctx, fmt.Sprint("a/", i), nil) // each fails
		}
	})
	late.Settle()
	if n := len(late.Names("")); n == 0 || n == 30 {
		t.Errorf("%d of 30 late requests were done", n)
	}
	again := run(t, sim.Options{Seed: 3, Faults: sim.Faults{Duplicate: 1000}}, func(ctx context.Context, w *sim.World, c *sim.Client) {
		if err := errors.Join(c.Put(ctx, "a", nil), c.Delete(ctx, "a"), c.PutIfAbsent(ctx, "b", []byte("1"))); err != nil {
			t.Error(err)
		}
	})
	if again.Settle(); again.Stats().Late != 3 {
		t.Errorf("%d requests came again", again.Stats().Late)
	}
}

// TestKilledProcessReachesNothing.
func TestKilledProcessReachesNothing(t *testing.T) {
	w := run(t, sim.Options{Seed: 1, Faults: sim.Faults{Kill: 1000}}, func(ctx context.Context, w *sim.World, c *sim.Client) {
		if err := c.Sync(ctx); !errors.Is(err, sim.ErrKilled) || !c.Dead() {
			t.Errorf("sync: %v", err)
		}
		if err := c.Put(ctx, "a", nil); !errors.Is(err, sim.ErrKilled) || w.Has("a") {
			t.Errorf("put of the dead: %v", err)
		}
	})
	if w.Stats().Kills != 1 {
		t.Errorf("%+v", w.Stats())
	}
}

// TestPowerCutTakesWhatWasNotSynced, and nothing else.
func TestPowerCutTakesWhatWasNotSynced(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		w := run(t, sim.Options{Seed: seed, Volatile: true, Faults: sim.Faults{Power: 60}}, func(ctx context.Context, w *sim.World, c *sim.Client) {
			if c.Put(ctx, "synced", []byte("s")) != nil || c.Sync(ctx) != nil || c.PutIfAbsent(ctx, "absent", []byte("a")) != nil {
				return
			}
			synced := c.Sync(ctx) == nil
			for !c.Dead() && synced {
				_ = c.Put(ctx, "loose", []byte("l")) // until the power fails
				if c.Dead() && (!w.Has("synced") || !w.Has("absent")) {
					t.Errorf("seed %d: what was durable is gone: %v", seed, w.Names(""))
				}
			}
			if !w.Has("loose") {
				lost++
			}
		})
		if w.Stats().PowerCuts == 0 && w.Stats().Steps > 100 {
			t.Errorf("seed %d: the power never failed", seed)
		}
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

// TestPersistedObjectOfAnotherIsDurableAfterASync: what a client that died has put.
func TestPersistedObjectOfAnotherIsDurableAfterASync(t *testing.T) {
	cuts := 0
	for seed := range uint64(40) {
		run(t, sim.Options{Seed: seed, Volatile: true, Faults: sim.Faults{Power: 60}}, func(ctx context.Context, w *sim.World, c *sim.Client) {
			other := w.Client("other", false)
			if other.Put(ctx, "a", []byte("x")) != nil || c.Persist(ctx, "a") != nil || c.Sync(ctx) != nil {
				return
			}
			if err := c.Persist(ctx, "b"); !c.Dead() && !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("persist nothing: %v", err)
			}
			for range 50 {
				_ = c.Sync(ctx) // until the power fails
			}
			if w.Stats().PowerCuts > 0 {
				cuts++
			}
			if !w.Has("a") {
				t.Errorf("seed %d: a is gone", seed)
			}
		})
	}
	if cuts == 0 {
		t.Error("the power never failed")
	}
}

// TestFrozenProcessGoesOn after others, or when nobody else has anything to do.
func TestFrozenProcessGoesOn(t *testing.T) {
	w := run(t, sim.Options{Seed: 2, Faults: sim.Faults{Freeze: 500}}, func(ctx context.Context, _ *sim.World, c *sim.Client) {
		for range 20 {
			if err := c.Sync(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	if w.Stats().Freezes == 0 || !strings.Contains(strings.Join(w.Trace(), "\n"), "thaws") {
		t.Errorf("%+v", w.Stats())
	}
}

// TestStuckWorldEnds: a client that never ends is killed and named.
func TestStuckWorldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(sim.Options{Quiet: synctest.Wait, MaxSteps: 50})
		c := w.Client("mill", false)
		w.Go(func() {
			for c.Sync(t.Context()) == nil { // for ever
			}
		})
		if err := w.Run(); !errors.Is(err, sim.ErrStuck) {
			t.Errorf("run: %v", err)
		}
	})
}

// TestHashTellsRunsApart: equal seeds give equal runs, others do not; goroutines
// of one client that call at once do not change that.
func TestHashTellsRunsApart(t *testing.T) {
	one := func(seed uint64) uint64 {
		return run(t, sim.Options{Seed: seed, Faults: sim.Faults{Error: 100, Duplicate: 100, Hold: 300, Jump: 50, Pause: 20}},
			func(ctx context.Context, w *sim.World, c *sim.Client) {
				done := make(chan struct{})
				for i := range 8 {
					go func() {
						for j := range 5 {
							_ = c.Put(ctx, fmt.Sprint(i, "/", j), []byte{byte(i)}) // some fail
						}
						done <- struct{}{}
					}()
				}
				for range 8 {
					<-done
				}
			}).Hash()
	}
	for seed := range uint64(5) {
		if first, second := one(seed), one(seed); first != second {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
	if one(1) == one(2) {
		t.Error("two seeds, one run")
	}
}

// TestSourceDoesNotCareWhoComesFirst.
func TestSourceDoesNotCareWhoComesFirst(t *testing.T) {
	read := func(s *sim.Source, n int) []byte {
		p := make([]byte, n)
		if _, err := io.ReadFull(s, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := &sim.Source{Seed: 1}, &sim.Source{Seed: 1}
	first, long := read(a, 8), read(a, 100)
	if !bytes.Equal(read(b, 100), long) || !bytes.Equal(read(b, 8), first) {
		t.Error("the order of reads of different lengths counts")
	}
	if bytes.Equal(read(a, 8), first) || bytes.Equal(read(&sim.Source{Seed: 1, Stream: 1}, 8), first) {
		t.Error("draws repeat")
	}
}

// TestClocksStartAlikeAndJump by a week at most.
func TestClocksStartAlikeAndJump(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	run(t, sim.Options{Seed: 1, Start: start, Faults: sim.Faults{Jump: 1000}}, func(ctx context.Context, _ *sim.World, c *sim.Client) {
		if !c.Now().Equal(start) {
			t.Errorf("it is %s", c.Now())
		}
		jumped := false
		for range 50 {
			before := c.Now()
			if err := c.Sync(ctx); err != nil {
				t.Error(err)
			}
			off := c.Now().Sub(start)
			jumped = jumped || c.Now().Sub(before).Abs() > time.Hour
			if off.Abs() > 8*24*time.Hour {
				t.Errorf("off by %s", off)
			}
		}
		if !jumped {
			t.Error("no clock jumped")
		}
	})
}

// TestMisledClientIsLiedToByListingsAlone: some hide, some show what is gone; what is
// asked for by name is as it is, and nobody else is lied to.
func TestMisledClientIsLiedToByListingsAlone(t *testing.T) {
	hidden, shown := 0, 0
	run(t, sim.Options{Seed: 1}, func(ctx context.Context, w *sim.World, c *sim.Client) {
		other := w.Client("other", false)
		for i := range 8 {
			if err := c.Put(ctx, fmt.Sprintf("a/%d", i), []byte("x")); err != nil {
				t.Error(err)
			}
		}
		if err := c.Delete(ctx, "a/3"); err != nil {
			t.Error(err)
		}
		c.Mislead(1000)
		for range 200 {
			names, err := listed(ctx, c, "a/")
			if err != nil {
				t.Error(err)
			}
			has := map[string]bool{}
			for _, name := range names {
				has[name] = true
			}
			if has["a/3"] {
				shown++
			}
			if !has["a/1"] {
				hidden++
			}
			if len(has) != len(names) {
				t.Errorf("a name twice: %v", names)
			}
			if _, err := c.Stat(ctx, "a/1"); err != nil {
				t.Error(err)
			}
			if _, err := c.Stat(ctx, "a/3"); !errors.Is(err, backend.ErrNotFound) {
				t.Error(err)
			}
			if names, err := listed(ctx, other, "a/"); err != nil || len(names) != 7 {
				t.Errorf("the other sees %v %v", names, err)
			}
		}
	})
	if hidden == 0 || shown == 0 {
		t.Errorf("hidden %d times, shown %d times", hidden, shown)
	}
}
