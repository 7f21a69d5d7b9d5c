package revive

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/vmware/guest"
)

func TestWaitingEndsWithAnAnswerOrALimit(t *testing.T) {
	broken, stopped := errors.New("broken"), errors.New("stopped")
	for _, c := range []struct {
		what   string
		yes    int   // which question is answered with yes
		err    error // which comes with the third question
		stop   time.Duration
		want   error
		waited time.Duration
	}{
		{"at once", 1, nil, 0, nil, 0},
		{"the fourth time", 4, nil, 0, nil, 3 * usualPause},
		{"never", 0, nil, 0, errLimit, usualLimit},
		{"an error", 0, broken, 0, broken, 2 * usualPause},
		{"interrupted", 0, nil, 12 * time.Second, stopped, 12 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if c.stop > 0 {
				time.AfterFunc(c.stop, func() { cancel(stopped) })
			}
			began, asked := time.Now(), 0
			err := (waiting{}).until(ctx, func(context.Context) (bool, error) {
				if asked++; asked == 3 && c.err != nil {
					return false, c.err
				}
				return asked == c.yes, nil
			})
			if waited := time.Since(began); !errors.Is(err, c.want) || waited != c.waited {
				t.Errorf("%s: %v after %s, want %v after %s", c.what, err, waited, c.want, c.waited)
			}
		})
	}
}

func TestOnlyWhatComesByItselfIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("enter: %w", guest.ErrTools), true},
		{fmt.Errorf("enter: %w: %w", guest.ErrOff, guest.ErrTools), false},
		{fmt.Errorf("enter: %w", guest.ErrLogin), false},
		{fmt.Errorf("%w: log in to SQL Server on this machine: connection refused", inject.ErrAgent), true},
		{fmt.Errorf("%w: log in to SQL Server on this machine: Login failed for user 'sa'. (SQL Server error 18456)", inject.ErrAgent), false},
		{fmt.Errorf("%w: Login failed for user 'sa'. Reason: Server is in script upgrade mode. (SQL Server error 18401)", inject.ErrAgent), true},
		{fmt.Errorf("%w: %w", inject.ErrAgent, inject.ErrNoServer), false},
		{fmt.Errorf("dial: %w", inject.ErrPort), true},
		{fmt.Errorf("dial: %w", guest.ErrAddress), true},
		{inject.ErrRights, false},
	} {
		if got := comes(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}
