package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
)

var (
	errFreeze  = errors.New("freeze refused")
	errRelease = errors.New("snapshot stays")
	errTell    = errors.New("source does not listen")
	errRead    = errors.New("read refused")
)

// machine is a source with two disks and two streams that counts what is done
// with it and fails where it is told.
type machine struct {
	clock *clock
	disks [][]byte
	text  []byte

	freeze, release, tell error // returned there
	readErr               func(disk int, off int64) error
	onFreeze              func()

	mu        sync.Mutex
	frozen    int
	released  int
	committed []string
	dead      error // of Release's context
	open      atomic.Int32
}

func newMachine(c *clock) *machine {
	return &machine{clock: c, disks: [][]byte{content(1, 900_000), content(2, 500_000)}, text: bytes.Repeat([]byte("configuration "), 9000)}
}

func (m *machine) Kind() recovery.Kind { return recovery.VM }
func (m *machine) Name() string        { return "vm/web01" }
func (m *machine) Identity() string    { return "uuid-1" }

func (m *machine) Freeze(_ context.Context, _ *recovery.Point) (backup.Frozen, error) {
	if m.onFreeze != nil {
		m.onFreeze()
	}
	if m.freeze != nil {
		return nil, m.freeze
	}
	m.frozen++
	return (*frozenMachine)(m), nil
}

type frozenMachine machine

func (m *frozenMachine) State() backup.State {
	return backup.State{Time: m.clock.Now(), Consistency: recovery.Application, Warnings: []string{"hot"}, Attrs: []byte(`{"cpus":2}`)}
}

func (m *frozenMachine) Items() []backup.Item {
	var items []backup.Item
	for i, data := range m.disks {
		items = append(items, backup.Item{Name: fmt.Sprintf("disk-%d", 2000+i), Label: fmt.Sprintf("Hard disk %d", i+1), Key: int32(2000 + i), Disk: &backup.Disk{
			Bytes: int64(len(data)), ReadMode: recovery.ReadFull, Rule: "T", Reason: "test", ReadBytes: 128 << 10,
			Open: func(context.Context) (backup.DiskReader, error) {
				m.open.Add(1)
				return &platter{m: (*machine)(m), disk: i}, nil
			},
		}})
	}
	return append(items,
		backup.Item{Name: "vmx", Label: "vmx", Stream: &backup.Stream{Bytes: 5, Inline: true, Open: m.opener([]byte("small"))}},
		backup.Item{Name: "nvram", Label: "nvram", Stream: &backup.Stream{Bytes: int64(len(m.text)), Inline: true, Open: m.opener(m.text)}},
	)
}

func (m *frozenMachine) opener(data []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		m.open.Add(1)
		return &tape{Reader: bytes.NewReader(data), m: (*machine)(m)}, nil
	}
}

func (m *frozenMachine) Committed(_ context.Context, p *recovery.Point) error {
	m.committed = append(m.committed, p.ID)
	return m.tell
}

func (m *frozenMachine) Release(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.released++
	m.dead = errors.Join(m.dead, ctx.Err())
	if _, limited := ctx.Deadline(); !limited {
		m.dead = errors.Join(m.dead, errors.New("release has no limit"))
	}
	return m.release
}

// platter reads one disk.
type platter struct {
	m    *machine
	disk int
}

