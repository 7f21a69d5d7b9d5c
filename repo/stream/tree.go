package stream

import (
	"context"
	"fmt"
	"slices"

	"holdfast/repo/blob"
)

const (
	windowNodes  = 16  // nodes of one level that are held and asked for at once
	windowChunks = 256 // chunks asked for at once, if they are not too long
)

// place is an entry with its offset in the stream.
type place struct {
	off int64
	entry
}

func (p place) end() int64 { return p.off + p.length }

// tree reads the nodes of one stream.
type tree struct {
	loader Loader
	s      Stream
	keep   bool // keep the last node of each level, for random reads
	kept   [maxLevel + 1]struct {
		off     int64
		entries []entry
	}
}

// nodes loads the nodes of one level in a batch.
func (t *tree) nodes(ctx context.Context, level int, at []place) ([][]entry, error) {
	if k := t.kept[level]; len(at) == 1 && k.entries != nil && k.off == at[0].off {
		return [][]entry{k.entries}, nil
	}
	out := make([][]entry, len(at))
	err := t.loader.Load(ctx, blob.StreamNode+blob.Kind(level), idsOf(at), func(i int, plain []byte) error {
		entries, err := decodeNode(plain, level, at[i].length)
		if err == nil && level > 0 && level == t.s.Level && len(entries) == 1 {
			err = fmt.Errorf("root above a single node: %w", ErrStream)
		}
		if err != nil {
			return fmt.Errorf("read stream node %s: level %d, offset %d: %w", at[i].id, level, at[i].off, err)
		}
		out[i] = entries
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load stream: %w", err)
	}
	if i := slices.IndexFunc(out, func(n []entry) bool { return n == nil }); i >= 0 {
		return nil, fmt.Errorf("load stream: node %s was not delivered: %w", at[i].id, ErrStream)
	}
	if t.keep {
		last := len(at) - 1
		t.kept[level].off, t.kept[level].entries = at[last].off, out[last]
	}
	return out, nil
}

func idsOf(at []place) []blob.ID {
	ids := make([]blob.ID, len(at))
	for i := range at {
		ids[i] = at[i].id
	}
	return ids
}

// enter is told of every node and chunk before what is below it is loaded, and
// says whether to go on below.
type enter func(kind blob.Kind, p place) (bool, error)

// walk visits what touches the bytes from ≤ b < to, in the order of the stream.
func (t *tree) walk(ctx context.Context, from, to int64, visit enter) error {
	if err := t.s.Validate(); err != nil {
		return err
	}
	if t.s.Bytes == 0 || from >= to {
		return nil
	}
	top := place{0, entry{t.s.Root, t.s.Bytes}}
	on, err := visit(blob.StreamNode+blob.Kind(t.s.Level), top)
	if err != nil || !on {
		return err
	}
	return t.descend(ctx, t.s.Level, []place{top}, from, to, visit)
}

func (t *tree) descend(ctx context.Context, level int, at []place, from, to int64, visit enter) error {
	kind := blob.StreamChunk
	if level > 0 {
		kind = blob.StreamNode + blob.Kind(level-1)
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
		for i, entries := range loaded {
			if below, err = expand(below, batch[i].off, entries, from, to, kind, visit); err != nil {
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

// expand visits the entries of one node that touch the range, and appends those
// to go on with.
func expand(below []place, off int64, entries []entry, from, to int64, kind blob.Kind, visit enter) ([]place, error) {
	for _, e := range entries {
		p := place{off, e}
		off = p.end()
		if p.end() <= from || p.off >= to {
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

// Nodes calls fn for every id that the stream needs, nodes and chunks, a node
// before what is below it. When skip (nil: never) says true of an id, neither
// it nor anything below it is reported or loaded.
func Nodes(ctx context.Context, loader Loader, s Stream, fn func(kind blob.Kind, id blob.ID) error, skip func(id blob.ID) bool) error {
	t := &tree{loader: loader, s: s}
	return t.walk(ctx, 0, s.Bytes, func(kind blob.Kind, p place) (bool, error) {
		if skip != nil && skip(p.id) {
			return false, nil
		}
		return true, fn(kind, p.id)
	})
}
