package trial_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"holdfast/repo"
	"holdfast/repo/backend/sim"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// stormDisk is the content of a point: which of the pool's chunks stands where,
// and which of its texts beside it. No number means zeros.
type stormDisk struct {
	chunks map[int64]int
	text   string
}

const (
	stormChunk  = 64 << 10
	stormChunks = 256 // two leaves and a root
	stormPool   = 24
)

// stormPlain are the pool's chunks: all different, and small once compressed.
var stormPlain = sync.OnceValue(func() [][]byte {
	pool := make([][]byte, stormPool)
	for i := range pool {
		pool[i] = make([]byte, stormChunk)
		for at := range pool[i] {
			pool[i][at] = byte(i + 1)
		}
	}
	return pool
})

// promised is what somebody was told of a point.
type promised struct {
	stormDisk
	sid       string
	kept      bool // Commit returned nil
	lost      bool // Commit said that the session was lost
	forgotten bool // somebody has begun to forget it
	dropped   bool // Forget returned nil
}

// stormModel is what must be true.
type stormModel struct {
	mu     sync.Mutex
	points map[string]*promised
	count  map[string]int // what happened, for the test of the test
}

func newStormModel() *stormModel {
	return &stormModel{points: map[string]*promised{}, count: map[string]int{}}
}

func (m *stormModel) note(what string) { m.notes(what, 1) }

func (m *stormModel) notes(what string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count[what] += n
}

// propose tells of a point before its commit is tried.
func (m *stormModel) propose(id, sid string, d stormDisk) *promised {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &promised{stormDisk: d, sid: sid}
	m.points[id] = p
	return p
}

func (m *stormModel) tell(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
}

func (m *stormModel) get(id string) (promised, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.points[id]
	if !ok {
		return promised{}, false
	}
	return *p, true
}

// of is the promise of a point that somebody made.
func (m *stormModel) of(id string) *promised {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.points[id]
}

// forgotten is how many points somebody has begun to forget.
func (m *stormModel) forgotten() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.points {
		if p.forgotten {
			n++
		}
	}
	return n
}

// expected is what a listing that begins now has to say.
type expected struct{ must, never map[string]bool }

// expect: points that were committed and that nobody tries to drop are listed;
// what was dropped, or lost, is not.
func (m *stormModel) expect() expected {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := expected{must: map[string]bool{}, never: map[string]bool{}}
	for id, p := range m.points {
		e.must[id] = p.kept && !p.forgotten
		e.never[id] = p.lost || p.dropped
	}
	return e
}

// wantListed compares a listing with what was expected when it began.
func (m *stormModel) wantListed(want expected, listed []repo.Entry) error {
	for _, e := range listed {
		if _, known := m.get(e.ID); !known {
			return fmt.Errorf("point %s is listed and nobody made it", e.ID)
		}
		if want.never[e.ID] {
			return fmt.Errorf("point %s is listed, and it was lost or forgotten", e.SID)
		}
		delete(want.must, e.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(want.must)) {
		if p, _ := m.get(id); want.must[id] && !p.forgotten {
			return fmt.Errorf("point %s was committed and is not listed", p.sid)
		}
	}
	return nil
}

// errWrongBytes: what came back is not what was stored.
var errWrongBytes = errors.New("wrong bytes")

// readStorm brings a point back and compares it.
func readStorm(ctx context.Context, r *repo.Repository, p *recovery.Point, want stormDisk) error {
	came := 0
	err := image.Copy(ctx, r, *p.Items[0].Disk, image.CopyOptions{}, func(off int64, data []byte) error {
		came++
		n, ok := want.chunks[off/stormChunk]
		if !ok || string(data) != string(stormPlain()[n]) {
			return fmt.Errorf("disk of %s at %d: %w", p.SID, off, errWrongBytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if came != len(want.chunks) {
		return fmt.Errorf("disk of %s: %d chunks, not %d: %w", p.SID, came, len(want.chunks), errWrongBytes)
	}
	text := stream.Open(ctx, r, *p.Items[1].Stream)
	defer text.Close()
	all, err := io.ReadAll(text)
	if err == nil && string(all) != want.text {
		err = fmt.Errorf("stream of %s: %q: %w", p.SID, all, errWrongBytes)
	}
	return err
}

// stormLocks are the locks of one host: they end with the process that holds them.
type stormLocks struct {
	mu   sync.Mutex
	held map[string]*sim.Client
}

// holder is the locks as one process sees them.
type holder struct {
	*stormLocks
	client *sim.Client
}

func (h holder) Hold(sid string) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[sid] = h.client
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.client.Dead() { // the dead release nothing: the system does
			delete(h.held, sid)
		}
	}, nil
}

func (h holder) State(sid string) ledger.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	owner, known := h.held[sid]
	switch {
	case !known:
		return ledger.LockUnknown
	case owner.Dead():
		return ledger.LockFree
	}
	return ledger.LockHeld
}

func (h holder) Settled(sid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, sid)
}
