package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

// library is a repository with three points and what they must hold.
type library struct {
	be     *mem.Backend
	secret seal.Secret
	points []*recovery.Point
	data   [][]byte
}

func newLibrary(t testing.TB, opts mem.Options) *library {
	t.Helper()
	l := &library{be: mem.Open(opts), secret: keyFile(t)}
	r := initAt(t, l.be, repo.InitParams{Keys: []repo.NewKey{{Secret: l.secret}}}, options())
	for i := range 3 {
		data := noise(uint64(i), 5*testChunk+100)
		l.data = append(l.data, data)
		l.points = append(l.points, makePoint(t, r, fmt.Sprintf("image/%d", i), data))
	}
	return l
}

// intact reads every point anew from be and checks it.
func (l *library) intact(t testing.TB, be backend.Backend, opts repo.Options) {
	t.Helper()
	r, err := repo.Open(t.Context(), be, l.secret, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, p := range l.points {
		wantContent(t, r, p, l.data[i])
	}
	wantVerdict(t, check(t, r), nil)
}

func dropIndex(t testing.TB, be *mem.Backend) {
	t.Helper()
	for _, name := range names(t, be, "index/") {
		damage(t, be, name, remove)
	}
}

func cached(dir string) repo.Options {
	opts := options()
	opts.CacheDir = dir
	return opts
}

// TestIndexAndCacheLostLosesNothing: segments gone, the cache gone or stale.
func TestIndexAndCacheLostLosesNothing(t *testing.T) {
	for _, cache := range []string{"gone", "stale"} {
		l, dir := newLibrary(t, mem.Options{}), t.TempDir()
		l.intact(t, l.be, cached(dir))
		dropIndex(t, l.be)
		if cache == "gone" {
			dir = t.TempDir()
		}
		r, err := repo.Open(t.Context(), l.be, l.secret, cached(dir))
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range l.points { // from the packs' own tables
			wantContent(t, r, p, l.data[i])
		}
		rep := check(t, r)
		wantVerdict(t, rep, repo.ErrUnlisted)
		if len(rep.Findings) != 1 || len(rep.Findings[0].Hits) != 6 {
			t.Errorf("findings: %+v", rep.Findings)
		}
		steps := 0
		done, err := r.RepairIndex(t.Context(), func(done, total int) { steps++ })
		if err != nil || done.Packs != 6 || steps != 6 || len(done.Segments) != 1 || len(done.Unreadable) != 0 {
			t.Fatalf("repair: %+v %v", done, err)
		}
		wantVerdict(t, check(t, r), nil)
		r.Close()
		l.intact(t, l.be, cached(dir))
		l.intact(t, l.be, options())
	}
}

// TestRepairOfAWholeIndexWritesNothing and removes nothing.
func TestRepairOfAWholeIndexWritesNothing(t *testing.T) {
	l := newLibrary(t, mem.Options{})
	before := contents(t, l.be)
	rep, err := openAt(t, l.be, l.secret).RepairIndex(t.Context(), nil)
	if err != nil || rep.Packs != 0 || len(rep.Segments)+len(rep.Removed)+len(rep.Unreadable) != 0 {
		t.Errorf("repair: %+v %v", rep, err)
	}
	if after := contents(t, l.be); len(after) != len(before) {
		t.Errorf("%d objects before, %d after", len(before), len(after))
	}
}

// TestDamagedSegmentDoesNotStopReading: what it listed is taken from the packs.
func TestDamagedSegmentDoesNotStopReading(t *testing.T) {
	l := newLibrary(t, mem.Options{})
	bad := names(t, l.be, "index/")[1]
	damage(t, l.be, bad, ruin)
	r := openAt(t, l.be, l.secret)
	for i, p := range l.points {
		wantContent(t, r, p, l.data[i])
	}
	rep := check(t, r)
	wantVerdict(t, rep, repo.ErrUnlisted) // of the packs nothing is lost
	if len(rep.Findings) != 1 || rep.Errors != 0 || rep.Findings[0].Object != bad || len(rep.Findings[0].Hits) != 0 {
		t.Errorf("findings: %+v", rep.Findings)
	}
	done, err := r.RepairIndex(t.Context(), nil)
	if err != nil || done.Packs != 2 || !slices.Equal(done.Removed, []string{bad}) {
		t.Fatalf("repair: %+v %v", done, err)
	}
	l.intact(t, l.be, options())
}

// TestDamagedSegmentAndPackOfOneSession: one lost pack does not take the rest
// of its session with it.
func TestDamagedSegmentAndPackOfOneSession(t *testing.T) {
	l := newLibrary(t, mem.Options{})
	sid := l.points[1].SID
	damage(t, l.be, names(t, l.be, "index/"+sid)[0], ruin)
	lost := names(t, l.be, "data/"+sid)[0]
	damage(t, l.be, lost, ruin)
	r := openAt(t, l.be, l.secret)
	for i, p := range l.points {
		if i != 1 {
			wantContent(t, r, p, l.data[i])
		}
	}
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	var hits []string
	for _, f := range rep.Findings {
		hits = append(hits, f.Hits...)
	}
	slices.Sort(hits)
	if !slices.Equal(hits, []string{l.points[1].ID + "/disk-0", l.points[1].ID + "/text"}) {
		t.Errorf("findings: %+v", rep.Findings)
	}
	done, err := r.RepairIndex(t.Context(), nil)
	if err != nil || !slices.Equal(done.Unreadable, []string{lost}) || done.Packs != 1 {
		t.Errorf("repair: %+v %v", done, err)
	}
}

// TestSegmentThatSaysOtherThingsThanThePackIsFound: it obeys the conservation
// law in itself, but leaves out what the pack's own table lists.
func TestSegmentThatSaysOtherThingsThanThePackIsFound(t *testing.T) {
	r, be, secret := newRepo(t)
	makePoint(t, r, "image/a", noise(1, 3*testChunk))
	pack0 := r.Indexed()[0]
	entry := index.Entry{ID: r.IDOf(blob.DiskChunk, []byte("never stored")), Offset: 4096, Stored: 100}
	pack0.Count, pack0.Sum = 1, index.EntryHash(entry.ID, entry.Offset, entry.Stored)
	var b index.Builder
	b.Add(pack0, []index.Entry{entry})
	segment, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	name := names(t, be, "index/")[0]
	damage(t, be, name, remove)
	if err := r.WriteSegment(t.Context(), name, segment); err != nil {
		t.Fatal(err)
	}
	rep := check(t, openAt(t, be, secret))
	wantVerdict(t, rep, pack.ErrDamaged)
	if !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Object == pack0.Name() && f.Lost }) {
		t.Errorf("findings: %+v", rep.Findings)
	}
}

