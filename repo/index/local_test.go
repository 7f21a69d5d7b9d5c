package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
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

// TestLocalFollowsRepository lets random sessions publish, prune drop segments
// and rewrite them, and two processes share one directory, one of them
// reopening now and then. Both must always answer like a map.
func TestLocalFollowsRepository(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		rem := &remote{objects: map[string][]byte{}}
		held := map[string][]table{} // what each segment lists
		dirs := []string{filepath.Join(base, fmt.Sprint(run)), filepath.Join(base, fmt.Sprint(run)), ""}
		locals := make([]*Local, len(dirs))
		reopen := func(i int) {
			if locals[i] != nil {
				if err := locals[i].Close(); err != nil {
					t.Fatal(err)
				}
			}
			l, err := OpenLocal(dirs[i], LocalOptions{})
			if err != nil {
				t.Fatal(err)
			}
			locals[i] = l
		}
		for i := range locals {
			reopen(i)
		}
		defer func() {
			for _, l := range locals {
				_ = l.Close()
			}
		}()
		pool := randomTables(r, 40, 12)
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch r.IntN(6) {
			case 0: // drop a segment
				for name := range held {
					delete(held, name)
					delete(rem.objects, name)
					break
				}
			case 1:
				reopen(r.IntN(len(locals)))
			default: // publish a segment, perhaps with packs listed elsewhere
				name := fmt.Sprintf("index/%s/%08d", testSID(step), step)
				var b Builder
				for range 1 + r.IntN(4) {
					p := pool[r.IntN(len(pool))]
					held[name] = append(held[name], p)
					b.Add(p.pack, p.entries)
				}
				data, err := b.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				rem.objects[name] = data
			}
			l := locals[r.IntN(len(locals))]
			refresh(t, l, rem)
			var all []table
			for _, tables := range held {
				all = append(all, tables...)
			}
			localEquals(t, l, model(all))
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

// TestDamagedLocalFile damages the cache in every way a disk knows; the next
// refresh must leave a right index, and no look-up may ever give a wrong answer.
func TestDamagedLocalFile(t *testing.T) {
	rem, tables := fill(12, 200)
	want := model(tables)
	for name, spoil := range map[string]func(data []byte) []byte{
		"deleted":             func([]byte) []byte { return nil },
		"empty":               func([]byte) []byte { return []byte{} },
		"cut in a page":       func(b []byte) []byte { return b[:2000] },
		"tail cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"a page flipped":      func(b []byte) []byte { b[100] ^= 1; return b },
		"a fence flipped":     func(b []byte) []byte { b[segmentEnd(b)-trailerBytes-5] ^= 1; return b },
		"the trailer flipped": func(b []byte) []byte { b[segmentEnd(b)-40] ^= 1; return b },
		"a name flipped":      func(b []byte) []byte { b[len(b)-tailBytes-20] ^= 1; return b },
		"the tail zeroed":     func(b []byte) []byte { clear(b[len(b)-tailBytes:]); return b },
		"zeros":               func(b []byte) []byte { clear(b); return b },
		"a longer file":       func(b []byte) []byte { return append(b, b...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openLocal(t, dir)
			refresh(t, l, rem)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			spoilFiles(t, dir, spoil)
			l = openLocal(t, dir)
			refresh(t, l, rem)
			bad := 0
			for k, places := range want {
				got, _, err := l.Lookup(fullID(k))
				sortPlaces(got)
				switch {
				case errors.Is(err, ErrCorrupt):
					bad++
				case err != nil || !slices.Equal(got, places):
					t.Fatalf("wrong answer: %v, %v", got, err)
				}
			}
			if (bad > 0) != (name == "a page flipped") {
				t.Errorf("%d look-ups met the damage", bad)
			}
			refresh(t, l, rem)
			localEquals(t, l, want)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			rem.takeFetched()
			l = openLocal(t, dir)
			refresh(t, l, rem)
			localEquals(t, l, want)
			if n := rem.takeFetched(); n > 0 {
				t.Errorf("%d segments fetched again after the repair", n)
			}
		})
	}
}

// largest is the content of the largest local file.
func (st store) largest(t *testing.T) (data []byte) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(st.dir, "*"+localSuffix))
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(data) {
			data = b
		}
	}
	return data
}

