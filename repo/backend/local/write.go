package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/folder"
)

const (
	// writePiece is how much is written between two looks at ctx, bytes.
	writePiece = 4 << 20
	// takeTries bounds how often a name is tried again because its folder was
	// removed, or an object of that name came and went, in between.
	takeTries = 16
)

// waiting is an object that took its name before its fsync. Its file stays
// open: an error of writing back is only sure to reach the descriptor that
// wrote. failed is set when the fsync failed; it is not tried again.
type waiting struct {
	file   folder.File // nil when another process put the object
	failed error
}

func (w *waiting) close() {
	if w.file != nil {
		w.file.Close()
	}
}

// Put writes an object, replacing one of that name atomically. A name that is
// taken is replaced only by bytes that are durable already; a new name waits
// for Sync.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	if err := b.admit(ctx, "put", name); err != nil {
		return err
	}
	temp, f, err := b.writeTemp(ctx, data)
	if err != nil {
		return explainWrite("put", name, err)
	}
	kept, err := b.replace(temp, name, f)
	if !kept {
		f.Close()
	}
	if err != nil {
		b.removeTemp(temp)
		return explainWrite("put", name, err)
	}
	return nil
}

// PutIfAbsent writes an object if the name is free and returns when it is
// durable; a name taken by the same bytes counts as success, by others is
// ErrExists.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := b.admit(ctx, "put new", name); err != nil {
		return err
	}
	for range takeTries {
		err := b.compare(name, data)
		if err == nil {
			return explainWrite("put new", name, b.settle(name))
		}
		if missing(err) {
			err = b.take(ctx, name, data)
		}
		if !errors.Is(err, fs.ErrExist) {
			return explainWrite("put new", name, err)
		}
	}
	return fmt.Errorf("put new %s: %w: the name keeps coming and going", name, backend.ErrUnreachable)
}

// writeTemp writes data to a new temporary file and returns it open. On error
// nothing is left behind.
func (b *Backend) writeTemp(ctx context.Context, data []byte) (string, folder.File, error) {
	work, err := b.workspace()
	if err != nil {
		return "", nil, err
	}
	temp := work.temp()
	f, err := b.disk.Create(temp)
	if err != nil {
		b.removeTemp(temp) // it may be there: on a network only the answer is known lost
		return "", nil, fmt.Errorf("create %s: %w", temp, cause(err))
	}
	if err := writeAll(ctx, f, data); err != nil {
		f.Close()
		b.removeTemp(temp)
		return "", nil, err
	}
	return temp, f, nil
}

func writeAll(ctx context.Context, f folder.File, data []byte) error {
	for len(data) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := data[:min(len(data), writePiece)]
		n, err := f.Write(piece)
		if err != nil {
			return cause(err)
		}
		if n < len(piece) {
			return io.ErrShortWrite
		}
		data = data[n:]
	}
	return nil
}

// replace gives temp its name. The look at the name, the rename and the note
// for Sync are one step under the lock: of two Puts of one name the note must
// be that of the file that stayed. kept tells that f now belongs to the note.
func (b *Backend) replace(temp, name string, f folder.File) (kept bool, err error) {
	durable := false
	for range takeTries {
		if !durable && b.mustSyncFirst(name) {
			if err := syncNew(f); err != nil {
				return false, err
			}
			durable = true
		}
		done, kept, err := b.tryReplace(temp, name, f, durable)
		if done {
			return kept, err
		}
		if errors.Is(err, fs.ErrNotExist) {
			if err := b.makeFolders(name); err != nil {
				return false, err
			}
		}
	}
	return false, fmt.Errorf("%w: its folder keeps vanishing", backend.ErrUnreachable)
}

// mustSyncFirst: the name is taken, or enough files wait for a Sync already.
func (b *Backend) mustSyncFirst(name string) bool {
	b.mu.Lock()
	full := len(b.unsynced) >= b.opts.UnsyncedFiles
	b.mu.Unlock()
	if full {
		return true
	}
	_, err := b.disk.Lstat(name)
	return err == nil
}

