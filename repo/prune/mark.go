package prune

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/prune/shelf"
	"holdfast/repo/stream"
)

// wishesAtOnce is how many chunks are marked together: 20 MiB hold them.
const wishesAtOnce = 1 << 20

// mark follows the maps of all points that the survey names and tells the marker
// of every distinct chunk once.
func (r *round) mark(ctx context.Context) (err error) {
	r.marker = r.survey.Marker()
	if r.live, err = r.c.Index.NewMarks(); err != nil {
		return fmt.Errorf("mark chunks: %w", err)
	}
	r.again = r.live.Beyond()
	// All that is live is marked before the first chunk of what is not.
	if err := r.markAll(ctx, r.survey.Live, r.live, true); err != nil {
		return err
	}
	if err := r.markAll(ctx, r.survey.Remark, r.again, false); err != nil {
		return err
	}
	return r.tell()
}

// markAll marks what the points of these sessions need.
func (r *round) markAll(ctx context.Context, sids ledger.Pile, marks *index.Marks, live bool) error {
	done, total := int64(0), int64(len(r.survey.Live)+len(r.survey.Remark))
	if !live {
		done = int64(len(r.survey.Live))
	}
	m := marking{r: r, marks: marks, lost: map[uint32]error{}, nowhere: map[index.Key]bool{}}
	for i, sid := range sids {
		r.progress("marking", done+int64(i), total)
		m.point = uint32(i)
		if err := m.walk(ctx, r.slots.Roots(sid)); err != nil {
			return fmt.Errorf("follow point %s: %w", sid.Rand(), err)
		}
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("mark chunks: %w", err)
	}
	for i, sid := range sids {
		if lost := m.lost[uint32(i)]; lost != nil {
			r.c.Log.Warn("the map of a point cannot be followed", "point", sid.Rand(), "error", lost)
			if !live {
				r.marker.Lost(false)
				continue
			}
			r.marker.Hurt(sid.Rand())
		}
	}
	if live {
		r.marker.Nowhere(len(m.nowhere))
	}
	return nil
}

// marking follows maps. A node is marked when it is met, since a walk must know
// whether somebody was there before; the chunks of data, which are all but one
// in a hundred, wait until there are many.
type marking struct {
	r      *round
	marks  *index.Marks
	point  uint32 // number of the point whose maps are followed
	wishes []index.Wish
	lost   map[uint32]error // by point: why its maps could not be followed to the end

	nowhere map[index.Key]bool // what no segment lists
	failed  error              // says nothing of any point
	leaves  bool               // what is met now lies below a node of level 0
}

// Load brings nodes, and notes whether what is below them is data.
func (m *marking) Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	m.leaves = kind == blob.MapNode || kind == blob.StreamNode
	return m.r.c.Load.Load(ctx, kind, ids, fn)
}

// walk marks all that a point needs. The error is only what says nothing of the
// point.
func (m *marking) walk(ctx context.Context, of shelf.Roots) error {
	for _, d := range of.Disks {
		m.leaves = false
		m.lose(m.point, image.Nodes(ctx, m, d, m.meet, m.skip))
	}
	for _, s := range of.Streams {
		m.leaves = false
		m.lose(m.point, stream.Nodes(ctx, m, s, m.meet, m.skip))
	}
	if m.failed == nil {
		m.failed = ctx.Err()
	}
	if lost := m.lost[m.point]; errors.Is(lost, backend.ErrUnreachable) || errors.Is(lost, index.ErrCorrupt) {
		m.failed = lost
	}
	return m.failed
}

func (m *marking) lose(point uint32, err error) {
	if err != nil && m.lost[point] == nil {
		m.lost[point] = err
	}
}

// skip passes over what is marked: it was marked with all below it, by this walk
// or by one before, and a walk that did not come to its end leaves the round
// undecided. Below a node of level 0 nothing is to be passed over, and meet is
// told of it.
func (m *marking) skip(id blob.ID) bool {
	if m.leaves {
		return false
	}
	return !m.node(id)
}

// meet is told of everything that skip lets through. Should that be a node after
// all where data was awaited, it is followed, if more than once.
func (m *marking) meet(kind blob.Kind, id blob.ID) error {
	switch {
	case m.failed != nil:
	case !kind.IsMeta():
		m.wish(id)
	case m.leaves:
		m.node(id)
	}
	return m.failed
}

// node marks a node and reports whether it is to be followed.
func (m *marking) node(id blob.ID) bool {
	first, known, err := m.marks.Mark(id)
	if err != nil && m.failed == nil {
		m.failed = err
	}
	if err == nil && !known {
		m.miss(m.point, index.KeyOf(id))
	}
	return first && m.failed == nil
}

func (m *marking) wish(id blob.ID) {
	m.wishes = append(m.wishes, index.Wish{Key: index.KeyOf(id), By: m.point})
	if len(m.wishes) == wishesAtOnce {
		m.failed = m.flush()
	}
}

// flush marks what has waited.
func (m *marking) flush() error {
	unknown, err := m.marks.MarkAll(m.wishes)
	for _, w := range unknown {
		m.miss(w.By, w.Key)
	}
	m.wishes = m.wishes[:0]
	return err
}

// miss notes a chunk that no segment lists.
func (m *marking) miss(point uint32, key index.Key) {
	m.nowhere[key] = true
	m.lose(point, fmt.Errorf("chunk %x is in no pack that is listed", key[:8]))
}

// tell gives the marker every chunk that was marked.
func (r *round) tell() error {
	tally := r.marker.Tally(packNames(r.live))
	var holders []uint32
	hold := func(places []index.Place) []uint32 {
		holders = holders[:0]
		for _, at := range places {
			holders = append(holders, at.Pack)
		}
		return holders
	}
	err := r.live.Each(func(_ index.Key, places []index.Place) error {
		tally.Live(int64(places[len(places)-1].Stored), hold(places))
		return nil
	})
	if err == nil && r.again.Len() > 0 {
		err = r.again.Each(func(_ index.Key, places []index.Place) error {
			tally.Again(hold(places))
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("read local index: %w", err)
	}
	tally.Close()
	return nil
}

// packNames are the object names of the packs that marks speaks of, by ordinal.
func packNames(m *index.Marks) []string {
	packs := m.Packs()
	names := make([]string, len(packs))
	for i, p := range packs {
		names[i] = p.Name()
	}
	return names
}
