package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
	"holdfast/repo/index/segment"
)

// marked is what a set must tell of every chunk in it.
type marked map[Key][]Location

// eachOf collects what Each tells, and holds it to its order.
func eachOf(tb fataler, m *Marks) marked {
	got := marked{}
	var last Key
	err := m.Each(func(key Key, places []Place) error {
		if bytes.Compare(last[:], key[:]) >= 0 && len(got) > 0 {
			tb.Fatalf("key %x after %x", key, last)
		}
		last = key
		for i, at := range places {
			if i > 0 && (at.Pack < places[i-1].Pack || at.Pack == places[i-1].Pack && at.Offset <= places[i-1].Offset) {
				tb.Fatalf("places of %x out of order or twice: %v", key, places)
			}
			got[key] = append(got[key], Location{Pack: m.Packs()[at.Pack], Offset: at.Offset, Stored: at.Stored})
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func marksEqual(tb fataler, m *Marks, want marked) {
	got := eachOf(tb, m)
	if !maps.EqualFunc(got, want, slices.Equal) {
		tb.Fatalf("marked %d chunks, want %d, or other places", len(got), len(want))
	}
	if m.Len() != len(want) {
		tb.Fatalf("Len is %d, want %d", m.Len(), len(want))
	}
	for key := range want {
		if has, err := m.Has(fullID(key)); !has || err != nil {
			tb.Fatalf("has %x: %v, %v", key, has, err)
		}
	}
}

// markSome marks a random part of all, each chunk by several goroutines at once,
// and unknown ones too. It returns the ids that were told to be first.
func markSome(tb fataler, r *rand.Rand, m *Marks, all marked) marked {
	want := marked{}
	var ids []blob.ID
	for _, key := range slices.SortedFunc(maps.Keys(all), func(a, b Key) int { return bytes.Compare(a[:], b[:]) }) {
		if r.IntN(2) == 0 {
			want[key] = all[key]
			ids = append(ids, fullID(key))
		}
	}
	firsts := make([]atomic.Int32, len(ids))
	var failed atomic.Value
	var wg sync.WaitGroup
	for range 3 {
		order := r.Perm(len(ids))
		wg.Go(func() {
			for _, i := range order {
				first, known, err := m.Mark(ids[i])
				if err != nil || !known {
					failed.Store(fmt.Sprintf("mark %s: known %v, %v", ids[i], known, err))
				}
				if first {
					firsts[i].Add(1)
				}
				absent := ids[i]
				absent[9] ^= 0x5a
				if _, isThere := all[KeyOf(absent)]; !isThere {
					if first, known, err := m.Mark(absent); first || known || err != nil {
						failed.Store(fmt.Sprintf("mark absent: %v, %v, %v", first, known, err))
					}
				}
			}
		})
	}
	wg.Wait()
	if text := failed.Load(); text != nil {
		tb.Fatal(text)
	}
	for i := range firsts {
		fresh := m.under == nil || !m.under.marks(tb, ids[i])
		if n := firsts[i].Load(); n == 1 != fresh || n > 1 {
			tb.Fatalf("mark %s: first %d times, fresh %v", ids[i], n, fresh)
		}
		if !fresh {
			delete(want, KeyOf(ids[i]))
		}
	}
	return want
}

func (m *Marks) marks(tb fataler, id blob.ID) bool {
	has, err := m.Has(id)
	if err != nil {
		tb.Fatal(err)
	}
	return has
}

// checkLists compares Segments, Missing, InSegments and Extract with what the
// repository holds.
func (w *world) checkLists(l *Local) {
	if names := l.Missing(); len(names) > 0 {
		w.t.Fatalf("missing %v", names)
	}
	all := l.Segments()
	if len(all) != len(w.held) || !slices.IsSortedFunc(all, func(a, b Listed) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }) {
		w.t.Fatalf("%d segments of %d, or out of order", len(all), len(w.held))
	}
	runs, inRuns := map[string]bool{"index/unknown": true}, map[string]bool{}
	for _, s := range all {
		var want []Pack
		for _, p := range w.held[s.Name] {
			want = append(want, p.pack)
		}
		want, _ = segment.Distinct(want)
		if !slices.Equal(s.Packs, want) {
			w.t.Fatalf("%s lists %v, want %v", s.Name, s.Packs, want)
		}
		if w.r.IntN(2) == 0 {
			runs[s.Name] = true
			for _, p := range want {
				inRuns[p.Name()] = true
			}
		}
	}
	in := l.InSegments(runs)
	for _, p := range w.pool {
		if in(p.pack) != inRuns[p.pack.Name()] {
			w.t.Fatalf("pack %s in the runs: %v, want %v", p.pack.Name(), in(p.pack), inRuns[p.pack.Name()])
		}
	}
	w.checkExtract(l)
}

func (w *world) checkExtract(l *Local) {
	known := map[string]bool{}
	for p := range l.Packs() {
		known[p.Name()] = true
	}
	var packs []Pack
	var b Builder
	lost := false
	for _, p := range w.pool {
		if !known[p.pack.Name()] && w.r.IntN(60) > 0 || known[p.pack.Name()] && w.r.IntN(2) == 0 {
			continue
		}
		lost = lost || !known[p.pack.Name()]
		packs = append(packs, p.pack, p.pack)
		b.Add(p.pack, p.entries)
	}
	w.r.Shuffle(len(packs), func(i, j int) { packs[i], packs[j] = packs[j], packs[i] })
	asked := slices.Clone(packs)
	got, err := l.Extract(packs)
	if lost {
		if !errors.Is(err, ErrUnknownPack) || got != nil {
			w.t.Fatalf("extract of an unknown pack: %v", err)
		}
		return
	}
	want, buildErr := b.Bytes()
	if err != nil || buildErr != nil || !bytes.Equal(got, want) || !slices.Equal(asked, packs) {
		w.t.Fatalf("extract %d packs: %d bytes, want %d (%v, %v)", len(packs), len(got), len(want), err, buildErr)
	}
}

// TestMarksEqualModel lets a repository change at random under two users, one
// with a directory and one in memory. Their marks must equal a map, and go on to
// do so while what they were made of is merged, dropped and closed.
func TestMarksEqualModel(t *testing.T) {
	base, run := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		w := &world{
			t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4)), rem: &remote{objects: map[string][]byte{}},
			held: map[string][]table{}, dirs: []string{filepath.Join(base, fmt.Sprint(run)), ""}, locals: make([]*Local, 2),
		}
		w.pool = randomTables(w.r, 24, rapid.SampledFrom([]int{12, 80}).Draw(t, "most"))
		for i := range w.locals {
			w.reopen(i)
			defer func() { _ = w.locals[i].Close() }()
		}
		for n := range w.r.IntN(2 * maxRecent) { // merged by the first refresh
			w.publish(fmt.Sprintf("index/first/%08d", n))
		}
		var open []func()
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch w.r.IntN(5) {
			case 0:
				w.drop()
			case 1:
				w.reopen(w.r.IntN(len(w.locals)))
			default:
				w.publish(fmt.Sprintf("index/%s/%08d", testSID(step), step))
			}
			l := w.locals[w.r.IntN(len(w.locals))]
			refresh(t, l, w.rem)
			w.checkLists(l)
			if w.r.IntN(3) == 0 {
				open = append(open, w.newMarks(l))
			}
		}
		for _, check := range open {
			check()
		}
	})
}

