package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/repo/backend"
)

// ErrStuck: a run took more steps than Options.MaxSteps.
var ErrStuck = errors.New("the simulation does not come to an end")

// Run makes the calls of all clients until every goroutine begun with Go has
// returned. On ErrStuck everybody is killed, and Run returns when they are gone.
func (w *World) Run() error {
	for {
		w.opts.Quiet()
		w.mu.Lock()
		w.dropGone()
		if w.running == 0 {
			w.mu.Unlock()
			return w.stuck
		}
		pause, ok := w.step()
		w.mu.Unlock()
		if !ok {
			w.wait()
		}
		time.Sleep(pause)
	}
}

// step picks one call and makes it. It says for how long the world then sleeps;
// false if there was nothing to do. What it calls needs mu, which it holds: the
// goroutines that an answer wakes find the world as the step leaves it.
func (w *World) step() (pause time.Duration, ok bool) {
	if w.stats.Steps++; w.stats.Steps > w.opts.MaxSteps && w.stuck == nil {
		w.stuck = fmt.Errorf("after %d calls: %w", w.opts.MaxSteps, ErrStuck)
		for _, c := range w.clients {
			w.kill(c)
		}
		return 0, true
	}
	if pause, ok := w.events(); ok {
		return pause, true
	}
	if w.haunt() {
		return 0, true
	}
	c := w.pick()
	if c == nil {
		return 0, false
	}
	w.last = c.client
	switch {
	case c.done:
		w.reply(c, "answered")
	case c.op == opPutIfAbsent && !c.slept && c.client.mortal && w.chance(w.opts.Faults.Stall):
		c.slept = true // what was read before is old when this is decided
		w.freeze(c.client)
	default:
		w.make(c)
	}
	return time.Duration(1+w.rng.IntN(50)) * time.Millisecond, true
}

// thawAfter is how long nobody may have called before a frozen client goes on.
const thawAfter = time.Hour

// wait lets time pass until somebody calls. If nobody does for long, and those
// that wait are frozen, one of them goes on.
func (w *World) wait() {
	w.mu.Lock()
	idle := len(w.pending) == 0
	w.mu.Unlock()
	if idle {
		<-w.arrived
		return
	}
	timer := time.NewTimer(thawAfter)
	defer timer.Stop()
	select {
	case <-w.arrived:
		return
	case <-timer.C:
	}
	w.opts.Quiet() // others may have woken at the same moment
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropGone()
	if len(w.pending) > 0 {
		c := w.pending[0].client
		c.frozenUntil = 0
		w.trace.event(w.stats.Steps, c.name, "thaws")
	}
}

// dropGone takes out calls that nobody waits for: a request whose client hung up
// may still be done. The others it brings into an order that does not depend on
// the order in which they came.
func (w *World) dropGone() {
	slices.SortStableFunc(w.pending, (*call).compare)
	w.pending = slices.DeleteFunc(w.pending, func(c *call) bool {
		if !c.gone {
			return false
		}
		if !c.done {
			w.later(c, 500)
		}
		return true
	})
}

// later makes a ghost of a call that changes something, with a chance in a
// thousand.
func (w *World) later(c *call, perMille int) {
	if !c.op.changes() || !w.chance(perMille) {
		return
	}
	copied := &call{client: c.client, op: c.op, name: c.name, data: bytes.Clone(c.data)}
	steps := []int{5, 50, 300, 2000}[w.rng.IntN(4)]
	w.ghosts = append(w.ghosts, ghost{copied, w.stats.Steps + 1 + w.rng.IntN(steps)})
	w.stats.Late++
}

// haunt lets a late request take effect whose time has come.
func (w *World) haunt() bool {
	for i, g := range w.ghosts {
		if g.due <= w.stats.Steps {
			w.ghosts = slices.Delete(w.ghosts, i, i+1)
			w.effect(g.call)
			w.trace.add(w.stats.Steps, g.call, "late")
			return true
		}
	}
	return false
}

