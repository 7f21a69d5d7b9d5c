package task

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func TestRetry(t *testing.T) {
	failed := errors.New("failed")
	yes := func(error) bool { return true }
	r := Retry{Tries: 3, First: time.Microsecond}
	for _, c := range []struct {
		name  string
		again func(error) bool
		good  int // the call that succeeds
		want  error
		calls int
	}{
		{"at once", yes, 1, nil, 1},
		{"third", yes, 3, nil, 3},
		{"never", yes, 9, failed, 3},
		{"not to be tried again", func(error) bool { return false }, 2, failed, 1},
	} {
		calls := 0
		err := r.Do(context.Background(), c.again, func(context.Context) error {
			if calls++; calls == c.good {
				return nil
			}
			return failed
		})
		if !errors.Is(err, c.want) || calls != c.calls {
			t.Errorf("%s: %v after %d calls", c.name, err, calls)
		}
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	failed := errors.New("failed")
	err := Retry{First: time.Hour}.Do(ctx, func(error) bool { return true }, func(context.Context) error {
		cancel()
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
}

func TestBusy(t *testing.T) {
	for _, c := range []struct {
		err  error
		busy bool
	}{
		{fmt.Errorf("x: %w", soap.WrapVimFault(&types.TaskInProgress{})), true},
		{soap.WrapVimFault(&types.NoPermission{}), false},
		{errors.New("x"), false},
		{nil, false},
	} {
		if Busy(c.err) != c.busy {
			t.Errorf("%v", c.err)
		}
	}
}