// TestDamagedCacheIsFetchedAnew: a rotten local file is no error for anybody.
func TestDamagedCacheIsFetchedAnew(t *testing.T) {
	l := newLibrary(t, mem.Options{})
	for how, change := range map[string]func([]byte) []byte{
		"pages": func(b []byte) []byte { ruin(b[:4096]); return b }, "all": ruin,
		"empty": func([]byte) []byte { return nil }, "short": func(b []byte) []byte { return b[:len(b)-10] },
	} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			l.intact(t, l.be, cached(dir))
			files := 0
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				files++
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(path, change(bytes.Clone(data)), 0o600)
			})
			if err != nil || files == 0 {
				t.Fatalf("%d files in the cache, %v", files, err)
			}
			l.intact(t, l.be, cached(dir))
			r, err := repo.Open(t.Context(), l.be, l.secret, cached(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if s, _ := stored(t, r, "image/0", l.data[0]); s.Stats().ChunksNew != 0 {
				t.Error("known chunks were stored again")
			}
		})
	}
}

// TestCacheThatCannotBeUsedIsDoneWithout: a file stands where its folder should.
func TestCacheThatCannotBeUsedIsDoneWithout(t *testing.T) {
	l := newLibrary(t, mem.Options{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.intact(t, l.be, cached(file))
}

// TestSwappedObjectsAreNeverTakenForEachOther: packs, manifests, segments and
// records that stand in each other's place, or come from another repository
// with the same password, are errors, never wrong bytes.
func TestSwappedObjectsAreNeverTakenForEachOther(t *testing.T) {
	for _, prefix := range []string{"data/", "meta/", "commit/", "index/", "sessions/"} {
		t.Run("within "+prefix, func(t *testing.T) {
			l := newLibrary(t, mem.Options{})
			all := names(t, l.be, prefix)
			one, two := object(t, l.be, all[0]), object(t, l.be, all[1])
			damage(t, l.be, all[0], func([]byte) []byte { return two })
			damage(t, l.be, all[1], func([]byte) []byte { return one })
			l.refuses(t, all[0], all[1])
		})
		t.Run("from elsewhere "+prefix, func(t *testing.T) {
			l, other := newLibrary(t, mem.Options{}), newLibrary(t, mem.Options{})
			mine, theirs := names(t, l.be, prefix)[0], names(t, other.be, prefix)[0]
			foreign := object(t, other.be, theirs)
			damage(t, l.be, mine, func([]byte) []byte { return foreign })
			l.refuses(t, mine)
		})
	}
	t.Run("config from elsewhere", func(t *testing.T) {
		l, other := newLibrary(t, mem.Options{}), newLibrary(t, mem.Options{})
		for _, name := range []string{"config", "spare/config"} {
			foreign := object(t, other.be, name)
			damage(t, l.be, name, func([]byte) []byte { return foreign })
		}
		if _, err := repo.Open(t.Context(), l.be, l.secret, options()); !errors.Is(err, pack.ErrTampered) || !strings.Contains(err.Error(), "config") {
			t.Errorf("open: %v", err)
		}
	})
}

// refuses reads all points: each is right, or an error; and check names the
// swapped objects.
func (l *library) refuses(t *testing.T, swapped ...string) {
	t.Helper()
	r := openAt(t, l.be, l.secret)
	_, problems, err := r.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(swapped[0], "commit/") != (len(problems) == len(swapped)) {
		t.Errorf("problems: %v", problems)
	}
	for i, p := range l.points {
		got, err := read(t.Context(), r, p)
		if err == nil && !bytes.Equal(got, l.data[i]) {
			t.Errorf("wrong bytes of point %d", i)
		}
		if packs := strings.HasPrefix(swapped[0], "data/") || strings.HasPrefix(swapped[0], "meta/"); err != nil && (!packs || !errors.Is(err, pack.ErrTampered)) {
			t.Errorf("point %d: %v", i, err)
		}
	}
	rep := check(t, r)
	wantVerdict(t, rep, pack.ErrDamaged)
	for _, name := range swapped {
		if !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Object == name && f.Lost }) {
			t.Errorf("check does not name %s: %+v", name, rep.Findings)
		}
	}
}

