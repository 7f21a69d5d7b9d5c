package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/folder"
)

// The reserve is a file of real blocks that holds nothing. A full disk can
// still unlink: UseReserve removes the file, and maintenance has the room to
// write its decisions before it frees more. It is made with the first write of
// a process wherever it is missing, so that a place which somebody has emptied in
// part fills it first, and again as a process ends that found no room for it. Where
// there is no room for all of it, as after a tombstone that was written on a full
// disk, it is made as large as fits: what was not needed is kept for the next time.
//
// While a process spends the reserve it holds an OS lock; another one that
// starts to write meanwhile leaves the freed room alone.
const (
	reserveName     = tempName + "/reserve"
	reserveLockName = tempName + "/reserve.lock"
	reserveDefault  = 16 << 20 // bytes: some ledger entries, runs and a pack to repack
	reservePieces   = 64       // a reserve in part is a multiple of this part of it,
	reservePiece    = 64 << 10 // but of so many bytes at least
)

var _ backend.Reserver = (*Backend)(nil)

// UseReserve removes what dead processes have left and then the reserve, so
// that the next writes find room on a full disk. It writes nothing before that.
func (b *Backend) UseReserve(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("use reserve of %s: %w", b.dir, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("use reserve of %s: %w", b.dir, errClosed)
	}
	b.removeDead()
	if err := b.disk.Remove(reserveName); err != nil && !missing(err) {
		return explainWrite("use reserve of", b.dir, err)
	}
	b.spent, b.owing = true, true
	if err := b.disk.SyncDir(tempName); err != nil { // some file systems free blocks only with the journal
		b.opts.Log.Debug("cannot sync temporary folder", "err", err)
	}
	if b.spending != nil {
		return nil
	}
	held, err := b.disk.Lock(reserveLockName)
	if err != nil { // another prunes too, or there is no room even for that: the lock is a courtesy
		b.opts.Log.Debug("cannot lock the reserve", "err", err)
		return nil
	}
	b.spending = held
	return nil
}

// Refill makes the reserve again. missing is how many bytes there is no room for.
func (b *Backend) Refill(ctx context.Context) (missing int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("refill reserve of %s: %w", b.dir, err)
	}
	work, err := b.workspace()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endSpending()
	if err == nil {
		missing, err = b.keepReserve(work)
	}
	if noSpace(err) {
		return b.opts.ReserveBytes, nil
	}
	if err != nil {
		return 0, explainWrite("refill reserve of", b.dir, err)
	}
	return missing, nil
}

// endSpending gives the lock back. The caller holds mu.
func (b *Backend) endSpending() {
	b.spent = false
	if b.spending == nil {
		return
	}
	b.unlockReserve(b.spending)
	b.spending = nil
}

// unlockReserve removes the lock file while it is held, as removeWorkspace does.
func (b *Backend) unlockReserve(held io.Closer) {
	b.removeTemp(reserveLockName)
	if err := held.Close(); err != nil {
		b.opts.Log.Warn("cannot unlock the reserve", "err", err)
	}
}

// keepReserve makes the reserve unless it stands. missing is how many bytes
// there is no room for. The caller holds mu.
func (b *Backend) keepReserve(work *workspace) (missing int64, err error) {
	missing, err = b.makeReserve(work)
	b.owing = missing > 0 || err != nil
	return missing, err
}

func (b *Backend) makeReserve(work *workspace) (missing int64, err error) {
	if b.opts.ReserveBytes < 0 || b.reserveStands() {
		return 0, nil
	}
	held, err := b.disk.Lock(reserveLockName)
	if errors.Is(err, ErrLocked) {
		return 0, nil // somebody is spending it, or making it
	}
	if err != nil {
		return 0, fmt.Errorf("lock reserve: %w", cause(err))
	}
	defer b.unlockReserve(held)
	if b.reserveStands() {
		return 0, nil // made while we came to the lock
	}
	return b.largestReserve(work)
}

// largestReserve makes the reserve as large as fits, and at least leaves what is
// there of one. What fits is searched for by halves, which costs a few calls a try
// where the file system grants blocks.
func (b *Backend) largestReserve(work *workspace) (missing int64, err error) {
	whole := b.opts.ReserveBytes
	err = b.replaceReserve(work.temp(), whole)
	if err == nil {
		return 0, nil
	}
	piece := max(whole/reservePieces, reservePiece)
	have := min(b.reserveBytes(), whole)
	low, high := have/piece, (whole-1)/piece // what there is, and all but the whole
	for low < high && noSpace(err) {
		try := low + (high-low+1)/2
		temp := work.temp()
		switch tryErr := b.fillReserve(temp, try*piece); {
		case tryErr == nil:
			low = try
		case noSpace(tryErr):
			high = try - 1
		default:
			err = tryErr
		}
		b.removeTemp(temp)
	}
	if best := low * piece; noSpace(err) && best > have {
		if err = b.replaceReserve(work.temp(), best); err == nil {
			return whole - best, nil
		}
	}
	if noSpace(err) {
		return whole - have, nil
	}
	return 0, fmt.Errorf("make reserve: %w", cause(err))
}

// replaceReserve makes a reserve of so many bytes, in place of one that is there.
func (b *Backend) replaceReserve(temp string, bytes int64) error {
	err := b.fillReserve(temp, bytes)
	if err == nil {
		err = b.disk.Rename(temp, reserveName)
	}
	if err != nil {
		b.removeTemp(temp)
	}
	return err
}

// reserveStands: the file is there, and long enough.
func (b *Backend) reserveStands() bool { return b.reserveBytes() >= b.opts.ReserveBytes }

// reserveBytes is how much is kept back: the length of the file, as far as its blocks
// are its own. A copy of the directory may have made holes of them.
func (b *Backend) reserveBytes() int64 {
	info, err := b.disk.Lstat(reserveName)
	switch {
	case err != nil || !info.Mode().IsRegular():
		return 0
	case b.network == "" && allocated(info) < info.Size():
		return 0
	}
	return info.Size()
}

// fillReserve makes a file of so many real bytes: by asking for them where the
// file system grants that, and else, or where it only says so, by writing.
func (b *Backend) fillReserve(name string, bytes int64) error {
	f, err := b.disk.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	granted, err := f.Allocate(bytes)
	if err != nil {
		return err
	}
	if granted {
		if info, err := f.Stat(); err == nil && info.Size() >= bytes && allocated(info) >= bytes {
			return nil
		}
	}
	return writeNoise(f, name, bytes)
}

// writeNoise writes bytes that no file system can compress or share, from the
// start of the file, and sees to it that they have their blocks.
func writeNoise(f folder.File, seed string, length int64) error {
	noise := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	piece := make([]byte, min(length, 1<<20))
	for done := int64(0); done < length; {
		part := piece[:min(int64(len(piece)), length-done)]
		if _, err := noise.Read(part); err != nil {
			return err
		}
		n, err := f.Write(part)
		if err != nil {
			return err
		}
		if n < len(part) {
			return io.ErrShortWrite
		}
		done += int64(n)
	}
	return f.Sync()
}
