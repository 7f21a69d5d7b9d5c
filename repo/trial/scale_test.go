//go:build linux

package trial_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/repo/backend/local"
	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/image"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/prune"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/session"
	"holdfast/repo/slot"
)

// The sizes of docs/performance.md are built with HOLDFAST_SCALE=1, which takes
// half an hour and 7 GB in TMPDIR; without it a hundredth of them, so that the
// machinery of the measurement is itself tested.
const (
	fullChunks, smallChunks = 10_000_000, 100_000
	fullPoints, smallPoints = 500_000, 2_000

	decisionMost = 10 * time.Second // of CPU, for 10 M chunks
	memoryMost   = 200 << 20        // bytes resident while it decides
	removalMost  = 200 << 20        // and while it writes runs and removes
	slack        = 1.2              // machines differ

	scalePassword = "scale"
	packChunks    = 256      // 128 KiB each, as incompressible data fills a pack
	packBytes     = 35725312 // a full pack with standard parity
	chunkStored   = 120_000  // of each chunk after compression
)

func atScale() bool { return os.Getenv("HOLDFAST_SCALE") == "1" }

// plant is a repository on a disk that is filled by hand and measured from
// outside, with the real program in processes of its own.
type plant struct {
	t       *testing.T
	dir     string // of the repository
	cache   string
	program string
	place   *local.Backend
	store   *record.Store
	c       *catalog.Catalog
}

// newPlant makes an empty repository with the real program and opens it here.
func newPlant(t *testing.T, profile string) *plant {
	t.Helper()
	root := t.TempDir()
	p := &plant{t: t, dir: filepath.Join(root, "repository"), cache: filepath.Join(root, "cache"), program: filepath.Join(root, "holdfast")}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", p.program, "holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	p.run("init", "--parity", profile)
	secret, err := seal.NewPassword([]byte(scalePassword))
	must(t, err)
	p.place, err = local.Open(t.Context(), p.dir, local.Options{})
	must(t, err)
	ring, _, err := slot.Open(t.Context(), p.place, secret)
	must(t, err)
	p.store = &record.Store{
		Backend: p.place, Ring: ring, Keys: ring.Keys(), Rand: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	config, err := record.ReadAs[ledger.Config](t.Context(), p.store, ledger.ConfigObject, parity.Config)
	must(t, err)
	p.store.Profile, err = parity.ParseProfile(config.Parity)
	must(t, err)
	p.c, err = catalog.Open(t.Context(), p.store, catalog.Dir(p.cache, config.ID))
	must(t, err)
	return p
}

// built ends the filling: what this process holds would count as the memory of
// the processes it starts, because they begin as copies of it.
func (p *plant) built() {
	p.t.Helper()
	must(p.t, p.place.Sync(p.t.Context()))
	must(p.t, p.c.Close())
	must(p.t, p.place.Close())
	p.c, p.store, p.place = nil, nil, nil
}

// cost is what one process of the program used.
type cost struct {
	cpu, wall time.Duration
	peak      int64 // bytes resident
	out       []byte
}

// run measures one command. Its standard output is kept up to 1 MiB.
func (p *plant) run(args ...string) cost {
	p.t.Helper()
	debug.FreeOSMemory()
	must(p.t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // the peak of this process begins anew
	var out, told head
	c := exec.Command(p.program, args...)
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(p.dir), "TMPDIR=" + os.TempDir(),
		"HOLDFAST_REPOSITORY=" + p.dir, "HOLDFAST_PASSWORD=" + scalePassword, "HOLDFAST_CACHE_DIR=" + p.cache,
	}
	c.Stdout, c.Stderr = &out, &told
	began := time.Now()
	if err := c.Run(); err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, told.kept)
	}
	usage := c.ProcessState.SysUsage().(*syscall.Rusage)
	used := cost{cpu: c.ProcessState.UserTime() + c.ProcessState.SystemTime(), wall: time.Since(began), peak: usage.Maxrss << 10, out: out.kept}
	p.t.Logf("%-44s %7.2f s CPU  %7.2f s  %6.0f MiB, %d bytes printed", strings.Join(args, " "), used.cpu.Seconds(), used.wall.Seconds(), float64(used.peak)/(1<<20), out.bytes)
	return used
}

// head keeps the beginning of what is written to it, and counts the rest.
type head struct {
	kept  []byte
	bytes int64
}

func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), 1<<20-len(h.kept))]...)
	h.bytes += int64(len(b))
	return len(b), nil
}

// report reads the summary of a prune.
func (c cost) report(t *testing.T) prune.Report {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(c.out)), "\n")
	var rep prune.Report
	must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &rep))
	return rep
}

// syntheticID is the id of a chunk that nobody ever reads. Ids are as evenly
// spread as real ones.
func syntheticID(of, n uint64) (id blob.ID) {
	x := of<<48 ^ n
	for i := 0; i < len(id); i += 8 {
		x += 0x9e3779b97f4a7c15
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		x = z ^ z>>31
		binary.LittleEndian.PutUint64(id[i:], x)
	}
	return id
}

// filler writes synthetic packs of one session and the segments that list them.
type filler struct {
	p       *plant
	s       *session.Session
	perPack int
	builder index.Builder
	entries []index.Entry
	names   []string // of segments
}

func (f *filler) add(ctx context.Context, id blob.ID) error {
	at := uint32(8192 + len(f.entries)*chunkStored)
	f.entries = append(f.entries, index.Entry{ID: id, Offset: at, Stored: chunkStored})
	if len(f.entries) < f.perPack {
		return nil
	}
	return f.seal(ctx)
}

