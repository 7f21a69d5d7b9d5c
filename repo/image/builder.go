package image

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/blob"
)

// ErrOrder is returned by Builder for a chunk that is not above the one set
// before it, or is beyond the end of the disk, and for calls after Finish.
var ErrOrder = errors.New("chunk set out of order")

// Builder makes the map of a disk from the ids of its chunks, told in ascending
// order, and from a parent for the chunks that are not told.
//
// It works in waves. Changes of a level are collected by node, up to 128 nodes;
// then the parent's nodes that are only partly overwritten come in one batch
// for each level above, are merged and stored, and their ids become changes of
// the level above. So a parent's node is loaded at most once, never if nothing
// or everything below it is set, and a node that comes out as it was is not
// stored again. A Builder is for one goroutine.
type Builder struct {
	store  Store
	m      Map
	chunks int64
	depth  int
	parent *tree // nil: none, or nothing but zeros

	waves   [][]*change         // by level: nodes with changes, ascending
	old     []map[int64]oldNode // by level: the parent's nodes in use
	next    int64               // lowest chunk that Set accepts
	root    blob.ID
	rootSet bool
	buf     []byte
	err     error // what ended it; all later calls return it
}

// change is a node that is about to be rewritten.
type change struct {
	index int64
	ids   [Fanout]blob.ID
	set   [Fanout]bool
}

// oldNode is a parent's node with its id.
type oldNode struct {
	id  blob.ID
	ids node
}

// NewBuilder begins the map of a disk of bytes, in chunks of chunkBytes. Chunks
// that are never set keep the parent's id; without a parent, and beyond the
// parent's end, they are zeros. The loader reads the parent's nodes and may be
// nil without one. Errors: ErrMap for impossible sizes or parents,
// ErrIncomparable for a parent with other chunks.
func NewBuilder(store Store, loader Loader, parent *Map, bytes, chunkBytes int64) (*Builder, error) {
	b := &Builder{store: store, m: Map{Bytes: bytes, ChunkBytes: chunkBytes}}
	if err := b.m.Validate(); err != nil {
		return nil, err
	}
	b.chunks, b.depth = b.m.Chunks(), b.m.Depth()
	b.waves = make([][]*change, b.depth)
	if parent == nil {
		return b, nil
	}
	if parent.ChunkBytes != chunkBytes {
		return nil, fmt.Errorf("build disk map: parent has chunks of %d bytes, not %d: %w", parent.ChunkBytes, chunkBytes, ErrIncomparable)
	}
	t, err := newTree(loader, *parent)
	if err != nil {
		return nil, err
	}
	if t.root.IsZero() {
		return b, nil
	}
	b.parent, b.old = t, make([]map[int64]oldNode, t.depth)
	for level := range b.old {
		b.old[level] = map[int64]oldNode{}
	}
	if b.depth > t.depth {
		// The disk has grown by a level: the parent's root becomes the first
		// child of a node that never was. A change below it replaces this one.
		b.at(t.depth, 0).put(0, t.root)
	}
	return b, nil
}

// Set says what a chunk holds; the zero id is zeros. Chunks come in strictly
// ascending order (ErrOrder). After an error the Builder is of no more use.
func (b *Builder) Set(ctx context.Context, chunk int64, id blob.ID) error {
	if b.err != nil {
		return b.err
	}
	if chunk < b.next || chunk >= b.chunks {
		b.err = fmt.Errorf("build disk map: chunk %d, where %d to %d can follow: %w", chunk, b.next, b.chunks-1, ErrOrder)
		return b.err
	}
	b.next = chunk + 1
	b.err = b.change(ctx, 0, chunk, id)
	return b.err
}

// Finish stores what is left and returns the map. It may be called once.
func (b *Builder) Finish(ctx context.Context) (Map, error) {
	if b.err != nil {
		return Map{}, b.err
	}
	b.err = b.finish(ctx)
	if b.err != nil {
		return Map{}, b.err
	}
	b.err = fmt.Errorf("build disk map: already finished: %w", ErrOrder)
	m := b.m
	m.Root = b.root
	return m, nil
}

func (b *Builder) finish(ctx context.Context) error {
	if b.chunks == 0 {
		return nil
	}
	shrunk := b.parent != nil && b.parent.chunks > b.chunks
	for level := range b.depth {
		// The node that the new end cuts through must lose what is beyond.
		if shrunk && b.chunks%coverage(level) != 0 {
			b.at(level, (b.chunks-1)/coverage(level))
		}
		if err := b.flush(ctx, level); err != nil {
			return err
		}
	}
	if b.rootSet || b.parent == nil {
		return nil
	}
	if b.depth < b.parent.depth {
		if err := b.loadOld(ctx, b.depth, []int64{0}); err != nil {
			return err
		}
	}
	b.root = b.oldID(b.depth-1, 0)
	return nil
}

