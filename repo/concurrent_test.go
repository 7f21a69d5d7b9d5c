package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
)

// TestManySessionsAtOnce: different sources through one Repository, and through
// several over one store, in memory and in a directory, with half of the
// content in common, while others list and read.
func TestManySessionsAtOnce(t *testing.T) {
	for _, where := range []string{"mem", "local"} {
		t.Run(where, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			var be backend.Backend = mem.Open(mem.Options{Strict: true})
			if where == "local" {
				var err error
				if be, err = local.Create(t.Context(), t.TempDir(), local.Options{}); err != nil {
					t.Fatal(err)
				}
				defer be.Close()
			}
			secret := keyFile(t)
			shared := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
			var mu sync.Mutex
			done := map[string][]byte{}
			group, ctx := errgroup.WithContext(t.Context())
			common := noise(99, 6*testChunk)
			for i := range 8 {
				r := shared
				if i%2 == 1 {
					r = openAt(t, be, secret)
				}
				group.Go(func() error {
					for day := range 3 {
						data := append(bytes.Clone(common), noise(uint64(10*i+day), 3*testChunk)...)
						p, err := tryPoint(ctx, r, fmt.Sprintf("image/%d", i), data)
						if err != nil {
							return err
						}
						mu.Lock()
						done[p.ID] = data
						mu.Unlock()
						if err := browse(ctx, r, p.ID); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			r := openAt(t, be, secret)
			points, problems, err := r.Points(t.Context())
			if err != nil || len(problems) > 0 || len(points) != len(done) {
				t.Fatalf("%d points of %d: %v %v", len(points), len(done), problems, err)
			}
			for _, p := range points {
				wantContent(t, r, p.Point, done[p.ID])
			}
			wantVerdict(t, check(t, r), nil)
			wantVerdict(t, scrub(t, be, false), nil)
		})
	}
}

// browse finds and reads a point while others write.
func browse(ctx context.Context, r *repo.Repository, id string) error {
	e, err := r.Find(ctx, id[:8])
	if err != nil {
		return err
	}
	if e.ID != id {
		return fmt.Errorf("found %s, not %s", e.ID, id)
	}
	_, err = read(ctx, r, e.Point)
	return err
}

// TestFailedSessionBesideAGoodOne: two sources with the same content; one fails
// in the middle, after its packs went out. The other's point does not lean on
// packs that nobody published.
func TestFailedSessionBesideAGoodOne(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	r := initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	data := noise(7, 8*testChunk)
	broken := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: "index/", Err: backend.ErrNoSpace}}})
	bad := openAt(t, broken, secret)
	failing, err := bad.Begin(t.Context(), "image/bad", "bad")
	if err != nil {
		t.Fatal(err)
	}
	good, err := r.Begin(t.Context(), "image/good", "good")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), bad, failing, fixtureClock, "image/bad", data); err != nil {
		t.Fatal(err)
	}
	if err := failing.Flush(t.Context()); !errors.Is(err, backend.ErrNoSpace) {
		t.Fatalf("a full store: %v", err)
	}
	orphans := append(names(t, store, "data/"), names(t, store, "meta/")...)
	if len(orphans) != 2 {
		t.Fatalf("the failed session left %v", orphans)
	}
	p, err := put(t.Context(), r, good, fixtureClock, "image/good", data)
	if err != nil {
		t.Fatal(err)
	}
	failing.Abort()
	if err := good.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, name := range orphans { // as a prune will
		damage(t, store, name, remove)
	}
	fresh := openAt(t, store, secret)
	wantContent(t, fresh, p, data)
	wantVerdict(t, check(t, fresh), nil)
}

// TestPutFromManyGoroutinesStoresOnce: equal chunks put at the same moment.
func TestPutFromManyGoroutinesStoresOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r, be, secret := newRepo(t)
	s, err := r.Begin(t.Context(), "image/a", "a")
	if err != nil {
		t.Fatal(err)
	}
	data := noise(3, 10*testChunk)
	points := make([]*recovery.Point, 6)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range points {
		group.Go(func() (err error) {
			points[i], err = put(ctx, r, s, fixtureClock, "image/a", data)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), points[5]); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().ChunksNew; got != 10+1 { // of the disk and of the stream; nodes are not counted
		t.Errorf("%d chunks were stored", got)
	}
	wantContent(t, openAt(t, be, secret), points[5], data)
}

// TestCancelledSessionLeavesNoGoroutine and stores no point.
func TestCancelledSessionLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r, _, _ := newRepo(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := r.Begin(ctx, "image/a", "a")
	if err != nil {
		t.Fatal(err)
	}
	p, err := put(ctx, r, s, fixtureClock, "image/a", noise(1, 3*testChunk))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Commit(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("commit after the interrupt: %v", err)
	}
	s.Abort()
	for what, call := range map[string]func() error{
		"points": func() error { _, _, err := r.Points(ctx); return err },
		"check":  func() error { _, err := r.Check(ctx, repo.CheckOptions{ReadData: true}); return err },
		"repair": func() error { _, err := r.RepairIndex(ctx, nil); return err },
		"begin":  func() error { _, err := r.Begin(ctx, "x", "x"); return err },
		"stats":  func() error { _, err := r.Stats(ctx); return err },
		"keys":   func() error { _, err := r.Keys(ctx); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after the interrupt: %v", what, err)
		}
	}
	if points, _, err := r.Points(t.Context()); err != nil || len(points) != 0 {
		t.Errorf("points: %v %v", points, err)
	}
}
