package backup_test

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// tally counts what is written, and can let packs of data go.
type tally struct {
	backend.Backend
	forgetData bool
	mu         sync.Mutex
	objects    map[string]int // by the first part of the name
	bytes      map[string]int64
	calls      int // of every kind
	got        int64
}

func newTally(be backend.Backend) *tally {
	t := &tally{Backend: be}
	t.reset()
	return t
}

func (w *tally) reset() {
	w.objects, w.bytes, w.calls, w.got = map[string]int{}, map[string]int64{}, 0, 0
}

func (w *tally) note(name string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kind, _, _ := strings.Cut(name, "/")
	w.objects[kind]++
	w.bytes[kind] += int64(len(data))
	w.calls++
}

func (w *tally) besidesData() (sum int64) {
	for kind, n := range w.bytes {
		if kind != "data" {
			sum += n
		}
	}
	return sum
}

func (w *tally) Put(ctx context.Context, name string, data []byte) error {
	w.note(name, data)
	if w.forgetData && strings.HasPrefix(name, "data/") {
		return nil
	}
	return w.Backend.Put(ctx, name, data)
}

func (w *tally) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	w.note(name, data)
	return w.Backend.PutIfAbsent(ctx, name, data)
}

func (w *tally) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := w.Backend.Get(ctx, name, offset, length)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.got += int64(len(data))
	return data, err
}

func (w *tally) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	w.mu.Lock()
	w.calls++
	w.mu.Unlock()
	return w.Backend.List(ctx, prefix, fn)
}

// huge is a disk of a TiB: zeros, but for a run whose blocks of 4 KiB are all
// different and compress well.
type huge struct {
	run  image.Extent
	mu   sync.Mutex
	read int64
}

const hugeBytes = 1 << 40

func (h *huge) ReadAt(p []byte, off int64) (int, error) {
	h.mu.Lock()
	h.read += int64(len(p))
	h.mu.Unlock()
	clear(p)
	from, to := max(off, h.run.Start), min(off+int64(len(p)), h.run.Start+h.run.Length)
	for at := from; at < to; at = (at/4096 + 1) * 4096 {
		var block [4096]byte
		binary.LittleEndian.PutUint64(block[:], uint64(at/4096)+1)
		for n := 8; n < len(block); n *= 2 {
			copy(block[n:], block[:n])
		}
		copy(p[at-off:to-off], block[at%4096:])
	}
	return len(p), nil
}

func (h *huge) Close() error { return nil }

// TestOneGiBOfOneTiB: what is read and stored follows what changed, and all
// besides data is less than a megabyte.
func TestOneGiBOfOneTiB(t *testing.T) {
	c, be, secret := newClock(), newTally(mem.New()), keyFile(t)
	newRepository(t, be, secret, c, repo.DefaultDiskChunkBytes)
	image1 := func(h *huge, changed []image.Extent) *backup.ImageSource {
		src := &backup.ImageSource{Label: "big", Time: c.Now(), Bytes: hugeBytes, UseChanged: changed != nil, Changed: changed}
		src.Allocated = []image.Extent{{Start: 0, Length: 1 << 20}, {Start: hugeBytes - 1<<20, Length: 1 << 20}}
		src.Open = func(context.Context) (backup.RandomAccess, error) { return h, nil }
		return src
	}
	mustRun(t, reopen(t, be, secret, c), image1(&huge{}, nil), backup.Options{Now: c.Now})

	changed := image.Extent{Start: 300<<30 + 5<<20 + 512, Length: 1 << 30} // on no edge of chunk or leaf
	h := &huge{run: changed}
	r := reopen(t, be, secret, c)
	be.reset()
	p := mustRun(t, r, image1(h, []image.Extent{changed}), backup.Options{Now: c.Now}).Point
	chunks := int64(1<<30/repo.DefaultDiskChunkBytes + 1)
	if want := chunks * repo.DefaultDiskChunkBytes; h.read != want || p.BytesRead != want {
		t.Errorf("read %d bytes, the point says %d, not %d", h.read, p.BytesRead, want)
	}
	if p.ReadMode != recovery.ReadExtents || p.ChunksNew < chunks || p.ChunksNew > chunks+80 {
		t.Errorf("%d new chunks in mode %s, for %d of data", p.ChunksNew, p.ReadMode, chunks)
	}
	if besides := be.besidesData(); besides >= 1_000_000 {
		t.Errorf("%d bytes besides data: %v", besides, be.bytes)
	}
	t.Logf("%d bytes besides data: %v, read back %d in %d calls", be.besidesData(), be.bytes, be.got, be.calls)

	h = &huge{run: changed}
	r = reopen(t, be, secret, c)
	be.reset()
	again := mustRun(t, r, image1(h, []image.Extent{}), backup.Options{Now: c.Now}).Point
	if h.read != 0 || len(be.objects) != 2 || be.objects["sessions"] != 1 || be.objects["commit"] != 1 || be.besidesData() > 64<<10 || be.calls > 24 {
		t.Errorf("unchanged: read %d bytes, wrote %v, %d calls", h.read, be.bytes, be.calls)
	}
	if *again.Items[0].Disk != *p.Items[0].Disk {
		t.Errorf("the map changed: %+v", again.Items[0].Disk)
	}
	checkClean(t, r, be)
}
