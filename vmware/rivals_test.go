package vmware_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
	"holdfast/vmware/lab"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
)

// at says what a run does before it takes the step of that name and number.
type at map[string]func()

// gate stops a run before some of its steps, which are: "look 1" at the VM while
// it may still be free, "enable 1" tracking, "take 1" a snapshot, "judge 1" its
// place, "remove 1".
type gate struct {
	soap.RoundTripper
	at   at
	mu   sync.Mutex
	seen map[string]int
	// One call at a time reaches the laboratory, whose sessions share objects
	// without a lock. It is the order of the runs' calls that matters here.
	wire *sync.Mutex
}

func (g *gate) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	step := ""
	switch body := req.(type) {
	case *methods.CreateSnapshotEx_TaskBody:
		step = "take"
	case *methods.RemoveSnapshot_TaskBody:
		step = "remove"
	case *methods.ReconfigVM_TaskBody:
		step = "enable"
	case *methods.RetrievePropertiesExBody:
		switch props := body.Req.SpecSet[0].PropSet[0].PathSet; {
		case slices.Equal(props, []string{"layoutEx", "snapshot"}):
			step = "judge"
		case slices.Contains(props, "availableField"):
			step = "look"
		}
	}
	g.mu.Lock()
	g.seen[step]++
	do := g.at[fmt.Sprintf("%s %d", step, g.seen[step])]
	g.mu.Unlock()
	if do != nil {
		do()
	}
	g.wire.Lock()
	defer g.wire.Unlock()
	return g.RoundTripper.RoundTrip(ctx, req, res)
}

// rival is another run on the same laboratory, with a session of its own.
func (b *bench) rival(steps at) *bench {
	r := *b
	r.session = b.connect(vmware.Options{})
	c := r.session.Client()
	c.RoundTripper = &gate{RoundTripper: c.RoundTripper, at: steps, seen: map[string]int{}, wire: b.wire}
	return &r
}

// everybody lives, and is patient while the server is at work for another.
func (b *bench) living() vmware.SourceOptions {
	opt := b.options()
	opt.Alive = func(snapshot.Run) bool { return true }
	opt.Retry = task.Retry{Tries: 60, First: time.Millisecond, Limit: 50 * time.Millisecond}
	return opt
}

func (b *bench) await(c <-chan struct{}) {
	select {
	case <-c:
	case <-b.ctx.Done():
	}
}

// Two runs find the VM free in the same moment, then both take a snapshot. The
// one whose snapshot came first goes on, whether it looks before or after the
// other's stands; the other leaves nothing.
func TestTwoRunsInTheSameSecondOneIsBusy(t *testing.T) {
	for _, both := range []bool{true, false} {
		t.Run(fmt.Sprintf("both snapshots stand before either looks: %v", both), func(t *testing.T) {
			b := newBench(t, lab.Options{})
			vm, found := b.web01()
			parent := b.backup(found, nil)
			b.write(vm, 0, mib, 9000)
			secondReady, firstTook, secondTook, lost := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
			first := b.rival(at{"take 1": func() { b.await(secondReady) }, "judge 1": func() {
				close(firstTook)
				if both {
					b.await(secondTook)
				}
			}})
			second := b.rival(at{"take 1": func() { close(secondReady); b.await(firstTook) }, "judge 1": func() { close(secondTook) }})
			mine, other := b.living(), b.living()
			var busy error
			var wait sync.WaitGroup
			wait.Go(func() {
				defer close(lost)
				_, busy = vmware.NewSource(second.session, found, other).Freeze(b.ctx, parent)
			})
			p, err := first.try(b.ctx, found, parent, mine, func(f backup.Frozen) {
				b.await(lost)
				if now := b.find("web01").Snapshots; len(now) != 1 || now[0].Name != mine.Run.Name() {
					t.Errorf("snapshots are %+v", now)
				}
				if err := f.(backup.Holder).Holds(b.ctx); err != nil {
					t.Error(err)
				}
			})
			wait.Wait()
			must(t, err)
			if !errors.Is(busy, vmware.ErrBusy) {
				t.Fatalf("the second run: %v", busy)
			}
			b.clean(found)
			b.equal(p, vm, 0)
			b.write(vm, 0, 3*mib, 9000)
			next := b.backup(found, p) // what stood in between has left no doubt
			mode(t, next, recovery.ReadCBT, cbt.Use)
			b.equal(next, vm, 0)
		})
	}
}

