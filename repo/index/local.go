package index

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"holdfast/repo/blob"
	"holdfast/repo/index/segment"
)

// ErrClosed: the local index was used after Close.
var ErrClosed = errors.New("local index closed")

// LocalOptions are the choices for OpenLocal; the zero value works.
type LocalOptions struct {
	Logger  *slog.Logger // nil: silent
	Fetches int          // segments fetched at once by Refresh; 0: 4
}

// Local is the index of a whole repository, kept in a directory of this
// machine: one large merged file and a few recent ones, each a segment with the
// names of the repository's segments it stands for. What the running session
// has written and not yet published is held in memory.
//
// Several processes may share a directory: files appear by rename, are never
// changed, and what one process merges away another has open or fetches again.
// One directory serves one repository. All methods may be called concurrently.
type Local struct {
	store   store
	fetches int
	log     *slog.Logger

	refreshing chan struct{} // holds a token during a Refresh, which waits for the place of storage

	// What follows is never held while anybody waits for the place of storage.
	changing sync.Mutex      // one change of the list of parts at a time
	wanted   map[string]bool // segments that exist, guarded by changing
	fetching bool            // a Refresh is under way, guarded by changing
	added    []part          // by AddSegment since it began, guarded by changing

	mu     sync.RWMutex // guards what follows; held for reading during look-ups
	parts  []part       // largest first; the slice and its parts are never changed
	own    []ownPack
	closed bool
}

// part is a shard and which of its packs count. A pack counts while a segment
// that lists it exists in the repository: one that prune has dropped may be
// deleted at any moment and must not be found.
type part struct {
	*shard
	live []bool // by ordinal
}

// OpenLocal opens the local index in dir, which is made if need be; dir "" keeps
// all in memory. Files that are not whole are deleted. It knows nothing until
// the first Refresh has told which segments exist. Errors are those of the
// directory.
func OpenLocal(dir string, opts LocalOptions) (*Local, error) {
	l := &Local{store: store{dir: dir}, refreshing: make(chan struct{}, 1), wanted: map[string]bool{}, fetches: max(cmp.Or(opts.Fetches, 4), 1), log: opts.Logger}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	shards, err := l.store.load(l.log)
	if err != nil {
		return nil, fmt.Errorf("open local index: %w", err)
	}
	covered := map[string]bool{}
	for _, s := range shards {
		if s.coveredBy(covered) { // left over from a merge
			s.discard()
			continue
		}
		s.cover(covered)
		l.parts = append(l.parts, part{s, make([]bool, len(s.seg.Packs()))})
	}
	return l, nil
}

// Close releases the files, except for Marks that are still open. The directory
// keeps them for the next time. It waits for a Refresh that is under way.
func (l *Local) Close() error {
	l.refreshing <- struct{}{}
	defer func() { <-l.refreshing }()
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, p := range l.parts {
		errs = append(errs, p.close())
	}
	l.parts, l.own, l.closed = nil, nil, true
	return errors.Join(errs...)
}

// Lookup returns every place known for id, that in the pack of the youngest
// session first; ok is false if there is none. That is the one which prune keeps
// (FORMAT.md §9): after a repack the others are soon gone, though segments go on
// to list them. One page is read in each part. A damaged part is an error (ErrCorrupt), not a
// miss; the next Refresh fetches anew what it held.
func (l *Local) Lookup(id blob.ID) (places []Location, ok bool, err error) {
	err = l.find(id, func(at Location) bool {
		// Two parts may hold the same pack until they are merged.
		if !slices.Contains(places, at) {
			places = append(places, at)
		}
		return true
	})
	if err != nil {
		return nil, false, err
	}
	slices.SortStableFunc(places, func(a, b Location) int { return strings.Compare(b.Pack.SID, a.Pack.SID) })
	return places, len(places) > 0, nil
}

// Has reports whether any place is known for id. Errors are those of Lookup.
func (l *Local) Has(id blob.ID) (bool, error) {
	found := false
	err := l.find(id, func(Location) bool {
		found = true
		return false
	})
	return found && err == nil, err
}

