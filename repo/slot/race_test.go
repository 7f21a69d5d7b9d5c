package slot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/seal"
)

var (
	raceSeeds = flag.Int("race-seeds", 200, "how many random schedules of key changes are tried")
	raceFrom  = flag.Uint64("race-from", 0, "the first of them: a failing seed replays")
)

var errDead = errors.New("process is dead")

// hand is one process that changes keys. Each of its calls to the store waits
// until the schedule lets it go.
type hand struct {
	backend.Backend
	ask  chan string   // it is about to make this call
	go_  chan error    // make it; an error: it died
	done chan struct{} // it has ended
	dead bool
}

func (h *hand) wait(call string) error {
	if h.dead {
		return errDead
	}
	h.ask <- call
	if err := <-h.go_; err != nil {
		h.dead = true
		return err
	}
	return nil
}

func (h *hand) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := h.wait("put " + name); err != nil {
		return err
	}
	return h.Backend.PutIfAbsent(ctx, name, data)
}

func (h *hand) Delete(ctx context.Context, name string) error {
	if err := h.wait("delete " + name); err != nil {
		return err
	}
	return h.Backend.Delete(ctx, name)
}

func (h *hand) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := h.wait("get " + name); err != nil {
		return nil, err
	}
	return h.Backend.Get(ctx, name, offset, length)
}

func (h *hand) Stat(ctx context.Context, name string) (backend.Info, error) {
	if err := h.wait("stat " + name); err != nil {
		return backend.Info{}, err
	}
	return h.Backend.Stat(ctx, name)
}

func (h *hand) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	if err := h.wait("list " + prefix); err != nil {
		return err
	}
	return h.Backend.List(ctx, prefix, fn)
}

// race is one random schedule of several hands.
type race struct {
	t     *testing.T
	be    *mem.Backend
	rand  *mrand.Rand
	keys  map[string]seal.Secret // by slot id: all that were reported as added
	doubt map[string]bool        // whose removal was tried and not reported
	gone  map[string]seal.Secret // whose removal was reported
	epoch uint32                 // the newest that was reported
	log   []string
}

// act does one change with the key of one slot. It runs beside the others, but
// never while another runs between two calls: so it may touch the race.
func (r *race) act(be backend.Backend, with string, what int) {
	ctx := r.t.Context()
	k, err := open(ctx, be, r.keys[with])
	if err != nil {
		r.note("%s: open: %v", with[:4], err)
		return
	}
	switch what {
	case 0:
		done, err := k.Rotate(ctx)
		r.note("%s: rotate: %v", with[:4], err)
		if err == nil {
			r.epoch = max(r.epoch, done.Epoch)
		}
	case 1:
		secret := keyFile(r.t)
		id, err := k.Add(ctx, New{Secret: secret})
		r.note("%s: add %.4s: %v", with[:4], id, err)
		if err == nil || errors.Is(err, ErrUncertain) {
			r.keys[id], r.doubt[id] = secret, err != nil
		}
	case 2:
		victim := r.victim(with)
		r.doubt[victim] = true
		_, err := k.Remove(ctx, victim)
		r.note("%s: remove %s: %v", with[:4], victim[:4], err)
		if err == nil {
			r.gone[victim] = r.keys[victim]
		}
	case 3:
		secret := keyFile(r.t)
		r.doubt[with] = true
		id, err := k.Replace(ctx, New{Secret: secret})
		r.note("%s: replace by %.4s: %v", with[:4], id, err)
		if id != "" {
			r.keys[id], r.doubt[id] = secret, errors.Is(err, ErrUncertain)
		}
		if err == nil {
			r.gone[with] = r.keys[with]
		}
	}
}

func (r *race) victim(with string) string {
	ids := r.ids()
	if len(ids) < 2 || r.rand.IntN(5) == 0 { // none: of all that were reported only one that is being replaced was left
		return with
	}
	return ids[r.rand.IntN(len(ids))]
}

func (r *race) ids() []string {
	var ids []string
	for id := range r.keys {
		if r.gone[id].IsZero() {
			ids = append(ids, id)
		}
	}
	// The order of a map would make a seed play differently each time.
	for i := range ids {
		for j := i + 1; j < len(ids); j++ {
			if ids[j] < ids[i] {
				ids[i], ids[j] = ids[j], ids[i]
			}
		}
	}
	return ids
}

