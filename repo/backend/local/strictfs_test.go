package local

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// strictFS is a file system in memory that is as unkind as POSIX allows. What
// was not synced may be lost or torn, entry by entry; a sync of a file does not
// sync its name; a failed fsync marks the pages clean, so that a second one
// lies. Each call is numbered; one of them can be made to fail.
type strictFS struct {
	mu     sync.Mutex
	root   *node
	locks  map[*node]bool
	open   map[*node]int // handles: what is open has its room, with or without a name
	room   int64         // bytes in all; 0 means no bound
	hollow bool          // Allocate is not supported

	calls []string // "op name" of each call
	fault fsFault
	arm   func(call string)  // may set fault for the call that begins
	hit   string             // the call that failed
	after func(fs *strictFS) // runs after each call, holding mu: what a reader could see now
}

// fsFault fails call number at (from 1).
type fsFault struct {
	at   int
	err  error
	done bool // the call is done and its answer lost (renames on network file systems)
	part bool // a write writes half of its bytes first
}

// node is a file or a folder, in memory and on the platter.
type node struct {
	dir           bool
	data          []byte
	kids          map[string]*node
	platter       []byte
	platterKids   map[string]*node
	lied          bool // an fsync failed; the rest of data will never reach the platter
	brokenEntries bool // the same of a folder's entries
}

func newStrictFS() *strictFS {
	return &strictFS{root: newFolder(), locks: map[*node]bool{}, open: map[*node]int{}}
}

func newFolder() *node {
	return &node{dir: true, kids: map[string]*node{}, platterKids: map[string]*node{}}
}

// call numbers a call and runs it unless it is to fail.
func (s *strictFS) call(op, name string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, op+" "+name)
	if s.arm != nil {
		s.arm(op + " " + name)
	}
	err := error(nil)
	if s.fault.at == len(s.calls) && s.fault.err != nil {
		s.hit = op + " " + name
		if s.fault.done {
			_ = do() // its answer is lost
		}
		err = s.fault.err
	} else {
		err = do()
	}
	if s.after != nil {
		s.after(s)
	}
	return err
}

// failing reports whether the call that runs now is the one to fail.
func (s *strictFS) failing() bool { return s.fault.at == len(s.calls) && s.fault.err != nil }

func (s *strictFS) find(name string) (*node, error) {
	n := s.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.dir {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.kids[part]; n == nil {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOENT}
		}
	}
	return n, nil
}

// place returns the folder that holds name's entry.
func (s *strictFS) place(name string) (*node, string, error) {
	dir, err := s.find(path.Dir(name))
	if err == nil && !dir.dir {
		err = &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
	}
	return dir, path.Base(name), err
}

// enter makes a new entry.
func (s *strictFS) enter(name string, n *node) error {
	dir, base, err := s.place(name)
	if err != nil {
		return err
	}
	if dir.kids[base] != nil {
		return &fs.PathError{Op: "enter", Path: name, Err: syscall.EEXIST}
	}
	if err := s.take(nodeBytes); err != nil {
		return &fs.PathError{Op: "enter", Path: name, Err: err}
	}
	dir.kids[base] = n
	return nil
}

func (s *strictFS) Create(name string) (file, error) {
	f := &strictFile{fs: s, name: name, node: &node{}}
	if err := s.call("create", name, func() error { return s.enter(name, f.node) }); err != nil {
		return nil, err
	}
	f.opened()
	return f, nil
}

