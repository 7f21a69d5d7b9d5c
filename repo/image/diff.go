package image

import (
	"context"
	"fmt"
	"slices"

	"holdfast/repo/blob"
)

// Diff calls fn for each chunk whose content differs between two maps, in
// ascending order, with the id on either side: the zero id for zeros and for
// chunks beyond that side's end. Only subtrees that differ are loaded. The
// disks may be of different sizes; with different chunk sizes the answer is
// ErrIncomparable. A last chunk that is the same content but cut at another
// size is not a difference: compare Map.Bytes for that.
func Diff(ctx context.Context, loader Loader, a, b Map, fn func(chunk int64, a, b blob.ID) error) error {
	left, err := newTree(loader, a)
	if err != nil {
		return err
	}
	right, err := newTree(loader, b)
	if err != nil {
		return err
	}
	if a.ChunkBytes != b.ChunkBytes {
		return fmt.Errorf("compare disk maps: %d and %d bytes: %w", a.ChunkBytes, b.ChunkBytes, ErrIncomparable)
	}
	top := fork{a: left.root, b: right.root}
	if top.a == top.b && left.depth == right.depth {
		return nil
	}
	d := differ{left, right, fn}
	return d.descend(ctx, max(left.depth, right.depth)-1, []fork{top})
}

// fork is a place of two trees where they differ. Above the root of the lower
// tree, that root stands in for the nodes that are not there.
type fork struct {
	index int64
	a, b  blob.ID
}

type differ struct {
	a, b *tree
	fn   func(chunk int64, a, b blob.ID) error
}

func (d *differ) descend(ctx context.Context, level int, at []fork) error {
	var below []fork
	for batch := range slices.Chunk(at, windowNodes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		left, err := d.a.children(ctx, level, batch, func(f fork) blob.ID { return f.a })
		if err != nil {
			return err
		}
		right, err := d.b.children(ctx, level, batch, func(f fork) blob.ID { return f.b })
		if err != nil {
			return err
		}
		below = below[:0]
		for i, f := range batch {
			for j := range int64(max(len(left[i]), len(right[i]))) {
				next := fork{f.index*Fanout + j, left[i].at(j), right[i].at(j)}
				if next.a != next.b {
					below = append(below, next)
				}
			}
		}
		if err := d.below(ctx, level, below); err != nil {
			return err
		}
	}
	return nil
}

// below goes on to the next level, or reports chunks.
func (d *differ) below(ctx context.Context, level int, at []fork) error {
	if level > 0 {
		return d.descend(ctx, level-1, at)
	}
	for _, f := range at {
		if err := d.fn(f.index, f.a, f.b); err != nil {
			return err
		}
	}
	return nil
}

// children loads one side of a batch; a place of zeros has the nil node. Above
// the tree's own root there is one child, which carries the root down.
func (t *tree) children(ctx context.Context, level int, batch []fork, side func(fork) blob.ID) ([]node, error) {
	out := make([]node, len(batch))
	var at []place
	var to []int
	for i, f := range batch {
		id := side(f)
		switch {
		case id.IsZero():
		case level >= t.depth:
			out[i] = node{id}
		default:
			at, to = append(at, place{f.index, id}), append(to, i)
		}
	}
	loaded, err := t.nodes(ctx, level, at)
	if err != nil {
		return nil, err
	}
	for i, n := range loaded {
		out[to[i]] = n
	}
	return out, nil
}
