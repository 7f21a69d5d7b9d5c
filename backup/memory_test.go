//go:build !race

package backup_test

// Under the race detector the heap is not the program's own, so this file is
// not built there.

import (
	"context"
	mrand "math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"holdfast/backup"
	"holdfast/repo/backend/mem"
)

// loud is a disk of noise that notes how large the heap gets while it is read.
type loud struct {
	mu   sync.Mutex
	peak uint64
}

func (l *loud) ReadAt(p []byte, off int64) (int, error) {
	mrand.NewChaCha8([32]byte{byte(off >> 22), byte(off >> 30)}).Read(p)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.mu.Lock()
	l.peak = max(l.peak, m.HeapAlloc)
	l.mu.Unlock()
	return len(p), nil
}

func (l *loud) Close() error { return nil }

// TestMemoryDoesNotGrowWithTheDisk: only a handful of packs are in memory.
func TestMemoryDoesNotGrowWithTheDisk(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	c, be, secret := newClock(), newTally(mem.New()), keyFile(t)
	be.forgetData = true
	r := newRepository(t, be, secret, c, 1<<20)
	l := &loud{}
	const size = 640 << 20
	src := &backup.ImageSource{Label: "loud", Time: c.Now(), Bytes: size}
	src.Open = func(context.Context) (backup.RandomAccess, error) { return l, nil }
	mustRun(t, r, src, backup.Options{Now: c.Now})
	if be.bytes["data"] < size {
		t.Fatalf("only %d bytes were stored", be.bytes["data"])
	}
	t.Logf("%d MiB of heap at most", (l.peak-before.HeapAlloc)>>20)
	if l.peak-before.HeapAlloc > 400<<20 {
		t.Errorf("%d MiB of heap for a disk of %d", (l.peak-before.HeapAlloc)>>20, size>>20)
	}
}
