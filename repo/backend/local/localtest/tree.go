package localtest

import (
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/repo/backend/local/folder"
)

// Create makes a new file; EEXIST if the name is taken.
func (s *FS) Create(name string) (folder.File, error) {
	f := &openFile{fs: s, name: name, node: &Node{}}
	if err := s.call("create", name, func() error { return s.enter(name, f.node) }); err != nil {
		return nil, err
	}
	f.opened()
	return f, nil
}

// Open opens a file or folder for reading and Sync.
func (s *FS) Open(name string) (folder.File, error) {
	f := &openFile{fs: s, name: name}
	err := s.call("open", name, func() (err error) {
		f.node, err = s.Find(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	f.opened()
	return f, nil
}

// Lstat tells length and kind.
func (s *FS) Lstat(name string) (info fs.FileInfo, err error) {
	err = s.call("lstat", name, func() error {
		n, err := s.Find(name)
		if err == nil {
			info = nodeInfo{path.Base(name), int64(len(n.Data)), n.dir}
		}
		return err
	})
	return info, err
}

// ReadDir lists a folder, sorted by name.
func (s *FS) ReadDir(name string) (infos []fs.FileInfo, err error) {
	err = s.call("readdir", name, func() error {
		n, err := s.Find(name)
		if err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(n.Kids)) {
			infos = append(infos, nodeInfo{base, int64(len(n.Kids[base].Data)), n.Kids[base].dir})
		}
		return nil
	})
	return infos, err
}

// Mkdir makes a folder.
func (s *FS) Mkdir(name string) error {
	return s.call("mkdir", name, func() error { return s.enter(name, newFolder()) })
}

// move is rename(2); with fresh it refuses a taken name.
func (s *FS) move(from, to string, fresh bool) error {
	n, err := s.Find(from)
	if err != nil {
		return err
	}
	dir, base, err := s.place(to)
	if err != nil {
		return err
	}
	if dir.Kids[base] != nil && fresh {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	old, oldBase, err := s.place(from)
	if err != nil {
		return err
	}
	delete(old.Kids, oldBase)
	dir.Kids[base] = n
	return nil
}

// Rename replaces what to is.
func (s *FS) Rename(from, to string) error {
	return s.call("rename", to, func() error { return s.move(from, to, false) })
}

// RenameNew fails with EEXIST if to is taken.
func (s *FS) RenameNew(from, to string) error {
	return s.call("renamenew", to, func() error { return s.move(from, to, true) })
}

// Link gives a file a second name, if that is free.
func (s *FS) Link(from, to string) error {
	return s.call("link", to, func() error {
		n, err := s.Find(from)
		if err != nil {
			return err
		}
		return s.enter(to, n)
	})
}

// Remove removes a file or an empty folder.
func (s *FS) Remove(name string) error {
	return s.call("remove", name, func() error {
		dir, base, err := s.place(name)
		if err != nil {
			return err
		}
		switch n := dir.Kids[base]; {
		case n == nil:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOENT}
		case len(n.Kids) > 0:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		delete(dir.Kids, base)
		return nil
	})
}

// SyncDir makes the entries of a folder durable, and those of no other.
func (s *FS) SyncDir(name string) error {
	return s.call("syncdir", name, func() error {
		n, err := s.Find(name)
		if err != nil {
			return err
		}
		if !n.brokenEntries && !s.skips("syncdir", name) {
			n.platterKids = maps.Clone(n.Kids)
		}
		n.brokenEntries = n.brokenEntries || s.failing()
		return nil
	})
}

// Lock locks a file, made if missing; folder.ErrLocked if somebody has it.
func (s *FS) Lock(name string) (io.Closer, error) {
	l := &heldLock{fs: s}
	err := s.call("lock", name, func() error {
		if err := s.enter(name, &Node{}); err != nil && !isExist(err) {
			return err
		}
		n, err := s.Find(name)
		if err != nil {
			return err
		}
		if s.locks[n] {
			return folder.ErrLocked
		}
		l.node, s.locks[n] = n, true
		return nil
	})
	if err != nil {
		if l.node != nil { // the file is made, perhaps; a lock ends with the handle that was not returned
			l.Close()
		}
		return nil, err
	}
	return l, nil
}

func isExist(err error) bool {
	return err != nil && strings.Contains(err.Error(), syscall.EEXIST.Error())
}

// Close does nothing: the disk outlives its processes.
func (s *FS) Close() error { return nil }

type heldLock struct {
	fs   *FS
	node *Node
}

func (l *heldLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.node)
	return nil
}

type nodeInfo struct {
	name  string
	bytes int64
	dir   bool
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.bytes }
func (i nodeInfo) ModTime() time.Time { return time.Unix(1, 0) }
func (i nodeInfo) IsDir() bool        { return i.dir }
func (i nodeInfo) Sys() any           { return nil }
func (i nodeInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
