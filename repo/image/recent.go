package image

import (
	"container/list"
	"sync"
)

// recent keeps the entries that were used last, up to a number of them. It may
// be used from several goroutines; a nil one keeps nothing.
type recent[K comparable, V any] struct {
	limit int

	mu    sync.Mutex
	order list.List // of pair[K, V], the last used in front
	byKey map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, byKey: map[K]*list.Element{}}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	var none V
	if r == nil {
		return none, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byKey[key]
	if !ok {
		return none, false
	}
	r.order.MoveToFront(e)
	return e.Value.(pair[K, V]).value, true
}

func (r *recent[K, V]) put(key K, value V) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.byKey[key]; ok {
		r.order.MoveToFront(e)
		return
	}
	r.byKey[key] = r.order.PushFront(pair[K, V]{key, value})
	if r.order.Len() > r.limit {
		old := r.order.Remove(r.order.Back()).(pair[K, V])
		delete(r.byKey, old.key)
	}
}