func (r *race) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

// run lets the hands go in random turns until all have ended. Now and then one
// dies in the middle.
func (r *race) run(hands []*hand) {
	asks := map[*hand]string{}
	live := map[*hand]bool{}
	settle := func(h *hand) {
		select {
		case asks[h] = <-h.ask:
		case <-h.done:
			delete(live, h)
			delete(asks, h)
		}
	}
	for _, h := range hands {
		live[h] = true
		settle(h)
	}
	for len(live) > 0 {
		var waiting []*hand
		for _, h := range hands {
			if live[h] {
				waiting = append(waiting, h)
			}
		}
		h := waiting[r.rand.IntN(len(waiting))]
		r.note("%d: %s", indexOf(hands, h), asks[h])
		var fate error
		if r.rand.IntN(150) == 0 {
			fate = errDead
			r.note("%d: dies", indexOf(hands, h))
		}
		for burst := r.rand.IntN(4); burst >= 0 && live[h]; burst-- { // a few calls in a row, so that some get far
			h.go_ <- fate
			settle(h)
			if fate != nil {
				break
			}
		}
	}
}

func indexOf(hands []*hand, h *hand) int {
	for i := range hands {
		if hands[i] == h {
			return i
		}
	}
	return -1
}

// judge holds what is left to what was reported.
func (r *race) judge() {
	ctx := r.t.Context()
	for range 2 { // as it is, and after one more rotation
		var working *Keys
		for id, secret := range r.keys {
			k, err := open(ctx, r.be, secret)
			switch {
			case !r.gone[id].IsZero():
				if !errors.Is(err, seal.ErrWrongKey) {
					r.t.Fatalf("key %s was removed and opens: %v", id[:4], err)
				}
			case r.doubt[id]:
				if err == nil {
					if _, err := k.Rotate(ctx); err == nil {
						working = k
					}
				}
			case err != nil:
				r.t.Fatalf("key %s was added and does not open: %v", id[:4], err)
			case k.Ring.Current() < r.epoch:
				r.t.Fatalf("key %s opens epoch %d of %d", id[:4], k.Ring.Current(), r.epoch)
			default:
				working = k
			}
		}
		if working == nil {
			r.t.Fatal("no key opens")
		}
		done, err := working.Rotate(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, out := range done.LeftOut {
			if _, reported := r.keys[out.ID]; reported && !r.doubt[out.ID] {
				r.t.Fatalf("left out: %+v", out)
			}
		}
		r.epoch = done.Epoch
	}
}

// Three or four hands change the keys in a random order of their calls: no key
// that was reported is ever lost, none that was removed comes back, and at
// least one opens.
func TestKeyChangesAtOnceInAnyOrder(t *testing.T) {
	for i := range *raceSeeds {
		seed := *raceFrom + uint64(i)
		r := &race{t: t, be: mem.New(), rand: luck(seed), keys: map[string]seal.Secret{}, doubt: map[string]bool{}, gone: map[string]seal.Secret{}}
		k := made(t, r.be)
		for range 1 + r.rand.IntN(3) {
			secret := keyFile(t)
			id, err := k.First(t.Context(), New{Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			r.keys[id] = secret
		}
		var hands []*hand
		for range 2 + r.rand.IntN(3) {
			h := &hand{Backend: r.be, ask: make(chan string), go_: make(chan error), done: make(chan struct{})}
			hands = append(hands, h)
			ids := r.ids()
			with, first, second := ids[r.rand.IntN(len(ids))], r.rand.IntN(4), r.rand.IntN(4)
			go func() {
				defer close(h.done)
				if h.wait("begin") != nil {
					return
				}
				r.act(h, with, first)
				if h.wait("go on") == nil && r.gone[with].IsZero() {
					r.act(h, with, second)
				}
			}()
		}
		r.run(hands)
		if !t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) { r.t = t; r.judge() }) {
			t.Fatalf("-race-from %d -race-seeds 1:\n%s", seed, strings.Join(r.log, "\n"))
		}
	}
}
