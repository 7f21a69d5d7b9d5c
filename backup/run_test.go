package backup_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

// clock gives a time that moves on by a second a look.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { c.now = c.now.Add(time.Second); return c.now }

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))}
}

func options(c *clock) repo.Options {
	return repo.Options{Now: c.Now, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1}
}

// keyFile is one key for all repositories of a test: no key derivation to wait for.
func keyFile(t testing.TB) seal.Secret {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func newRepository(t testing.TB, be backend.Backend, secret seal.Secret, c *clock, chunkBytes int64) *repo.Repository {
	t.Helper()
	r, err := repo.Init(t.Context(), be, repo.InitParams{DiskChunkBytes: chunkBytes, Keys: []repo.NewKey{{Secret: secret}}}, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func reopen(t testing.TB, be backend.Backend, secret seal.Secret, c *clock) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), be, secret, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// disk is an image in memory.
type disk struct{ *bytes.Reader }

func (disk) Close() error { return nil }

func source(c *clock, label string, data []byte) *backup.ImageSource {
	return &backup.ImageSource{
		Label: label, Time: c.Now(), Bytes: int64(len(data)),
		Open: func(context.Context) (backup.RandomAccess, error) { return disk{bytes.NewReader(data)}, nil },
	}
}

// content is a disk with random runs, zero runs and repeated runs.
func content(seed uint64, size int) []byte {
	rng := mrand.New(mrand.NewPCG(seed, 1))
	data := make([]byte, size)
	for off := 0; off < size; {
		n := min(size-off, 1+rng.IntN(300<<10))
		switch rng.IntN(3) {
		case 0:
			for i := range n {
				data[off+i] = byte(rng.Uint32())
			}
		case 1:
			for i := range n {
				data[off+i] = byte(i % 251)
			}
		}
		off += n
	}
	return data
}

// readBack reads the disk of a point.
func readBack(t testing.TB, r *repo.Repository, p *recovery.Point) []byte {
	t.Helper()
	got, err := tryReadBack(t.Context(), r, p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryReadBack(ctx context.Context, r *repo.Repository, p *recovery.Point) ([]byte, error) {
	m := p.Items[0].Disk
	got := make([]byte, m.Bytes)
	err := image.Copy(ctx, r, *m, image.CopyOptions{}, func(off int64, data []byte) error {
		copy(got[off:], data)
		return nil
	})
	return got, err
}

func mustRun(t testing.TB, r *repo.Repository, src backup.Source, opts backup.Options) *backup.Result {
	t.Helper()
	res, err := backup.Run(t.Context(), r, src, opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestFullThenExtentsThenRestore(t *testing.T) {
	c, be, secret := newClock(), mem.New(), keyFile(t)
	r := newRepository(t, be, secret, c, 64<<10)
	day1 := content(1, 5<<20+512)
	first := mustRun(t, r, source(c, "web01", day1), backup.Options{Now: c.Now})
	if first.Point.ReadMode != recovery.ReadFull || first.Point.BytesRead != int64(len(day1)) {
		t.Fatalf("first backup: %+v", first.Point)
	}
	day2 := bytes.Clone(day1)
	copy(day2[1<<20+77:], content(9, 100_000))
	src := source(c, "web01", day2)
	src.UseChanged, src.Changed = true, []image.Extent{{Start: 1<<20 + 77, Length: 100_000}, {Start: 1 << 20, Length: 100}, {Start: 9 << 30, Length: 5}}
	second := mustRun(t, r, src, backup.Options{Now: c.Now})
	if second.Point.ReadMode != recovery.ReadExtents || second.Point.BytesRead > 256<<10 || second.Point.Parent != first.Point.ID {
		t.Fatalf("second backup read %d bytes, mode %s, parent %s", second.Point.BytesRead, second.Point.ReadMode, second.Point.Parent)
	}
	third := mustRun(t, r, source(c, "web01", day2), backup.Options{Now: c.Now})
	if third.Point.BytesAdded != 0 || third.Point.Items[0].Disk.Root != second.Point.Items[0].Disk.Root {
		t.Errorf("a full read of an unchanged disk stored %d bytes, root %v then %v", third.Point.BytesAdded, second.Point.Items[0].Disk.Root, third.Point.Items[0].Disk.Root)
	}
	fresh := reopen(t, be, secret, c)
	for i, want := range [][]byte{day1, day2, day2} {
		points, problems, err := fresh.Points(t.Context())
		if err != nil || len(problems) > 0 || len(points) != 3 {
			t.Fatal(points, problems, err)
		}
		if !bytes.Equal(readBack(t, fresh, points[i].Point), want) {
			t.Errorf("point %d differs", i)
		}
	}
	checkClean(t, fresh, be)
}

func checkClean(t testing.TB, r *repo.Repository, be backend.Backend) {
	t.Helper()
	rep, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || rep.Verdict() != nil {
		t.Fatalf("check: %v %+v", err, rep)
	}
	rep, err = repo.Scrub(t.Context(), be, repo.ScrubOptions{})
	if err != nil || rep.Verdict() != nil {
		t.Fatalf("scrub: %v %+v", err, rep)
	}
}

func TestStandardInputOfUnknownLength(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	data := content(3, 9<<20+3)
	src := &backup.ImageSource{Label: "pipe", Time: c.Now(), Bytes: -1, OpenStream: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
	res := mustRun(t, r, src, backup.Options{Now: c.Now})
	if !bytes.Equal(readBack(t, r, res.Point), data) {
		t.Error("standard input came back different")
	}
}

func TestVerifyUnchangedFindsWhatTrackingMissed(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	day1 := content(4, 3<<20)
	mustRun(t, r, source(c, "d", day1), backup.Options{Now: c.Now})
	day2 := bytes.Clone(day1)
	day2[2<<20] ^= 1
	src := source(c, "d", day2)
	src.UseChanged = true // and the list is empty: the change is missed
	all := backup.Options{Now: c.Now, VerifyUnchanged: 100, Pick: func(float64) bool { return true }}
	res := mustRun(t, r, src, all)
	if !res.Downgraded || res.Point.Rule != backup.RuleMiss || !bytes.Equal(readBack(t, r, res.Point), day2) {
		t.Errorf("missed change: downgraded %v, rule %s", res.Downgraded, res.Point.Rule)
	}
	src = source(c, "d", day2)
	src.UseChanged = true
	res = mustRun(t, r, src, all)
	if res.Downgraded || res.Point.BytesAdded != 0 {
		t.Errorf("an honest list: downgraded %v, added %d", res.Downgraded, res.Point.BytesAdded)
	}
}

func TestSourceThatShrinksFailsAndCommitsNothing(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	data := content(5, 1<<20)
	src := source(c, "d", data)
	src.Bytes = 2 << 20
	if _, err := backup.Run(t.Context(), r, src, backup.Options{Now: c.Now}); !errors.Is(err, backup.ErrChanged) {
		t.Fatalf("a shrunken source: %v", err)
	}
	if points, _, err := r.Points(t.Context()); err != nil || len(points) != 0 {
		t.Fatalf("%d points, %v", len(points), err)
	}
}

func TestResizeWithSilentTracking(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	base := content(6, 4<<20)
	for _, size := range []int{64<<10 - 512, 64 << 10, 64<<10 + 512, 2<<20 + 512, 2 << 20, 4 << 20, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			src := source(c, "d", base[:size])
			src.UseChanged = true // tracking says nothing of growth
			res := mustRun(t, r, src, backup.Options{Now: c.Now})
			if !bytes.Equal(readBack(t, r, res.Point), base[:size]) {
				t.Error("a resized disk came back different")
			}
		})
	}
}

// A pack that fills up in the middle is written while the read that filled it
// is long over: its context must not end with that read.
func TestPacksOutliveTheReadThatFilledThem(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 1<<20)
	data := make([]byte, 70<<20)
	mrand.NewChaCha8([32]byte{7}).Read(data)
	res := mustRun(t, r, source(c, "big", data), backup.Options{Now: c.Now})
	if !bytes.Equal(readBack(t, r, res.Point), data) {
		t.Error("a disk of several packs came back different")
	}
}

// TestParentIsTheBackupMadeLastWhateverItsTime: a list of changed extents is
// against the backup before, not against a point that an operator dated ahead.
func TestParentIsTheBackupMadeLastWhateverItsTime(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	day := content(8, 1<<20)
	ahead := source(c, "d", day)
	ahead.Time = c.Now().AddDate(4, 0, 0)
	mustRun(t, r, ahead, backup.Options{Now: c.Now})
	changed := bytes.Clone(day)
	changed[5] ^= 1
	second := source(c, "d", changed)
	second.UseChanged, second.Changed = true, []image.Extent{{Start: 0, Length: 10}}
	middle := mustRun(t, r, second, backup.Options{Now: c.Now})
	third := source(c, "d", changed)
	third.UseChanged = true // and nothing changed since
	last := mustRun(t, r, third, backup.Options{Now: c.Now})
	if last.Point.Parent != middle.Point.ID || !bytes.Equal(readBack(t, r, last.Point), changed) {
		t.Errorf("parent %s, not %s; equal %v", last.Point.Parent, middle.Point.ID, bytes.Equal(readBack(t, r, last.Point), changed))
	}
}

// TestInterruptedRunIsNotSentTwice: packs that were written before an interrupt
// are known to the next run.
func TestInterruptedRunIsNotSentTwice(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 1<<20)
	data := make([]byte, 80<<20)
	mrand.NewChaCha8([32]byte{9}).Read(data)
	src := source(c, "d", data)
	src.Bytes += 1 << 20 // its end cannot be read: the run fails after two packs
	if _, err := backup.Run(t.Context(), r, src, backup.Options{Now: c.Now, Reads: 1}); !errors.Is(err, backup.ErrChanged) {
		t.Fatal(err)
	}
	res := mustRun(t, r, source(c, "d", data), backup.Options{Now: c.Now})
	if res.Point.BytesAdded > 25<<20 || !bytes.Equal(readBack(t, r, res.Point), data) {
		t.Errorf("%d bytes were sent again", res.Point.BytesAdded)
	}
}

func TestEmptyStandardInputIsRefusedAndAShorterOneIsSaid(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	pipe := func(data []byte) *backup.ImageSource {
		return &backup.ImageSource{Label: "p", Time: c.Now(), Bytes: -1, OpenStream: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}}
	}
	if _, err := backup.Run(t.Context(), r, pipe(nil), backup.Options{Now: c.Now}); !errors.Is(err, backup.ErrEmpty) {
		t.Errorf("an empty stream: %v", err)
	}
	if res := mustRun(t, r, pipe(make([]byte, 1000)), backup.Options{Now: c.Now}); res.Downgraded {
		t.Error("the first of its kind is no downgrade")
	}
	if res := mustRun(t, r, pipe(make([]byte, 999)), backup.Options{Now: c.Now}); !res.Downgraded || len(res.Point.Warnings) != 1 {
		t.Errorf("a shorter stream: downgraded %v, warnings %v", res.Downgraded, res.Point.Warnings)
	}
}

// slipping is a source whose stand is lost while it is read.
type slipping struct{ *backup.ImageSource }

func (s slipping) Freeze(ctx context.Context, p *recovery.Point) (backup.Frozen, error) {
	frozen, err := s.ImageSource.Freeze(ctx, p)
	return lost{frozen}, err
}

type lost struct{ backup.Frozen }

func (lost) Holds(context.Context) error { return errors.New("the snapshot is gone") }

// TestSourceThatMovedWhileItWasReadCommitsNothing: what was read may be of two
// moments, and nobody could tell.
func TestSourceThatMovedWhileItWasReadCommitsNothing(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	_, err := backup.Run(t.Context(), r, slipping{source(c, "d", content(1, 1<<20))}, backup.Options{Now: c.Now})
	if !errors.Is(err, backup.ErrTorn) {
		t.Errorf("a torn read: %v", err)
	}
	if points, _, err := r.Points(t.Context()); err != nil || len(points) != 0 {
		t.Errorf("%d points, %v", len(points), err)
	}
}

// TestTrustInTheMapIsProvenNowAndThen: a miss that nobody looks for is found by
// the backup whose turn it is.
func TestTrustInTheMapIsProvenNowAndThen(t *testing.T) {
	c, be := newClock(), mem.New()
	r := newRepository(t, be, keyFile(t), c, 64<<10)
	data := content(12, 1<<20)
	opts := backup.Options{Now: c.Now, ProveEvery: 3}
	mustRun(t, r, source(c, "d", data), opts)
	data = bytes.Clone(data)
	data[700_000] ^= 1 // and tracking never says so
	var rules []string
	for range 6 {
		src := source(c, "d", data)
		src.UseChanged = true
		res := mustRun(t, r, src, opts)
		rules = append(rules, fmt.Sprint(res.Point.Rule == backup.RuleMiss, res.Point.Unproven))
	}
	if got, want := fmt.Sprint(rules), "[false 1 false 2 true 0 false 1 false 2 false 0]"; got != want {
		t.Errorf("missed and unproven: %s, not %s", got, want)
	}
	points, _, err := r.Points(t.Context())
	if err != nil || !bytes.Equal(readBack(t, r, points[len(points)-1].Point), data) {
		t.Error("the miss lives on", err)
	}
}
