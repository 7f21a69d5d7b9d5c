package trial_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
)

// sickness is what a place answers instead of doing what it is told.
type sickness struct {
	name    string
	err     error
	onwards bool // from that operation on, not once
	done    bool // the operation is done all the same
	writes  bool // puts alone fail: a full place still deletes
}

// sicknesses are what happens to disks: full, read errors where a sync should
// be, read-only, gone.
var sicknesses = []sickness{
	{name: "full once", err: backend.ErrNoSpace, writes: true},
	{name: "full from there on", err: backend.ErrNoSpace, writes: true, onwards: true},
	{name: "not durable once", err: backend.ErrDurability},
	{name: "done and not durable", err: backend.ErrDurability, done: true},
	{name: "not durable from there on", err: backend.ErrDurability, onwards: true, done: true},
	{name: "refused once", err: backend.ErrRefused},
	{name: "refused from there on", err: backend.ErrRefused, onwards: true},
	{name: "gone from there on", err: backend.ErrUnreachable, onwards: true},
}

// sick is a backend whose operation number at fails. Its reserve cannot be
// reached: that is another test's.
type sick struct {
	backend.Backend
	sickness
	at int

	mu   sync.Mutex
	seen int
	hits int
}

// fails numbers an operation and tells whether it is to fail.
func (s *sick) fails(put bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	hit := (s.seen == s.at || s.onwards && s.seen > s.at) && (put || !s.writes)
	if hit {
		s.hits++
	}
	return hit
}

func (s *sick) run(op, name string, put bool, do func() error) error {
	if !s.fails(put) {
		return do()
	}
	if s.done {
		_ = do() // its answer is not told
	}
	return fmt.Errorf("%s %s: %w: %w", op, name, fault.ErrInjected, s.err)
}

func (s *sick) Put(ctx context.Context, name string, data []byte) error {
	return s.run("put", name, true, func() error { return s.Backend.Put(ctx, name, data) })
}

func (s *sick) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return s.run("put if absent", name, true, func() error { return s.Backend.PutIfAbsent(ctx, name, data) })
}

func (s *sick) Delete(ctx context.Context, name string) error {
	return s.run("delete", name, false, func() error { return s.Backend.Delete(ctx, name) })
}

func (s *sick) Sync(ctx context.Context) error {
	return s.run("sync", "", false, func() error { return s.Backend.Sync(ctx) })
}

// TestFullAndSickPlacesAtEveryOperation: T8 of the programme. A command over a
// place that is full, sick or gone at any of its operations ends with that very
// error, or well; nothing that was committed is lost, not even if the power then
// goes; and when the place is itself again everything works, without anything
// to be cleared by hand.
func TestFullAndSickPlacesAtEveryOperation(t *testing.T) {
	runs, failed, states := 0, 0, 0
	for _, s := range scripts() {
		if s.beside {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			tr, err := newTrial(t.Context(), s, 0)
			must(t, err)
			calls, err := tr.calls(t.Context())
			must(t, err)
			for at := 0; at < len(calls); at += tr.stride() {
				put := calls[at].Op == fault.Put || calls[at].Op == fault.PutIfAbsent
				for i, ill := range sicknesses {
					// An ordinary run takes two of them, by turns.
					if ill.writes && !put || !long() && (i+at)%4 != 0 {
						continue
					}
					if tr.sicken(t, ill, at+1, calls[at]) != nil {
						failed++
					}
				}
			}
			runs, states = runs+tr.runs, states+len(tr.seen)
		})
	}
	if failed < runs/4 {
		t.Errorf("of %d runs only %d failed: the place is not sick", runs, failed)
	}
	t.Logf("%d runs over a sick place, %d of them failed, %d different states examined", runs, failed, states)
}

