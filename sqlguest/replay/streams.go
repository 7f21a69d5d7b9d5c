package replay

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"

	"holdfast/repo"
	"holdfast/repo/recovery"
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

var _ Streams = (*Repository)(nil)

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

// device makes a fresh GUID in braces.
func device() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