func (p *platter) ReadAt(ctx context.Context, b []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.m.readErr != nil {
		if err := p.m.readErr(p.disk, off); err != nil {
			return err
		}
	}
	if n := copy(b, p.m.disks[p.disk][off:]); n < len(b) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (p *platter) Close() error { p.m.open.Add(-1); return nil }

type tape struct {
	*bytes.Reader
	m *machine
}

func (t *tape) Close() error { t.m.open.Add(-1); return nil }

// settled demands that the source was released as often as it was frozen, once,
// with a living context, and that nothing is left open.
func (m *machine) settled(t *testing.T) {
	t.Helper()
	if m.released != m.frozen || m.frozen > 1 || m.dead != nil {
		t.Errorf("frozen %d times, released %d times, context %v", m.frozen, m.released, m.dead)
	}
	if n := m.open.Load(); n != 0 {
		t.Errorf("%d readers were left open", n)
	}
}

// TestWholeMachine goes in and comes back, items and facts.
func TestWholeMachine(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	m := newMachine(c)
	res := mustRun(t, r, m, backup.Options{Now: c.Now, Tags: []string{"x"}})
	m.settled(t)
	p := res.Point
	if len(m.committed) != 1 || m.committed[0] != p.ID || p.Consistency != recovery.Application || len(p.Items) != 4 || string(p.Attrs) != `{"cpus":2}` {
		t.Errorf("point: %+v", p)
	}
	for i, data := range m.disks {
		got, err := tryReadBack(t.Context(), r, &recovery.Point{Items: []recovery.Item{*p.Item(fmt.Sprintf("disk-%d", 2000+i))}})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("disk %d: %v", i, err)
		}
	}
	if string(p.Item("vmx").Inline) != "small" || p.Item("nvram").Stream == nil || p.Item("nvram").Bytes != int64(len(m.text)) {
		t.Errorf("streams: %+v", p.Items[2:])
	}
}

func TestFreezeThatFailsIsNotReleased(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	m := newMachine(c)
	m.freeze = errFreeze
	if res, err := backup.Run(t.Context(), r, m, backup.Options{Now: c.Now}); res != nil || !errors.Is(err, errFreeze) {
		t.Fatalf("run: %+v %v", res, err)
	}
	m.settled(t)
	noPoints(t, r, be)
}

func noPoints(t *testing.T, r *repo.Repository, be backend.Backend) {
	t.Helper()
	if points, problems, err := r.Points(t.Context()); err != nil || len(points)+len(problems) != 0 {
		t.Errorf("points: %v %v %v", points, problems, err)
	}
	checkClean(t, r, be)
}

// TestReleaseThatFailsStillGivesThePoint: the point is good, the error says
// that a snapshot is left.
func TestReleaseThatFailsStillGivesThePoint(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	for _, tell := range []error{nil, errTell} {
		m := newMachine(c)
		m.release, m.tell = errRelease, tell
		res, err := backup.Run(t.Context(), r, m, backup.Options{Now: c.Now})
		if res == nil || !errors.Is(err, backup.ErrRelease) || !errors.Is(err, errRelease) || errors.Is(err, errTell) != (tell != nil) {
			t.Fatalf("run: %+v %v", res, err)
		}
		m.settled(t)
		if e, err := r.Find(t.Context(), res.Point.ID); err != nil || !bytes.Equal(readBack(t, r, e.Point), m.disks[0]) {
			t.Errorf("the point: %v", err)
		}
	}
	m := newMachine(c)
	m.release = errRelease
	m.readErr = func(int, int64) error { return errRead }
	if res, err := backup.Run(t.Context(), r, m, backup.Options{Now: c.Now}); res != nil || !errors.Is(err, errRead) || !errors.Is(err, backup.ErrRelease) {
		t.Errorf("both fail: %+v %v", res, err)
	}
	m.settled(t)
}

// TestReadThatFailsAnywhereCommitsNothing and frees the source.
func TestReadThatFailsAnywhereCommitsNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	for disk := range 2 {
		for off := int64(0); off < 500_000; off += 128 << 10 {
			m := newMachine(c)
			m.readErr = func(d int, o int64) error {
				if d == disk && o == off {
					return errRead
				}
				return nil
			}
			if res, err := backup.Run(t.Context(), r, m, backup.Options{Now: c.Now}); res != nil || !errors.Is(err, errRead) {
				t.Fatalf("disk %d at %d: %+v %v", disk, off, res, err)
			}
			m.settled(t)
		}
	}
	noPoints(t, r, be)
}

// interrupter ends a context before or after the n-th call of a backend.
type interrupter struct {
	backend.Backend
	at    int32
	calls atomic.Int32
	stop  context.CancelFunc
}

