// Package sim is an object store that is as bad as an object store may be, and
// bad in the same way each time: a deterministic simulation. Many clients share
// a World. Each of their calls waits until the world's scheduler picks it, one
// call at a time, in an order that a seed decides; and the seed decides, too,
// which calls fail before or after they took effect, which take effect a second
// time much later, which processes freeze or die, when clocks jump and where a
// bit rots. What a run did is told by Trace and Hash: the same seed and the same
// clients give the same hash, so that a failure can be replayed.
//
// That works because nothing happens between two picks: the scheduler acts only
// when every goroutine waits, for a call of its own or for another goroutine.
// Options.Quiet tells when that is so; inside a bubble of testing/synctest it is
// synctest.Wait, and time is the bubble's, so that hours cost nothing. Calls that
// wait are sorted before one is picked: in which order goroutines made them is
// forgotten. Two things are left to the clients: they must draw randomness from a
// source that does not care which goroutine comes first (Source is one), and they
// must not wait for a sync.Mutex that another goroutine holds across a call (the
// bubble does not count that as waiting). The one such place in the engine, the
// refreshing of the local index, is kept apart by the scheduler: see exclusive.
//
// What it simulates is the contract of package backend as S3 fulfils it: a
// listing is strongly consistent page by page, a name that is put if absent is
// decided once, an answer may be lost, a request may arrive twice. A client that
// is misled (Client.Mislead) is given listings that lie, as S3's do not. With
// Options.Volatile it is a disk: what was not followed by a Sync is lost when
// the power fails (PowerCut), and with it all clients.
package sim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/repo/backend"
)

// ErrKilled: the client's process is dead; nothing of what it still tries
// reaches the store.
var ErrKilled = fmt.Errorf("process is dead: %w: %w", backend.ErrUnreachable, context.Canceled)

// ErrInjected marks every error that the world made up.
var ErrInjected = errors.New("simulated fault")

// Faults are chances in a thousand, of each call or (Freeze to Pause) of each
// step of the scheduler.
type Faults struct {
	Error     int // the call fails and was not done
	Busy      int // the same, as "slow down"
	Lost      int // done, but the answer says that it failed
	Late      int // fails, and is done at a later moment, or never
	Duplicate int // done, and done once more at a later moment
	Short     int // a body or a listing ends early, and the client notices
	Wrong     int // a body comes cut or with a wrong byte, and no error
	Hold      int // done, and the answer comes only later: other calls come between
	Stall     int // a put-if-absent waits, and its client stands still for long before it is made
	Page      int // a listing is cut into pages that see different moments

	Freeze int // a client stands still for long
	Kill   int // a client dies; its calls under way may be done later, or never
	Jump   int // a clock, the store's or a client's, jumps by up to 7 days
	Rot    int // a byte of some object changes, once in each object at most
	Pause  int // nobody does anything for up to two hours
	Power  int // everybody dies, and what was not synced is lost or torn
}

// Options of New. Seed and Quiet are required.
type Options struct {
	Seed     uint64
	Quiet    func()    // returns when every other goroutine waits: synctest.Wait
	Faults   Faults    // until Calm
	Sticky   int       // chance in a thousand that the client of the last call goes on, if it can
	Volatile bool      // what is not synced may be lost by a PowerCut
	Freezes  int       // steps that a frozen client stands still, at most; 0: 400
	MaxSteps int       // a run that takes more is stuck; 0: 200,000
	Lines    int       // of the trace that are kept; 0: 60
	Objects  *Snapshot // what is there at first; nil: nothing
	Start    time.Time // what every clock says at first; the zero value: 2026-03-01 12:00 UTC
}

// Stats count what a world has done.
type Stats struct {
	Steps, Faulted, Late, Kills, Freezes, Jumps, Rots, PowerCuts int
}

// object is never changed once it is in the map.
type object struct {
	data     []byte
	modified time.Time
	step     int     // when it was made
	by       *Client // who made it; nil: the beginning, or a request that came late
	rotten   bool
}

// World is the store with everything around it.
type World struct {
	opts  Options
	rng   *rand.Rand
	began time.Time

	mu       sync.Mutex // guards all that follows; the scheduler holds it for each step
	pending  []*call
	clients  []*Client
	running  int
	arrived  chan struct{}
	objects  map[string]object
	volatile map[string]unsynced
	ever     map[string]bool // names that were put if absent
	past     []buried        // what was deleted, for listings that show it still
	ghosts   []ghost
	last     *Client
	jump     time.Duration // of the store's clock
	trace    trace
	stats    Stats
	stuck    error
}

