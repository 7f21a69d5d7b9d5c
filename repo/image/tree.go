package image

import (
	"context"
	"fmt"
	"math"
	"slices"

	"holdfast/repo/blob"
)

// place is a node or a chunk with its position: the number of equal spans of
// its level before it.
type place struct {
	index int64
	id    blob.ID
}

// spot names a position in the tree, whatever is there.
type spot struct {
	level int
	index int64
}

// tree reads the nodes of one map.
type tree struct {
	loader Loader
	chunks int64
	depth  int
	root   blob.ID
	cache  *recent[spot, node] // nil: nothing is kept
}

func newTree(loader Loader, m Map) (*tree, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return &tree{loader: loader, chunks: m.Chunks(), depth: m.Depth(), root: m.Root}, nil
}

// nodes loads the nodes of one level, one batch for all that are not cached.
// The ids must not be zero.
func (t *tree) nodes(ctx context.Context, level int, at []place) ([]node, error) {
	out := make([]node, len(at))
	var ids []blob.ID
	var want []int
	for i, p := range at {
		if n, ok := t.cache.get(spot{level, p.index}); ok {
			out[i] = n
			continue
		}
		ids, want = append(ids, p.id), append(want, i)
	}
	if len(ids) == 0 {
		return out, nil
	}
	err := t.loader.Load(ctx, blob.MapNode+blob.Kind(level), ids, func(i int, plain []byte) error {
		p := at[want[i]]
		n, err := decodeNode(plain, childLimit(t.chunks, level, p.index))
		if err != nil {
			return fmt.Errorf("read map node %s: level %d, place %d: %w", p.id, level, p.index, err)
		}
		out[want[i]] = n
		t.cache.put(spot{level, p.index}, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load disk map: %w", err)
	}
	if i := slices.IndexFunc(out, func(n node) bool { return n == nil }); i >= 0 {
		return nil, fmt.Errorf("load disk map: node %s was not delivered: %w", at[i].id, ErrMap)
	}
	return out, nil
}

// enter is told of every node and chunk before what is below it is loaded, and
// says whether to go on below.
type enter func(kind blob.Kind, p place) (bool, error)

// walk visits all non-zero content of the chunks from ≤ chunk < to, the root
// included, in ascending order of chunks: a window of nodes before the next.
func (t *tree) walk(ctx context.Context, from, to int64, visit enter) error {
	from, to = max(0, from), min(to, t.chunks)
	if t.root.IsZero() || from >= to {
		return nil
	}
	top := place{id: t.root}
	on, err := visit(blob.MapNode+blob.Kind(t.depth-1), top)
	if err != nil || !on {
		return err
	}
	return t.descend(ctx, t.depth-1, []place{top}, from, to, visit)
}

func (t *tree) descend(ctx context.Context, level int, at []place, from, to int64, visit enter) error {
	kind := blob.DiskChunk
	if level > 0 {
		kind = blob.MapNode + blob.Kind(level-1)
	}
	var below []place
	for batch := range slices.Chunk(at, windowNodes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		loaded, err := t.nodes(ctx, level, batch)
		if err != nil {
			return err
		}
		below = below[:0]
		for i, n := range loaded {
			if below, err = expand(below, n, level, batch[i].index, from, to, kind, visit); err != nil {
				return err
			}
		}
		if level == 0 {
			continue
		}
		if err := t.descend(ctx, level-1, below, from, to, visit); err != nil {
			return err
		}
	}
	return nil
}

// expand visits the children of one node that touch the range, and appends
// those to go on with.
func expand(below []place, n node, level int, index, from, to int64, kind blob.Kind, visit enter) ([]place, error) {
	span := coverage(level - 1)
	first := max(0, from/span-index*Fanout)
	for i := first; i < int64(len(n)); i++ {
		p := place{index: index*Fanout + i, id: n[i]}
		if p.index*span >= to {
			break
		}
		if p.id.IsZero() {
			continue
		}
		on, err := visit(kind, p)
		if err != nil {
			return nil, err
		}
		if on {
			below = append(below, p)
		}
	}
	return below, nil
}

// Walk calls fn for each chunk in from ≤ chunk < to that is not zero, in
// ascending order. Spans of zeros are passed over without a call or a load.
func Walk(ctx context.Context, loader Loader, m Map, from, to int64, fn func(chunk int64, id blob.ID) error) error {
	t, err := newTree(loader, m)
	if err != nil {
		return err
	}
	return t.walk(ctx, from, to, chunksOnly(fn))
}

// chunksOnly makes a visitor that goes everywhere and reports chunks.
func chunksOnly(fn func(chunk int64, id blob.ID) error) enter {
	return func(kind blob.Kind, p place) (bool, error) {
		if kind != blob.DiskChunk {
			return true, nil
		}
		return false, fn(p.index, p.id)
	}
}

// Nodes calls fn for every id that the map needs, nodes and chunks, a node
// before what is below it. When skip (nil: never) says true of an id, neither
// it nor anything below it is reported or loaded; an fn that adds to a set and
// a skip that asks it see each subtree once, in one map and over many.
func Nodes(ctx context.Context, loader Loader, m Map, fn func(kind blob.Kind, id blob.ID) error, skip func(id blob.ID) bool) error {
	t, err := newTree(loader, m)
	if err != nil {
		return err
	}
	return t.walk(ctx, 0, t.chunks, func(kind blob.Kind, p place) (bool, error) {
		if skip != nil && skip(p.id) {
			return false, nil
		}
		return kind != blob.DiskChunk, fn(kind, p.id)
	})
}

// Extents calls fn for each run of chunks that hold data, ascending, cut to the
// size of the disk. What lies between is zeros.
func Extents(ctx context.Context, loader Loader, m Map, fn func(Extent) error) error {
	var run Extent
	err := Walk(ctx, loader, m, 0, math.MaxInt64, func(chunk int64, _ blob.ID) error {
		start := chunk * m.ChunkBytes
		length := min(m.ChunkBytes, m.Bytes-start)
		if run.Length > 0 && run.Start+run.Length == start {
			run.Length += length
			return nil
		}
		done := run
		run = Extent{Start: start, Length: length}
		if done.Length == 0 {
			return nil
		}
		return fn(done)
	})
	if err != nil || run.Length == 0 {
		return err
	}
	return fn(run)
}
