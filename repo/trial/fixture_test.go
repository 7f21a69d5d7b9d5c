package trial_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	mrand "math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/chunk"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/session"
	"holdfast/repo/stream"
)

const siteChunk = 64 << 10

// shortText cuts the streams of these tests, which are some letters long: a
// splitter for files would take 8 MiB for each.
var shortText = chunk.Params{Min: 256, Avg: 1 << 10, Max: 4 << 10}

// TestMain lets the heap grow to several times what lives: a test here makes a
// small repository and throws it away, thousands of times, and would spend a
// quarter of its time collecting.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// dice is a source of randomness that repeats by its seed.
type dice struct {
	mu  sync.Mutex
	src *mrand.ChaCha8
}

func newDice(seed uint64) *dice {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &dice{src: mrand.NewChaCha8(key)}
}

func (d *dice) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.src.Read(p)
}

// watch is a clock that moves on by a second a look.
type watch struct {
	mu  sync.Mutex
	now time.Time
}

func newWatch() *watch { return &watch{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (w *watch) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(time.Second)
	return w.now
}

// fork is another clock that shows the same time: what one history does must not
// change what another one writes, or no two of them would ever look alike.
func (w *watch) fork() *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &watch{now: w.now}
}

// site is a place of storage, the one machine whose processes work there, and
// everything that they were told is done: the promises.
type site struct {
	store   backend.Backend
	mu      *sync.Mutex       // held where a command changes a promise, and by fork
	secrets []seal.Secret     // one of them opens the repository
	added   seal.Secret       // of the key added last
	barred  []seal.Secret     // reported as taken out of use: none of them opens it
	made    map[string][]byte // point id → content: reported as committed, and nobody tried to drop it since
	known   [][]byte          // contents that a point may hold
	pinned  map[string]bool   // points reported as pinned
	gone    map[string]bool   // points reported as forgotten
	notes   map[string]string // of the script: ids by name
	aside   *site             // another repository, to copy from; nobody writes to it
	locks   *lockTable
	random  *dice
	clock   *watch
}

func newSite(store backend.Backend, seed uint64) *site {
	random := newDice(seed)
	return &site{
		store: store, mu: &sync.Mutex{}, secrets: []seal.Secret{newSecret(random)}, made: map[string][]byte{}, pinned: map[string]bool{}, gone: map[string]bool{},
		notes: map[string]string{}, locks: &lockTable{held: map[string]*process{}}, random: random, clock: newWatch(),
	}
}

func newSecret(random io.Reader) seal.Secret {
	text, err := seal.NewKeyFile(random)
	if err != nil {
		panic(err) // no randomness: the test is broken
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		panic(err)
	}
	return secret
}

// fork is the same site over a copy of its store.
func (s *site) fork(store backend.Backend, seed uint64) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *s
	c.store, c.mu, c.random, c.locks, c.clock = store, &sync.Mutex{}, newDice(seed), s.locks.fork(), s.clock.fork()
	c.secrets, c.barred, c.known = slices.Clone(s.secrets), slices.Clone(s.barred), slices.Clone(s.known)
	c.made, c.pinned, c.gone, c.notes = maps.Clone(s.made), maps.Clone(s.pinned), maps.Clone(s.gone), maps.Clone(s.notes)
	return &c
}

// promise changes what the site was told; at any moment somebody may want to
// know what that is.
func (s *site) promise(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// lockTable is the run locks of one machine.
type lockTable struct {
	mu   sync.Mutex
	held map[string]*process // by session
}

func (l *lockTable) fork() *lockTable {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &lockTable{held: maps.Clone(l.held)}
}

// process is one process on a site's machine. Its backend may fail under it.
type process struct {
	*site
	be    backend.Backend
	cache string
	dead  func() bool // the backend knows that it was killed; may be nil
	mu    sync.Mutex
	ended bool
}

func (s *site) process(be backend.Backend, cache string) *process {
	return &process{site: s, be: be, cache: cache}
}

// end is what the operating system does when a process is gone, however: its
// locks are free, and nothing that it still does counts.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended && (p.dead == nil || !p.dead())
}

// Hold takes a session's lock for the process.
func (p *process) Hold(sid string) (func(), error) {
	p.locks.mu.Lock()
	defer p.locks.mu.Unlock()
	p.locks.held[sid] = p
	return func() {
		if !p.alive() {
			return
		}
		p.locks.mu.Lock()
		defer p.locks.mu.Unlock()
		delete(p.locks.held, sid)
	}, nil
}

// State tells whether a session's process lives.
func (p *process) State(sid string) ledger.Lock {
	p.locks.mu.Lock()
	defer p.locks.mu.Unlock()
	owner := p.locks.held[sid]
	switch {
	case owner == nil:
		return ledger.LockUnknown
	case owner.alive():
		return ledger.LockHeld
	}
	return ledger.LockFree
}

// Settled takes away what a dead process has left.
func (p *process) Settled(sid string) {
	p.locks.mu.Lock()
	defer p.locks.mu.Unlock()
	delete(p.locks.held, sid)
}

func (p *process) options() repo.Options {
	return repo.Options{Now: p.clock.Now, Rand: p.random, Host: "here", Program: "holdfast trial", PID: 1, CacheDir: p.cache, Locks: func(string) session.Locks { return p }}
}

// open opens the repository with the secret that fits.
func (p *process) open(ctx context.Context) (r *repo.Repository, err error) {
	for _, secret := range p.secrets {
		r, err = repo.Open(ctx, p.be, secret, p.options())
		if !errors.Is(err, seal.ErrWrongKey) {
			return r, err
		}
	}
	return nil, err
}