func (i *interrupter) tick() {
	if i.calls.Add(1) == i.at {
		i.stop()
	}
}

func (i *interrupter) Put(ctx context.Context, name string, data []byte) error {
	i.tick()
	defer i.tick()
	return i.Backend.Put(ctx, name, data)
}

func (i *interrupter) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	i.tick()
	defer i.tick()
	return i.Backend.PutIfAbsent(ctx, name, data)
}

func (i *interrupter) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	i.tick()
	return i.Backend.List(ctx, prefix, fn)
}

func (i *interrupter) Sync(ctx context.Context) error {
	i.tick()
	defer i.tick()
	return i.Backend.Sync(ctx)
}

// TestInterruptAtEveryCall ends the context before and after each call of the
// store, and in the middle of freezing and of each read: the source is freed,
// the repository is clean, and a point exists or not, but never half.
func TestInterruptAtEveryCall(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	secret := keyFile(t)
	try := func(at int32, during string) (ended bool) {
		c, store := newClock(), mem.New()
		newRepository(t, store, secret, c, crashChunk)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		be := &interrupter{Backend: store, stop: cancel}
		r := reopen(t, be, secret, c)
		be.calls.Store(0)
		be.at = at
		m := newMachine(c)
		switch during {
		case "freeze":
			m.onFreeze = cancel
		case "read":
			m.readErr = func(disk int, off int64) error {
				if disk == 1 && off > 0 {
					cancel()
				}
				return nil
			}
		}
		res, err := backup.Run(ctx, r, m, backup.Options{Now: c.Now})
		m.settled(t)
		if err != nil && (res != nil || !errors.Is(err, context.Canceled)) {
			t.Errorf("interrupt at %d: %+v %v", at, res, err)
		}
		after := reopen(t, store, secret, c)
		points, problems, listErr := after.Points(t.Context())
		if listErr != nil || len(problems) > 0 || len(points) > 1 || err == nil && len(points) != 1 {
			t.Errorf("interrupt at %d: points %v %v %v after %v", at, points, problems, listErr, err)
		}
		for _, p := range points {
			if !bytes.Equal(readBack(t, after, p.Point), m.disks[0]) {
				t.Errorf("interrupt at %d: a point came back different", at)
			}
		}
		checkClean(t, after, store)
		return ctx.Err() == nil
	}
	for _, during := range []string{"freeze", "read"} {
		if try(0, during) {
			t.Errorf("no interrupt during %s", during)
		}
	}
	at := int32(1)
	for ; !try(at, ""); at++ {
		if at > 200 {
			t.Fatal("the run never ends")
		}
	}
	if at < 12 {
		t.Errorf("only %d moments were tried", at)
	}
}

// TestStreamThatFailsStopsTheDisks: nobody reads a disk of terabytes to its end
// for a point that cannot be made any more.
func TestStreamThatFailsStopsTheDisks(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	stopped := make(chan struct{})
	src := &mixed{clock: c, items: []backup.Item{
		{Name: "endless", Label: "endless", Disk: &backup.Disk{Bytes: 1 << 40, ReadMode: recovery.ReadFull, Open: func(context.Context) (backup.DiskReader, error) {
			return endless{stopped}, nil
		}}},
		{Name: "broken", Label: "broken", Stream: &backup.Stream{Bytes: -1, Open: func(context.Context) (io.ReadCloser, error) { return nil, errRead }}},
	}}
	res, err := backup.Run(t.Context(), r, src, backup.Options{Now: c.Now})
	if res != nil || !errors.Is(err, errRead) {
		t.Fatalf("run: %+v %v", res, err)
	}
	<-stopped
	noPoints(t, r, be)
}

// mixed is a source of any items.
type mixed struct {
	clock *clock
	items []backup.Item
}

func (m *mixed) Kind() recovery.Kind { return recovery.VM }
func (m *mixed) Name() string        { return "vm/mixed" }
func (m *mixed) Identity() string    { return "mixed" }
func (m *mixed) Freeze(context.Context, *recovery.Point) (backup.Frozen, error) {
	return &frozenMixed{m}, nil
}

