package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

var errGone = errors.New("object not found")

// remote is the index/ of a repository.
type remote struct {
	mu      sync.Mutex
	objects map[string][]byte
	fetched int
}

func (r *remote) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.objects {
		names = append(names, name)
	}
	return names
}

func (r *remote) fetch(ctx context.Context, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetched++
	data, ok := r.objects[name]
	if !ok {
		return nil, errGone
	}
	return data, ctx.Err()
}

// takeFetched returns how many fetches there were since it was last asked.
func (r *remote) takeFetched() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.fetched
	r.fetched = 0
	return n
}

func openLocal(tb testing.TB, dir string) *Local {
	tb.Helper()
	l, err := OpenLocal(dir, LocalOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

func refresh(tb fataler, l *Local, r *remote) {
	if err := l.Refresh(context.Background(), r.names(), r.fetch); err != nil {
		tb.Fatal(err)
	}
}

// localEquals compares all answers of l with a model.
func localEquals(tb fataler, l *Local, want map[Key][]Location) {
	packs := map[string]bool{}
	for k, places := range want {
		got, ok, err := l.Lookup(fullID(k))
		if err != nil || !ok {
			tb.Fatalf("look up %x: %v, %v", k, ok, err)
		}
		sortPlaces(got)
		if !slices.Equal(got, places) {
			tb.Fatalf("look up %x: got %v, want %v", k, got, places)
		}
		if has, err := l.Has(fullID(k)); !has || err != nil {
			tb.Fatalf("has %x: %v, %v", k, has, err)
		}
		for _, at := range places {
			packs[at.Pack.Name()] = true
		}
		k[7] ^= 0x55
		if _, ok, err := l.Lookup(fullID(k)); ok != (len(want[k]) > 0) || err != nil {
			tb.Fatalf("look up absent %x: %v, %v", k, ok, err)
		}
	}
	n := 0
	for p := range l.Packs() {
		if !packs[p.Name()] {
			tb.Fatalf("pack %s is not in the model, or came twice", p.Name())
		}
		delete(packs, p.Name())
		n++
	}
	if len(packs) > 0 {
		tb.Fatalf("%d packs missing after %d", len(packs), n)
	}
}

// world is a repository with several users of its index.
type world struct {
	t      *rapid.T
	r      *rand.Rand
	rem    *remote
	held   map[string][]table // what each segment lists
	pool   []table
	dirs   []string
	locals []*Local
}

// reopen closes and opens user i.
func (w *world) reopen(i int) {
	if w.locals[i] != nil {
		if err := w.locals[i].Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	l, err := OpenLocal(w.dirs[i], LocalOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.locals[i] = l
}

// publish adds a segment, perhaps with packs that others list too.
func (w *world) publish(name string) {
	var b Builder
	for range 1 + w.r.IntN(4) {
		p := w.pool[w.r.IntN(len(w.pool))]
		w.held[name] = append(w.held[name], p)
		b.Add(p.pack, p.entries)
	}
	data, err := b.Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	w.rem.objects[name] = data
}

// drop takes a segment away, as prune does.
func (w *world) drop() {
	if names := slices.Sorted(maps.Keys(w.held)); len(names) > 0 {
		name := names[w.r.IntN(len(names))]
		delete(w.held, name)
		delete(w.rem.objects, name)
	}
}

// TestLocalFollowsRepository lets random sessions publish and prune drop
// segments, while three users, two of them in one directory, reopen and refresh
// now and then. After a refresh each must answer like a map.
func TestLocalFollowsRepository(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		w := &world{
			t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3)), rem: &remote{objects: map[string][]byte{}},
			held: map[string][]table{}, dirs: []string{dir, dir, ""}, locals: make([]*Local, 3),
		}
		w.pool = randomTables(w.r, 40, 12)
		for i := range w.locals {
			w.reopen(i)
			defer func() { _ = w.locals[i].Close() }()
		}
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch w.r.IntN(6) {
			case 0:
				w.drop()
			case 1:
				w.reopen(w.r.IntN(len(w.locals)))
			default:
				w.publish(fmt.Sprintf("index/%s/%08d", testSID(step), step))
			}
			l := w.locals[w.r.IntN(len(w.locals))]
			refresh(t, l, w.rem)
			localEquals(t, l, model(slices.Concat(slices.Collect(maps.Values(w.held))...)))
		}
	})
}

