package sim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/repo/backend"
)

// op is a method of the backend; the order is that of picking.
type op uint8

const (
	opGet op = iota
	opStat
	opList
	opPut
	opPutIfAbsent
	opDelete
	opSync
	opPersist
)

var opNames = [...]string{"get", "stat", "list", "put", "put-if-absent", "delete", "sync", "persist"}

func (o op) changes() bool { return o == opPut || o == opPutIfAbsent || o == opDelete }

// call is one request.
type call struct {
	client         *Client
	op             op
	name           string
	data           []byte
	offset, length int64
	after          string // of a listing's page: the last name of the one before

	answer chan result
	gone   bool // nobody waits for the answer any more
	slept  bool // its client was frozen just before it
	done   bool // it took effect, and the answer is held back
	result result
	note   string // what was done to it
}

type result struct {
	data  []byte
	info  backend.Info
	infos []backend.Info
	more  bool
	err   error
}

// compare orders calls by everything but the moment when they were made.
func (c *call) compare(d *call) int {
	return cmp.Or(
		strings.Compare(c.client.name, d.client.name), cmp.Compare(c.op, d.op), cmp.Compare(c.name, d.name),
		cmp.Compare(c.offset, d.offset), cmp.Compare(c.length, d.length), cmp.Compare(c.after, d.after),
		cmp.Compare(sumOf(c.data), sumOf(d.data)),
	)
}

// Client is the store as one process sees it; it implements backend.Backend.
// Only the scheduler of its world makes its calls return.
type Client struct {
	w           *World
	name        string
	dead        atomic.Bool
	mortal      bool
	stale       int          // chance in a thousand that a listing lies
	frozenUntil int          // step
	skew        atomic.Int64 // of the process's clock
}

var (
	_ backend.Backend   = (*Client)(nil)
	_ backend.Persister = (*Client)(nil)
)

// Client adds a process; its name is its own. If it is mortal it may be killed.
func (w *World) Client(name string, mortal bool) *Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &Client{w: w, name: name, mortal: mortal}
	w.clients = append(w.clients, c)
	// Two processes may begin at one moment: their order must not depend on which
	// goroutine was first.
	slices.SortStableFunc(w.clients, func(a, b *Client) int { return strings.Compare(a.name, b.name) })
	return c
}

// Mislead makes listings of this client lie, with a chance in a thousand: they
// lack names, anybody's and of any age, or show what was at an earlier moment. S3
// does not do so: its listings are consistent. What is asked for by name is always
// answered as it is.
func (c *Client) Mislead(perMille int) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.stale = perMille
}

// Dead reports whether the process was killed.
func (c *Client) Dead() bool { return c.dead.Load() }

// Exit says that the process is over: it can neither die nor freeze any more.
func (c *Client) Exit() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.mortal = false
}

// Now is the process's clock, which may jump.
func (c *Client) Now() time.Time { return c.w.elapsed().Add(time.Duration(c.skew.Load())) }

// do waits until the scheduler has made the call.
func (c *Client) do(ctx context.Context, k *call) result {
	if err := ctx.Err(); err != nil {
		return result{err: fmt.Errorf("%s %s: %w", opNames[k.op], k.name, err)}
	}
	k.client, k.answer = c, make(chan result, 1)
	c.w.mu.Lock()
	if c.Dead() {
		c.w.mu.Unlock()
		return result{err: fmt.Errorf("%s %s: %w", opNames[k.op], k.name, ErrKilled)}
	}
	c.w.pending = append(c.w.pending, k)
	c.w.mu.Unlock()
	c.w.wake()
	select {
	case r := <-k.answer:
		return r
	case <-ctx.Done():
		c.w.mu.Lock()
		k.gone = true
		c.w.mu.Unlock()
		c.w.wake()
		return result{err: fmt.Errorf("%s %s: %w", opNames[k.op], k.name, ctx.Err())}
	}
}

// Put implements backend.Backend.
func (c *Client) Put(ctx context.Context, name string, data []byte) error {
	return c.do(ctx, &call{op: opPut, name: name, data: data}).err
}

// PutIfAbsent implements backend.Backend.
func (c *Client) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return c.do(ctx, &call{op: opPutIfAbsent, name: name, data: data}).err
}

// Get implements backend.Backend.
func (c *Client) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	r := c.do(ctx, &call{op: opGet, name: name, offset: offset, length: length})
	return r.data, r.err
}

// Stat implements backend.Backend.
func (c *Client) Stat(ctx context.Context, name string) (backend.Info, error) {
	r := c.do(ctx, &call{op: opStat, name: name})
	return r.info, r.err
}

// List implements backend.Backend. Each page is a call of its own.
func (c *Client) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	after := ""
	for {
		r := c.do(ctx, &call{op: opList, name: prefix, after: after})
		for _, info := range r.infos {
			if err := fn(info); err != nil {
				return err
			}
			after = info.Name
		}
		if r.err != nil || !r.more {
			return r.err
		}
	}
}

// Delete implements backend.Backend.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.do(ctx, &call{op: opDelete, name: name}).err
}

// Sync implements backend.Backend.
func (c *Client) Sync(ctx context.Context) error { return c.do(ctx, &call{op: opSync}).err }

// Persist implements backend.Persister. Where a Put is durable there is nothing to do.
func (c *Client) Persist(ctx context.Context, name string) error {
	if !c.w.opts.Volatile {
		return ctx.Err()
	}
	return c.do(ctx, &call{op: opPersist, name: name}).err
}

// Location implements backend.Backend.
func (c *Client) Location() string { return "sim:" + c.name }

// SingleWriter implements backend.Backend.
func (c *Client) SingleWriter() string { return "" }

// Close implements backend.Backend.
func (c *Client) Close() error { return nil }

// Source is randomness for one process of a simulation: the n-th read of a
// length gives what the seed, the length and n say. Reads of other lengths than
// Counted always give the same bytes. So goroutines that read side by side
// cannot change each other's draws, as long as the reads of length Counted are
// made one after the other (the engine draws session names so), and the others
// need not differ (the engine mixes names and content into what it draws so).
type Source struct {
	Seed    uint64
	Stream  uint64
	Counted int // 0: 8 bytes

	mu sync.Mutex
	n  uint64
}

// Read implements io.Reader. It always fills p.
func (s *Source) Read(p []byte) (int, error) {
	var n uint64
	if len(p) == cmp.Or(s.Counted, 8) {
		s.mu.Lock()
		s.n++
		n = s.n
		s.mu.Unlock()
	}
	for at, block := 0, uint64(0); at < len(p); block++ {
		var in [40]byte
		for i, v := range []uint64{s.Seed, s.Stream, uint64(len(p)), n, block} {
			binary.LittleEndian.PutUint64(in[i*8:], v)
		}
		sum := sha256.Sum256(in[:])
		at += copy(p[at:], sum[:])
	}
	return len(p), nil
}
