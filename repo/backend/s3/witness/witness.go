// Package witness finds out a server whose listings lag behind its writes.
//
// Nothing that a repository keeps rests on a listing, but readers see late, and
// prune frees late, what a listing hides. Amazon has promised since December 2020
// that listings show what was written before they began; of a server, or a cache
// before it, that does not hold to it, the names that this very process has written
// are the witnesses: a listing that passes one over, though the object is there, is
// stale, and better asked for again.
package witness

import (
	"slices"
	"strings"
	"sync"
)

// boundNames is how many names are remembered; any of them will do.
const boundNames = 8192

// Names are those whose writing was answered. It is for many goroutines, and
// its zero value is ready.
type Names struct {
	mu    sync.Mutex
	names map[string]struct{}
}

// Add remembers a name; beyond the bound another is forgotten.
func (n *Names) Add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.names == nil {
		n.names = map[string]struct{}{}
	}
	for old := range n.names { // whatever comes first
		if len(n.names) < boundNames {
			break
		}
		delete(n.names, old)
	}
	n.names[name] = struct{}{}
}

// Drop forgets a name: it is going to be deleted, or is gone.
func (n *Names) Drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.names, name)
}

// Due are the names with a prefix, sorted: what a listing that begins now may
// not miss, unless it is gone.
func (n *Names) Due(prefix string) Due {
	n.mu.Lock()
	defer n.mu.Unlock()
	var due Due
	for name := range n.names {
		if strings.HasPrefix(name, prefix) {
			due = append(due, name)
		}
	}
	slices.Sort(due)
	return due
}

// Due are names that a listing has still to show, sorted.
type Due []string

// Missed takes off all names up to one that the listing has come to ("" is its
// end) and returns those that it has passed over.
func (d *Due) Missed(to string) (missed []string) {
	for len(*d) > 0 && (to == "" || (*d)[0] <= to) {
		if name := (*d)[0]; name != to {
			missed = append(missed, name)
		}
		*d = (*d)[1:]
	}
	return missed
}