func TestLocalKeepsWhatItFetched(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(20, 30)
	l := openLocal(t, dir)
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := rem.takeFetched(); n != 20 {
		t.Errorf("%d fetches, want 20", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLocal(t, dir)
	if _, ok, err := l.Lookup(tables[0].entries[0].ID); ok || err != nil {
		t.Errorf("found before the first refresh told that the segment exists: %v, %v", ok, err)
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := rem.takeFetched(); n != 0 {
		t.Errorf("%d segments fetched again", n)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) > 1+maxRecent {
		t.Errorf("20 small segments left in %d files", len(files))
	}
}

// fill makes a repository of one-pack segments.
func fill(segments, most int) (*remote, []table) {
	r := rand.New(rand.NewPCG(uint64(segments), uint64(most)))
	tables := randomTables(r, segments, most)
	rem := &remote{objects: map[string][]byte{}}
	for i, p := range tables {
		var b Builder
		b.Add(p.pack, p.entries)
		data, err := b.Bytes()
		if err != nil {
			panic(err)
		}
		rem.objects[fmt.Sprintf("index/%s/%08d", p.pack.SID, i)] = data
	}
	return rem, tables
}

// TestGoneSegmentLeavesMergedFile: an entry of a dropped segment must not be
// found, even after it was merged into the base.
func TestGoneSegmentLeavesMergedFile(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		rem, tables := fill(30, 20)
		l := openLocal(t, dir)
		refresh(t, l, rem)
		for i := 0; i < len(tables); i += 2 {
			delete(rem.objects, fmt.Sprintf("index/%s/%08d", tables[i].pack.SID, i))
		}
		var kept []table
		for i := 1; i < len(tables); i += 2 {
			kept = append(kept, tables[i])
		}
		refresh(t, l, rem)
		localEquals(t, l, model(kept))
		for name := range rem.objects {
			delete(rem.objects, name)
		}
		refresh(t, l, rem)
		for _, p := range tables {
			if ok, err := l.Has(p.entries[0].ID); ok || err != nil {
				t.Fatalf("found in an empty repository: %v, %v", ok, err)
			}
		}
	}
}

func TestRefreshObeysContext(t *testing.T) {
	rem, tables := fill(10, 10)
	l := openLocal(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	var calls atomic.Int32
	err := l.Refresh(ctx, rem.names(), func(ctx context.Context, name string) ([]byte, error) {
		if calls.Add(1) == 2 {
			cancel()
		}
		return rem.fetch(ctx, name)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
}

func TestOwnPacksAreKnownAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 21))
	tables := randomTables(r, 8, 40)
	l := openLocal(t, t.TempDir())
	for i, p := range tables {
		for range 2 { // twice is once
			if err := l.Add(p.pack, p.entries); err != nil {
				t.Fatal(err)
			}
		}
		localEquals(t, l, model(tables[:i+1]))
	}
	name := "index/" + testSID(1) + "/00000000"
	data := segmentBytes(t, tables[:5]...)
	for range 2 {
		if err := l.AddSegment(name, data); err != nil {
			t.Fatal(err)
		}
		localEquals(t, l, model(tables))
	}
	if n := len(l.own); n != 3 {
		t.Errorf("%d packs still in memory, want 3", n)
	}
	rem := &remote{objects: map[string][]byte{name: data}}
	refresh(t, l, rem)
	if n := rem.takeFetched(); n != 0 {
		t.Errorf("own segment fetched back %d times", n)
	}
	localEquals(t, l, model(tables))
	rem.objects[name+"1"] = segmentBytes(t, tables[5:]...)
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := len(l.own); n != 0 {
		t.Errorf("%d own packs left after all are published", n)
	}
	data[200] ^= 1
	if err := l.AddSegment(name+"2", data); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged segment added: %v", err)
	}
}

// TestManyProcessesOneDirectory hammers one directory from several Locals with
// look-ups, refreshes and reopening at once.
func TestManyProcessesOneDirectory(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(60, 30)
	names := rem.names()
	slices.Sort(names)
	want := model(tables)
	var wg sync.WaitGroup
	for p := range 4 {
		wg.Go(func() {
			for round := range 6 {
				l, err := OpenLocal(dir, LocalOptions{Fetches: 2})
				if err != nil {
					t.Error(err)
					return
				}
				var readers sync.WaitGroup
				for n := 10 * (round + 1); n <= len(names); n += 10 + p {
					readers.Go(func() {
						for k, places := range want {
							got, ok, err := l.Lookup(fullID(k))
							if err != nil {
								t.Error(err)
								return
							}
							if ok && !subset(got, places) {
								t.Errorf("wrong answer %v", got)
								return
							}
						}
					})
					if err := l.Refresh(context.Background(), names[:n], rem.fetch); err != nil {
						t.Error(err)
					}
				}
				readers.Wait()
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l := openLocal(t, dir)
	refresh(t, l, rem)
	localEquals(t, l, want)
}

func subset(got, of []Location) bool {
	return !slices.ContainsFunc(got, func(at Location) bool { return !slices.Contains(of, at) })
}

func TestClosedLocal(t *testing.T) {
	rem, tables := fill(2, 5)
	l := openLocal(t, t.TempDir())
	refresh(t, l, rem)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, lookup := l.Lookup(blob.ID{1})
	_, has := l.Has(blob.ID{1})
	for i, err := range []error{
		lookup, has, l.Add(tables[0].pack, tables[0].entries),
		l.AddSegment("index/x", segmentBytes(t, tables[0])), l.Refresh(context.Background(), nil, rem.fetch),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestPlaceInTheYoungestSessionComesFirst: what a repack has copied is read where
// prune keeps it, not in the pack that it is about to remove, or has.
func TestPlaceInTheYoungestSessionComesFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	id := randomID(r)
	tables := make([]table, 3)
	for n, sid := range []string{"00000001-00000000000000aa-0000000000000001", "0000000a-0000000000000001-0000000000000001", "00000002-ffffffffffffffff-0000000000000001"} {
		tables[n] = testPack(n, 1, func(int) blob.ID { return id })
		tables[n].pack.SID = sid
		tables[n] = lawful(tables[n])
	}
	l := openLocal(t, "")
	rem := &remote{objects: map[string][]byte{"index/a/00000000": segmentBytes(t, tables[:2]...), "index/b/00000000": segmentBytes(t, tables[2])}}
	refresh(t, l, rem)
	places, ok, err := l.Lookup(id)
	if !ok || err != nil || len(places) != 3 {
		t.Fatalf("%v, %v, %v", places, ok, err)
	}
	for i, n := range []int{1, 2, 0} {
		if places[i].Pack.SID != tables[n].pack.SID {
			t.Errorf("place %d is of session %s, want %s", i, places[i].Pack.SID, tables[n].pack.SID)
		}
	}
}

// TestSlowStoreHoldsNobodyUp: while a Refresh waits for the place of storage,
// look-ups, lists and new segments go on, another Refresh waits as long as its
// context lasts, and what was added meanwhile is kept.
func TestSlowStoreHoldsNobodyUp(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		r := rand.New(rand.NewPCG(1, 2))
		var tables []table
		for n := range 12 {
			tables = append(tables, testPack(n, 20, func(int) blob.ID { return randomID(r) }))
		}
		content := func(n int) []byte { return segmentBytes(t, tables[3*n:3*n+3]...) }
		l := openLocal(t, dir)
		far := &remote{objects: map[string][]byte{"index/0": content(0)}}
		if err := l.Refresh(t.Context(), far.names(), far.fetch); err != nil {
			t.Fatal(err)
		}
		far.objects["index/1"] = content(1)
		asked, answer, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			done <- l.Refresh(context.Background(), far.names(), func(ctx context.Context, name string) ([]byte, error) {
				close(asked)
				<-answer
				return far.fetch(ctx, name)
			})
		}()
		<-asked
		known := func(n int) bool {
			ok, err := l.Has(tables[3*n].entries[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if !known(0) || known(1) || len(l.Segments()) != 1 || len(l.Missing()) != 0 {
			t.Error("what was known before is not what is known while more is fetched")
		}
		for n := 2; n < 4; n++ {
			if err := l.AddSegment(fmt.Sprint("index/", n), content(n)); err != nil || !known(n) {
				t.Fatalf("segment %d added while more is fetched: %v", n, err)
			}
		}
		if in := l.InSegments(map[string]bool{"index/2": true}); !in(tables[6].pack) || in(tables[0].pack) {
			t.Error("the lists of segments are wrong while more is fetched")
		}
		if lacks := l.Lacks(map[string]bool{"index/0": true, "index/9": true}); !slices.Equal(lacks, []string{"index/9"}) {
			t.Errorf("it lacks %v", lacks)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Refresh(gone, far.names(), far.fetch); !errors.Is(err, context.Canceled) {
			t.Errorf("a Refresh that nobody waits for: %v", err)
		}
		close(answer)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			if !known(n) {
				t.Errorf("segment %d is not known when all has been fetched", n)
			}
		}
		if len(l.Segments()) != 4 || len(l.Missing()) != 0 || l.IsEmpty() {
			t.Errorf("%d segments, missing %v", len(l.Segments()), l.Missing())
		}
		localEquals(t, l, model(tables))
	}
}
