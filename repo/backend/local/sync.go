package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/folder"
)

// syncNew syncs a file that has no name of an object yet, so that a failure
// costs nothing: "no space" (network file systems say it only now) stays what
// it is, anything else is ErrDurability.
func syncNew(f folder.File) error {
	err := f.Sync()
	if err == nil || noSpace(err) {
		return err
	}
	return fmt.Errorf("%w: %w", backend.ErrDurability, cause(err))
}

// Sync makes durable every Put and Delete of this process that returned before:
// first each waiting file, in parallel, then each touched folder and those
// above it, once. A file or folder whose fsync failed makes this and every
// later Sync fail with ErrDurability, until that object is put anew or deleted.
func (b *Backend) Sync(ctx context.Context) error {
	select {
	case b.syncing <- struct{}{}:
		defer func() { <-b.syncing }()
	case <-ctx.Done():
		return fmt.Errorf("sync %s: %w", b.dir, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync %s: %w", b.dir, err)
	}
	b.mu.Lock()
	closed := b.closed
	files := maps.Clone(b.unsynced)
	dirs := b.dirty
	b.dirty = map[string]struct{}{}
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("sync %s: %w", b.dir, errClosed)
	}
	err := b.syncFiles(ctx, files)
	if err == nil {
		err = b.syncDirs(ctx, dirs)
	}
	if err != nil { // synced again is harmless, forgotten is not
		b.mu.Lock()
		maps.Copy(b.dirty, dirs)
		b.mu.Unlock()
	}
	return err
}

// syncFiles tries every file, even after one failed: what can be saved is.
func (b *Backend) syncFiles(ctx context.Context, files map[string]*waiting) error {
	var g errgroup.Group
	g.SetLimit(b.opts.SyncParallel)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		g.Go(func() error { return b.syncFile(ctx, name, files[name]) })
	}
	return g.Wait()
}

func (b *Backend) syncFile(ctx context.Context, name string, w *waiting) error {
	err := ctx.Err()
	if err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	b.mu.Lock()
	failed := w.failed
	b.mu.Unlock()
	if failed == nil {
		err = w.file.Sync()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return fmt.Errorf("sync %s: %w", name, errClosed)
	case b.unsynced[name] != w:
		return nil // replaced or deleted meanwhile; whoever did it closed the file
	case failed == nil && err == nil:
		b.forget(name)
		return nil
	case failed == nil:
		w.failed = fmt.Errorf("sync %s: %w: %w", name, backend.ErrDurability, cause(err))
	}
	return w.failed
}

// syncDirs syncs each folder and those above it once: whether a folder's own
// name is durable is not remembered, since others may have removed and remade it.
func (b *Backend) syncDirs(ctx context.Context, dirs map[string]struct{}) error {
	all := map[string]struct{}{}
	for dir := range dirs {
		all[dir] = struct{}{}
		for _, above := range folders(dir) {
			all[above] = struct{}{}
		}
	}
	order := slices.SortedFunc(maps.Keys(all), func(x, y string) int { return strings.Compare(y, x) })
	for _, dir := range order {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sync folder %s: %w", dir, err)
		}
		if err := b.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncDir syncs one folder. One that is gone has nothing to keep.
func (b *Backend) syncDir(dir string) error {
	b.mu.Lock()
	dead := b.deadDirs[dir]
	b.mu.Unlock()
	if dead != nil {
		return dead
	}
	err := b.disk.SyncDir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err = fmt.Errorf("sync folder %s: %w: %w", dir, backend.ErrDurability, cause(err))
	b.mu.Lock()
	b.deadDirs[dir] = err
	b.mu.Unlock()
	return err
}

// syncFolders makes the way to name durable, at once.
func (b *Backend) syncFolders(name string) error {
	for _, dir := range folders(name) {
		if err := b.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// settle makes an object durable that stands already, perhaps by the hand of
// another process that has not come to its own fsync of the folder.
func (b *Backend) settle(name string) error {
	b.mu.Lock()
	w := b.unsynced[name]
	b.mu.Unlock()
	if w != nil && w.failed != nil {
		return w.failed
	}
	f, err := b.disk.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		err = fmt.Errorf("%w: %w", backend.ErrDurability, cause(err))
		b.mu.Lock()
		defer b.mu.Unlock()
		b.forget(name)
		b.unsynced[name] = &waiting{failed: fmt.Errorf("sync %s: %w", name, err)}
		return err
	}
	return b.syncFolders(name)
}
