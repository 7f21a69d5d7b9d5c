package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/task"
)

// ErrLease means that the server ended an NFC lease before its transfer was done.
var ErrLease = errors.New("transfer lease ended early")

// defaultLeaseTimeout is what hosts grant without a sign of life.
const defaultLeaseTimeout = 300 * time.Second

// Lease is an NFC lease that is kept alive. While it is held the server blocks
// power-on, migration and removal of the VM, so it must be ended: Complete when
// all went well, Abort otherwise. Aborting an import removes the VM.
type Lease struct {
	Ref     types.ManagedObjectReference
	Entity  types.ManagedObjectReference // the VM
	URLs    []types.HttpNfcLeaseDeviceUrl
	client  *vim25.Client
	log     *slog.Logger
	percent atomic.Int32
	lost    context.Context // ended when the server ends the lease
	lose    context.CancelCauseFunc
	stop    context.CancelFunc
	done    sync.WaitGroup
	ended   sync.Once
}

// LeaseOptions steer HoldLease; the zero value works.
type LeaseOptions struct {
	// Every is the pause between two signs of life; 0 means a tenth of what the
	// server grants, which survives several that are lost.
	Every time.Duration
	Log   *slog.Logger
}

// HoldLease waits until the lease is ready and keeps it alive until Complete or
// Abort. If it fails it has aborted the lease.
func HoldLease(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, opt LeaseOptions) (*Lease, error) {
	l := &Lease{Ref: ref, client: c, log: opt.Log}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	info, err := l.ready(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for transfer lease: %w", err), abort(ctx, c, ref))
	}
	l.Entity, l.URLs = info.Entity, info.DeviceUrl
	for _, u := range info.DeviceUrl {
		l.trust(u)
	}
	every := opt.Every
	if every <= 0 {
		every = defaultLeaseTimeout / 10
		if info.LeaseTimeout > 0 {
			every = time.Duration(info.LeaseTimeout) * time.Second / 10
		}
	}
	l.lost, l.lose = context.WithCancelCause(context.Background())
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.done.Go(func() { l.keep(run, every) })
	return l, nil
}

// trust takes the certificate of a host that the server vouches for.
func (l *Lease) trust(u types.HttpNfcLeaseDeviceUrl) {
	if at, err := l.client.ParseURL(u.Url); err == nil && u.SslThumbprint != "" {
		l.client.SetThumbprint(at.Host, u.SslThumbprint)
	}
}

// ready polls, because a filter of the property collector would die with an
// expired session.
func (l *Lease) ready(ctx context.Context) (*types.HttpNfcLeaseInfo, error) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		m, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		switch m.State {
		case types.HttpNfcLeaseStateReady:
			if m.Info == nil {
				return nil, fmt.Errorf("no information about the transfer: %w", ErrLease)
			}
			return m.Info, nil
		case types.HttpNfcLeaseStateError, types.HttpNfcLeaseStateDone:
			return nil, leaseError(m)
		}
		if err := task.Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (l *Lease) read(ctx context.Context) (mo.HttpNfcLease, error) {
	var m mo.HttpNfcLease
	err := property.DefaultCollector(l.client).RetrieveOne(ctx, l.Ref, []string{"state", "info", "error"}, &m)
	return m, err
}

func leaseError(m mo.HttpNfcLease) error {
	if m.Error != nil {
		return fmt.Errorf("%w: %w", ErrLease, task.Fault(m.Error))
	}
	return fmt.Errorf("state is %s: %w", m.State, ErrLease)
}

// keep sends signs of life. One that fails is no reason to give up, as long as
// the lease itself is well.
func (l *Lease) keep(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		req := types.HttpNfcLeaseProgress{This: l.Ref, Percent: l.percent.Load()}
		_, err := methods.HttpNfcLeaseProgress(ctx, l.client, &req)
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.log.Warn("report progress of a transfer", "lease", l.Ref.Value, "error", err)
		if l.Check(ctx) != nil {
			return
		}
	}
}

