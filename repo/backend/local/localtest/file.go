package localtest

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"syscall"
)

type openFile struct {
	fs   *FS
	name string
	node *Node
	at   int64 // where the next Write goes
}

// put writes at the handle's place.
func (f *openFile) put(p []byte) {
	after := f.node.Data[min(f.at+int64(len(p)), int64(len(f.node.Data))):]
	f.node.Data = slices.Concat(f.node.Data[:f.at], p, after)
	f.at += int64(len(p))
}

func (f *openFile) Write(p []byte) (n int, err error) {
	err = f.fs.call("write", f.name, func() error {
		if err := f.fs.take(f.at + int64(len(p)) - int64(len(f.node.Data))); err != nil {
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
	if f.fs.Fault.Part && err != ErrStopped {
		n = len(p) / 2
		f.put(p[:n])
	}
	if err == ErrShort {
		return n, nil // as a device may, against io.Writer's rule
	}
	return n, err
}

func (f *openFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.call("read", f.name, func() error {
		n = copy(p, f.node.Data[min(off, int64(len(f.node.Data))):])
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *openFile) Stat() (info fs.FileInfo, err error) {
	err = f.fs.call("stat", f.name, func() error {
		info = nodeInfo{path.Base(f.name), int64(len(f.node.Data)), f.node.dir}
		return nil
	})
	return info, err
}

func (f *openFile) Sync() error {
	err := f.fs.call("sync", f.name, func() error {
		if !f.node.lied && !f.fs.skips("sync", f.name) {
			f.node.platter = bytes.Clone(f.node.Data)
		}
		return nil
	})
	if err != nil && err != ErrStopped {
		f.fs.mu.Lock()
		f.node.lied = true
		f.fs.mu.Unlock()
	}
	return err
}

// Close closes the handle even where its answer is an error, as close(2) does.
func (f *openFile) Close() error {
	err := f.fs.call("close", f.name, func() error { return nil })
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.open[f.node]--; f.fs.open[f.node] <= 0 {
		delete(f.fs.open, f.node)
	}
	return err
}

func (f *openFile) opened() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.open[f.node]++
}

func (f *openFile) Allocate(bytes int64) (granted bool, err error) {
	err = f.fs.call("allocate", f.name, func() error {
		if f.fs.Hollow {
			return nil
		}
		granted = true
		if err := f.fs.take(bytes); err != nil {
			return err
		}
		f.node.Data = make([]byte, bytes)
		return nil
	})
	return granted, err
}

// take is ENOSPC unless there is room for more bytes.
func (s *FS) take(bytes int64) error {
	if s.Room > 0 && bytes > 0 && s.used()+bytes > s.Room {
		return syscall.ENOSPC
	}
	return nil
}

// used is the room taken.
func (s *FS) used() int64 {
	seen := map[*Node]bool{}
	var total int64
	var add func(n *Node)
	add = func(n *Node) {
		if !seen[n] {
			seen[n] = true
			total += NodeBytes + int64(len(n.Data))
		}
		for _, kid := range n.Kids {
			add(kid)
		}
	}
	add(s.root)
	for n := range s.open {
		add(n)
	}
	return total
}
