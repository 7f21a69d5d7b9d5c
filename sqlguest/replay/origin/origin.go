// Package origin is where a restore gets what it restores: which database of a repository
// is meant, and the streams of its points, each authenticated before a byte of it leaves.
package origin

import (
	"context"
	"fmt"
	"io"
	"sync"

	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/sqlguest/whole"
)

// Repository gives the streams of a database's points. Every chunk of them is
// authenticated before a byte of it leaves.
type Repository struct {
	Repo     *repo.Repository
	Identity string // the points' source

	mu     sync.Mutex
	points map[string]*recovery.Point
	packs  *repo.Presence // nil until something was looked for
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

// Probe tells whether all of a stream is there, before anything is built on it: by its
// nodes, and by the packs that the index names, each of which is asked for once.
func (r *Repository) Probe(ctx context.Context, point string, n int) error {
	p, err := r.point(ctx, point)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.packs == nil {
		r.packs = r.Repo.Presence()
	}
	name := fmt.Sprintf("stream-%d", n)
	for _, it := range p.Items {
		if it.Name != name {
			continue
		}
		err := whole.Item(ctx, r.Repo, it, func(ctx context.Context, chunks []blob.ID) error {
			return r.packs.Look(ctx, blob.StreamChunk, chunks)
		})
		if err != nil {
			return fmt.Errorf("point %s: %w", point, err)
		}
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
