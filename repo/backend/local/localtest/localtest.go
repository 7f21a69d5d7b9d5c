// Package localtest is a file system in memory to try package local on, one that
// is as unkind as POSIX allows:
//
//   - What was not synced may be lost or torn at a power cut, entry by entry: a
//     sync of a file does not sync its name, nor that of the folder it lies in.
//   - A failed fsync marks the pages clean, so that a second one lies.
//   - A handle whose name is gone keeps its room; a lock ends with its process.
//
// Each call is numbered; one of them can be made to fail, and each moment before
// or after a call can be looked at. Clone and Cut make what is found there after
// a kill and after a power cut. The idea is that of pebble's vfs.MemFS.
//
//	disk := localtest.New()
//	be := local.Over(disk, "strict", local.Options{ReserveBytes: 64})
package localtest

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"

	"holdfast/repo/backend/local/folder"
)

// ErrShort as Fault.Err with Fault.Part makes a write stop in the middle and
// say nothing, as a device may, against io.Writer's rule.
var ErrShort = errors.New("short write without an error")

// ErrStopped: the call came after the one at which the process was stopped.
var ErrStopped = errors.New("process is stopped")

// NodeBytes is what a file or folder takes beside its bytes.
const NodeBytes = 8

// FS is the file system; it implements folder.Tree. Its fields are set between
// calls, or by Arm and After.
type FS struct {
	mu    sync.Mutex
	root  *Node
	locks map[*Node]bool
	open  map[*Node]int // handles: what is open has its room, with or without a name
	dead  bool          // Fault.Stop has come to pass

	Room   int64 // bytes in all; 0 means no bound
	Hollow bool  // Allocate is not supported

	Calls []string               // "op name" of each call; that of a file is the name that it was opened by
	Fault Fault                  // what is to fail
	Hit   string                 // the call that failed
	Arm   func(call string)      // runs before each call, alone; may set Fault for it
	After func(disk *FS)         // runs after each call, alone: what a reader could see now
	Skip  func(call string) bool // a sync for which it is true does nothing: a program that left it out
}

var _ folder.Tree = (*FS)(nil)

// Fault fails call number At (from 1).
type Fault struct {
	At   int
	Err  error
	Done bool // the call is done and its answer lost (renames on network file systems)
	Part bool // a write writes half of its bytes first
	Stop bool // all later calls fail with ErrStopped
}

// Node is a file or a folder, in memory and on the platter.
type Node struct {
	Data []byte           // of a file; replaced, never changed in place
	Kids map[string]*Node // of a folder: name → entry

	dir           bool
	platter       []byte
	platterKids   map[string]*Node
	lied          bool // an fsync failed; the rest of Data will never reach the platter
	brokenEntries bool // the same of a folder's entries
}

// New makes an empty one.
func New() *FS {
	return &FS{root: newFolder(), locks: map[*Node]bool{}, open: map[*Node]int{}}
}

func newFolder() *Node {
	return &Node{dir: true, Kids: map[string]*Node{}, platterKids: map[string]*Node{}}
}

// call numbers a call and runs it unless it is to fail.
func (s *FS) call(op, name string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Calls = append(s.Calls, op+" "+name)
	if s.Arm != nil {
		s.Arm(op + " " + name)
	}
	if s.dead {
		return ErrStopped
	}
	err := error(nil)
	if s.Fault.At == len(s.Calls) && s.Fault.Err != nil {
		s.Hit, s.dead = op+" "+name, s.Fault.Stop
		if s.Fault.Done {
			_ = do() // its answer is lost
		}
		err = s.Fault.Err
	} else {
		err = do()
	}
	if s.After != nil {
		s.After(s)
	}
	return err
}

// failing reports whether the call that runs now is the one to fail.
func (s *FS) failing() bool { return s.Fault.At == len(s.Calls) && s.Fault.Err != nil }

// Find returns the file or folder of a path; ENOENT or ENOTDIR. To be called by
// Arm or After, or while no call runs.
func (s *FS) Find(name string) (*Node, error) {
	n := s.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.dir {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.Kids[part]; n == nil {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOENT}
		}
	}
	return n, nil
}

// skips reports whether a sync is one that the program is to have left out.
func (s *FS) skips(op, name string) bool { return s.Skip != nil && s.Skip(op+" "+name) }

// place returns the folder that holds name's entry.
func (s *FS) place(name string) (*Node, string, error) {
	dir, err := s.Find(path.Dir(name))
	if err == nil && !dir.dir {
		err = &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
	}
	return dir, path.Base(name), err
}

// enter makes a new entry.
func (s *FS) enter(name string, n *Node) error {
	dir, base, err := s.place(name)
	if err != nil {
		return err
	}
	if dir.Kids[base] != nil {
		return &fs.PathError{Op: "enter", Path: name, Err: syscall.EEXIST}
	}
	if err := s.take(NodeBytes); err != nil {
		return &fs.PathError{Op: "enter", Path: name, Err: err}
	}
	dir.Kids[base] = n
	return nil
}
