package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestLifetimeCountsWithoutASessionAlone: a backup that takes days is not cut; an agent
// that nobody needs ends.
func TestLifetimeCountsWithoutASessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		s := &service{opt: ServiceOptions{IdleTimeout: 48 * time.Hour, Lifetime: 24 * time.Hour}, log: slog.New(slog.DiscardHandler), stop: stop}
		defer s.wind()()
		n := newSession(ctx, s, "id")
		if !s.enter(n) {
			t.Fatal("no session")
		}
		time.Sleep(240 * time.Hour) // by the bubble's clock
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatalf("the session was ended: %v", context.Cause(ctx))
		}
		s.leave(n)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), ErrLifetime) {
			t.Errorf("without a session: %v", context.Cause(ctx))
		}
	})
}
