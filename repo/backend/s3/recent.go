package s3

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"holdfast/repo/backend"
)

// recent are the names whose PUT was answered to this process, up to boundNames.
// The repository's protocol stands on listings that show what was written
// before they began. Amazon has promised that since December 2020; of a server
// or a cache before it that does not hold to it, these names are the witnesses:
// a listing without one that a HEAD finds is stale, and worse than none.
// The zero value is ready.
type recent struct {
	mu    sync.Mutex
	names map[string]struct{}
}

func (r *recent) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = map[string]struct{}{}
	}
	for old := range r.names { // whatever comes first: any witness will do
		if len(r.names) < boundNames {
			break
		}
		delete(r.names, old)
	}
	r.names[name] = struct{}{}
}

func (r *recent) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, name)
}

// below are the names with a prefix, sorted.
func (r *recent) below(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(func(yield func(string) bool) {
		for name := range maps.Keys(r.names) {
			if strings.HasPrefix(name, prefix) && !yield(name) {
				return
			}
		}
	})
}

// notMissed takes off due what a listing that has come to a name ("" is its
// end) has shown or passed over. What it passed over must be gone.
func (b *Backend) notMissed(ctx context.Context, due []string, to string) ([]string, error) {
	for len(due) > 0 && (to == "" || due[0] <= to) {
		name := due[0]
		due = due[1:]
		if name == to {
			continue
		}
		_, err := b.stat(ctx, "stat", name)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			b.recent.drop(name) // deleted since, by another
		case err != nil:
			return nil, err
		default:
			return nil, fmt.Errorf("list: %w: the listing is stale: it misses %s, which is there", backend.ErrUnreachable, name)
		}
	}
	return due, nil
}
