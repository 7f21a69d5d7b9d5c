package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"holdfast/repo/backend"
)

// Get reads length bytes from offset, or to the end if length < 0. Of an object
// that is replaced meanwhile it reads the old bytes or the new, never a mix:
// the open file is the one it found.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := b.admit(ctx, "get", name); err != nil {
		return nil, err
	}
	f, err := b.disk.Open(name)
	if err != nil {
		return nil, explain("get", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, explain("get", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("get %s: %w", name, backend.ErrNotFound)
	}
	if length < 0 {
		length = info.Size() - offset
	}
	if offset < 0 || length < 0 || offset > info.Size()-length {
		return nil, fmt.Errorf("get %s: %d bytes from %d of %d: %w", name, length, offset, info.Size(), backend.ErrRange)
	}
	data := make([]byte, length)
	for done := int64(0); done < length; {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("get %s: %w", name, err)
		}
		piece := data[done:min(done+writePiece, length)]
		n, err := f.ReadAt(piece, offset+done)
		if n < len(piece) { // ReadAt explains every short read
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, explain("get", name, err)
		}
		done += int64(n)
	}
	return data, nil
}

// Stat returns size and time of one object.
func (b *Backend) Stat(ctx context.Context, name string) (backend.Info, error) {
	if err := b.admit(ctx, "stat", name); err != nil {
		return backend.Info{}, err
	}
	info, err := b.disk.Lstat(name)
	if err != nil {
		return backend.Info{}, explain("stat", name, err)
	}
	if !info.Mode().IsRegular() {
		return backend.Info{}, fmt.Errorf("stat %s: %w", name, backend.ErrNotFound)
	}
	return backend.Info{Name: name, Bytes: info.Size(), Modified: info.ModTime()}, nil
}

// List calls fn for each object whose name starts with prefix, sorted by name.
// Files whose names no object can have are passed over, and so are links. An
// object that appears or goes while the listing runs may be listed or not.
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	dir := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
		if !backend.ValidName(dir) || reserved(dir) {
			return ctx.Err() // no object can be there
		}
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("list %s: %w", prefix, errClosed)
	}
	return b.walk(ctx, dir, prefix, fn)
}

// entry is a name in a folder with the text that decides its place: a folder
// sorts as "name/", so that full names come out in order ("a-b" before "a/b").
type entry struct {
	key  string // full name, folders with a slash at the end
	info fs.FileInfo
}

func (b *Backend) walk(ctx context.Context, dir, prefix string, fn func(backend.Info) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	entries, err := b.entries(dir, prefix)
	if err != nil {
		return explain("list", prefix, err)
	}
	for _, e := range entries {
		if e.info.IsDir() {
			err = b.walk(ctx, strings.TrimSuffix(e.key, "/"), prefix, fn)
		} else if err = ctx.Err(); err == nil {
			err = fn(backend.Info{Name: e.key, Bytes: e.info.Size(), Modified: e.info.ModTime()})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entries lists what of a folder can lead to a name with prefix, in order. A
// folder that is missing is empty.
func (b *Backend) entries(dir, prefix string) ([]entry, error) {
	infos, err := b.disk.ReadDir(dir)
	if dir != "." && missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]entry, 0, len(infos))
	for _, info := range infos {
		name := info.Name()
		if dir != "." {
			name = dir + "/" + name
		}
		if !backend.ValidName(name) || reserved(name) || !(info.IsDir() || info.Mode().IsRegular()) {
			continue
		}
		if info.IsDir() {
			name += "/"
		}
		if strings.HasPrefix(name, prefix) || info.IsDir() && strings.HasPrefix(prefix, name) {
			list = append(list, entry{name, info})
		}
	}
	slices.SortFunc(list, func(x, y entry) int { return cmp.Compare(x.key, y.key) })
	return list, nil
}