// change notes that a child of a node of this level has a new id. Children come
// ascending, so when a new node begins the ones before it are complete.
func (b *Builder) change(ctx context.Context, level int, child int64, id blob.ID) error {
	wave := b.waves[level]
	if n := len(wave); n == windowNodes && wave[n-1].index != child/Fanout {
		if err := b.flush(ctx, level); err != nil {
			return err
		}
	}
	b.at(level, child/Fanout).put(child%Fanout, id)
	return nil
}

// at is the node under change at index, the last one of its level or a new one.
func (b *Builder) at(level int, index int64) *change {
	wave := b.waves[level]
	if n := len(wave); n > 0 && wave[n-1].index == index {
		return wave[n-1]
	}
	c := &change{index: index}
	b.waves[level] = append(wave, c)
	return c
}

func (c *change) put(i int64, id blob.ID) { c.ids[i], c.set[i] = id, true }

// full reports whether each of the first limit children is set, so that the
// node before does not matter.
func (c *change) full(limit int) bool {
	for _, set := range c.set[:limit] {
		if !set {
			return false
		}
	}
	return true
}

// flush stores the changed nodes of a level and hands their ids up.
func (b *Builder) flush(ctx context.Context, level int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	wave := b.waves[level]
	if len(wave) == 0 {
		return nil
	}
	var need []int64
	for _, c := range wave {
		if !c.full(childLimit(b.chunks, level, c.index)) {
			need = append(need, c.index)
		}
	}
	if err := b.loadOld(ctx, level, need); err != nil {
		return err
	}
	for _, c := range wave {
		id, err := b.merge(ctx, level, c)
		if err != nil {
			return err
		}
		if level == b.depth-1 {
			b.root, b.rootSet = id, true
			continue
		}
		if err := b.change(ctx, level+1, c.index, id); err != nil {
			return err
		}
	}
	b.forget(level, wave[len(wave)-1].index)
	clear(wave)
	b.waves[level] = wave[:0]
	return nil
}

// merge lays a change over the node that was there and returns the id of the
// result, stored if it is new.
func (b *Builder) merge(ctx context.Context, level int, c *change) (blob.ID, error) {
	limit := childLimit(b.chunks, level, c.index)
	var old oldNode
	if b.parent != nil && level < len(b.old) {
		old = b.old[level][c.index]
	}
	same := len(old.ids) <= limit
	for i := range limit {
		was := old.ids.at(int64(i))
		if !c.set[i] {
			c.ids[i] = was
		}
		same = same && c.ids[i] == was
	}
	if same {
		return old.id, nil
	}
	b.buf = encodeNode(b.buf[:0], c.ids[:limit])
	if len(b.buf) == 0 {
		return blob.ID{}, nil
	}
	id, err := b.store.Put(ctx, blob.MapNode+blob.Kind(level), b.buf)
	if err != nil {
		return blob.ID{}, fmt.Errorf("store map node: level %d, place %d: %w", level, c.index, err)
	}
	return id, nil
}

// loadOld brings the parent's nodes at these places of a level, ascending, and
// first the ones above them that tell their ids.
func (b *Builder) loadOld(ctx context.Context, level int, indexes []int64) error {
	if b.parent == nil || level >= b.parent.depth {
		return nil
	}
	var missing, above []int64
	for _, index := range indexes {
		if _, ok := b.old[level][index]; ok || index*coverage(level) >= b.parent.chunks {
			continue
		}
		missing = append(missing, index)
		if n := len(above); n == 0 || above[n-1] != index/Fanout {
			above = append(above, index/Fanout)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := b.loadOld(ctx, level+1, above); err != nil {
		return err
	}
	var at []place
	for _, index := range missing {
		if id := b.oldID(level, index); !id.IsZero() {
			at = append(at, place{index, id})
		}
	}
	loaded, err := b.parent.nodes(ctx, level, at)
	if err != nil {
		return err
	}
	for i, n := range loaded {
		b.old[level][at[i].index] = oldNode{at[i].id, n}
	}
	return nil
}

// oldID is the id of the parent's node at a place; what is above it has been
// loaded.
func (b *Builder) oldID(level int, index int64) blob.ID {
	if level == b.parent.depth-1 && index == 0 {
		return b.parent.root
	}
	if level >= b.parent.depth-1 {
		return blob.ID{}
	}
	return b.old[level+1][index/Fanout].ids.at(index % Fanout)
}

// forget drops the parent's nodes up to a place: all changes there are done.
func (b *Builder) forget(level int, upTo int64) {
	if b.parent == nil || level >= len(b.old) {
		return
	}
	for index := range b.old[level] {
		if index <= upTo {
			delete(b.old[level], index)
		}
	}
}
