package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"
)

// week bounds the jumps of clocks.
const week = 7 * 24 * time.Hour

// events lets happen what is no call. If goroutines may have gone on by it, or the
// world has to sleep, it returns true: the world must become quiet again first.
func (w *World) events() (pause time.Duration, ok bool) {
	f := w.opts.Faults
	if w.chance(f.Jump) {
		w.jumpClock()
	}
	if w.chance(f.Rot) {
		w.rot()
	}
	if w.chance(f.Freeze) {
		if c := w.victim(); c != nil {
			w.freeze(c)
		}
	}
	if w.chance(f.Kill) {
		if c := w.victim(); c != nil {
			w.kill(c)
			return 0, true
		}
	}
	if w.opts.Volatile && w.chance(f.Power) {
		w.powerCut()
		return 0, true
	}
	if w.chance(f.Pause) {
		return time.Duration(w.rng.Int64N(int64(2 * time.Hour))), true
	}
	return 0, false
}

func (w *World) freeze(c *Client) {
	w.stats.Freezes++
	c.frozenUntil = w.stats.Steps + 1 + w.rng.IntN(w.opts.Freezes)
	w.trace.event(w.stats.Steps, c.name, fmt.Sprintf("freezes until %d", c.frozenUntil))
}

// victim is some process that lives and may die.
func (w *World) victim() *Client {
	living := slices.DeleteFunc(slices.Clone(w.clients), func(c *Client) bool { return !c.mortal || c.Dead() })
	if len(living) == 0 {
		return nil
	}
	return living[w.rng.IntN(len(living))]
}

func (w *World) jumpClock() {
	by := time.Duration(w.rng.Int64N(int64(2*week))) - week
	w.stats.Jumps++
	if w.rng.IntN(2) == 0 || len(w.clients) == 0 {
		w.jump = by
		w.trace.event(w.stats.Steps, "", fmt.Sprintf("the store's clock is off by %s", by))
		return
	}
	c := w.clients[w.rng.IntN(len(w.clients))]
	c.skew.Store(int64(by))
}

// rot changes one byte of an object that no byte was changed of yet. Every shape
// with parity heals that; which worlds have parity their maker knows.
func (w *World) rot() {
	names := slices.DeleteFunc(w.names(""), func(name string) bool { return w.objects[name].rotten || len(w.objects[name].data) == 0 })
	if len(names) == 0 {
		return
	}
	name := names[w.rng.IntN(len(names))]
	o := w.objects[name]
	o.data, o.rotten = bytes.Clone(o.data), true
	o.data[w.rng.IntN(len(o.data))] ^= byte(1 + w.rng.IntN(255))
	w.objects[name] = o
	w.stats.Rots++
	w.trace.event(w.stats.Steps, "", "a byte rots in "+name)
}

// powerCut kills everybody. Of what was changed and not synced anything may be
// left, half of it too.
func (w *World) powerCut() {
	w.stats.PowerCuts++
	w.trace.event(w.stats.Steps, "", "the power fails")
	for _, name := range slices.Sorted(maps.Keys(w.volatile)) {
		v, now := w.volatile[name], w.objects[name]
		switch fate := w.rng.IntN(4); {
		case fate == 0: // it was written by chance
		case v.was:
			w.objects[name] = v.old
		case fate == 1 && len(now.data) > 0:
			now.data = now.data[:w.rng.IntN(len(now.data))]
			w.objects[name] = now
		default:
			delete(w.objects, name)
		}
	}
	clear(w.volatile)
	for _, c := range w.clients {
		if c.mortal && !c.Dead() {
			w.kill(c)
		}
	}
	w.ghosts = nil // there is no network in between
}
