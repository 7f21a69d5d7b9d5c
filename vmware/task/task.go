// Package task waits for vSphere tasks and tries again what a busy server
// refuses.
//
// A task outlives the call that started it, and even the session: whoever
// starts one must learn how it ended before he may say that nothing of his is
// left behind. Wait therefore asks for the task's state by reading it, not
// through a filter of the property collector, which dies with its session.
package task

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	firstPoll = 20 * time.Millisecond
	slowPoll  = time.Second
)

// Wait returns the task's result when it has ended. A fault comes back as an
// error that fault.Is and fault.As understand. When ctx ends the task goes on.
func Wait(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (types.AnyType, error) {
	for pause := firstPoll; ; pause = min(2*pause, slowPoll) {
		var t mo.Task
		if err := property.DefaultCollector(c).RetrieveOne(ctx, ref, []string{"info"}, &t); err != nil {
			return nil, fmt.Errorf("read task %s: %w", ref.Value, err)
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return t.Info.Result, nil
		case types.TaskInfoStateError:
			return nil, Fault(t.Info.Error)
		}
		if err := Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// Retry bounds how often and how patiently something is tried again. The zero
// value means 8 tries, pauses from 1 s up to 30 s.
type Retry struct {
	Tries        int
	First, Limit time.Duration
}

// Do calls fn until it succeeds, fails with an error that again denies, the
// tries are used up, or ctx ends. The last error is returned.
func (r Retry) Do(ctx context.Context, again func(error) bool, fn func(context.Context) error) error {
	tries, pause, limit := r.Tries, r.First, r.Limit
	if tries <= 0 {
		tries = 8
	}
	if pause <= 0 {
		pause = time.Second
	}
	if limit <= 0 {
		limit = 30 * time.Second
	}
	for {
		err := fn(ctx)
		tries--
		if err == nil || tries <= 0 || ctx.Err() != nil || !again(err) {
			return err
		}
		// Half of the pause is chance, so that runs that met once do not meet again.
		if Sleep(ctx, pause/2+rand.N(pause/2+1)) != nil {
			return err
		}
		pause = min(2*pause, limit)
	}
}

// Busy reports whether err says that the server is at something else right now
// and may agree later.
func Busy(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	for _, f := range []types.BaseMethodFault{
		&types.TaskInProgress{}, &types.ConcurrentAccess{}, &types.FileLocked{}, &types.ResourceInUse{}, &types.HostCommunication{},
	} {
		if fault.Is(err, f) {
			return true
		}
	}
	return false
}

// Sleep waits for d or the end of ctx, whose cause it returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