// crashMatrix stops a change at each of its writes, in both ways, and looks at
// what is left when everything, nothing or half of the unsynced survived.
func crashMatrix(t *testing.T, start *mem.Backend, change func(context.Context, backend.Backend) error, after func(*testing.T, *mem.Backend)) {
	t.Helper()
	clone := func() *mem.Backend { return start.CrashClone(mem.CrashOptions{}) }
	count := fault.New(clone(), fault.Options{})
	if err := change(t.Context(), count); err != nil {
		t.Fatal(err)
	}
	calls := count.Calls()
	if len(calls) < 3 {
		t.Fatalf("only %d calls", len(calls))
	}
	for at := range calls {
		for _, mode := range fault.Modes {
			t.Run(fmt.Sprintf("%02d-%s-%s", at+1, calls[at].Op, mode), func(t *testing.T) {
				be := clone()
				broken := fault.New(be, fault.Options{Plan: fault.Plan{At: at + 1, Mode: mode, Stop: true}})
				if err := change(t.Context(), broken); err == nil && calls[at].Op != fault.PutIfAbsent {
					t.Fatal("the change ended well although its store had failed")
				}
				for seed := range uint64(3) {
					after(t, be.CrashClone(mem.CrashOptions{Rand: luck(seed)}))
				}
			})
		}
	}
}