// newMarks makes two sets, marks and checks; what it returns checks again.
func (w *world) newMarks(l *Local) (again func()) {
	all := marked(model(slices.Concat(slices.Collect(maps.Values(w.held))...)))
	live, err := l.NewMarks()
	if err != nil {
		w.t.Fatal(err)
	}
	if !slices.Equal(live.Packs(), slices.Collect(l.Packs())) {
		w.t.Fatal("the set's packs are not those of the index")
	}
	inLive := markSome(w.t, w.r, live, all)
	rest := live.Beyond()
	inRest := markSome(w.t, w.r, rest, all)
	check := func() {
		marksEqual(w.t, live, inLive)
		marksEqual(w.t, rest, inRest)
		w.checkGather(live, inLive)
	}
	check()
	return func() {
		check()
		if err := errors.Join(live.Close(), live.Close()); err != nil {
			w.t.Fatal(err)
		}
		marksEqual(w.t, rest, inRest)
		if err := rest.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// checkGather picks a random place of each chunk, or none.
func (w *world) checkGather(m *Marks, in marked) {
	want := map[Key]Location{}
	kept, err := m.Gather(func(key Key, places []Place) int {
		i := w.r.IntN(len(places)+1) - 1
		if i >= 0 {
			want[key] = in[key][i]
		}
		return i
	})
	if err != nil || len(kept) != len(want) {
		w.t.Fatalf("gathered %d of %d: %v", len(kept), len(want), err)
	}
	for i, k := range kept {
		if at := (Location{Pack: m.Packs()[k.Pack], Offset: k.Offset, Stored: k.Stored}); want[k.Key] != at {
			w.t.Fatalf("gathered %x at %v, want %v", k.Key, at, want[k.Key])
		}
		if i > 0 && (kept[i-1].Pack > k.Pack || kept[i-1].Pack == k.Pack && kept[i-1].Offset > k.Offset) {
			w.t.Fatal("gathered out of order")
		}
	}
}

// TestSegmentThatComesBackListsAllItsPacks: a listing that lacked a segment for
// a while let a merge drop its packs from the files; once it is listed again
// every one of its packs must be told again.
func TestSegmentThatComesBackListsAllItsPacks(t *testing.T) {
	rem, tables := fill(30, 20)
	base := testPack(500, 2000, func(i int) blob.ID { return largeID(i) }) // stays out of merges
	baseName, name := "index/base/00000000", "index/all/00000000"
	rem.objects[baseName] = segmentBytes(t, base)
	rem.objects[name] = segmentBytes(t, tables[:20]...)
	l := openLocal(t, t.TempDir())
	refresh(t, l, rem)
	all := rem.objects
	rem.objects = map[string][]byte{baseName: all[baseName]}
	for i := 15; i < 30; i++ { // 15 … 19 stay live through another segment
		one := fmt.Sprintf("index/%s/%08d", tables[i].pack.SID, i)
		rem.objects[one] = all[one]
	}
	refresh(t, l, rem)
	for i := range 2 * maxRecent { // merges
		rem.objects[fmt.Sprintf("index/more/%08d", i)] = segmentBytes(t, tables[20+i%10])
		refresh(t, l, rem)
	}
	rem.objects[name] = all[name]
	rem.takeFetched()
	refresh(t, l, rem)
	if n := rem.takeFetched(); n != 1 {
		t.Fatalf("%d segments fetched again, want the one that merges had taken apart", n)
	}
	for _, s := range l.Segments() {
		if s.Name == name && len(s.Packs) == 20 {
			return
		}
	}
	t.Errorf("%s is not listed with its 20 packs", name)
}

func TestMissingNamesWhatDidNotCome(t *testing.T) {
	rem, tables := fill(5, 30)
	names := slices.Sorted(maps.Keys(rem.objects))
	lost := rem.objects[names[2]]
	delete(rem.objects, names[2])
	l := openLocal(t, t.TempDir())
	if err := l.Refresh(context.Background(), names, rem.fetch); err == nil {
		t.Fatal("a segment that is not there was fetched")
	}
	if got := l.Missing(); !slices.Equal(got, names[2:3]) {
		t.Errorf("missing %v, want %s", got, names[2])
	}
	if got := l.Segments(); len(got) != 4 {
		t.Errorf("%d segments listed", len(got))
	}
	rem.objects[names[2]] = lost
	refresh(t, l, rem)
	if got := l.Missing(); len(got) > 0 {
		t.Errorf("missing after all came: %v", got)
	}
	if got, err := l.Extract([]Pack{tables[0].pack, {SID: testSID(99), Kind: DataPack, Count: 1}}); !errors.Is(err, ErrUnknownPack) {
		t.Errorf("extract of an unknown pack: %d bytes, %v", len(got), err)
	}
	told := tables[0].pack
	told.Sum++
	if _, err := l.Extract([]Pack{told}); !errors.Is(err, ErrConservation) {
		t.Errorf("extract of a pack told otherwise: %v", err)
	}
}

// TestExtractRefusesPacksOfGoneSegments: their entries are still in a merged
// file, and still nobody may build on them.
func TestExtractRefusesPacksOfGoneSegments(t *testing.T) {
	rem, tables := fill(30, 20)
	l := openLocal(t, t.TempDir())
	refresh(t, l, rem)
	gone := fmt.Sprintf("index/%s/%08d", tables[8].pack.SID, 8)
	delete(rem.objects, gone)
	refresh(t, l, rem)
	kept := false // its entries, in some file
	for _, p := range l.parts {
		kept = kept || segment.Ordinal(p.seg.Packs(), tables[8].pack) >= 0
	}
	if !kept {
		t.Fatal("no merged file holds the pack: this test shows nothing")
	}
	if _, err := l.Extract([]Pack{tables[7].pack, tables[8].pack}); !errors.Is(err, ErrUnknownPack) {
		t.Errorf("got %v", err)
	}
	if l.InSegments(map[string]bool{gone: true})(tables[8].pack) {
		t.Error("a segment that is gone lists its pack")
	}
	got, err := l.Extract([]Pack{tables[7].pack})
	if want := segmentBytes(t, tables[7]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("its neighbour: %d bytes, want %d (%v)", len(got), len(want), err)
	}
}

// largeDamaged is an index in one file of which a page in the middle is bad.
func largeDamaged(t *testing.T) (*Local, *remote, marked) {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(31, 31))
	tables := randomTables(r, 8, 2000)
	rem := &remote{objects: map[string][]byte{"index/one/00000000": segmentBytes(t, tables...)}}
	l := openLocal(t, dir)
	refresh(t, l, rem)
	spoilFiles(t, dir, func(b []byte) []byte { b[10*4096+77] ^= 1; return b })
	return l, rem, model(tables)
}

// TestDamageInTheMiddleOfEach: the caller learns of it, what was told before is
// right, and after a refresh all is well.
func TestDamageInTheMiddleOfEach(t *testing.T) {
	for _, way := range []string{"each", "mark", "mark all", "extract"} {
		l, rem, all := largeDamaged(t)
		m, err := l.NewMarks()
		if err != nil {
			t.Fatal(err)
		}
		var damage error
		told, packs := 0, m.Packs()
		if way == "extract" {
			_, damage = l.Extract(packs)
			if got := l.Missing(); len(got) != 1 {
				t.Errorf("after %v missing is %v", damage, got)
			}
		}
		if way == "mark all" {
			var wishes []Wish
			for key := range all {
				wishes = append(wishes, Wish{Key: key})
			}
			_, damage = m.MarkAll(wishes)
		}
		for key := range all {
			_, known, err := m.Mark(fullID(key))
			if err != nil && way == "mark" {
				damage = err
			}
			if err == nil && !known {
				t.Fatalf("%s: %x unknown without an error", way, key)
			}
		}
		if way == "each" {
			damage = m.Each(func(key Key, places []Place) error {
				if told++; len(places) != len(all[key]) {
					t.Errorf("%x has %d places, want %d", key, len(places), len(all[key]))
				}
				return nil
			})
			if told < 5*146 || told >= len(all) {
				t.Errorf("%d chunks told before the damage in page 10", told)
			}
		}
		if !errors.Is(damage, ErrCorrupt) {
			t.Fatalf("%s: got %v", way, damage)
		}
		if got := l.Missing(); len(got) != 1 {
			t.Errorf("%s: the damaged file still counts: missing %v", way, got)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		refresh(t, l, rem)
		if m, err = l.NewMarks(); err != nil {
			t.Fatal(err)
		}
		for key := range all {
			if _, known, err := m.Mark(fullID(key)); !known || err != nil {
				t.Fatalf("%s: after the refresh: %v, %v", way, known, err)
			}
		}
		marksEqual(t, m, all)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedFileOfOpenMarksIsNotTheNewOne: the file that a refresh brings in
// place of a damaged one has its name. Closing the marks that still read the old
// one must not remove it.
func TestDamagedFileOfOpenMarksIsNotTheNewOne(t *testing.T) {
	l, rem, all := largeDamaged(t)
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Each(func(Key, []Place) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	refresh(t, l, rem)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rem.takeFetched()
	l = openLocal(t, l.store.dir)
	refresh(t, l, rem)
	if n := rem.takeFetched(); n > 0 {
		t.Errorf("%d segments fetched again: the new file was removed", n)
	}
	localEquals(t, l, all)
}

// TestMarksOutliveTheirFiles: the index merges and drops what a set reads, and
// is closed. The set goes on, and when it is closed every file is.
func TestMarksOutliveTheirFiles(t *testing.T) {
	rem, tables := fill(6, 100)
	l := openLocal(t, t.TempDir())
	refresh(t, l, rem)
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	all := marked(model(tables))
	for key := range all {
		if _, known, err := m.Mark(fullID(key)); !known || err != nil {
			t.Fatal(known, err)
		}
	}
	beyond := m.Beyond()
	if err := l.Refresh(context.Background(), nil, rem.fetch); err != nil { // all is gone
		t.Fatal(err)
	}
	marksEqual(t, m, all)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if first, known, err := beyond.Mark(tables[0].entries[0].ID); first || !known || err != nil {
		t.Errorf("the second set after the first was closed: %v, %v, %v", first, known, err)
	}
	files := m.parts
	if err := beyond.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range files {
		if _, err := p.file.(*os.File).Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a file is open after all uses ended: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.store.dir, "*"+localSuffix)); len(left) > 0 {
		t.Errorf("files left of an empty index: %v", left)
	}
	if _, err := l.NewMarks(); !errors.Is(err, ErrClosed) {
		t.Errorf("marks of a closed index: %v", err)
	}
	if _, err := l.Extract(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("extract of a closed index: %v", err)
	}
}

// TestFileThatComesBackUnderOpenMarks: all segments are gone and come back while
// a set reads the first files. The new ones have their names, and closing the
// set must not remove them.
func TestFileThatComesBackUnderOpenMarks(t *testing.T) {
	rem, tables := fill(4, 50)
	l := openLocal(t, t.TempDir())
	refresh(t, l, rem)
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Refresh(context.Background(), nil, rem.fetch); err != nil {
		t.Fatal(err)
	}
	refresh(t, l, rem)
	if err := errors.Join(m.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	rem.takeFetched()
	l = openLocal(t, l.store.dir)
	refresh(t, l, rem)
	if n := rem.takeFetched(); n > 0 {
		t.Errorf("%d segments fetched again: their new files were removed", n)
	}
	localEquals(t, l, model(tables))
}

// TestBeyondLeavesOutWhatIsMarkedLater: whichever set was marked first, a chunk
// is told by one of them.
func TestBeyondLeavesOutWhatIsMarkedLater(t *testing.T) {
	rem, tables := fill(2, 20)
	l := openLocal(t, "")
	refresh(t, l, rem)
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	id := tables[0].entries[0].ID
	beyond := m.Beyond()
	for i, set := range []*Marks{beyond, m} {
		if first, known, err := set.Mark(id); !first || !known || err != nil {
			t.Fatalf("set %d: %v, %v, %v", i, first, known, err)
		}
	}
	if in, out := len(eachOf(t, m)), len(eachOf(t, beyond)); in != 1 || out != 0 {
		t.Errorf("told %d times by the set and %d times beyond it", in, out)
	}
	if beyond.marks(t, id) {
		t.Error("beyond the set, and in it")
	}
}

func TestEachGivesBackTheCallersError(t *testing.T) {
	l := openLocal(t, "")
	m, err := l.NewMarks()
	if err != nil {
		t.Fatal(err)
	}
	if got := eachOf(t, m); len(got) != 0 {
		t.Errorf("marks of an empty index: %v", got)
	}
	rem, tables := fill(3, 300)
	refresh(t, l, rem)
	if m, err = l.NewMarks(); err != nil {
		t.Fatal(err)
	}
	for _, p := range tables {
		for _, e := range p.entries {
			if _, _, err := m.Mark(e.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, stopAt := range []int{1, 7, m.Len()} {
		calls := 0
		err := m.Each(func(Key, []Place) error {
			if calls++; calls == stopAt {
				return errGone
			}
			return nil
		})
		if err != errGone || calls != stopAt {
			t.Errorf("stopped at %d: %d calls, %v", stopAt, calls, err)
		}
	}
}

// TestMarksDuringRefresh marks, reads and extracts while the index under them
// takes in segments and merges; -race looks on.
func TestMarksDuringRefresh(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(40, 60)
	names := slices.Sorted(maps.Keys(rem.objects))
	l := openLocal(t, dir)
	if err := l.Refresh(context.Background(), names[:10], rem.fetch); err != nil {
		t.Fatal(err)
	}
	want := model(tables)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 8 {
				m, err := l.NewMarks()
				if err != nil {
					t.Error(err)
					return
				}
				for _, p := range tables {
					if _, _, err := m.Mark(p.entries[0].ID); err != nil {
						t.Error(err)
					}
				}
				err = m.Each(func(key Key, places []Place) error {
					if len(places) > len(want[key]) {
						t.Errorf("%x has %d places, want %d at most", key, len(places), len(want[key]))
					}
					return nil
				})
				packs := m.Packs()
				_, extractErr := l.Extract(packs[:min(len(packs), 3)])
				if errors.Is(extractErr, ErrUnknownPack) { // dropped meanwhile
					extractErr = nil
				}
				if err = errors.Join(err, extractErr, m.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := 10; n <= len(names); n += 3 {
		if err := l.Refresh(context.Background(), names[n-10:n], rem.fetch); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}