// Check asks the server whether the lease still stands, and returns why it does
// not. It is to be asked when a transfer failed: then the end of the lease may be
// the cause. Errors wrap ErrLease.
func (l *Lease) Check(ctx context.Context) error {
	m, err := l.read(ctx)
	switch {
	case fault.Is(err, &types.ManagedObjectNotFound{}):
		l.lose(fmt.Errorf("the server forgot it: %w", ErrLease))
	case err == nil && m.State != types.HttpNfcLeaseStateReady && m.State != types.HttpNfcLeaseStateInitializing:
		l.lose(leaseError(m))
	}
	return l.Err()
}

// Percent is what the next sign of life tells.
func (l *Lease) Percent(p int) { l.percent.Store(int32(min(max(p, 0), 100))) }

// Bind gives a context that ends with ctx or with the lease, whose error is then
// its cause.
func (l *Lease) Bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(l.lost, func() { cancel(context.Cause(l.lost)) })
	return ctx, func() { unlink(); cancel(nil) }
}

// Err is why the server ended the lease, or nil.
func (l *Lease) Err() error { return context.Cause(l.lost) }

// Complete ends a lease whose transfer is done.
func (l *Lease) Complete(ctx context.Context) error {
	err := errors.New("lease was ended before")
	l.ended.Do(func() {
		l.stop()
		l.done.Wait()
		_, err = methods.HttpNfcLeaseComplete(ctx, l.client, &types.HttpNfcLeaseComplete{This: l.Ref})
		if err != nil {
			// Not complete is not done: free the VM.
			err = errors.Join(err, abort(ctx, l.client, l.Ref))
		}
	})
	if err != nil {
		return fmt.Errorf("complete transfer lease: %w", err)
	}
	return nil
}

// Abort ends a lease whatever became of it. Ended before, it does nothing.
func (l *Lease) Abort(ctx context.Context) (err error) {
	l.ended.Do(func() {
		l.stop()
		l.done.Wait()
		err = abort(ctx, l.client, l.Ref)
	})
	return err
}

func abort(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, err := methods.HttpNfcLeaseAbort(ctx, c, &types.HttpNfcLeaseAbort{This: ref})
	if err == nil || fault.Is(err, &types.ManagedObjectNotFound{}) || fault.Is(err, &types.InvalidState{}) {
		return nil // it is over anyway
	}
	return fmt.Errorf("abort transfer lease: %w", err)
}

// URLOf finds the lease's URL for a disk. Servers name it by controller, bus and
// unit, or by its number among the disks of the configuration. all are the disks in
// their order; what cannot be told apart for certain is refused.
func URLOf(urls []types.HttpNfcLeaseDeviceUrl, d Device, all []Device) (types.HttpNfcLeaseDeviceUrl, error) {
	var disks []types.HttpNfcLeaseDeviceUrl
	for _, u := range urls {
		if u.Disk == nil || *u.Disk {
			disks = append(disks, u)
		}
	}
	var hit []types.HttpNfcLeaseDeviceUrl
	for _, u := range disks {
		if name := path.Base(u.Key); sameSlot(name, d) || numbered(name, d, all) {
			hit = append(hit, u)
		}
	}
	if len(hit) == 1 {
		return hit[0], nil
	}
	if len(disks) == 1 && len(all) == 1 {
		return disks[0], nil
	}
	return types.HttpNfcLeaseDeviceUrl{}, fmt.Errorf("find disk %d (%s) among %d transfers: %d fit: %w", d.Key, d.Slot, len(disks), len(hit), ErrTransport)
}

// sameSlot compares "VirtualLsiLogicController0:1" with the disk's place, whose
// type may be spelt "VirtualLsiLogicSASController" or without "Virtual".
func sameSlot(name string, d Device) bool {
	bare := func(s string) string {
		return strings.ToLower(strings.TrimPrefix(strings.ReplaceAll(s, "Controller", ""), "Virtual"))
	}
	return bare(name) == bare(d.Slot)
}

// numbered understands "disk:1" and "VirtualDisk:1": the second disk.
func numbered(name string, d Device, all []Device) bool {
	for i, other := range all {
		if other.Key == d.Key {
			return name == fmt.Sprintf("disk:%d", i) || name == fmt.Sprintf("VirtualDisk:%d", i) || name == fmt.Sprintf("disk-%d", i)
		}
	}
	return false
}
