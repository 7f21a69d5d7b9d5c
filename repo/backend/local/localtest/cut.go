package localtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// Kill ends all processes: their handles and locks go, their files stay.
func (s *FS) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.open)
	clear(s.locks)
}

// Stopped reports whether the process was stopped.
func (s *FS) Stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// Clone is the same disk without processes, as a kill of all of them leaves it:
// what was not synced is there, and not safe. To be called by Arm or After, or
// while no call runs.
func (s *FS) Clone() *FS {
	return s.copy(func(n, m *Node, copyNode func(*Node) *Node) {
		if !n.dir {
			m.Data, m.platter, m.lied = n.Data, n.platter, n.lied
			return
		}
		m.Kids, m.platterKids, m.brokenEntries = map[string]*Node{}, map[string]*Node{}, n.brokenEntries
		for base, kid := range n.Kids {
			m.Kids[base] = copyNode(kid)
		}
		for base, kid := range n.platterKids {
			m.platterKids[base] = copyNode(kid)
		}
	})
}

// copy makes a disk of the same kind; fill fills in one node.
func (s *FS) copy(fill func(n, m *Node, copyNode func(*Node) *Node)) *FS {
	after := New()
	after.Room, after.Hollow = s.Room, s.Hollow
	made := map[*Node]*Node{}
	var copyNode func(n *Node) *Node
	copyNode = func(n *Node) *Node {
		if made[n] == nil {
			m := &Node{dir: n.dir}
			made[n] = m
			fill(n, m, copyNode)
		}
		return made[n]
	}
	after.root = copyNode(s.root)
	return after
}

// Chance is one thing that was not synced when the power went.
type Chance struct {
	Name string // a path; of an entry that path's last part
	File bool   // a file's bytes; else an entry
	Lied bool   // an fsync of it failed, so the newer state cannot be there whole
}

// Fate is what became of it.
type Fate struct {
	Kept bool                     // the newer state is there; else that of the last sync
	Torn func(data []byte) []byte // of a file, if not nil: what of its newer bytes is there; it gets a copy
}

// Cut is what a power cut leaves if each thing that was not synced has the fate
// that is chosen for it. It asks in the order of the names. To be called by Arm
// or After, or while no call runs.
func (s *FS) Cut(choose func(Chance) Fate) *FS {
	names := map[*Node]string{s.root: ""}
	return s.copy(func(n, m *Node, copyNode func(*Node) *Node) {
		if !n.dir {
			m.Data = cutFile(n, names[n], choose)
			m.platter = m.Data
			return
		}
		m.Kids = map[string]*Node{}
		both := maps.Clone(n.Kids)
		maps.Copy(both, n.platterKids)
		for _, base := range slices.Sorted(maps.Keys(both)) {
			name := strings.TrimPrefix(names[n]+"/"+base, "/")
			kid := n.platterKids[base]
			if n.Kids[base] != kid && choose(Chance{Name: name}).Kept {
				kid = n.Kids[base]
			}
			if kid != nil {
				names[kid] = name
				m.Kids[base] = copyNode(kid)
			}
		}
		m.platterKids = maps.Clone(m.Kids)
	})
}

func cutFile(n *Node, name string, choose func(Chance) Fate) []byte {
	if bytes.Equal(n.platter, n.Data) {
		return n.platter
	}
	fate := choose(Chance{Name: name, File: true, Lied: n.lied})
	switch {
	case fate.Torn != nil:
		return fate.Torn(bytes.Clone(n.Data))
	case fate.Kept && !n.lied:
		return n.Data
	}
	return n.platter
}

// Crash is a power cut with fates by lot.
func (s *FS) Crash(r *rand.Rand) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Cut(func(c Chance) Fate {
		switch {
		case !c.File:
			return Fate{Kept: r.IntN(2) == 0}
		case r.IntN(3) == 0:
			return Fate{}
		case r.IntN(2) == 0 && !c.Lied:
			return Fate{Kept: true}
		}
		return Fate{Torn: func(data []byte) []byte {
			clear(data[r.IntN(len(data)+1):])
			return data
		}}
	})
}

// Files goes through all files, in the order of their paths. To be called while
// no call runs.
func (s *FS) Files() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		var walk func(dir string, n *Node) bool
		walk = func(dir string, n *Node) bool {
			for _, base := range slices.Sorted(maps.Keys(n.Kids)) {
				kid := n.Kids[base]
				if kid.dir && !walk(dir+base+"/", kid) || !kid.dir && !yield(dir+base, kid) {
					return false
				}
			}
			return true
		}
		walk("", s.root)
	}
}

// Damage changes a file behind everybody's back, on the platter too; nil from
// change removes it. change gets a copy.
func (s *FS) Damage(name string, change func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.Find(name)
	if err != nil || n.dir {
		return fmt.Errorf("damage %s: %w", name, fs.ErrNotExist)
	}
	if data := change(bytes.Clone(n.Data)); data != nil {
		n.Data, n.platter = data, data
		return nil
	}
	dir, base, err := s.place(name)
	if err != nil {
		return fmt.Errorf("damage %s: %w", name, err)
	}
	delete(dir.Kids, base)
	delete(dir.platterKids, base)
	return nil
}