func (s *strictFS) Open(name string) (file, error) {
	f := &strictFile{fs: s, name: name}
	err := s.call("open", name, func() (err error) {
		f.node, err = s.find(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	f.opened()
	return f, nil
}

func (s *strictFS) Lstat(name string) (info fs.FileInfo, err error) {
	err = s.call("lstat", name, func() error {
		n, err := s.find(name)
		if err == nil {
			info = nodeInfo{path.Base(name), int64(len(n.data)), n.dir}
		}
		return err
	})
	return info, err
}

func (s *strictFS) ReadDir(name string) (infos []fs.FileInfo, err error) {
	err = s.call("readdir", name, func() error {
		n, err := s.find(name)
		if err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(n.kids)) {
			infos = append(infos, nodeInfo{base, int64(len(n.kids[base].data)), n.kids[base].dir})
		}
		return nil
	})
	return infos, err
}

func (s *strictFS) Mkdir(name string) error {
	return s.call("mkdir", name, func() error { return s.enter(name, newFolder()) })
}

// move is rename(2); with fresh it refuses a taken name.
func (s *strictFS) move(from, to string, fresh bool) error {
	n, err := s.find(from)
	if err != nil {
		return err
	}
	dir, base, err := s.place(to)
	if err != nil {
		return err
	}
	if dir.kids[base] != nil && fresh {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	old, oldBase, err := s.place(from)
	if err != nil {
		return err
	}
	delete(old.kids, oldBase)
	dir.kids[base] = n
	return nil
}

func (s *strictFS) Rename(from, to string) error {
	return s.call("rename", to, func() error { return s.move(from, to, false) })
}

func (s *strictFS) RenameNew(from, to string) error {
	return s.call("renamenew", to, func() error { return s.move(from, to, true) })
}

func (s *strictFS) Link(from, to string) error {
	return s.call("link", to, func() error {
		n, err := s.find(from)
		if err != nil {
			return err
		}
		return s.enter(to, n)
	})
}

func (s *strictFS) Remove(name string) error {
	return s.call("remove", name, func() error {
		dir, base, err := s.place(name)
		if err != nil {
			return err
		}
		switch n := dir.kids[base]; {
		case n == nil:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOENT}
		case len(n.kids) > 0:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		delete(dir.kids, base)
		return nil
	})
}

func (s *strictFS) SyncDir(name string) error {
	return s.call("syncdir", name, func() error {
		n, err := s.find(name)
		if err != nil {
			return err
		}
		if !n.brokenEntries {
			n.platterKids = maps.Clone(n.kids)
		}
		n.brokenEntries = n.brokenEntries || s.failing()
		return nil
	})
}

func (s *strictFS) Lock(name string) (io.Closer, error) {
	l := &strictLock{fs: s}
	err := s.call("lock", name, func() error {
		if err := s.enter(name, &node{}); err != nil && !isExist(err) {
			return err
		}
		n, err := s.find(name)
		if err != nil {
			return err
		}
		if s.locks[n] {
			return ErrLocked
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

func (s *strictFS) Close() error { return nil }

type strictLock struct {
	fs   *strictFS
	node *node
}

func (l *strictLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.node)
	return nil
}

type strictFile struct {
	fs   *strictFS
	name string
	node *node
	at   int64 // where the next Write goes
}

// put writes at the handle's place.
func (f *strictFile) put(p []byte) {
	after := f.node.data[min(f.at+int64(len(p)), int64(len(f.node.data))):]
	f.node.data = slices.Concat(f.node.data[:f.at], p, after)
	f.at += int64(len(p))
}

func (f *strictFile) Write(p []byte) (n int, err error) {
	err = f.fs.call("write", f.name, func() error {
		if err := f.fs.take(f.at + int64(len(p)) - int64(len(f.node.data))); err != nil {
			return err
		}
		f.put(p)
		return nil
	})
	if err == nil {
		return len(p), nil
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.fault.part {
		n = len(p) / 2
		f.put(p[:n])
	}
	if err == errShort {
		return n, nil // as a device may, against io.Writer's rule
	}
	return n, err
}

func (f *strictFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.call("read", f.name, func() error {
		n = copy(p, f.node.data[min(off, int64(len(f.node.data))):])
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *strictFile) Stat() (info fs.FileInfo, err error) {
	err = f.fs.call("stat", f.name, func() error {
		info = nodeInfo{path.Base(f.name), int64(len(f.node.data)), f.node.dir}
		return nil
	})
	return info, err
}

func (f *strictFile) Sync() error {
	err := f.fs.call("sync", f.name, func() error {
		if !f.node.lied {
			f.node.platter = bytes.Clone(f.node.data)
		}
		return nil
	})
	if err != nil {
		f.fs.mu.Lock()
		f.node.lied = true
		f.fs.mu.Unlock()
	}
	return err
}

// Close closes the handle even where its answer is an error, as close(2) does.
func (f *strictFile) Close() error {
	err := f.fs.call("close", f.name, func() error { return nil })
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.open[f.node]--; f.fs.open[f.node] <= 0 {
		delete(f.fs.open, f.node)
	}
	return err
}

// crash returns what a power cut now could leave: of each entry and each file
// the state that was synced or a later one, files also torn.
func (s *strictFS) crash(r *rand.Rand) *strictFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	after := newStrictFS()
	after.room, after.hollow = s.room, s.hollow
	made := map[*node]*node{}
	var copyNode func(n *node) *node
	copyNode = func(n *node) *node {
		if made[n] != nil {
			return made[n]
		}
		m := &node{dir: n.dir}
		made[n] = m
		if !n.dir {
			m.data = tornFile(n, r)
			m.platter = m.data
			return m
		}
		m.kids = map[string]*node{}
		both := maps.Clone(n.kids)
		maps.Copy(both, n.platterKids)
		for _, base := range slices.Sorted(maps.Keys(both)) {
			kid := n.platterKids[base]
			if n.kids[base] != kid && r.IntN(2) == 0 {
				kid = n.kids[base]
			}
			if kid != nil {
				m.kids[base] = copyNode(kid)
			}
		}
		m.platterKids = maps.Clone(m.kids)
		return m
	}
	after.root = copyNode(s.root)
	return after
}

func tornFile(n *node, r *rand.Rand) []byte {
	if bytes.Equal(n.platter, n.data) || r.IntN(3) == 0 {
		return bytes.Clone(n.platter)
	}
	if r.IntN(2) == 0 && !n.lied {
		return bytes.Clone(n.data)
	}
	torn := bytes.Clone(n.data)
	clear(torn[r.IntN(len(torn)+1):])
	return torn
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
		return fs.ModeDir | dirMode
	}
	return fileMode
}

var errShort = fmt.Errorf("short write without an error")
