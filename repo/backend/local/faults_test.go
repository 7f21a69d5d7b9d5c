package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/localtest"
)

// testReserve is the reserve on the strict file system, bytes.
const testReserve = 64

// absent is the state of a name without an object.
const absent = "(absent)"

func bulk(s string) []byte { return []byte(strings.Repeat(s, 9)) }

// step is one call of the scenario and what it may do to one object.
type step struct {
	name     string // "" for Sync
	old, new string
	durable  bool // on success the new state survives a power cut at once
	torn     bool // until a Sync the new state may be torn by a power cut
	call     func(ctx context.Context, b *Backend) error
}

func putStep(name, old, new string) step {
	return step{name: name, old: old, new: new, torn: old == absent, call: func(ctx context.Context, b *Backend) error {
		return b.Put(ctx, name, bulk(new))
	}}
}

func absentStep(name, old, new string) step {
	return step{name: name, old: old, new: new, durable: true, call: func(ctx context.Context, b *Backend) error {
		return b.PutIfAbsent(ctx, name, bulk(new))
	}}
}

func deleteStep(name, old string) step {
	return step{name: name, old: old, new: absent, call: func(ctx context.Context, b *Backend) error {
		return b.Delete(ctx, name)
	}}
}

func syncStep() step {
	return step{call: func(ctx context.Context, b *Backend) error { return b.Sync(ctx) }}
}

// before is what the store holds, durably, when the scenario starts.
var before = map[string]string{
	"data/old/a": "a0", "data/old/b": "b0", "data/gone/c": "c0", "ledger/0": "l0", "config": "cfg", "label/x": "x0",
}

// scenario touches every path of the backend: new and taken names, new and old
// folders, folders that vanish, same bytes again, two barriers.
func scenario() []step {
	return []step{
		putStep("data/new/p1", absent, "p1"),
		putStep("data/new/p2", absent, "p2"),
		putStep("data/old/a", "a0", "a1"),
		absentStep("ledger/1", absent, "l1"),
		absentStep("config", "cfg", "cfg"),
		deleteStep("data/gone/c", "c0"),
		putStep("label/x", "x0", "x1"),
		syncStep(),
		absentStep("commit/s/1", absent, "slot"),
		putStep("data/new/p3", absent, "p3"),
		putStep("data/new/p1", "p1", "p1bis"),
		deleteStep("data/new/p2", "p2"),
		syncStep(),
		deleteStep("data/old/b", "b0"),
		putStep("data/late/q", absent, "q"),
		absentStep("data/late/q", "q", "q"), // makes another's Put durable
	}
}

// model is what may be seen of each object, now and after a power cut.
type model struct {
	seen  map[string][]string // acceptable states now
	cut   map[string][]string // acceptable states after a power cut
	torn  map[string]bool     // a power cut may tear it
	stale map[string]bool     // changed since the last Sync
}

func newModel() *model {
	m := &model{map[string][]string{}, map[string][]string{}, map[string]bool{}, map[string]bool{}}
	for name, state := range before {
		m.seen[name], m.cut[name] = []string{state}, []string{state}
	}
	for _, s := range scenario() {
		if s.name != "" && m.seen[s.name] == nil {
			m.seen[s.name], m.cut[s.name] = []string{absent}, []string{absent}
		}
	}
	return m
}

// begin is called before a step: until it returns, both states are fine.
func (m *model) begin(s step) {
	if s.name == "" {
		return
	}
	m.seen[s.name] = append(m.seen[s.name], s.new)
	m.cut[s.name] = append(m.cut[s.name], s.new)
	m.torn[s.name] = m.torn[s.name] || s.torn
}

// end is called with the step's answer.
func (m *model) end(s step, err error) {
	switch {
	case s.name == "" && err == nil:
		for name := range m.stale {
			m.cut[name], m.torn[name] = m.seen[name], false
		}
		clear(m.stale)
	case s.name == "":
	case err != nil: // old or new, and so it stays
		delete(m.stale, s.name)
	default:
		m.seen[s.name] = []string{s.new}
		m.stale[s.name] = true
		if s.durable {
			m.cut[s.name], m.torn[s.name] = []string{s.new}, false
		}
	}
}

// check compares a store with what is acceptable.
func check(disk *localtest.FS, states map[string][]string, torn map[string]bool) error {
	for name, ok := range states {
		state := absent
		if n, err := disk.Find(name); err == nil {
			state = string(n.Data)
		}
		whole := slices.ContainsFunc(ok, func(want string) bool {
			return state == want || want != absent && state == string(bulk(want))
		})
		if !whole && !torn[name] {
			return fmt.Errorf("%s is %q, may be %q", name, state, ok)
		}
	}
	return nil
}

// prepare makes a store that holds before, durably, with its backend closed.
func prepare(t *testing.T) *localtest.FS {
	t.Helper()
	disk := localtest.New()
	b := Over(disk, "strict", Options{Random: strings.NewReader("12345678"), ReserveBytes: testReserve})
	for name, state := range before {
		must(t, b.PutIfAbsent(t.Context(), name, bulk(state)))
	}
	must(t, b.Close())
	disk.Calls = nil
	return disk
}