// find calls fn for each place of id until fn returns false: what this session
// wrote first, then the smallest part, the base last.
func (l *Local) find(id blob.ID, fn func(Location) bool) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	key, more := KeyOf(id), true
	for i := 0; i < len(l.own) && more; i++ {
		more = l.own[i].find(key, fn)
	}
	for i := len(l.parts) - 1; i >= 0 && more; i-- {
		p := l.parts[i]
		err := p.seg.Find(key, func(r segment.Row, _ int) bool {
			if p.live[r.Pack] {
				more = fn(Location{Pack: p.seg.Packs()[r.Pack], Offset: r.Offset, Stored: r.Stored})
			}
			return more
		})
		if err != nil {
			p.condemn()
			return fmt.Errorf("look up %s in local index: %w", id, err)
		}
	}
	return nil
}

// Add makes a pack that the running session has written known at once, before a
// segment lists it. The entries are copied. It returns ErrPack or
// ErrConservation if pack and entries do not belong together. A pack that is
// known already is left alone. The memory, 28 bytes a chunk, is freed by
// the AddSegment or Refresh that brings the pack in a segment.
func (l *Local) Add(pack Pack, entries []Entry) error {
	own, err := newOwnPack(pack, entries)
	if err != nil {
		return fmt.Errorf("add pack to local index: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if !slices.ContainsFunc(l.own, func(o ownPack) bool { return samePack(o.Pack, pack) }) {
		l.own = append(l.own, own)
	}
	return nil
}

// AddSegment takes in a segment that this session has just published under
// name, without fetching it back. It lets go of the memory of those packs that
// Add brought. A later Refresh must list name, or it counts as gone.
func (l *Local) AddSegment(name string, content []byte) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.RLock()
	parts, closed := slices.Clone(l.parts), l.closed
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	if l.wanted[name] && len(missing(parts, map[string]bool{name: true})) == 0 {
		return nil
	}
	s, err := l.store.take(name, content)
	if err != nil {
		return fmt.Errorf("add segment %s to local index: %w", name, err)
	}
	l.wanted[name] = true
	fresh := part{s, s.liveIn(l.wanted)}
	parts = append(parts, fresh)
	if l.fetching { // that Refresh holds on to the other parts, and takes this one in
		l.added = append(l.added, fresh)
		l.swap(parts, nil)
		return nil
	}
	parts, retired, err := l.compact(parts, l.wanted)
	l.swap(parts, retired)
	return err
}

// Packs goes through all packs that count, each once, sorted by session, kind
// and id. It holds a list of them, 64 bytes a pack.
func (l *Local) Packs() iter.Seq[Pack] {
	return func(yield func(Pack) bool) {
		l.mu.RLock()
		packs := livePacks(l.parts)
		for _, o := range l.own {
			packs = append(packs, o.Pack)
		}
		l.mu.RUnlock()
		slices.SortFunc(packs, segment.Compare)
		slices.Values(slices.CompactFunc(packs, samePack))(yield)
	}
}

// samePack reports whether a and b are the same object.
func samePack(a, b Pack) bool { return segment.Compare(a, b) == 0 }

// livePacks is the sorted list of packs that count in any part.
func livePacks(parts []part) []Pack {
	var packs []Pack
	for _, p := range parts {
		for i, live := range p.live {
			if live {
				packs = append(packs, p.seg.Packs()[i])
			}
		}
	}
	slices.SortFunc(packs, segment.Compare)
	return slices.CompactFunc(packs, samePack)
}

// swap publishes a new list of parts and closes those that no look-up can reach
// any more. Packs of this session that a part now lists leave memory.
func (l *Local) swap(parts []part, retired []*shard) {
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(b.seg.Len(), a.seg.Len()) })
	l.mu.Lock()
	l.parts = parts
	l.own = slices.DeleteFunc(l.own, func(o ownPack) bool {
		return slices.ContainsFunc(parts, func(p part) bool {
			i := segment.Ordinal(p.seg.Packs(), o.Pack)
			return i >= 0 && p.live[i]
		})
	})
	l.mu.Unlock()
	for _, s := range retired {
		// A merge or a repaired segment may have put its like in its place.
		where := s.where()
		if slices.ContainsFunc(parts, func(p part) bool { return p.where() == where }) {
			s.disown()
		}
		s.discard()
	}
}
