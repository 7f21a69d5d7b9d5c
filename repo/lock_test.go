package repo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/slot"
)

// vault is a place that locks objects, with a clock of its own.
type vault struct {
	*mem.Backend

	mu     sync.Mutex
	now    time.Time
	mode   string
	days   int
	until  map[string]time.Time
	denied error // what a Delete answers in place of being done
}

func newVault() *vault {
	return &vault{Backend: mem.New(), now: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), until: map[string]time.Time{}}
}

func (v *vault) Unwrap() backend.Backend { return v.Backend }

func (v *vault) Lockable(context.Context) error { return nil }

func (v *vault) LockObjects(mode string, days int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mode, v.days = mode, days
	return nil
}

func (v *vault) end() time.Time { return v.now.AddDate(0, 0, v.days) }

func (v *vault) LockEnd() (time.Time, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.end(), nil
}

func (v *vault) ExtendRetention(_ context.Context, name string, until time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.until[name]; !there {
		return fmt.Errorf("extend %s: %w", name, backend.ErrNotFound)
	}
	if until.After(v.until[name]) {
		v.until[name] = until
	}
	return nil
}

func (v *vault) note(name string, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.until[name] = v.end()
	}
	return err
}

func (v *vault) Put(ctx context.Context, name string, data []byte) error {
	return v.note(name, v.Backend.Put(ctx, name, data))
}

func (v *vault) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return v.note(name, v.Backend.PutIfAbsent(ctx, name, data))
}

func (v *vault) Delete(ctx context.Context, name string) error {
	v.mu.Lock()
	until, denied := v.until[name], v.denied
	locked := until.After(v.now)
	v.mu.Unlock()
	switch {
	case denied != nil:
		return fmt.Errorf("delete %s: %w", name, denied)
	case locked:
		return fmt.Errorf("delete %s: locked until %v: %w", name, until, backend.ErrRefused)
	}
	return v.Backend.Delete(ctx, name)
}

// pass lets days go by, and returns what is no longer locked then.
func (v *vault) pass(days int) (free []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = v.now.AddDate(0, 0, days)
	for _, name := range slices.Sorted(maps.Keys(v.until)) {
		if !v.until[name].After(v.now) {
			free = append(free, name)
		}
	}
	return free
}

// TestLocksOfTheConfigBindWhoeverOpensTheRepository: days are kept, each object is
// locked, and prune counts what it cannot delete once, prolongs what is needed and
// leaves the rest to its end.
func TestLocksOfTheConfigBindWhoeverOpensTheRepository(t *testing.T) {
	v, secret := newVault(), keyFile(t)
	initAt(t, v, repo.InitParams{Lock: &repo.ObjectLock{Mode: "compliance", Days: 10}, Keys: []repo.NewKey{{Secret: secret}}}, options())
	v.mode, v.days = "", 0 // another process
	r := openAt(t, v, secret)
	if lock := r.Config().Lock; lock == nil || *lock != (ledger.ObjectLock{Mode: "compliance", Days: 10}) || v.mode != "compliance" || v.days != 10 {
		t.Fatalf("config says %+v, the place was told %q %d", lock, v.mode, v.days)
	}
	spare, err := r.AddKey(t.Context(), repo.NewKey{Secret: keyFile(t)})
	if err == nil {
		_, err = r.RemoveKey(t.Context(), spare)
	}
	if !errors.Is(err, slot.ErrHeld) { // it goes when its lock has ended
		t.Errorf("remove a locked key: %v", err)
	}
	data := noise(2, 20*testChunk)
	a, b := makePoint(t, r, "image/a", noise(1, 20*testChunk)), makePoint(t, r, "image/b", data)
	forget(t, r, a.ID)
	if free := v.pass(4); len(free) > 0 {
		t.Errorf("never locked: %v", free)
	}
	rep := prune(t, r, repo.PruneOptions{})
	if rep.PacksRemoved != 0 || rep.ObjectsRemoved != 0 || rep.Locked == 0 || rep.Prolonged == 0 {
		t.Errorf("%+v", rep)
	}
	if again := prune(t, r, repo.PruneOptions{}); again.Locked < rep.Locked || again.Locked > len(names(t, v, "")) {
		t.Errorf("%d objects are locked, then %d, of %d", rep.Locked, again.Locked, len(names(t, v, "")))
	}
	free := v.pass(7)
	if !slices.Contains(free, ledger.Keys+spare) {
		t.Error("the key that is being removed was locked anew")
	}
	for _, name := range free { // ten days and one after they were written, seven after the prune
		if name == ledger.ConfigObject || strings.HasPrefix(name, ledger.Keys) && name != ledger.Keys+spare || strings.Contains(name, b.SID) && !strings.HasPrefix(name, ledger.Sessions) && !strings.HasPrefix(name, ledger.Indexes) {
			t.Errorf("%s is needed, and its lock has ended", name)
		}
	}
	if rep := prune(t, r, repo.PruneOptions{}); rep.PacksRemoved != 2 {
		t.Errorf("after the locks have ended: %+v", rep)
	}
	wantContent(t, openAt(t, v, secret), b, data)
	v.pass(100)
	wantTidy(t, r, v)
}