// pick chooses the call that is made now.
func (w *World) pick() *call {
	var ready []*call
	for _, c := range w.pending {
		if c.client.frozenUntil <= w.stats.Steps && !w.excluded(c) {
			c.client.frozenUntil = 0
			ready = append(ready, c)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	if w.last != nil && w.chance(w.opts.Sticky) {
		same := slices.DeleteFunc(slices.Clone(ready), func(c *call) bool { return c.client != w.last })
		if len(same) > 0 {
			ready = same
		}
	}
	return ready[w.rng.IntN(len(ready))]
}

// exclusive are calls that the engine makes while it holds a mutex: until they
// are answered no other call of that client is, so that no goroutine comes to
// wait for that mutex.
const exclusive = "index/"

func (w *World) excluded(c *call) bool {
	holds := func(k *call) bool { return k.op == opGet && strings.HasPrefix(k.name, exclusive) }
	if holds(c) {
		return false
	}
	return slices.ContainsFunc(w.pending, func(k *call) bool { return k.client == c.client && holds(k) })
}

// alone reports whether the client of a call has no other under way.
func (w *World) alone(c *call) bool {
	return !slices.ContainsFunc(w.pending, func(k *call) bool { return k.client == c.client && k != c })
}

// make lets a call take effect, or not, and answers it, now or later.
func (w *World) make(c *call) {
	f := &w.opts.Faults
	fail := func(base error) error {
		w.stats.Faulted++
		return fmt.Errorf("%s %s: %w: %w", opNames[c.op], c.name, ErrInjected, base)
	}
	switch {
	case w.chance(f.Error):
		c.result.err = fail(backend.ErrUnreachable)
	case w.chance(f.Busy):
		c.result.err = fail(backend.ErrBusy)
	case c.op.changes() && w.chance(f.Late):
		w.later(c, 700)
		c.note += " not yet"
		c.result.err = fail(backend.ErrUnreachable)
	case w.chance(f.Lost):
		w.effect(c)
		c.note += " done"
		c.result = result{err: fail(backend.ErrUnreachable)}
	case (c.op == opGet || c.op == opList) && w.chance(f.Short):
		w.effect(c)
		w.shorten(c)
		c.result.err = fail(backend.ErrUnreachable)
	default:
		w.effect(c)
		w.spoil(c)
		if w.chance(f.Duplicate) {
			w.later(c, 1000)
		}
	}
	if w.chance(f.Hold) {
		c.done = true
		w.trace.add(w.stats.Steps, c, c.note+" held")
		return
	}
	w.reply(c, c.note)
}

// shorten cuts a listing; a body that ends early is no body.
func (w *World) shorten(c *call) {
	c.result.data, c.result.more = nil, false
	if n := len(c.result.infos); n > 0 {
		c.result.infos = c.result.infos[:w.rng.IntN(n)]
	}
}

// spoil gives out a wrong body as if it were right. Of an exclusive call only
// where no other goroutine of the client can be about to make its way to the
// mutex: what is read then takes more calls than that one.
func (w *World) spoil(c *call) {
	if c.op != opGet || len(c.result.data) == 0 || !w.chance(w.opts.Faults.Wrong) {
		return
	}
	if strings.HasPrefix(c.name, exclusive) && !w.alone(c) {
		return
	}
	w.stats.Faulted++
	data := c.result.data
	if w.rng.IntN(2) == 0 {
		c.note += " cut"
		c.result.data = data[:w.rng.IntN(len(data))]
		return
	}
	c.note += " spoilt"
	for range 1 + w.rng.IntN(200) {
		data[w.rng.IntN(len(data))] ^= byte(1 + w.rng.IntN(255))
	}
}

// reply gives the answer to whoever waits for it.
func (w *World) reply(c *call, note string) {
	w.trace.add(w.stats.Steps, c, note)
	w.pending = slices.DeleteFunc(w.pending, func(k *call) bool { return k == c })
	if !c.gone {
		c.answer <- c.result
	}
}

// kill ends a process: nothing of it reaches the store any more but, perhaps,
// what is under way.
func (w *World) kill(c *Client) {
	c.dead.Store(true)
	w.stats.Kills++
	w.trace.event(w.stats.Steps, c.name, "is killed")
	w.pending = slices.DeleteFunc(w.pending, func(k *call) bool {
		if k.client != c {
			return false
		}
		if !k.done && !k.gone {
			w.later(k, 400)
		}
		if !k.gone {
			k.answer <- result{err: fmt.Errorf("%s %s: %w", opNames[k.op], k.name, ErrKilled)}
		}
		return true
	})
}
