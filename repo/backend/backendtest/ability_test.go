package backendtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/limit"
	"holdfast/repo/backend/mem"
	"holdfast/repo/backend/retry"
)

// bucket is a store with versions and retention that fails twice before it answers.
type bucket struct {
	backend.Backend
	failures int
}

func (b *bucket) falter() error {
	if b.failures++; b.failures%3 != 0 {
		return backend.ErrUnreachable
	}
	return nil
}

func (b *bucket) Versions(context.Context, string) ([]backend.Version, error) {
	return []backend.Version{{ID: "1"}}, b.falter()
}

func (b *bucket) GetVersion(_ context.Context, _, id string) ([]byte, error) {
	return []byte(id), b.falter()
}

func (b *bucket) ExtendRetention(context.Context, string, time.Time) error { return b.falter() }

func quick(be backend.Backend) backend.Backend {
	return retry.New(be, retry.Options{Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
}

// TestAbilitiesAreFoundThroughWrappersAndStayRetried: whatever the order of
// decorators.
func TestAbilitiesAreFoundThroughWrappersAndStayRetried(t *testing.T) {
	plain := func() backend.Backend { return &bucket{Backend: mem.New()} }
	for name, be := range map[string]backend.Backend{
		"limit(retry)":        limit.New(quick(plain()), 0, 1<<40),
		"retry(limit)":        quick(limit.New(plain(), 0, 1<<40)),
		"fault(limit(retry))": fault.New(limit.New(quick(plain()), 0, 0), fault.Options{}),
		"retry(fault)":        quick(fault.New(plain(), fault.Options{})),
	} {
		v, ok1 := backend.As[backend.Versioned](be)
		r, ok2 := backend.As[backend.Retainer](be)
		if !ok1 || !ok2 {
			t.Errorf("%s: hidden: %v %v", name, ok1, ok2)
			continue
		}
		all, verr := v.Versions(t.Context(), "a")
		data, gerr := v.GetVersion(t.Context(), "a", "7")
		if err := errors.Join(verr, gerr, r.ExtendRetention(t.Context(), "a", time.Time{})); err != nil || len(all) != 1 || string(data) != "7" {
			t.Errorf("%s: %v, %q, %v", name, all, data, err)
		}
		if _, has := backend.As[backend.WriterLocker](be); has {
			t.Errorf("%s: a lock that nobody has", name)
		}
	}
}

// TestAbilitiesThatAreNotThere: decorators promise nothing of their own.
func TestAbilitiesThatAreNotThere(t *testing.T) {
	be := fault.New(limit.New(quick(mem.New()), 0, 0), fault.Options{})
	if _, ok := backend.As[backend.Versioned](be); ok {
		t.Error("versions of a map")
	}
	if _, ok := backend.As[backend.Retainer](be); ok {
		t.Error("retention of a map")
	}
	if _, ok := backend.As[backend.Reserver](be); !ok {
		t.Error("the map's reserve is hidden")
	}
	if _, ok := backend.As[backend.Reserver](nil); ok {
		t.Error("a reserve of nothing")
	}
}

// TestRetriedAbilityGivesUp: after as many attempts as any call, with no answer.
func TestRetriedAbilityGivesUp(t *testing.T) {
	broken := fault.New(&bucket{Backend: mem.New()}, fault.Options{Rules: []fault.Rule{{Err: backend.ErrUnreachable}}})
	be := quick(broken)
	v, _ := backend.As[backend.Versioned](be)
	all, verr := v.Versions(t.Context(), "a")
	data, gerr := v.GetVersion(t.Context(), "a", "7")
	if !errors.Is(verr, backend.ErrUnreachable) || !errors.Is(gerr, backend.ErrUnreachable) || all != nil || data != nil {
		t.Errorf("%v %v, %q %v", all, verr, data, gerr)
	}
}