// unsynced is what a name held on stable storage before a client changed it.
type unsynced struct {
	by  []*Client // a Sync of any of them makes the change durable
	old object
	was bool // there was an old one
}

// buried is an object that was deleted.
type buried struct {
	info backend.Info
	made int // step
	gone int
}

// ghost is a request that takes effect without anybody waiting for it.
type ghost struct {
	*call
	due int // step
}

// Snapshot is the content of a store. It is not changed by the worlds that
// begin with it.
type Snapshot struct{ objects map[string][]byte }

// New makes a world. Inside a synctest bubble it must be called there.
func New(opts Options) *World {
	if opts.Freezes == 0 {
		opts.Freezes = 400
	}
	if opts.MaxSteps == 0 {
		opts.MaxSteps = 200_000
	}
	if opts.Start.IsZero() {
		opts.Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	}
	w := &World{
		opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 0x5eed)), began: time.Now(), arrived: make(chan struct{}, 1),
		objects: map[string]object{}, volatile: map[string]unsynced{}, ever: map[string]bool{}, trace: newTrace(cmp.Or(opts.Lines, 60)),
	}
	if opts.Objects != nil {
		for name, data := range opts.Objects.objects {
			w.objects[name] = object{data: data, modified: opts.Start}
		}
	}
	return w
}

// Copy takes all objects of a place, for worlds to begin with.
func Copy(ctx context.Context, be backend.Backend) (*Snapshot, error) {
	s := &Snapshot{objects: map[string][]byte{}}
	err := be.List(ctx, "", func(info backend.Info) (err error) {
		s.objects[info.Name], err = be.Get(ctx, info.Name, 0, -1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("copy objects: %w", err)
	}
	return s, nil
}

// Stats are the counts so far.
func (w *World) Stats() Stats { return w.stats }

// Rand is the world's own randomness, for the goroutine that calls Run, between
// its calls.
func (w *World) Rand() *rand.Rand { return w.rng }

// Go runs fn in a goroutine that Run waits for.
func (w *World) Go(fn func()) {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	go func() {
		defer func() {
			w.mu.Lock()
			w.running--
			w.mu.Unlock()
			w.wake()
		}()
		fn()
	}()
}

func (w *World) wake() {
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

// Calm ends all faults: frozen clients go on, no request is duplicated any more.
// What is still under way from before stays so; Settle brings it to its end.
func (w *World) Calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opts.Faults = Faults{}
	for _, c := range w.clients {
		c.frozenUntil = 0
	}
}

// Settle lets every request that is still on its way take effect.
func (w *World) Settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.ghosts) > 0 {
		g := w.ghosts[0]
		w.ghosts = w.ghosts[1:]
		w.effect(g.call)
		w.trace.add(w.stats.Steps, g.call, "late")
	}
}

// Hash tells one run from another: of every pick, what it was and what came of it.
func (w *World) Hash() uint64 { return w.trace.sum() }

// Trace is the end of what happened, in order.
func (w *World) Trace() []string { return w.trace.lines() }

// now is the store's clock.
func (w *World) now() time.Time { return w.elapsed().Add(w.jump) }

// elapsed is the time since the beginning, on a clock that was never wrong.
func (w *World) elapsed() time.Time { return w.opts.Start.Add(time.Since(w.began)) }

// Has reports whether an object of that name is there. It is for goroutines
// begun with Go, while the scheduler waits for them.
func (w *World) Has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, there := w.objects[name]
	return there
}

// Had reports whether PutIfAbsent ever made an object of that name; see Has.
func (w *World) Had(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ever[name]
}

// Names are the objects below prefix, sorted; see Has.
func (w *World) Names(prefix string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names(prefix)
}

// Remove takes objects away behind everybody's back; see Has.
func (w *World) Remove(prefix string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names(prefix) {
		delete(w.objects, name)
	}
}

