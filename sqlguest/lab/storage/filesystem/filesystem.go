// Package filesystem is where the laboratory's database files lie: in memory for
// tests by the thousand, in a directory for a server that one can stop and start.
//
// Paths are the server's own, such as C:\Data\sales.mdf or /var/opt/mssql/data/sales.mdf;
// they are compared without regard to case, as Windows does.
package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// FS is a set of files. Its methods may be called at once. Errors wrap
// fs.ErrNotExist and fs.ErrExist.
type FS interface {
	// Create makes an empty file; fs.ErrExist if there is one of that name.
	Create(path string) (File, error)
	Open(path string) (File, error)
	Remove(path string) error
	Exists(path string) bool
	// Clone is a copy of all files as they are at this moment: what a snapshot of
	// the virtual machine would hold.
	Clone() (FS, error)
}

// File is one file. Reading behind its end gives io.EOF, writing there extends it
// with zeros between.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
}

// Memory holds files in memory. The zero value is empty and usable.
type Memory struct {
	mu    sync.Mutex
	files map[string]*memoryFile
}

type memoryFile struct {
	mu   sync.RWMutex
	data []byte
}

// Key is a path as its system tells it from others: Windows' ones, which have a backslash
// or a drive, without regard to case.
func Key(path string) string {
	if strings.ContainsRune(path, '\\') || len(path) > 1 && path[1] == ':' {
		return strings.ToLower(path)
	}
	return path
}

// Create implements FS.
func (m *Memory) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[Key(path)]; ok {
		return nil, fmt.Errorf("create %s: %w", path, fs.ErrExist)
	}
	if m.files == nil {
		m.files = map[string]*memoryFile{}
	}
	f := &memoryFile{}
	m.files[Key(path)] = f
	return f, nil
}

// Open implements FS.
func (m *Memory) Open(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.files[Key(path)]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	}
	return f, nil
}

// Remove implements FS.
func (m *Memory) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[Key(path)]; !ok {
		return fmt.Errorf("remove %s: %w", path, fs.ErrNotExist)
	}
	delete(m.files, Key(path))
	return nil
}

// Exists implements FS.
func (m *Memory) Exists(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[Key(path)] != nil
}

// Clone implements FS.
func (m *Memory) Clone() (FS, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &Memory{files: make(map[string]*memoryFile, len(m.files))}
	for name, f := range m.files {
		f.mu.RLock()
		out.files[name] = &memoryFile{data: append([]byte(nil), f.data...)}
		f.mu.RUnlock()
	}
	return out, nil
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grow(off + int64(len(p)))
	return copy(f.data[off:], p), nil
}

func (f *memoryFile) grow(size int64) {
	if n := size - int64(len(f.data)); n > 0 {
		f.data = append(f.data, make([]byte, n)...)
	}
}

func (f *memoryFile) Size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return int64(len(f.data)), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size <= int64(len(f.data)) {
		f.data = f.data[:size:size]
		return nil
	}
	f.grow(size)
	return nil
}

func (f *memoryFile) Close() error { return nil }

// Dir holds files in one directory of this machine; a server's path becomes one
// file name there, with what file systems dislike escaped.
type Dir struct{ root string }

// NewDir makes the directory if it is missing.
func NewDir(root string) (*Dir, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of database files: %w", err)
	}
	return &Dir{root: root}, nil
}

func (d *Dir) name(path string) string {
	return filepath.Join(d.root, url.QueryEscape(Key(path)))
}

// Create implements FS.
func (d *Dir) Create(path string) (File, error) {
	f, err := os.OpenFile(d.name(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return diskFile{f}, nil
}

// Open implements FS.
func (d *Dir) Open(path string) (File, error) {
	f, err := os.OpenFile(d.name(path), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return diskFile{f}, nil
}

// Remove implements FS.
func (d *Dir) Remove(path string) error {
	if err := os.Remove(d.name(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// Exists implements FS.
func (d *Dir) Exists(path string) bool {
	_, err := os.Stat(d.name(path))
	return err == nil
}

// Clone implements FS: the copy is in memory.
func (d *Dir) Clone() (FS, error) {
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, fmt.Errorf("clone database files: %w", err)
	}
	out := &Memory{files: map[string]*memoryFile{}}
	for _, e := range entries {
		name, err := url.QueryUnescape(e.Name())
		if err != nil {
			continue // not a name of ours
		}
		data, err := os.ReadFile(filepath.Join(d.root, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("clone database files: %w", err)
		}
		out.files[name] = &memoryFile{data: data}
	}
	return out, nil
}

// ReadFile gives a whole file; fs.ErrNotExist if there is none.
func ReadFile(f FS, path string) ([]byte, error) {
	file, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// WriteFile replaces a whole file.
func WriteFile(f FS, path string, data []byte) error {
	file, err := f.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.Create(path)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Copy puts one file of from in place of the file of that name in to; if from has none,
// to has none afterwards.
func Copy(to, from FS, path string) error {
	data, err := ReadFile(from, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && to.Exists(path):
		return to.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return WriteFile(to, path, data)
}

// diskFile adds Size to a file of this machine.
type diskFile struct{ *os.File }

// Size implements File.
func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