// TestCrashAtEveryWriteOfARepair: the repair is done again, and all is whole.
func TestCrashAtEveryWriteOfARepair(t *testing.T) {
	l := newLibrary(t, mem.Options{Strict: true})
	segments := names(t, l.be, "index/")
	damage(t, l.be, segments[0], ruin)
	damage(t, l.be, segments[1], remove)
	repair := func(ctx context.Context, be backend.Backend) error {
		r, err := repo.Open(ctx, be, l.secret, options())
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.RepairIndex(ctx, nil)
		return err
	}
	crashMatrix(t, l.be, repair, func(t *testing.T, be *mem.Backend) {
		if err := repair(t.Context(), be); err != nil {
			t.Fatalf("the second repair: %v", err)
		}
		l.intact(t, be, options())
	})
}

// TestCrashAtEveryWriteOfAHeal: between quarantine and heal, and anywhere else,
// no byte is lost that was not lost before.
func TestCrashAtEveryWriteOfAHeal(t *testing.T) {
	l := newLibrary(t, mem.Options{Strict: true})
	before := contents(t, l.be)
	damage(t, l.be, names(t, l.be, "data/")[0], func(b []byte) []byte { ruin(b[5000:9000]); return b })
	damage(t, l.be, names(t, l.be, "commit/")[1], func(b []byte) []byte { ruin(b[:4096]); return b })
	damage(t, l.be, "config", remove)
	damage(t, l.be, names(t, l.be, "spare/keys/")[0], ruin)
	heal := func(ctx context.Context, be backend.Backend) error {
		_, err := repo.Scrub(ctx, be, repo.ScrubOptions{Heal: true})
		return err
	}
	crashMatrix(t, l.be, heal, func(t *testing.T, be *mem.Backend) {
		r := openAt(t, be, l.secret)
		for i, p := range l.points {
			wantContent(t, r, p, l.data[i])
		}
		if err := heal(t.Context(), be); err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, scrub(t, be, true), nil)
		after := contents(t, be)
		for name, was := range before {
			if !bytes.Equal(after[name], was) {
				t.Fatalf("%s is not what it was", name)
			}
		}
		if len(after) != len(before) {
			t.Fatalf("%d objects, not %d", len(after), len(before))
		}
	})
}

// TestBackupAfterALostPackStoresItAnew: an index that goes on listing a pack
// that is gone would let every later backup lean on it. Repair takes it out, and
// what the source still has is stored again.
func TestBackupAfterALostPackStoresItAnew(t *testing.T) {
	r, be, secret := newRepo(t)
	data, other := noise(5, 400_000), noise(6, 300_000)
	makePoint(t, r, "image/a", data)
	lost := names(t, be, "data/")
	makePoint(t, r, "image/b", other)
	for _, name := range lost {
		damage(t, be, name, remove)
	}
	r = openAt(t, be, secret)
	rep, err := r.RepairIndex(t.Context(), nil)
	if err != nil || len(rep.Lost) != len(lost) || len(rep.Removed) != 1 || rep.Packs != 1 {
		t.Fatalf("repair: %+v, %v", rep, err)
	}
	wantContent(t, r, makePoint(t, r, "image/a", data), data)
	fresh := openAt(t, be, secret)
	points, _, err := fresh.Points(t.Context())
	if err != nil || len(points) != 3 {
		t.Fatal(points, err)
	}
	for _, p := range points { // the first point of a is whole again, too
		want := data
		if p.Source == "image/b" {
			want = other
		}
		wantContent(t, fresh, p.Point, want)
	}
	wantVerdict(t, check(t, fresh), nil)
}
