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

// nth does something at the n-th call to the server.
type nth struct {
	soap.RoundTripper
	mu     sync.Mutex
	left   int
	name   string // of the call that was hit
	before func()
	lose   bool
}

func (c *nth) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	c.mu.Lock()
	c.left--
	hit := c.left == 0
	if hit {
		c.name = strings.TrimSuffix(strings.TrimPrefix(reflect.TypeOf(req).String(), "*methods."), "Body")
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
// until one ends before it is. The VM must have no snapshot each time.
func matrix(t *testing.T, lose bool) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	parent := b.backup(found, nil)
	c := b.session.Client()
	plain := c.RoundTripper
	hits := map[string]bool{}
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(b.ctx)
		hit := &nth{RoundTripper: plain, left: n, lose: lose}
		if !lose {
			hit.before = cancel
		}
		c.RoundTripper = hit
		p, err := b.try(ctx, found, parent, b.options(), nil)
		c.RoundTripper = plain
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, vmware.ErrUnreachable) {
			t.Fatalf("call %d (%s): %v", n, hit.name, err)
		}
		b.clean(found)
		if err == nil {
			parent = p
		}
		if hit.name == "" {
			break
		}
		hits[hit.name] = true
	}
	for _, name := range []string{"CreateSnapshotEx_Task", "QueryChangedDiskAreas", "RemoveSnapshot_Task", "RetrievePropertiesEx"} {
		if !hits[name] {
			t.Fatalf("%s was never hit: %v", name, hits)
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

// exported freezes with the export transport and opens the first disk.
func (b *bench) exported(found vmware.VM, every time.Duration, fn func(backup.Frozen)) error {
	opt := b.options()
	opt.Transport, opt.LeaseEvery = disk.Export, every
	_, err := b.try(b.ctx, found, nil, opt, func(f backup.Frozen) {
		for _, it := range f.Items() {
			if it.Disk != nil {
				r, err := it.Disk.Open(b.ctx)
				must(b.t, err)
				must(b.t, r.Close())
				break
			}
		}
		fn(f)
	})
	return err
}

// One sign of life that fails must not be the last.
func TestLeaseProgressFailsOnce(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "HttpNfcLeaseProgress", Count: 2, Fault: &types.HostCommunication{}})
	must(t, b.exported(found, time.Millisecond, func(backup.Frozen) {
		for b.lab.Counts().Calls["HttpNfcLeaseProgress"] < 5 {
			if b.ctx.Err() != nil {
				t.Fatal("the lease was given up")
			}
			runtime.Gosched()
		}
	}))
	b.clean(found)
}

// The server ends the lease: the disks still to come fail, with its reason, and
// the snapshot goes.
func TestLeaseLost(t *testing.T) {
	b := newBench(t, lab.Options{LeaseTimeout: 30 * time.Millisecond})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "HttpNfcLeaseProgress", Count: -1, Fault: &types.HostCommunication{}})
	var lost error
	_ = b.exported(found, time.Millisecond, func(f backup.Frozen) {
		for lost == nil && b.ctx.Err() == nil {
			for _, it := range f.Items() {
				if it.Disk == nil {
					continue
				}
				r, err := it.Disk.Open(b.ctx)
				if err != nil {
					lost = err
					break
				}
				must(t, r.Close())
			}
		}
	})
	if !errors.Is(lost, disk.ErrLease) {
		t.Fatalf("got %v", lost)
	}
	b.clean(found)
}