// run plays the scenario on disk, going on after errors, and checks at each
// call of the file system what a reader sees, and what power cuts leave after
// each step.
func run(t *testing.T, disk *localtest.FS, method method, seed uint64) {
	t.Helper()
	m := newModel()
	disk.After = func(s *localtest.FS) {
		if err := check(s, m.seen, nil); err != nil {
			t.Errorf("fault at %q: a reader sees after %q: %v", s.Hit, s.Calls[len(s.Calls)-1], err)
		}
	}
	b := Over(disk, "strict", Options{UnsyncedFiles: 2, SyncParallel: 1, Random: strings.NewReader("abcdefghijklmnop"), ReserveBytes: testReserve})
	if work, err := b.workspace(); err == nil {
		work.method = method
	}
	r := rand.New(rand.NewPCG(seed, 7))
	for i, s := range scenario() {
		m.begin(s)
		err := s.call(t.Context(), b)
		m.end(s, err)
		if err != nil && errors.Is(disk.Fault.Err, syscall.ENOSPC) && strings.HasPrefix(disk.Hit, "write") && !errors.Is(err, backend.ErrNoSpace) && s.name != "" && !errors.Is(err, backend.ErrExists) {
			t.Errorf("fault at %q: %v does not say that the disk is full", disk.Hit, err)
		}
		if kids := temps(disk); len(kids) > 1 && !strings.HasPrefix(disk.Hit, "remove") {
			t.Errorf("fault at %q: temporary files stay after step %d: %q", disk.Hit, i, kids)
		}
		for range 4 {
			if cerr := check(disk.Crash(r), m.cut, m.torn); cerr != nil {
				t.Errorf("fault at %q, answer %v: a power cut after step %d leaves: %v", disk.Hit, err, i, cerr)
			}
		}
	}
	disk.After = nil
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	op, _, _ := strings.Cut(disk.Hit, " ")
	if left := litter(disk); len(left) > 0 && !slices.Contains([]string{"remove", "readdir", "lock", "mkdir"}, op) {
		t.Errorf("fault at %q: temporary folders left", disk.Hit)
	}
	if !strings.Contains(disk.Hit, "syncdir") && !strings.HasPrefix(disk.Hit, "sync ") { // a disk whose fsync fails stays suspect
		recovers(t, disk)
	}
}

// temps lists the temporary folder of the backend that run makes.
func temps(disk *localtest.FS) []string {
	n, err := disk.Find(tempName + "/6162636465666768")
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(n.Kids))
}

// recovers: the next process finds a store that works, and clears up.
func recovers(t *testing.T, disk *localtest.FS) {
	t.Helper()
	hit := disk.Hit
	disk.Fault = localtest.Fault{}
	b := Over(disk, "strict", Options{Random: strings.NewReader("ABCDEFGHIJKLMNOP"), ReserveBytes: testReserve})
	for _, s := range scenario() {
		if s.name != "" && s.old == absent && s.durable { // a writer whose answer was lost asks again
			if err := s.call(t.Context(), b); err != nil {
				t.Errorf("fault at %q: again after it: %v", hit, err)
			}
		}
	}
	must(t, b.Put(t.Context(), "data/fine/z", []byte("z")))
	must(t, b.Sync(t.Context()))
	must(t, b.Close())
	if left := litter(disk); len(left) > 0 {
		t.Errorf("fault at %q: temporary folders left by the next process: %v", hit, left)
	}
	if n, err := disk.Find(reserveName); err != nil || len(n.Data) != testReserve {
		t.Errorf("fault at %q: the next process has no reserve: %v", hit, err)
	}
}

// litter is what lies in the temporary folder beside the reserve.
func litter(disk *localtest.FS) []string {
	n, err := disk.Find(tempName)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(n.Kids)), func(name string) bool {
		return tempName+"/"+name == reserveName || tempName+"/"+name == reserveLockName
	})
}

// TestEachCallFailsOnceInEachWay: whatever call of the file system fails and
// however, each object is old or new, whole, for readers at every moment; what
// was promised durable survives power cuts.
func TestEachCallFailsOnceInEachWay(t *testing.T) {
	faults := map[string]localtest.Fault{
		"EIO":              {Err: syscall.EIO},
		"ENOSPC":           {Err: syscall.ENOSPC},
		"EROFS":            {Err: syscall.EROFS},
		"EIO, done":        {Err: syscall.EIO, Done: true},
		"ENOSPC, partly":   {Err: syscall.ENOSPC, Part: true},
		"short, silently":  {Err: localtest.ErrShort, Part: true},
		"EIO, partly done": {Err: syscall.EIO, Part: true},
	}
	for name, m := range map[string]method{"link": byLink, "rename": byRename, "lock": underLock} {
		disk := prepare(t)
		run(t, disk, m, 1)
		dry := disk.Calls
		total := len(dry)
		if total < 120 {
			t.Fatalf("scenario makes only %d calls", total)
		}
		for kind, fault := range faults {
			if m != byLink && !strings.HasPrefix(kind, "EIO") {
				continue // the ways of taking a name differ in one call only
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				for at := 1; at <= total; at++ {
					disk := prepare(t)
					fault.At = at
					disk.Fault = fault
					if kind == "short, silently" && !strings.HasPrefix(dry[at-1], "write") {
						continue
					}
					run(t, disk, m, uint64(at))
				}
			})
		}
	}
}