// segmentEnd is where the segment ends in a local file.
func segmentEnd(file []byte) uint64 {
	return binary.LittleEndian.Uint64(file[len(file)-tailBytes+8:])
}

func spoilFiles(t *testing.T, dir string, spoil func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+localSuffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no local files: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if data = spoil(data); data == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamageFoundByMerge: a page goes bad that no look-up meets; the merge that
// reads it has it fetched again within the same refresh.
func TestDamageFoundByMerge(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(3, 200)
	l := openLocal(t, dir)
	refresh(t, l, rem)
	_ = l.Close()
	largest := len(l.store.largest(t))
	spoilFiles(t, dir, func(b []byte) []byte {
		if len(b) < largest { // the base stays out of a merge of small files
			b[50] ^= 8
		}
		return b
	})
	l = openLocal(t, dir)
	_, more := fill(20, 30) // enough small segments to force a merge
	for i, p := range more {
		p.pack.ID[15] = 1
		rem.objects[fmt.Sprintf("index/more/%08d", i)] = segmentBytes(t, p)
		tables = append(tables, p)
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := rem.takeFetched(); n != 3+20+2 {
		t.Errorf("%d fetches, want 3 + 20 and the 2 damaged ones again", n)
	}
}

func TestBadSegmentDoesNotStopTheOthers(t *testing.T) {
	rem, tables := fill(10, 50)
	names := rem.names()
	slices.Sort(names)
	damaged, lost := names[3], names[7]
	good := slices.Clone(rem.objects[damaged])
	rem.objects[damaged][10] ^= 1
	l := openLocal(t, t.TempDir())
	asked := rem.names()
	back := rem.objects[lost]
	delete(rem.objects, lost)
	err := l.Refresh(context.Background(), asked, rem.fetch)
	if !errors.Is(err, ErrCorrupt) || !errors.Is(err, errGone) {
		t.Fatalf("got %v", err)
	}
	if all := segmentErrors(err); !slices.Equal(all, []string{damaged, lost}) {
		t.Errorf("segments named in the error: %v", all)
	}
	found := 0
	for _, p := range tables {
		if ok, err := l.Has(p.entries[0].ID); ok && err == nil {
			found++
		}
	}
	if found < 8 {
		t.Errorf("%d of 8 sound segments in effect", found)
	}
	rem.objects[damaged], rem.objects[lost] = good, back
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
}

// segmentErrors are the names of all SegmentErrors in err, sorted.
func segmentErrors(err error) []string {
	var names []string
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *SegmentError:
			names = append(names, e.Name)
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	slices.Sort(names)
	return names
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
	if n := len(l.own.packs); n != 3 {
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
	if n := len(l.own.packs) + len(l.own.rows); n != 0 {
		t.Errorf("%d own packs and rows left after all are published", n)
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

func FuzzOpenLocalFile(f *testing.F) {
	rem, _ := fill(3, 10)
	for name, data := range rem.objects {
		var m memory
		_, err := write(&m, func(w io.Writer) error { _, err := w.Write(data); return err }, func(s *Segment) []named {
			return []named{{name, []uint32{0}}, {"index/b", nil}}
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(m), uint16(len(data)))
	}
	f.Add([]byte("HFLOCAL1"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, segBytes uint16) {
		m := memory(mendTail(data, segBytes))
		s, err := openShard(&m, int64(len(m)))
		if err != nil {
			return
		}
		for _, n := range s.names {
			for _, i := range n.packs {
				_ = s.seg.packs[i] // getNames promised that it is there
			}
			if live := s.liveIn(map[string]bool{n.name: true}); len(live) != len(s.seg.packs) {
				t.Fatal("live list of another length")
			}
		}
		_, _ = s.seg.Lookup(blob.ID{3})
	})
}

// mendTail makes tail and check fit, so that the fuzzer reaches the names.
func mendTail(data []byte, segBytes uint16) []byte {
	if len(data) < tailBytes || int(segBytes) > len(data)-tailBytes {
		return data
	}
	data = slices.Clone(data)
	tail := data[len(data)-tailBytes:]
	copy(tail, localMagic)
	clear(tail[8:])
	tail[8], tail[9] = byte(segBytes), byte(segBytes>>8)
	check := tailCheck(data[segBytes:len(data)-tailBytes], tail)
	for i := range 8 {
		tail[24+i] = byte(check >> (8 * i))
	}
	return data
}
