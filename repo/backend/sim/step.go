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
		over := w.running == 0
		w.mu.Unlock()
		if over {
			w.dropGone()
			return w.stuck
		}
		w.step()
	}
}

// step picks one call and makes it, or waits until there is one.
func (w *World) step() {
	w.dropGone()
	if w.stats.Steps++; w.stats.Steps > w.opts.MaxSteps && w.stuck == nil {
		w.stuck = fmt.Errorf("after %d calls: %w", w.opts.MaxSteps, ErrStuck)
		for _, c := range w.clients {
			w.kill(c)
		}
		return
	}
	if w.events() {
		return
	}
	if w.haunt() {
		return
	}
	c := w.pick()
	if c == nil {
		w.wait()
		return
	}
	w.last = c.client
	if c.done {
		w.reply(c, "answered")
	} else {
		w.make(c)
	}
	time.Sleep(time.Duration(1+w.rng.IntN(50)) * time.Millisecond)
}

// wait lets time pass until somebody calls. If all that wait are frozen, one goes on.
func (w *World) wait() {
	for _, c := range w.pending {
		if c.client.frozenUntil > 0 {
			c.client.frozenUntil = 0
			w.trace.event(w.stats.Steps, c.client.name, "thaws")
			return
		}
	}
	<-w.arrived
}

// sortPending brings the calls that wait into an order that does not depend on
// the order in which they came.
func (w *World) sortPending() {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.pending, (*call).compare)
}

// dropGone takes out calls that nobody waits for: a request whose client hung up
// may still be done.
func (w *World) dropGone() {
	w.sortPending()
	w.mu.Lock()
	defer w.mu.Unlock()
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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = slices.DeleteFunc(w.pending, func(k *call) bool { return k == c })
	if !c.gone {
		c.answer <- c.result
	}
}

// Kill ends a process: nothing of it reaches the store any more but, perhaps,
// what is under way.
func (w *World) kill(c *Client) {
	w.sortPending()
	w.mu.Lock()
	defer w.mu.Unlock()
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