// names are the objects below prefix, sorted.
func (w *World) names(prefix string) []string {
	var names []string
	for name := range w.objects {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// effect does a call to the objects and fills in its result.
func (w *World) effect(c *call) {
	have, there := w.objects[c.name]
	switch c.op {
	case opPut:
		w.change(c, have, there)
		w.objects[c.name] = w.made(c)
	case opPutIfAbsent:
		switch {
		case !there:
			w.objects[c.name], w.ever[c.name] = w.made(c), true
		case !bytes.Equal(have.data, c.data):
			c.result.err = fmt.Errorf("put new %s: %w", c.name, backend.ErrExists)
		}
		delete(w.volatile, c.name)
	case opDelete:
		w.change(c, have, there)
		delete(w.objects, c.name)
		if there {
			w.past = append(w.past, buried{backend.Info{Name: c.name, Bytes: int64(len(have.data)), Modified: have.modified}, have.step, w.stats.Steps})
		}
	case opSync:
		for name, v := range w.volatile {
			if slices.Contains(v.by, c.client) {
				delete(w.volatile, name)
			}
		}
	case opPersist:
		if v, loose := w.volatile[c.name]; loose && there {
			v.by = append(v.by, c.client)
			w.volatile[c.name] = v
		}
		if !there {
			c.result.err = fmt.Errorf("persist %s: %w", c.name, backend.ErrNotFound)
		}
	case opStat:
		c.result = result{info: backend.Info{Name: c.name, Bytes: int64(len(have.data)), Modified: have.modified}}
		if !there {
			c.result.err = fmt.Errorf("stat %s: %w", c.name, backend.ErrNotFound)
		}
	case opGet:
		c.result = get(c, have.data, there)
	case opList:
		w.list(c)
	}
}

func (w *World) made(c *call) object {
	return object{data: bytes.Clone(c.data), modified: w.now(), step: w.stats.Steps, by: c.client}
}

// change notes what a name held before an unsynced change, for a PowerCut.
func (w *World) change(c *call, have object, there bool) {
	if !w.opts.Volatile {
		return
	}
	v, noted := w.volatile[c.name]
	if !noted {
		v = unsynced{old: have, was: there}
	}
	v.by = []*Client{c.client}
	w.volatile[c.name] = v
}

func get(c *call, data []byte, there bool) result {
	if !there {
		return result{err: fmt.Errorf("get %s: %w", c.name, backend.ErrNotFound)}
	}
	size, length := int64(len(data)), c.length
	if length < 0 {
		length = size - c.offset
	}
	if c.offset < 0 || length < 0 || c.offset > size-length {
		return result{err: fmt.Errorf("get %s: %d bytes from %d of %d: %w", c.name, length, c.offset, size, backend.ErrRange)}
	}
	return result{data: bytes.Clone(data[c.offset : c.offset+length])}
}

// list answers one page of a listing.
func (w *World) list(c *call) {
	shown := func(object) bool { return true }
	if w.chance(c.client.stale) {
		shown = w.lie(c)
	}
	for _, name := range w.names(c.name) {
		if o := w.objects[name]; (name > c.after || c.after == "") && shown(o) {
			c.result.infos = append(c.result.infos, backend.Info{Name: name, Bytes: int64(len(o.data)), Modified: o.modified})
		}
	}
	slices.SortFunc(c.result.infos, func(a, b backend.Info) int { return strings.Compare(a.Name, b.Name) })
	c.result.infos = slices.CompactFunc(c.result.infos, func(a, b backend.Info) bool { return a.Name == b.Name })
	if n := len(c.result.infos); n > 1 && w.chance(w.opts.Faults.Page) {
		c.result.infos = c.result.infos[:1+w.rng.IntN(n-1)]
		c.result.more = true
	}
}

// lie draws a way in which a listing is wrong, and says which objects it shows:
// nothing; all but some, whosever and however old; the state of an earlier moment, with
// what was deleted since.
func (w *World) lie(c *call) (shown func(object) bool) {
	switch w.rng.IntN(4) {
	case 0:
		c.note += " empty"
		return func(object) bool { return false }
	case 1:
		hides := []int{50, 300, 700}[w.rng.IntN(3)]
		c.note += " hides some"
		return func(object) bool { return !w.chance(hides) }
	}
	then := w.stats.Steps - w.rng.IntN(1+min(w.stats.Steps, []int{60, 1000, 100_000}[w.rng.IntN(3)]))
	c.note += " of the past"
	for _, b := range w.past {
		if b.made <= then && b.gone > then && strings.HasPrefix(b.info.Name, c.name) && (b.info.Name > c.after || c.after == "") {
			c.result.infos = append(c.result.infos, b.info)
		}
	}
	return func(o object) bool { return o.step <= then }
}

func (w *World) chance(perMille int) bool { return perMille > 0 && w.rng.IntN(1000) < perMille }
