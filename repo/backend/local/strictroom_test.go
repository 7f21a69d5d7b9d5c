package local

import "syscall"

// nodeBytes is what a file or folder takes beside its bytes.
const nodeBytes = 8

// used is the room taken.
func (s *strictFS) used() int64 {
	seen := map[*node]bool{}
	var total int64
	var add func(n *node)
	add = func(n *node) {
		if !seen[n] {
			seen[n] = true
			total += nodeBytes + int64(len(n.data))
		}
		for _, kid := range n.kids {
			add(kid)
		}
	}
	add(s.root)
	for n := range s.open {
		add(n)
	}
	return total
}

// take is ENOSPC unless there is room for more bytes.
func (s *strictFS) take(bytes int64) error {
	if s.room > 0 && bytes > 0 && s.used()+bytes > s.room {
		return syscall.ENOSPC
	}
	return nil
}

// kill ends all processes: their handles and locks go, their files stay.
func (s *strictFS) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.open)
	clear(s.locks)
}

func (f *strictFile) opened() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.open[f.node]++
}

func (f *strictFile) Allocate(bytes int64) (granted bool, err error) {
	err = f.fs.call("allocate", f.name, func() error {
		if f.fs.hollow {
			return nil
		}
		granted = true
		if err := f.fs.take(bytes); err != nil {
			return err
		}
		f.node.data = make([]byte, bytes)
		return nil
	})
	return granted, err
}
