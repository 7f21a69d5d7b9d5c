// Package load brings chunks back from packs: in ranges where they lie close
// together, one by one where they do not, and by every way that is left where
// something is damaged. What it gives out is authenticated and has the id asked
// for, or it is an error that names the object.
package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// ErrMissing: no segment of the index knows the chunk.
var ErrMissing = errors.New("chunk is not in the repository")

const (
	loadsAtOnce   = 4
	loadGap       = 128 << 10 // two chunks so close are fetched in one range
	loadSpanBytes = 8 << 20   // no range is longer than this
	lookupTries   = 16        // files of the local index that one look-up replaces at most
	refreshTries  = 32        // ledger entries that a read outlasts
)

// Loader reads the packs of one repository. It may be used from many goroutines.
type Loader struct {
	Backend backend.Backend
	Keys    *seal.Keys
	Index   *index.Local
	Refresh func(ctx context.Context) error // brings ledger and index up to date
	Ledger  func() uint32                   // number of the newest entry that Refresh has seen
	Healed  func(name string)               // told of each object that only parity brought back
	// Unlisted indexes packs that Index does not know, or returns nil. It is asked
	// once, by the first chunk that is nowhere else.
	Unlisted func(ctx context.Context) (*index.Local, error)
	Lacking  func(packs int)                 // told once, when one of so many packs that Index does not know has what is wanted
	Follow   func(ctx context.Context) error // takes in rotations of the keys; nil: never

	ready   sync.Once
	looking chan struct{} // holds a token while Unlisted reads, which may take long
	looked  bool
	extra   *index.Local
	told    bool     // of Lacking
	gone    sync.Map // index.Pack: not there when it was wanted, and the index knew no better
}

// DamageError says which object keeps a chunk from being read.
type DamageError struct {
	Object string
	Chunk  blob.ID
	Err    error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("read chunk %.16s from %s: %v", e.Chunk, e.Object, e.Err)
}

// Unwrap gives pack.ErrDamaged, pack.ErrTampered, backend.ErrNotFound or what
// else kept the chunk from being read.
func (e *DamageError) Unwrap() error { return e.Err }

// wanted is one chunk of a Load: what the caller numbered it and where it lies.
type wanted struct {
	i  int
	id blob.ID
	at index.Location
}

// span is a range of one pack that holds several wanted chunks.
type span struct {
	pack   index.Pack
	start  int64
	length int64
	chunks []wanted
}

// Load brings chunks of one kind back: fn is called once for each index of
// ids, in any order, never twice at once. What it is given is authenticated
// and has the id asked for. Chunks that lie close together are fetched in one
// range; one chunk alone costs one ranged read.
func (l *Loader) Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	spans, err := l.locate(ctx, ids)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(loadsAtOnce)
	for _, sp := range spans {
		group.Go(func() error {
			return l.loadSpan(ctx, kind, sp, func(i int, plain []byte) error {
				mu.Lock()
				defer mu.Unlock()
				return fn(i, plain)
			})
		})
	}
	return group.Wait()
}

// Locate looks for chunks as Load would, and reads none of them: nil if every one has a
// place by the index, or in a pack that it does not list; ErrMissing names one that has not.
func (l *Loader) Locate(ctx context.Context, ids []blob.ID) error {
	_, err := l.locate(ctx, ids)
	return err
}

// fresher brings the index up to date for one operation, as often as that can
// help: once, and again as long as the ledger has moved since, because a prune
// beside us may take away what the last refresh has found.
type fresher struct {
	l     *Loader
	tries int
	seen  uint32
}

// try reports whether the index may know more than before.
func (f *fresher) try(ctx context.Context) (bool, error) {
	if f.tries == refreshTries {
		return false, nil
	}
	if err := f.l.Refresh(ctx); err != nil {
		return false, err
	}
	now := f.l.Ledger()
	more := f.tries == 0 || now != f.seen
	f.tries, f.seen = f.tries+1, now
	return more, nil
}

// locate finds every id and groups what lies close together in one pack. If the
// local index misses one it is refreshed.
func (l *Loader) locate(ctx context.Context, ids []blob.ID) ([]span, error) {
	all := make([]wanted, 0, len(ids))
	index := fresher{l: l}
	for i, id := range ids {
		found, err := l.Lookup(ctx, id)
		for err == nil && len(found) == 0 {
			var more bool
			if more, err = index.try(ctx); err != nil || !more {
				break
			}
			found, err = l.Lookup(ctx, id)
		}
		if err == nil {
			found, err = l.orUnlisted(ctx, id, found)
		}
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("chunk %.16s: %w", id, ErrMissing)
		}
		all = append(all, wanted{i: i, id: id, at: found[0]})
	}
	return group(all), nil
}