// with opens the repository for one command.
func (p *process) with(ctx context.Context, do func(r *repo.Repository) error) error {
	r, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r)
}

func (p *process) init(ctx context.Context) error {
	params := repo.InitParams{DiskChunkBytes: siteChunk, Keys: []repo.NewKey{{Secret: p.secrets[0]}}, Parity: p.notes["parity"]}
	r, err := repo.Init(ctx, p.be, params, p.options())
	if err != nil {
		return err
	}
	return r.Close()
}

// picture is the content of a disk of so many chunks, all different and small
// when compressed, so that packs have the smallest shapes.
func picture(seed uint32, chunks int) []byte {
	data := make([]byte, chunks*siteChunk)
	for i := range chunks {
		binary.LittleEndian.PutUint32(data[i*siteChunk:], seed)
		binary.LittleEndian.PutUint32(data[i*siteChunk+4:], uint32(i))
	}
	return data
}

// repaint is data with chunk i as another picture has it.
func repaint(data []byte, seed uint32, chunks ...int) []byte {
	data = bytes.Clone(data)
	for _, i := range chunks {
		binary.LittleEndian.PutUint32(data[i*siteChunk:], seed)
	}
	return data
}

// backup makes a point of source and notes it.
func (p *process) backup(ctx context.Context, source string, data []byte) error {
	return p.with(ctx, func(r *repo.Repository) error {
		s, point, err := p.upload(ctx, r, source, data)
		if err != nil {
			return err
		}
		return p.commit(ctx, s, point, data)
	})
}

// upload begins a session and gives it all content of a point.
func (p *process) upload(ctx context.Context, r *repo.Repository, source string, data []byte) (*repo.Session, *recovery.Point, error) {
	p.promise(func() { p.known = append(p.known, data) })
	s, err := r.Begin(ctx, source, source)
	if err != nil {
		return nil, nil, err
	}
	point, err := fill(ctx, r, s, source, data)
	if err != nil {
		s.Abort()
		return nil, nil, err
	}
	point.Time, point.Finished = p.clock.Now(), p.clock.Now()
	return s, point, nil
}

func (p *process) commit(ctx context.Context, s *repo.Session, point *recovery.Point, data []byte) error {
	if err := s.Commit(ctx, point); err != nil {
		s.Abort()
		return err
	}
	p.promise(func() { p.made[point.ID], p.notes[point.Source] = data, point.ID })
	return nil
}

// fill stores content as a disk and a stream.
func fill(ctx context.Context, r *repo.Repository, s *repo.Session, source string, data []byte) (*recovery.Point, error) {
	b, err := image.NewBuilder(s, r, nil, int64(len(data)), siteChunk)
	if err != nil {
		return nil, err
	}
	for i := 0; i*siteChunk < len(data); i++ {
		id, err := s.Put(ctx, blob.DiskChunk, data[i*siteChunk:(i+1)*siteChunk])
		if err != nil {
			return nil, err
		}
		if err := b.Set(ctx, int64(i), id); err != nil {
			return nil, err
		}
	}
	m, err := b.Finish(ctx)
	if err != nil {
		return nil, err
	}
	st, err := stream.Write(ctx, s, chunk.New(strings.NewReader(source), r.CDCKey(), shortText), stream.Options{})
	if err != nil {
		return nil, err
	}
	return &recovery.Point{
		Kind: recovery.Image, Source: source, Identity: source, BytesTotal: m.Bytes,
		Items: []recovery.Item{{Name: "disk-0", Bytes: m.Bytes, Disk: &m}, {Name: "text", Bytes: st.Bytes, Stream: &st}},
	}, nil
}

// readBack restores a point.
func readBack(ctx context.Context, r *repo.Repository, p *recovery.Point) ([]byte, error) {
	m := p.Items[0].Disk
	got := make([]byte, m.Bytes)
	err := image.Copy(ctx, r, *m, image.CopyOptions{}, func(off int64, data []byte) error {
		copy(got[off:], data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	text := stream.Open(ctx, r, *p.Items[1].Stream)
	defer text.Close()
	all, err := io.ReadAll(text)
	if err == nil && string(all) != p.Source {
		err = fmt.Errorf("the stream of %s came back as %q", p.Source, all)
	}
	return got, err
}

// drop forgets the point that notes call name. From the attempt on nobody may
// count on it.
func (p *process) drop(ctx context.Context, name string) error {
	return p.with(ctx, func(r *repo.Repository) error {
		id := p.notes[name]
		e, err := r.Find(ctx, id)
		if errors.Is(err, recovery.ErrUnknown) && p.made[id] == nil {
			return nil // dropped by an earlier attempt
		}
		if err != nil {
			return err
		}
		p.promise(func() {
			delete(p.made, id)
			delete(p.pinned, id)
		})
		if err := r.Forget(ctx, e, "trial"); err != nil {
			return err
		}
		p.promise(func() { p.gone[id] = true })
		return nil
	})
}

// prune prunes, leaving nothing unused.
func (p *process) prune(ctx context.Context) error {
	return p.with(ctx, func(r *repo.Repository) error {
		none := 0.0
		_, err := r.Prune(ctx, repo.PruneOptions{MaxUnused: &none})
		return err
	})
}

// objects lists the names below prefix.
func objects(ctx context.Context, be backend.Backend, prefix string) ([]string, error) {
	var all []string
	err := be.List(ctx, prefix, func(info backend.Info) error {
		all = append(all, info.Name)
		return nil
	})
	return all, err
}

// newStore is a store in memory that knows the rules.
func newStore() *mem.Backend { return mem.Open(mem.Options{Strict: true}) }

// steps runs one after the other until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