// TestFailedFsyncIsNeverTriedAgain: the second fsync of a file lies, so an
// object whose fsync failed keeps every Sync failing until it is written anew.
func TestFailedFsyncIsNeverTriedAgain(t *testing.T) {
	disk := prepare(t)
	b := Over(disk, "strict", Options{ReserveBytes: testReserve})
	must(t, b.Put(t.Context(), "data/new/p", bulk("p")))
	failNext(disk, "sync", func() { wantErr(t, "sync", b.Sync(t.Context()), backend.ErrDurability) })
	syncs := countCalls(disk, "sync ")
	wantErr(t, "sync again", b.Sync(t.Context()), backend.ErrDurability)
	wantErr(t, "put new over it", b.PutIfAbsent(t.Context(), "data/new/p", bulk("p")), backend.ErrDurability)
	if n := countCalls(disk, "sync "); n != syncs {
		t.Errorf("the file was synced %d times more", n-syncs)
	}
	must(t, b.Put(t.Context(), "data/new/p", bulk("p")))
	must(t, b.Sync(t.Context()))
	if err := check(disk.Crash(rand.New(rand.NewPCG(1, 1))), map[string][]string{"data/new/p": {"p"}}, nil); err != nil {
		t.Errorf("after writing it anew: %v", err)
	}
}

// TestFailedFsyncOfForeignObjectIsNeverTriedAgain: the same where PutIfAbsent
// finds its bytes in place.
func TestFailedFsyncOfForeignObjectIsNeverTriedAgain(t *testing.T) {
	disk := prepare(t)
	b := Over(disk, "strict", Options{ReserveBytes: testReserve})
	failNext(disk, "sync", func() {
		wantErr(t, "put new", b.PutIfAbsent(t.Context(), "config", bulk("cfg")), backend.ErrDurability)
	})
	wantErr(t, "put new again", b.PutIfAbsent(t.Context(), "config", bulk("cfg")), backend.ErrDurability)
	must(t, b.Delete(t.Context(), "config"))
	must(t, b.PutIfAbsent(t.Context(), "config", bulk("cfg")))
	must(t, b.Sync(t.Context()))
}

func TestFailedFolderSyncIsFinal(t *testing.T) {
	disk := prepare(t)
	b := Over(disk, "strict", Options{ReserveBytes: testReserve})
	must(t, b.Put(t.Context(), "data/new/p", bulk("p")))
	failNext(disk, "syncdir", func() { wantErr(t, "sync", b.Sync(t.Context()), backend.ErrDurability) })
	wantErr(t, "sync again", b.Sync(t.Context()), backend.ErrDurability)
}

// TestSyncThatWasCancelledForgetsNothing: the next one does its work.
func TestSyncThatWasCancelledForgetsNothing(t *testing.T) {
	disk := prepare(t)
	b := Over(disk, "strict", Options{SyncParallel: 1, ReserveBytes: testReserve})
	must(t, b.Put(t.Context(), "data/new/p", bulk("p")))
	must(t, b.Put(t.Context(), "data/new/q", bulk("q")))
	ctx, cancel := context.WithCancel(t.Context())
	disk.After = func(s *localtest.FS) {
		if strings.HasPrefix(s.Calls[len(s.Calls)-1], "sync ") {
			cancel()
		}
	}
	wantErr(t, "sync", b.Sync(ctx), context.Canceled)
	disk.After = nil
	must(t, b.Sync(t.Context()))
	for seed := range uint64(20) {
		want := map[string][]string{"data/new/p": {"p"}, "data/new/q": {"q"}}
		if err := check(disk.Crash(rand.New(rand.NewPCG(seed, 1))), want, nil); err != nil {
			t.Fatalf("after the second sync: %v", err)
		}
	}
}

// failNext makes the next call of one kind fail with EIO while do runs.
func failNext(disk *localtest.FS, op string, do func()) {
	disk.After = func(s *localtest.FS) { s.Fault = localtest.Fault{} }
	armed := false
	disk.Arm = func(call string) {
		if !armed && strings.HasPrefix(call, op+" ") {
			armed = true
			disk.Fault = localtest.Fault{At: len(disk.Calls), Err: syscall.EIO}
		}
	}
	do()
	disk.After, disk.Arm = nil, nil
}

func countCalls(disk *localtest.FS, prefix string) int {
	n := 0
	for _, c := range disk.Calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}