// orUnlisted adds to the places that the index knows of a chunk those in packs that no
// segment lists, if none of its own is of use, and puts first what is.
func (l *Loader) orUnlisted(ctx context.Context, id blob.ID, found []index.Location) ([]index.Location, error) {
	var there, gone []index.Location
	for _, at := range found {
		if _, isGone := l.gone.Load(at.Pack); isGone {
			gone = append(gone, at)
		} else {
			there = append(there, at)
		}
	}
	if len(there) > 0 {
		return append(there, gone...), nil
	}
	more, err := l.LookupUnlisted(ctx, id)
	return append(more, gone...), err
}

// LookupUnlisted finds a chunk in packs that no segment lists: a lost index is no
// lost data (I8). The first call reads all of those packs.
func (l *Loader) LookupUnlisted(ctx context.Context, id blob.ID) ([]index.Location, error) {
	if l.Unlisted == nil {
		return nil, nil
	}
	l.ready.Do(func() { l.looking = make(chan struct{}, 1) })
	select {
	case l.looking <- struct{}{}:
		defer func() { <-l.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !l.looked {
		extra, err := l.Unlisted(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for packs that the index does not list: %w", err)
		}
		l.looked, l.extra = true, extra
	}
	if l.extra == nil {
		return nil, nil
	}
	found, _, err := l.extra.Lookup(id)
	if len(found) > 0 && !l.told {
		l.told = true
		l.Lacking(len(slices.Collect(l.extra.Packs())))
	}
	return found, err
}

// Lookup finds every place of a chunk. Damage of the local index is no damage
// of the repository: what it held is fetched anew and asked again.
func (l *Loader) Lookup(ctx context.Context, id blob.ID) ([]index.Location, error) {
	found, _, err := l.Index.Lookup(id)
	// Each look-up finds the damage of one file; there are not many files.
	for try := 0; errors.Is(err, index.ErrCorrupt) && try < lookupTries; try++ {
		if err := l.Refresh(ctx); err != nil {
			return nil, err
		}
		found, _, err = l.Index.Lookup(id)
	}
	if err != nil {
		return nil, fmt.Errorf("look up chunk: %w", err)
	}
	return found, nil
}

// group sorts chunks by pack and offset and joins neighbours into spans.
func group(all []wanted) []span {
	sort.Slice(all, func(a, b int) bool {
		x, y := all[a].at, all[b].at
		if x.Pack.ID != y.Pack.ID {
			return string(x.Pack.ID[:]) < string(y.Pack.ID[:])
		}
		return x.Offset < y.Offset
	})
	var spans []span
	for _, w := range all {
		start, end := int64(w.at.Offset), int64(w.at.Offset)+int64(w.at.Stored)
		if n := len(spans) - 1; n >= 0 {
			last := &spans[n]
			lastEnd := last.start + last.length
			if last.pack == w.at.Pack && start <= lastEnd+loadGap && end-last.start <= loadSpanBytes {
				last.length = max(last.length, end-last.start)
				last.chunks = append(last.chunks, w)
				continue
			}
		}
		spans = append(spans, span{pack: w.at.Pack, start: start, length: end - start, chunks: []wanted{w}})
	}
	return spans
}

// loadSpan fetches one range and opens its chunks. A chunk that will not open
// is looked for again with everything the repository has (rescue).
func (l *Loader) loadSpan(ctx context.Context, kind blob.Kind, sp span, fn func(i int, plain []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	object, err := l.Backend.Get(ctx, sp.pack.Name(), sp.start, sp.length)
	if errors.Is(err, backend.ErrUnreachable) {
		return fmt.Errorf("load from %s: %w", sp.pack.Name(), err) // says nothing of the pack
	}
	if err != nil {
		return l.rescueAll(ctx, kind, sp.chunks, err, fn)
	}
	var hurt []wanted
	var cause error
	for _, w := range sp.chunks {
		from := int64(w.at.Offset) - sp.start
		plain, err := pack.OpenChunk(l.Keys, refTo(w.at), object[from:from+int64(w.at.Stored)], w.id, kind)
		if errors.Is(err, seal.ErrUnknownEpoch) && l.Follow != nil {
			if err := l.Follow(ctx); err != nil {
				return fmt.Errorf("load from %s: %w", sp.pack.Name(), err)
			}
			plain, err = pack.OpenChunk(l.Keys, refTo(w.at), object[from:from+int64(w.at.Stored)], w.id, kind)
		}
		if err != nil {
			hurt, cause = append(hurt, w), err
			continue
		}
		if err := fn(w.i, plain); err != nil {
			return err
		}
	}
	return l.rescueAll(ctx, kind, hurt, cause, fn)
}

// refTo is what pack needs to open a chunk that lies at a place.
func refTo(at index.Location) pack.Ref {
	return pack.Ref{Name: at.Pack.Name(), Kind: parity.Kind(at.Pack.Kind), Epoch: at.Pack.Epoch, ID: at.Pack.ID, Offset: at.Offset}
}

// rescueAll reads the chunks by every way that is left: the whole object healed
// by its parity, another pack that holds the same content, a fresh index (the
// pack may have been repacked since).
func (l *Loader) rescueAll(ctx context.Context, kind blob.Kind, chunks []wanted, cause error, fn func(i int, plain []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var last mended
	index := fresher{l: l}
	for _, w := range chunks {
		plain, err := l.rescue(ctx, kind, w, &last)
		for err != nil && ctx.Err() == nil && !errors.Is(err, backend.ErrUnreachable) {
			more, refreshErr := index.try(ctx)
			if refreshErr != nil {
				return refreshErr
			}
			if !more {
				break
			}
			last = mended{}
			plain, err = l.rescue(ctx, kind, w, &last)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, backend.ErrUnreachable) {
			plain, err = l.lastResort(ctx, kind, w, err, &last)
		}
		if errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil {
			return fmt.Errorf("load from %s: %w", w.at.Pack.Name(), errors.Join(err, ctx.Err()))
		}
		if err != nil {
			if errors.Is(err, ErrMissing) {
				err = cause
			}
			if errors.Is(err, backend.ErrNotFound) {
				err = fmt.Errorf("%w: %w", pack.ErrDamaged, err) // the index lists it, so it was there
			}
			return &DamageError{Object: w.at.Pack.Name(), Chunk: w.id, Err: err}
		}
		if err := fn(w.i, plain); err != nil {
			return err
		}
	}
	return nil
}

// mended is the object that was read and healed last. The chunks of one rescue
// lie side by side, so the next one is most likely in it, too.
type mended struct {
	name   string
	object []byte
	healed bool // parity changed it, and nobody was told yet
}

// rescue tries each pack that holds the chunk, healing it in memory.
func (l *Loader) rescue(ctx context.Context, kind blob.Kind, w wanted, last *mended) ([]byte, error) {
	found, err := l.Lookup(ctx, w.id)
	if err == nil {
		found, err = l.orUnlisted(ctx, w.id, found)
	}
	if err != nil {
		return nil, err
	}
	return l.fromAny(ctx, kind, w, found, last)
}

// lastResort looks for a chunk of which every place that the index knows has failed in
// packs that no segment lists: a lost segment may leave older ones that list where the
// chunk was once. cause is the error that stands if it is nowhere.
func (l *Loader) lastResort(ctx context.Context, kind blob.Kind, w wanted, cause error, last *mended) ([]byte, error) {
	found, err := l.LookupUnlisted(ctx, w.id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, cause
	}
	if errors.Is(cause, backend.ErrNotFound) {
		l.gone.Store(w.at.Pack, true)
	}
	plain, err := l.fromAny(ctx, kind, w, found, last)
	if err != nil && !errors.Is(err, backend.ErrUnreachable) {
		return nil, cause
	}
	return plain, err
}

// fromAny reads a chunk from the first of these places that gives it.
func (l *Loader) fromAny(ctx context.Context, kind blob.Kind, w wanted, found []index.Location, last *mended) ([]byte, error) {
	err := fmt.Errorf("chunk %.16s: %w", w.id, ErrMissing)
	for _, at := range found {
		if fetchErr := l.fetchMended(ctx, at.Pack.Name(), last); fetchErr != nil {
			err = fetchErr
			continue
		}
		plain, _, openErr := pack.OpenChunkIn(l.Keys, refTo(at), at.Stored, last.object, w.id, kind)
		if openErr != nil {
			plain, openErr = l.olderVersion(ctx, kind, w.id, at, openErr)
		}
		if openErr != nil {
			err = openErr
			continue
		}
		if last.healed {
			l.Healed(at.Pack.Name())
			last.healed = false // told
		}
		if _, isGone := l.gone.Load(w.at.Pack); at.Pack != w.at.Pack && !isGone {
			l.Healed(w.at.Pack.Name())
		}
		return plain, nil
	}
	return nil, err
}

// olderVersion looks for the chunk in every body that the pack's name has had, in
// a place that keeps them. cause is the error that stands if there is none.
func (l *Loader) olderVersion(ctx context.Context, kind blob.Kind, id blob.ID, at index.Location, cause error) ([]byte, error) {
	for body := range backend.Others(ctx, l.Backend, at.Pack.Name()) {
		if plain, _, err := pack.OpenChunkIn(l.Keys, refTo(at), at.Stored, body, id, kind); err == nil {
			l.Healed(at.Pack.Name())
			return plain, nil
		}
	}
	return nil, cause
}

// fetchMended makes last the named pack, as far as parity mends it.
func (l *Loader) fetchMended(ctx context.Context, name string, last *mended) error {
	if last.name == name {
		return nil
	}
	object, err := backend.Whole(ctx, l.Backend, name)
	if err != nil {
		return err
	}
	*last = mended{name: name, object: object}
	if fixed, damage, _ := parity.Heal(object); fixed != nil {
		last.object, last.healed = fixed, !damage.Clean()
	}
	return nil
}
