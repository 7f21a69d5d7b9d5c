package local

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"sync/atomic"
)

// method is how PutIfAbsent lets the file system decide who is first.
type method int

const (
	byLink    method = iota // link(temp, name) refuses a taken name
	byRename                // a rename that refuses a taken name
	underLock               // look, then rename, while holding the writers' lock
)

// workspace is this process's folder of unfinished writes, tmp/<16 hex>. Its
// file "lock" is OS-locked as long as the owner lives, so whoever can lock the
// folder of another process knows that its owner is dead, without clocks or
// process ids, and may remove it.
type workspace struct {
	dir    string
	lock   io.Closer
	method method
	next   atomic.Uint64
}

// temp is a name that nobody uses.
func (w *workspace) temp() string { return w.dir + "/" + strconv.FormatUint(w.next.Add(1), 10) }

// workspaceTries bounds the races with others who clean up; one lost race in
// this many would need as many processes starting in the same instant.
const workspaceTries = 16

// workspace returns the folder, on the first call making it, removing those of
// the dead and trying out how a free name can be taken.
func (b *Backend) workspace() (*workspace, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, errClosed
	case b.work != nil:
		return b.work, nil
	}
	if err := b.disk.Mkdir(tempName); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make %s: %w", tempName, cause(err))
	}
	b.removeDead()
	work, err := b.newWorkspace()
	if err != nil {
		return nil, err
	}
	if work.method, err = b.probe(work); err != nil {
		b.removeWorkspace(work)
		return nil, err
	}
	b.work = work
	if b.spent {
		return work, nil
	}
	if missing, err := b.keepReserve(work); err != nil || missing > 0 { // no reason not to write
		b.opts.Log.Warn("no room is kept back for pruning a full disk", "missing_bytes", missing, "err", err)
	}
	return work, nil
}

// newWorkspace makes and locks a folder. Between the two steps a cleaner may
// take it for a dead one; then the lock fails, or is on a file that lost its
// name, and another folder is tried.
func (b *Backend) newWorkspace() (*workspace, error) {
	var last error
	for range workspaceTries {
		var id [8]byte
		if _, err := io.ReadFull(b.opts.Random, id[:]); err != nil {
			return nil, fmt.Errorf("name temporary folder: %w", err)
		}
		dir := tempName + "/" + hex.EncodeToString(id[:])
		if last = b.disk.Mkdir(dir); last != nil {
			if errors.Is(last, fs.ErrExist) || errors.Is(last, fs.ErrNotExist) {
				continue
			}
			return nil, fmt.Errorf("make %s: %w", dir, cause(last))
		}
		var lock io.Closer
		if lock, last = b.disk.Lock(dir + "/" + lockName); last == nil {
			return &workspace{dir: dir, lock: lock}, nil
		}
		if !errors.Is(last, ErrLocked) && !errors.Is(last, fs.ErrNotExist) {
			b.removeTemp(dir) // empty, unless the lock file could be made but not locked
			return nil, fmt.Errorf("lock %s: %w", dir, cause(last))
		}
	}
	return nil, fmt.Errorf("make temporary folder: %w", cause(last))
}

// removeWorkspace removes the folder while its lock is held, the lock file
// last: a cleaner that comes after a crash in the middle still finds it.
func (b *Backend) removeWorkspace(w *workspace) {
	infos, err := b.disk.ReadDir(w.dir)
	if err != nil {
		b.opts.Log.Warn("cannot list temporary folder", "folder", w.dir, "err", err)
	}
	for _, info := range infos {
		if info.Name() != lockName {
			b.removeTemp(w.dir + "/" + info.Name())
		}
	}
	b.removeTemp(w.dir + "/" + lockName)
	b.removeTemp(w.dir)
	if err := w.lock.Close(); err != nil {
		b.opts.Log.Warn("cannot unlock temporary folder", "folder", w.dir, "err", err)
	}
}

// removeDead removes the folders of processes that died. That it cannot is no
// reason to stop: they cost space, not safety.
func (b *Backend) removeDead() {
	infos, err := b.disk.ReadDir(tempName)
	if missing(err) {
		return
	}
	if err != nil {
		b.opts.Log.Warn("cannot list temporary folders", "err", err)
		return
	}
	for _, info := range infos {
		if !info.IsDir() {
			continue
		}
		dir := tempName + "/" + info.Name()
		lock, err := b.disk.Lock(dir + "/" + lockName)
		switch {
		case errors.Is(err, ErrLocked), errors.Is(err, fs.ErrNotExist):
			continue // alive, or removed by another
		case err != nil:
			b.opts.Log.Warn("cannot lock temporary folder", "folder", dir, "err", err)
			continue
		}
		b.opts.Log.Info("removing the unfinished writes of a dead process", "folder", dir)
		b.removeWorkspace(&workspace{dir: dir, lock: lock})
	}
}

// removeTemp removes a temporary file or folder. A failure leaves litter that
// the next process clears, so it is told, not returned.
func (b *Backend) removeTemp(name string) {
	if err := b.disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.opts.Log.Warn("cannot remove temporary file", "file", name, "err", err)
	}
}

// probe finds the first method that takes a free name and refuses a taken one.
// Documentation is no proof: some file systems ignore the flag, others answer
// "not supported", and a mount option can decide either.
func (b *Backend) probe(w *workspace) (method, error) {
	for _, m := range []method{byLink, byRename} {
		ok, err := b.proves(w, m)
		if err != nil {
			return 0, err
		}
		if ok {
			return m, nil
		}
	}
	return underLock, nil
}

// proves tries one method on files of its own. Only an answer of the wrong kind
// disqualifies it; a full or sick disk is an error.
func (b *Backend) proves(w *workspace, m method) (bool, error) {
	var names [3]string // two files and a free name
	for i := range names {
		names[i] = w.temp()
		defer b.removeTemp(names[i])
		if i == 2 {
			break
		}
		f, err := b.disk.Create(names[i])
		if err != nil {
			return false, fmt.Errorf("probe %s: %w", path.Base(w.dir), cause(err))
		}
		f.Close()
	}
	take := b.disk.Link
	if m == byRename {
		take = b.disk.RenameNew
	}
	if err := take(names[0], names[1]); err == nil || !errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if _, err := b.disk.Lstat(names[0]); err != nil {
		return false, nil // it refused, and yet the file is gone
	}
	return take(names[0], names[2]) == nil, nil
}