// seal ends a pack: a sparse file of the right name and length, since no prune
// reads a pack of data.
func (f *filler) seal(ctx context.Context) error {
	if len(f.entries) == 0 {
		return nil
	}
	pack := index.Pack{SID: f.s.SID().String(), Kind: index.DataPack, Epoch: 1, Bytes: packBytes, Count: uint32(len(f.entries))}
	if _, err := io.ReadFull(rand.Reader, pack.ID[:]); err != nil {
		return err
	}
	for _, e := range f.entries {
		pack.Sum += index.EntryHash(e.ID, e.Offset, e.Stored)
	}
	path := filepath.Join(f.p.dir, filepath.FromSlash(pack.Name()))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err == nil {
		err = file.Truncate(packBytes)
		if closed := file.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return err
	}
	f.builder.Add(pack, f.entries)
	f.entries = nil
	if f.builder.Len() < 64 {
		return nil
	}
	return f.publish(ctx)
}

func (f *filler) publish(ctx context.Context) error {
	if f.builder.Len() == 0 {
		return nil
	}
	segment, err := f.builder.Bytes()
	if err != nil {
		return err
	}
	f.builder = index.Builder{}
	name, err := f.s.PublishSegment(ctx, segment)
	f.names = append(f.names, name)
	return err
}

// disk is a synthetic disk: the chunks from first on come from series.
type disk struct {
	name   string
	chunks int64
	id     func(chunk int64) (id blob.ID, changed bool)
	parent *image.Map
}

// backup makes a point of a synthetic disk: real nodes, sparse packs.
func (p *plant) backup(d disk) (recovery.Point, image.Map) {
	p.t.Helper()
	ctx := p.t.Context()
	s, err := session.Begin(ctx, p.c, p.store.Keys.SourceName(d.name), session.Options{Name: "image/" + d.name, Compression: "auto"})
	must(p.t, err)
	f := &filler{p: p, s: s, perPack: packChunks}
	b, err := image.NewBuilder(s, p.c.Load, d.parent, d.chunks<<17, 1<<17)
	must(p.t, err)
	for n := range d.chunks {
		id, changed := d.id(n)
		if !changed {
			continue
		}
		must(p.t, b.Set(ctx, n, id))
		must(p.t, f.add(ctx, id))
	}
	must(p.t, f.seal(ctx))
	must(p.t, f.publish(ctx))
	m, err := b.Finish(ctx)
	must(p.t, err)
	now := time.Now()
	point := recovery.Point{
		ID: s.SID().Rand, SID: s.SID().String(), Kind: recovery.Image, Source: "image/" + d.name, Identity: d.name, Time: now, Finished: now,
		BytesTotal: m.Bytes, Items: []recovery.Item{{Name: "disk", Bytes: m.Bytes, Disk: &m}},
	}
	manifest, err := json.Marshal(point)
	must(p.t, err)
	must(p.t, s.Commit(ctx, manifest))
	return point, m
}

// TestPruneOfTenMillionChunks: what a prune decides for ten million chunks, it
// decides in seconds and in a fixed memory.
func TestPruneOfTenMillionChunks(t *testing.T) {
	chunks := int64(smallChunks)
	if atScale() {
		chunks = fullChunks
	}
	p := newPlant(t, "standard")
	// Eight tenths are a disk; the next point of it changes runs of 64 chunks, a
	// twentieth of all; the rest belongs to another disk, which is given up.
	whole := chunks * 8 / 10
	_, m := p.backup(disk{name: "big", chunks: whole, id: func(n int64) (blob.ID, bool) { return syntheticID(1, uint64(n)), true }})
	changed := int64(0)
	p.backup(disk{name: "big", chunks: whole, parent: &m, id: func(n int64) (blob.ID, bool) {
		if n/64%20 != 7 {
			return blob.ID{}, false
		}
		changed++
		return syntheticID(2, uint64(n)), true
	}})
	gone, _ := p.backup(disk{name: "gone", chunks: chunks - whole - changed, id: func(n int64) (blob.ID, bool) { return syntheticID(3, uint64(n)), true }})
	p.built()
	t.Logf("%d chunks, of which %d are garbage", chunks, chunks-whole-changed)

	p.run("points", "--json")
	p.run("forget", gone.ID)
	warm := p.run("prune", "--dry-run", "--json")
	must(t, os.RemoveAll(p.cache))
	p.run("prune", "--dry-run", "--json") // with nothing known on this machine
	real := p.run("prune", "--json")
	after := p.run("prune", "--dry-run", "--json")

	unneeded := int((chunks-whole-changed)+packChunks-1) / packChunks
	for name, got := range map[string]prune.Report{"planned": warm.report(t), "done": real.report(t)} {
		if got.PacksRemoved < unneeded || got.PacksRemoved > unneeded+8 || got.Points != 2 || got.BytesUnused != 0 {
			t.Errorf("%s: %d packs removed, %d points, %d bytes unused; want %d packs of data and some of nodes, 2, 0", name, got.PacksRemoved, got.Points, got.BytesUnused, unneeded)
		}
	}
	if rest := after.report(t); rest.PacksRemoved != 0 || rest.PacksLive != real.report(t).PacksLive {
		t.Errorf("after the prune: %+v", rest)
	}
	p.within(warm, decisionMost, memoryMost)
	p.within(after, decisionMost, memoryMost)
	p.within(real, 0, removalMost)
}

// within holds a cost against the goals, at the size that they are of. No CPU
// time means that none was promised.
func (p *plant) within(c cost, cpu time.Duration, peak int64) {
	p.t.Helper()
	if !atScale() {
		return
	}
	if cpu > 0 && float64(c.cpu) > slack*float64(cpu) {
		p.t.Errorf("took %s of CPU, more than %s", c.cpu, cpu)
	}
	if float64(c.peak) > slack*float64(peak) {
		p.t.Errorf("took %d MiB, more than %d", c.peak>>20, peak>>20)
	}
}