// TestLoginThatMayNotDeleteIsNoLock: it is an error, not something to wait for.
func TestLoginThatMayNotDeleteIsNoLock(t *testing.T) {
	v, secret := newVault(), keyFile(t)
	r := initAt(t, v, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	a := makePoint(t, r, "image/a", noise(1, 20*testChunk))
	makePoint(t, r, "image/b", noise(2, 20*testChunk))
	forget(t, r, a.ID)
	v.denied = fmt.Errorf("%w: access denied: %w", backend.ErrUnreachable, backend.ErrRefused)
	if rep, err := r.Prune(t.Context(), repo.PruneOptions{}); !errors.Is(err, backend.ErrUnreachable) || rep.Locked != 0 {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestLockWhereThereIsNone: init makes nothing; a copy at a place without locks
// opens all the same.
func TestLockWhereThereIsNone(t *testing.T) {
	be, secret := mem.New(), keyFile(t)
	params := repo.InitParams{DiskChunkBytes: testChunk, Lock: &repo.ObjectLock{Mode: "governance", Days: 1}, Keys: []repo.NewKey{{Secret: secret}}}
	if _, err := repo.Init(t.Context(), be, params, options()); !errors.Is(err, repo.ErrNoLock) || len(names(t, be, "")) > 0 {
		t.Errorf("init: %v, left %v", err, names(t, be, ""))
	}
	v := newVault()
	initAt(t, v, params, options())
	r := openAt(t, v.Backend, secret)
	makePoint(t, r, "image/a", noise(1, testChunk))
	prune(t, r, repo.PruneOptions{})
}

// stopper refuses the slot of a point.
type stopper struct{ *mem.Backend }

func (s stopper) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, ledger.Commits) {
		return errors.New("the process stops here")
	}
	return s.Backend.PutIfAbsent(ctx, name, data)
}

// TestCopyOfAPinnedPointIsNeverSeenUnpinned: its label is there before the point
// is, and goes with a session that makes none.
func TestCopyOfAPinnedPointIsNeverSeenUnpinned(t *testing.T) {
	from, _, _ := newRepo(t)
	a := makePoint(t, from, "image/a", noise(1, 3*testChunk))
	e, err := from.Find(t.Context(), a.ID)
	if err == nil {
		err = from.SetLabel(t.Context(), e, func(l *ledger.Label) { l.Pinned = true })
	}
	if err == nil {
		e, err = from.Find(t.Context(), a.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, be, secret := newRepo(t)
	if _, err := openAt(t, stopper{be}, secret).CopierFrom(from, nil).Copy(t.Context(), e); err == nil {
		t.Fatal("no error")
	}
	if labels := names(t, be, ledger.Labels); len(labels) != 1 {
		t.Errorf("labels before the point: %v", labels)
	}
	to := openAt(t, be, secret)
	p, err := to.CopierFrom(from, nil).Copy(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := to.Find(t.Context(), p.ID); err != nil || !found.Pinned {
		t.Errorf("%+v %v", found, err)
	}
}
