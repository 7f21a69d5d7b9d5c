package revive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/vmware"
	"holdfast/vmware/guest"
)

// errLimit: what was waited for did not come in time.
var errLimit = errors.New("the limit of waiting is reached")

// waiting is how patient a run is with a machine that starts. The zero value is what
// operators get.
type waiting struct{ limit, every time.Duration }

const (
	usualLimit = 15 * time.Minute // Windows installs its updates now
	usualPause = 5 * time.Second
)

func (w waiting) patience() time.Duration { return cmp.Or(w.limit, usualLimit) }

// until asks again and again until the answer is yes. Errors: errLimit, ctx's, and
// whatever the question ends with.
func (w waiting) until(ctx context.Context, is func(ctx context.Context) (bool, error)) error {
	end := time.NewTimer(w.patience())
	defer end.Stop()
	tick := time.NewTicker(cmp.Or(w.every, usualPause))
	defer tick.Stop()
	for {
		if yes, err := is(ctx); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return errLimit
		case <-tick.C:
		}
	}
}

// enter waits until VMware Tools run, and then goes in until nothing is left to be done
// or waiting helps no more: a machine that has just started has SQL Servers that do not
// answer yet.
func (j *Job) enter(ctx context.Context, w waiting, s *vmware.Session, vm vmware.VM, in func(ctx context.Context) error) error {
	j.app.UI().Note("waiting for VMware Tools in %s, %s at most", vm.Name, w.patience())
	err := w.until(ctx, func(ctx context.Context) (bool, error) {
		state, err := guest.Look(ctx, s.Client(), vm.Ref)
		if err != nil {
			return false, err
		}
		if !state.On {
			return false, fmt.Errorf("%s: %w", vm.Name, guest.ErrOff)
		}
		return state.Ready, nil
	})
	if errors.Is(err, errLimit) {
		return fmt.Errorf("wait for %s: %w: %w after %s", vm.Name, guest.ErrTools, err, w.patience())
	}
	if err != nil {
		return err
	}
	var last error
	told := false
	err = w.until(ctx, func(ctx context.Context) (bool, error) {
		last = in(ctx)
		if j.open() == 0 || last == nil || !comes(last) {
			return true, nil
		}
		if !told {
			told = true
			j.app.UI().Note("waiting for network and SQL Server in %s, %s at most: %v", vm.Name, w.patience(), last)
		}
		return false, nil
	})
	if err != nil && !errors.Is(err, errLimit) {
		return errors.Join(err, last)
	}
	return last
}

// comes tells whether an error may go by itself while a machine starts: Tools that are
// started anew, a network or a SQL Server that is not up yet. A login that was refused
// does not.
func comes(err error) bool {
	if errors.Is(err, guest.ErrTools) && !errors.Is(err, guest.ErrOff) || errors.Is(err, guest.ErrAddress) || errors.Is(err, inject.ErrPort) {
		return true
	}
	refused := strings.Contains(err.Error(), "error 18456)") // the agent's words are all that crosses
	return errors.Is(err, inject.ErrAgent) && !errors.Is(err, inject.ErrNoServer) && !refused
}