// Tracking that is switched on under the snapshot of a run that came in between
// must not count as begun on a VM without one, even if that run is gone before
// anybody looks again: whoever switched gives up.
func TestTrackingSwitchedOnUnderARivalsSnapshot(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	ready, took, stunned, gone := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	slow := b.rival(at{"enable 1": func() { close(ready); b.await(took) }, "remove 1": func() { close(stunned); b.await(gone) }})
	var busy error
	var wait sync.WaitGroup
	theirs, mine := b.living(), b.living()
	wait.Go(func() { _, busy = vmware.NewSource(slow.session, found, theirs).Freeze(b.ctx, nil) })
	b.await(ready)
	quick := b.rival(at{"remove 1": func() { close(took); b.await(stunned) }})
	mine.CBT = cbt.Off
	p, err := quick.try(b.ctx, found, nil, mine, nil)
	close(gone)
	wait.Wait()
	must(t, err)
	if !errors.Is(busy, vmware.ErrBusy) {
		t.Fatalf("got %v", busy)
	}
	b.clean(found)
	b.equal(p, vm, 0)
}

// Two runs that both make tracking effective: the one whose stun was first waits
// for the other to be gone, and goes on.
func TestTwoRunsThatEnableTrackingOneIsBusy(t *testing.T) {
	b := newBench(t, lab.Options{})
	vm, found := b.web01()
	secondReady, firstTook, secondTook, again := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	var off sync.WaitGroup
	off.Add(2)
	both := func() { off.Done(); off.Wait() } // both have found tracking off
	first := b.rival(at{
		"enable 1": both,
		"take 1":   func() { b.await(secondReady) },
		"remove 1": func() { close(firstTook); b.await(secondTook) },
		"look 3":   func() { close(again) }, // the second look saw the other's
	})
	second := b.rival(at{
		"enable 1": both,
		"take 1":   func() { close(secondReady); b.await(firstTook) },
		"remove 1": func() { close(secondTook); b.await(again) },
	})
	mine, other := b.living(), b.living()
	var busy error
	var wait sync.WaitGroup
	wait.Go(func() { _, busy = vmware.NewSource(second.session, found, other).Freeze(b.ctx, nil) })
	p, err := first.try(b.ctx, found, nil, mine, nil)
	wait.Wait()
	must(t, err)
	if !errors.Is(busy, vmware.ErrBusy) {
		t.Fatalf("got %v", busy)
	}
	b.clean(found)
	b.equal(p, vm, 0)
	next := b.backup(found, p)
	mode(t, next, recovery.ReadCBT, cbt.Use)
}

// Many runs at once, each holding what it has until all have tried: with
// tracking on there is always one that came first, and never two.
func TestManyRunsInTheSameSecond(t *testing.T) {
	for _, tracked := range []bool{true, false} {
		t.Run(fmt.Sprintf("tracked: %v", tracked), func(t *testing.T) {
			b := newBench(t, lab.Options{})
			vm, found := b.web01()
			if tracked {
				b.backup(found, nil)
			}
			runs := 4 // few, for they wait for each other while each switches tracking on
			if tracked {
				runs = 8
			}
			var wait, looked sync.WaitGroup
			looked.Add(runs)
			frozen, errs := make([]backup.Frozen, runs), make([]error, runs)
			for i := range runs {
				r := b.rival(at{"take 1": func() { looked.Done(); looked.Wait() }}) // all have found the VM free
				opt := b.living()
				wait.Go(func() { frozen[i], errs[i] = vmware.NewSource(r.session, found, opt).Freeze(b.ctx, nil) })
			}
			wait.Wait()
			won := 0
			for i, err := range errs {
				switch {
				case err == nil:
					won++
					must(t, frozen[i].(backup.Holder).Holds(b.ctx))
				case !errors.Is(err, vmware.ErrBusy):
					t.Errorf("run %d: %v", i, err)
				}
			}
			if won > 1 || tracked && won == 0 {
				t.Errorf("%d runs hold the VM", won)
			}
			if n := len(b.find("web01").Snapshots); n != won {
				t.Errorf("%d snapshots for %d runs", n, won)
			}
			for _, f := range frozen {
				if f != nil {
					must(t, f.Release(b.ctx))
				}
			}
			b.clean(found)
			b.equal(b.backup(found, nil), vm, 0)
		})
	}
}
