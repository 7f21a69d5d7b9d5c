package limit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
	"holdfast/repo/backend/mem"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return New(mem.New(), 0, 0) })
}

func TestConformanceWithARate(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return New(mem.New(), 1<<36, 1<<36) })
}

// took runs do on a clock that moves only by waiting, and tells how long it took.
func took(do func()) time.Duration {
	begin := time.Now()
	do()
	return time.Since(begin)
}

func TestUploadsKeepTheRateWhoeverCalls(t *testing.T) {
	for _, callers := range []int{1, 5, 50} {
		t.Run(fmt.Sprint(callers, " callers"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(mem.New(), 1000, 0)
				d := took(func() {
					var wg sync.WaitGroup
					for c := range callers {
						wg.Go(func() {
							for i := range 100 / callers {
								err := b.Put(t.Context(), fmt.Sprintf("data/%d/%d", c, i), make([]byte, 500))
								if err == nil && i == 0 {
									err = b.PutIfAbsent(t.Context(), fmt.Sprintf("commit/%d", c), make([]byte, 500))
								}
								if err != nil {
									t.Error(err)
								}
							}
						})
					}
					wg.Wait()
				})
				if want := time.Duration(100+callers) * 500 * time.Millisecond; d != want {
					t.Errorf("took %v, want %v", d, want)
				}
			})
		})
	}
}

func TestDownloadsKeepTheRateAndUploadsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New(), 0, 2000)
		d := took(func() {
			if err := b.Put(t.Context(), "x", make([]byte, 10_000)); err != nil {
				t.Error(err)
			}
		})
		if d != 0 {
			t.Errorf("upload took %v", d)
		}
		d = took(func() {
			for _, length := range []int64{-1, 4000, 0} {
				if _, err := b.Get(t.Context(), "x", 0, length); err != nil {
					t.Error(err)
				}
			}
		})
		if d != 7*time.Second {
			t.Errorf("downloads took %v", d)
		}
	})
}

func TestIdleTimeIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New(), 1000, 0)
		time.Sleep(time.Hour) // the bubble's clock, not ours
		d := took(func() {
			for i := range 3 {
				if err := b.Put(t.Context(), fmt.Sprint(i), make([]byte, 1000)); err != nil {
					t.Error(err)
				}
			}
		})
		if d != 3*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestContextEndsTheWaitBeforeAnythingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		b := New(inner, 1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d := took(func() {
			if err := b.Put(ctx, "x", make([]byte, 3600)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("put: %v", err)
			}
		})
		if _, err := inner.Stat(t.Context(), "x"); d != time.Minute || !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

// TestUploadThatWasGivenUpHoldsNobodyUp: an interrupted run still has something
// small to write.
func TestUploadThatWasGivenUpHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New(), 1000, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := b.Put(ctx, "big", make([]byte, 3600_000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put: %v", err)
		}
		d := took(func() {
			if err := b.Put(t.Context(), "small", make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		})
		if d != time.Second {
			t.Errorf("a small object waited for one that never came: %v", d)
		}
	})
}