// sicken runs the script over a place that falls sick, and returns what became
// of it.
func (tr *trial) sicken(t *testing.T, ill sickness, at int, call fault.Call) error {
	ctx := t.Context()
	s, store := tr.stage()
	place := &sick{Backend: store, sickness: ill, at: at}
	p := s.process(place, "")
	failed := tr.act(ctx, p)
	p.end()
	tr.runs++
	// Of a refused removal of a key's slot the key's own error tells, and names the cause.
	inWords := failed != nil && ill.err == backend.ErrRefused && strings.Contains(failed.Error(), ill.err.Error())
	if failed != nil && !errors.Is(failed, ill.err) && !inWords {
		t.Errorf("%s at %s: ended with %v", ill.name, call, failed)
	}
	found, err := outcomes(ctx, store, 0)
	must(t, err)
	for _, o := range found {
		key := tr.state(ctx, s, o.store, "")
		if tr.seen[key] || strings.HasPrefix(o.name, "torn") {
			continue
		}
		tr.seen[key] = true
		if err := tr.aftermath(ctx, s.fork(o.store, tr.seed+2000), o.store, "", nil, false); err != nil {
			t.Errorf("%s at %s (operation %d, ended with %v), %s: %v", ill.name, call, at, failed, o.name, err)
			if tr.bad++; tr.bad > 4 {
				t.FailNow()
			}
		}
	}
	return failed
}

// TestForgetAndPruneWorkOnAFullPlace: wherever in it the place fills up, the
// room that is kept back brings it to its end.
func TestForgetAndPruneWorkOnAFullPlace(t *testing.T) {
	runs := 0
	for _, s := range maintaining() {
		t.Run(s.name, func(t *testing.T) {
			tr, err := newTrial(t.Context(), s, 0)
			must(t, err)
			calls, err := tr.calls(t.Context())
			must(t, err)
			for at := 0; at < len(calls); at += tr.stride() {
				s, store := tr.stage()
				p := s.process(fault.New(store, fault.Options{FullAt: at + 1}), "")
				err := tr.act(t.Context(), p)
				p.end()
				runs++
				if err == nil {
					err = tr.aftermath(t.Context(), s, store, "", nil, false)
				}
				if err != nil {
					t.Errorf("full at %s (operation %d): %v", calls[at], at+1, err)
				}
			}
		})
	}
	t.Logf("%d prunes over a place that fills up", runs)
}

// TestFullPlaceAfterAKillIsPruned: a backup is killed at any of its operations
// and the place is full to the last byte but for its reserve. Forget and prune
// make room without help, and take the reserve again.
func TestFullPlaceAfterAKillIsPruned(t *testing.T) {
	const reserve = 1 << 20
	ctx := t.Context()
	big := make([]byte, 24*siteChunk) // which no codec makes smaller
	if _, err := newDice(5).Read(big); err != nil {
		t.Fatal(err)
	}
	base := mem.Open(mem.Options{Strict: true, ReserveBytes: reserve})
	before := newSite(base, 31)
	p := before.process(base, "")
	must(t, then(founded(1), noted("old"), backedUp(vmA, dayThree), backedUp(vmB, big))(ctx, p))
	must(t, base.Sync(ctx))
	p.end()
	for at := 1; ; at++ {
		store := base.CrashClone(mem.CrashOptions{})
		s := before.fork(store, 32)
		broken := fault.New(store, fault.Options{Plan: fault.Plan{At: at, Mode: fault.DoneButLost, Stop: true}})
		victim := s.process(broken, "")
		victim.dead = broken.Stopped
		err := victim.backup(ctx, vmB, dayTwo)
		victim.end()
		if err == nil {
			if at < 5 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
		store.SetQuota(store.Used())
		full := s.process(store, "")
		if err := steps(
			func() error { return full.drop(ctx, "old") },
			func() error { return full.drop(ctx, vmB) },
			func() error { return full.prune(ctx) },
			func() error { return full.keep(ctx, nil, false) },
			func() error { return full.backup(ctx, "vm/c", picture(5, 1)) },
		); err != nil {
			t.Fatalf("killed after operation %d: %v", at, err)
		}
		if got, _ := store.Refill(ctx); got != 0 {
			t.Errorf("killed after operation %d: %d bytes of the reserve are missing", at, got)
		}
		full.end()
	}
}
