package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/folder"
)

// Modes of what is made. The bytes are sealed, but names and sizes are
// nobody's business either.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// diskFile is a file of the real one.
type diskFile struct{ *os.File }

// rootFS is the real one.
type rootFS struct{ root *os.Root }

func (r *rootFS) Create(name string) (folder.File, error) {
	return opened(r.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode))
}

func (r *rootFS) Open(name string) (folder.File, error) { return opened(r.root.Open(name)) }

// opened keeps a nil *os.File from becoming a non-nil folder.File.
func opened(f *os.File, err error) (folder.File, error) {
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (r *rootFS) Lstat(name string) (fs.FileInfo, error) { return r.root.Lstat(name) }
func (r *rootFS) Mkdir(name string) error                { return r.root.Mkdir(name, dirMode) }
func (r *rootFS) Rename(from, to string) error           { return r.root.Rename(from, to) }
func (r *rootFS) Link(from, to string) error             { return r.root.Link(from, to) }
func (r *rootFS) Remove(name string) error               { return r.root.Remove(name) }
func (r *rootFS) Close() error                           { return r.root.Close() }

// ReadDir asks for each entry's size and time from the folder itself: one step
// an entry, however deep the folder lies.
func (r *rootFS) ReadDir(name string) ([]fs.FileInfo, error) {
	if info, err := r.root.Stat(name); err != nil || !info.IsDir() {
		return nil, notFolder(name, err) // OpenRoot's own error for a file matches nothing
	}
	sub, err := r.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	d, err := sub.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(names))
	for _, n := range names {
		info, err := sub.Lstat(n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the folder was read
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// notFolder is the error for what is there and no folder.
func notFolder(name string, err error) error {
	if err != nil {
		return err
	}
	return &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
}

// Lock opens and locks name, then looks whether the name still means that
// file: who removes a lock file holds its lock, and a lock on a file that has
// no name any more protects nothing.
func (r *rootFS) Lock(name string) (io.Closer, error) {
	f, err := r.root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, err
	}
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	named, err := r.root.Lstat(name)
	if err != nil || !os.SameFile(mine, named) {
		f.Close()
		return nil, ErrLocked
	}
	return f, nil // closing the file ends the lock
}

// reserved reports whether name is one that the store keeps for itself.
func reserved(name string) bool {
	return name == lockName || name == tempName || strings.HasPrefix(name, tempName+"/")
}

// folders lists the folders that lead to name, deepest first, "." last.
func folders(name string) []string {
	var all []string
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		all = append(all, dir)
		if dir == "." {
			return all
		}
	}
}

// explain gives an error of the file system the backend's sentinel, if one
// fits, and the form "verb object: cause".
func explain(verb, name string, err error) error {
	if missing(err) {
		return fmt.Errorf("%s %s: %w", verb, name, backend.ErrNotFound)
	}
	return explainWrite(verb, name, err)
}

// explainWrite is explain for what puts objects: there a missing folder or file
// is never the object that was asked for.
func explainWrite(verb, name string, err error) error {
	inner := cause(err)
	switch {
	case err == nil:
		return nil
	case noSpace(err) && !errors.Is(err, backend.ErrDurability):
		return fmt.Errorf("%s %s: %w: %w", verb, name, backend.ErrNoSpace, inner)
	case unreachable(err):
		return fmt.Errorf("%s %s: %w: %w", verb, name, backend.ErrUnreachable, inner)
	}
	return fmt.Errorf("%s %s: %w", verb, name, inner)
}

// missing: nothing of that name, or a file where a folder would have to be.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// cause takes off package os's own "openat name:", which repeats ours.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok && error(pe) == err {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok && error(le) == err {
		return le.Err
	}
	return err
}