type frozenMixed struct{ m *mixed }

func (f *frozenMixed) State() backup.State {
	return backup.State{Time: f.m.clock.Now(), Consistency: recovery.Crash}
}
func (f *frozenMixed) Items() []backup.Item                             { return f.m.items }
func (f *frozenMixed) Committed(context.Context, *recovery.Point) error { return nil }
func (f *frozenMixed) Release(context.Context) error                    { return nil }

// endless is a disk whose reads end only with their context.
type endless struct{ stopped chan struct{} }

func (e endless) ReadAt(ctx context.Context, _ []byte, _ int64) error { <-ctx.Done(); return ctx.Err() }
func (e endless) Close() error                                        { close(e.stopped); return nil }

// TestStreamShorterOrLongerThanItSaysIsAnError: a truncated download must not
// become a point.
func TestStreamShorterOrLongerThanItSaysIsAnError(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	for _, inline := range []bool{true, false} {
		for _, size := range []int64{4, 6} {
			src := &mixed{clock: c, items: []backup.Item{{Name: "vmx", Stream: &backup.Stream{Bytes: size, Inline: inline, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader([]byte("12345"))), nil
			}}}}}
			if res, err := backup.Run(t.Context(), r, src, backup.Options{Now: c.Now}); res != nil || !errors.Is(err, backup.ErrChanged) {
				t.Errorf("5 bytes where %d were said, inline %v: %v", size, inline, err)
			}
		}
	}
	noPoints(t, r, be)
}

// shortReader returns fewer bytes than asked, with or without an error.
type shortReader struct {
	data []byte
	err  error
}

func (s shortReader) ReadAt(p []byte, off int64) (int, error) {
	return copy(p[:len(p)-1], s.data[off:]), s.err
}
func (shortReader) Close() error { return nil }

func TestReaderThatReturnsShortDataIsAnError(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, crashChunk)
	data := content(3, 300_000)
	for _, cause := range []error{nil, io.EOF, errRead} {
		src := source(c, "d", data)
		src.Open = func(context.Context) (backup.RandomAccess, error) { return shortReader{data, cause}, nil }
		want := backup.ErrChanged
		if cause == errRead {
			want = errRead
		}
		if _, err := backup.Run(t.Context(), r, src, backup.Options{Now: c.Now}); !errors.Is(err, want) {
			t.Errorf("short with %v: %v", cause, err)
		}
	}
	pipe := &backup.ImageSource{Label: "pipe", Bytes: -1, OpenStream: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(data), brokenPipe{})), nil
	}}
	if _, err := backup.Run(t.Context(), r, pipe, backup.Options{Now: c.Now}); !errors.Is(err, errRead) {
		t.Errorf("a pipe that breaks: %v", err)
	}
	noPoints(t, r, be)
}

type brokenPipe struct{}

func (brokenPipe) Read([]byte) (int, error) { return 0, errRead }

// TestFullStoreEndsTheRunInTheMiddle with the store's error, and frees the source.
func TestFullStoreEndsTheRunInTheMiddle(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, prefix := range []string{"sessions/", "data/", "meta/", "index/", "commit/"} {
		c, store, secret := newClock(), mem.New(), keyFile(t)
		newRepository(t, store, secret, c, crashChunk)
		be := fault.New(store, fault.Options{Rules: []fault.Rule{
			{Op: fault.Put, Prefix: prefix, Err: backend.ErrNoSpace}, {Op: fault.PutIfAbsent, Prefix: prefix, Err: backend.ErrNoSpace},
		}})
		r := reopen(t, be, secret, c)
		m := newMachine(c)
		if res, err := backup.Run(t.Context(), r, m, backup.Options{Now: c.Now}); res != nil || !errors.Is(err, backend.ErrNoSpace) {
			t.Errorf("full at %s: %+v %v", prefix, res, err)
		}
		m.settled(t)
		noPoints(t, reopen(t, store, secret, c), store)
	}
}
