package applock

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestModesThatGoTogether(t *testing.T) {
	for _, c := range []struct {
		first, second string
		granted       bool
	}{{"exclusive", "exclusive", false}, {"exclusive", "shared", false}, {"shared", "shared", true}, {"shared", "update", true},
		{"update", "update", false}, {"intentexclusive", "intentexclusive", true}, {"intentexclusive", "shared", false}, {"intentshared", "exclusive", false}} {
		l := New()
		if _, err := l.Take(t.Context(), "k", Holder{Session: 1, Mode: c.first}, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Take(t.Context(), "k", Holder{Session: 2, Mode: c.second}, 0); (err == nil) != c.granted || err != nil && !errors.Is(err, ErrTimeout) {
			t.Errorf("%s then %s: %v", c.first, c.second, err)
		}
		if _, err := l.Take(t.Context(), "k", Holder{Session: 1, Mode: "exclusive"}, 0); (err == nil) == c.granted {
			t.Errorf("%s, %s, then exclusive for the first: %v", c.first, c.second, err)
		}
	}
}

func TestWaitingEnds(t *testing.T) {
	l := New()
	take := func(ctx context.Context, limit time.Duration) (bool, error) {
		return l.Take(ctx, "k", Holder{Session: 2, Mode: "exclusive", OfSession: true}, limit)
	}
	if _, err := l.Take(t.Context(), "k", Holder{Session: 1, Mode: "exclusive"}, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := take(t.Context(), time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := take(ctx, -1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := take(t.Context(), -1)
		got <- err
	}()
	l.ReleaseTransaction(1)
	if err := <-got; err != nil {
		t.Error(err)
	}
	l.ReleaseTransaction(2) // the lock is the session's
	if l.Release("k", 2, false) || !l.Release("k", 2, true) || l.Release("k", 2, true) {
		t.Error("released what was not held, or not what was")
	}
}
