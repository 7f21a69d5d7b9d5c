package vmware_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/vmware"
	"holdfast/vmware/disk"
	"holdfast/vmware/lab"
)

// nth does something at the n-th call to the server, or at the first of a name.
type nth struct {
	soap.RoundTripper
	mu     sync.Mutex
	left   int
	first  string
	name   string // of the call that was hit
	before func()
	lose   bool
}

func (c *nth) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	name := strings.TrimSuffix(strings.TrimPrefix(reflect.TypeOf(req).String(), "*methods."), "Body")
	c.mu.Lock()
	c.left--
	hit := c.left == 0 || c.name == "" && c.first == name
	if hit {
		c.name = name
	}
	c.mu.Unlock()
	if hit && c.before != nil {
		c.before()
	}
	err := c.RoundTripper.RoundTrip(ctx, req, res)
	if hit && c.lose && err == nil {
		return fmt.Errorf("connection reset: %w", vmware.ErrUnreachable)
	}
	return err
}

// matrix runs the backup again and again, each time with the next call hit,
// until one ends before it is; then with each call hit that matters most, for
// how often a task is asked for differs from run to run. The VM must have no
// snapshot each time.
func matrix(t *testing.T, lose bool) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	parent := b.backup(found, nil)
	c := b.session.Client()
	plain := c.RoundTripper
	run := func(hit *nth) string {
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		hit.RoundTripper, hit.lose = plain, lose
		if !lose {
			hit.before = cancel
		}
		c.RoundTripper = hit
		p, err := b.try(ctx, found, parent, b.options(), nil)
		c.RoundTripper = plain
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, vmware.ErrUnreachable) {
			t.Fatalf("%s: %v", hit.name, err)
		}
		b.clean(found)
		if err == nil {
			parent = p
		}
		return hit.name
	}
	for n := 1; run(&nth{left: n}) != ""; n++ {
	}
	for _, name := range []string{"CreateSnapshotEx_Task", "QueryChangedDiskAreas", "RemoveSnapshot_Task"} {
		if run(&nth{first: name}) != name {
			t.Fatalf("%s was not called", name)
		}
	}
}

// The run is interrupted at each of its calls.
func TestSnapshotRemovedOnSIGINT(t *testing.T) { matrix(t, false) }

// Each call is done, but its answer is lost.
func TestSnapshotRemovedWhenAnyAnswerIsLost(t *testing.T) { matrix(t, true) }

// The interrupt comes while the server is at work on the snapshot.
func TestSnapshotRemovedWhenCancelledInItsTask(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	entered, release := b.lab.Hold("CreateSnapshotEx_Task")
	go func() { <-entered; cancel(); release() }()
	if _, err := b.try(ctx, found, nil, b.options(), nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b.clean(found)
	b.backup(found, nil)
}

// One sign of life that fails must not be the last.
func TestLeaseProgressFailsOnce(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "HttpNfcLeaseProgress", Count: 2, Fault: &types.HostCommunication{}})
	opt := b.options()
	opt.Transport, opt.LeaseEvery = disk.Export, time.Millisecond
	_, err := b.try(b.ctx, found, nil, opt, func(f backup.Frozen) {
		must(t, openAll(b.ctx, f))
		for b.lab.Counts().Calls["HttpNfcLeaseProgress"] < 5 {
			if b.ctx.Err() != nil {
				t.Fatal("the lease was given up")
			}
			runtime.Gosched()
		}
	})
	must(t, err)
	b.clean(found)
}

// The server ends the lease: the disks still to come fail, with its reason, and
// the snapshot goes.
func TestLeaseLost(t *testing.T) {
	b := newBench(t, lab.Options{LeaseTimeout: 30 * time.Millisecond})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "HttpNfcLeaseProgress", Count: -1, Fault: &types.HostCommunication{}})
	opt := b.options()
	opt.Transport, opt.LeaseEvery = disk.Export, time.Millisecond
	var lost error
	_, _ = b.try(b.ctx, found, nil, opt, func(f backup.Frozen) {
		for lost == nil && b.ctx.Err() == nil {
			lost = openAll(b.ctx, f)
		}
	})
	if !errors.Is(lost, disk.ErrLease) {
		t.Fatalf("got %v", lost)
	}
	b.clean(found)
}

func openAll(ctx context.Context, f backup.Frozen) error {
	for _, it := range f.Items() {
		if it.Disk == nil {
			continue
		}
		r, err := it.Disk.Open(ctx)
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
