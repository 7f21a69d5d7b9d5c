// Package origin is where a restore gets what it restores: which database of a repository
// is meant, and the streams of its points, each authenticated before a byte of it leaves.
package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
	"holdfast/restore"
)

// Repository gives the streams of a database's points. Every chunk of them is
// authenticated before a byte of it leaves.
type Repository struct {
	Repo     *repo.Repository
	Identity string // the points' source

	mu     sync.Mutex
	points map[string]*recovery.Point
}

// Open opens a stream; recovery.ErrUnknown if there is no such point of the database.
func (r *Repository) Open(ctx context.Context, point string, n int) (io.ReadCloser, error) {
	p, err := r.point(ctx, point)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("stream-%d", n)
	for _, it := range p.Items {
		if it.Name == name {
			return restore.OpenStream(ctx, r.Repo, it), nil
		}
	}
	return nil, fmt.Errorf("open %s of point %s: %w", name, point, restore.ErrItem)
}

// probeAtOnce is how many chunks are looked for at once.
const probeAtOnce = 4096

// errThere ends a load whose chunks are all known.
var errThere = errors.New("chunks are there")

// Probe tells whether the index knows all chunks of a stream. It reads the stream's
// nodes, and a chunk or a few of thousands.
func (r *Repository) Probe(ctx context.Context, point string, n int) error {
	p, err := r.point(ctx, point)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("stream-%d", n)
	i := slices.IndexFunc(p.Items, func(it recovery.Item) bool { return it.Name == name })
	if i < 0 || p.Items[i].Stream == nil {
		return nil // in the manifest, which was read
	}
	var ids []blob.ID
	known := func() error {
		err := r.Repo.Load(ctx, blob.StreamChunk, ids, func(int, []byte) error { return errThere })
		if ids = ids[:0]; errors.Is(err, errThere) {
			return nil
		}
		return err
	}
	err = stream.Nodes(ctx, r.Repo, *p.Items[i].Stream, func(kind blob.Kind, id blob.ID) error {
		if kind != blob.StreamChunk {
			return nil
		}
		if ids = append(ids, id); len(ids) < probeAtOnce {
			return nil
		}
		return known()
	}, nil)
	if err == nil && len(ids) > 0 {
		err = known()
	}
	if err != nil {
		return fmt.Errorf("look for %s of point %s: %w", name, point, err)
	}
	return nil
}

// point finds a point; those of the source are listed again if it is new.
func (r *Repository) point(ctx context.Context, id string) (*recovery.Point, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.points[id]; p != nil {
		return p, nil
	}
	entries, _, err := r.Repo.PointsOf(ctx, r.Identity) // what cannot be read is not asked for
	if err != nil {
		return nil, err
	}
	r.points = map[string]*recovery.Point{}
	for _, e := range entries {
		r.points[e.ID] = e.Point
	}
	if p := r.points[id]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("open point %s: %w", id, recovery.ErrUnknown)
}

// Source is a database that a repository has backups of.
type Source struct {
	Name     string // sql/PLACE/DATABASE, as it was called last
	Identity string
}