// tryReplace is one attempt under the lock; done is false when it is worth
// another: the name got taken meanwhile, or a folder is missing.
func (b *Backend) tryReplace(temp, name string, f folder.File, durable bool) (done, kept bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return true, false, errClosed
	}
	if _, err := b.disk.Lstat(name); err == nil && !durable {
		return false, false, nil
	}
	if err := b.disk.Rename(temp, name); err != nil {
		return !errors.Is(err, fs.ErrNotExist), false, err
	}
	b.forget(name)
	b.dirty[path.Dir(name)] = struct{}{}
	if !durable {
		b.unsynced[name] = &waiting{file: f}
	}
	return true, !durable, nil
}

// forget drops the note of a file that lost its name. The caller holds mu.
func (b *Backend) forget(name string) {
	if w := b.unsynced[name]; w != nil {
		w.close()
		delete(b.unsynced, name)
	}
}

// makeFolders makes the folders that lead to name.
func (b *Backend) makeFolders(name string) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if err := b.disk.Mkdir(name[:i]); err != nil && !errors.Is(err, fs.ErrExist) {
			return cause(err)
		}
	}
	return nil
}

// take writes data and lets it have name if that is free, durably; an error
// that matches fs.ErrExist says it is not.
func (b *Backend) take(ctx context.Context, name string, data []byte) error {
	temp, f, err := b.writeTemp(ctx, data)
	if err != nil {
		return err
	}
	err = syncNew(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = b.claim(temp, name)
	}
	b.removeTemp(temp) // after a link it is a second name, after a rename it is gone
	if err != nil {
		return err
	}
	return b.syncFolders(name)
}

// claim makes temp's bytes appear under name unless that exists. A failed claim
// is asked again only when a folder was missing.
func (b *Backend) claim(temp, name string) error {
	work, err := b.workspace()
	if err != nil {
		return err
	}
	for range takeTries {
		switch work.method {
		case byLink:
			err = b.disk.Link(temp, name)
		case byRename:
			err = b.disk.RenameNew(temp, name)
		default:
			err = b.claimLocked(temp, name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := b.makeFolders(name); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: its folder keeps vanishing", backend.ErrUnreachable)
}

// claimLocked looks and renames under the writers' lock, for file systems that
// cannot do both in one step.
func (b *Backend) claimLocked(temp, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.writer {
		held, err := b.disk.Lock(lockName)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	if _, err := b.disk.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	return b.disk.Rename(temp, name)
}

// compare returns nil if name holds exactly data, backend.ErrExists if other
// bytes, and what the file system said otherwise.
func (b *Backend) compare(name string, data []byte) error {
	f, err := b.disk.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(len(data)) {
		return backend.ErrExists
	}
	have := make([]byte, len(data))
	if _, err := f.ReadAt(have, 0); err != nil && !errors.Is(err, io.EOF) {
		return cause(err)
	}
	if string(have) != string(data) {
		return backend.ErrExists
	}
	return nil
}

// Delete removes an object; a missing one is no error. The folders that it
// leaves empty go too, except those at the top: every session has folders of
// its own, and in years they would be many. The next Sync makes it durable.
func (b *Backend) Delete(ctx context.Context, name string) error {
	if err := b.admit(ctx, "delete", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := b.disk.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil // a folder or a link is no object
	}
	if err == nil {
		err = b.disk.Remove(name)
	}
	if err = explain("delete", name, err); err != nil && !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	b.forget(name)
	b.dirty[path.Dir(name)] = struct{}{}
	for dir := path.Dir(name); strings.Contains(dir, "/"); dir = path.Dir(dir) {
		if b.disk.Remove(dir) != nil {
			break // not empty, most of the time
		}
	}
	return nil
}
