// Package applock is the application locks of SQL Server (sp_getapplock): names that
// sessions or transactions hold in modes that go together or do not.
package applock

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// ErrTimeout: somebody else held the lock as long as the caller was ready to wait.
var ErrTimeout = errors.New("lock request timed out")

// Locks are the application locks of sp_getapplock.
type Locks struct {
	mu      sync.Mutex
	held    map[string][]Holder
	changed chan struct{} // closed, and made anew, when something is let go
}

// Holder is one grant.
type Holder struct {
	Session   int64
	Mode      string
	OfSession bool // not the transaction's
}

// New makes locks of which none is held.
func New() *Locks { return &Locks{held: map[string][]Holder{}, changed: make(chan struct{})} }

// compatible tells whether two modes may be held by two sessions at once.
func compatible(a, b string) bool {
	table := map[string]string{
		"intentshared": "intentshared shared intentexclusive update", "shared": "intentshared shared update",
		"update": "intentshared shared", "intentexclusive": "intentshared intentexclusive",
	}
	for _, m := range strings.Fields(table[a]) {
		if m == b {
			return true
		}
	}
	return false
}

// try grants the lock if nobody stands in the way.
func (l *Locks) try(key string, h Holder) (ok bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.held[key] {
		if other.Session != h.Session && !compatible(other.Mode, h.Mode) {
			return false, l.changed
		}
	}
	l.held[key] = append(l.held[key], h)
	return true, nil
}

// release lets go of the grants that match and says whether there were any. one stops
// after the first.
func (l *Locks) release(match func(key string, h Holder) bool, one bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := false
	for key, holders := range l.held {
		var rest []Holder
		for _, h := range holders {
			if match(key, h) && !(one && found) {
				found = true
				continue
			}
			rest = append(rest, h)
		}
		if l.held[key] = rest; len(rest) == 0 {
			delete(l.held, key)
		}
	}
	if found {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	return found
}

// ReleaseAll lets go of everything that a session holds.
func (l *Locks) ReleaseAll(session int64) {
	l.release(func(_ string, h Holder) bool { return h.Session == session }, false)
}

// ReleaseTransaction lets go of what belongs to a session's transaction.
func (l *Locks) ReleaseTransaction(session int64) {
	l.release(func(_ string, h Holder) bool { return h.Session == session && !h.OfSession }, false)
}

// Take waits until the lock is granted, limit has passed (ErrTimeout) or ctx ends. A limit of
// 0 does not wait at all, a negative one waits for ever. waited tells whether it had to.
func (l *Locks) Take(ctx context.Context, key string, h Holder, limit time.Duration) (waited bool, err error) {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	for ; ; waited = true {
		ok, changed := l.try(key, h)
		if ok {
			return waited, nil
		}
		if limit == 0 {
			return false, ErrTimeout
		}
		select {
		case <-changed:
		case <-over:
			return true, ErrTimeout
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// Release lets go of one grant; false if there is none.
func (l *Locks) Release(key string, session int64, ofSession bool) bool {
	return l.release(func(k string, h Holder) bool { return k == key && h.Session == session && h.OfSession == ofSession }, true)
}
