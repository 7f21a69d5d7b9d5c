// Package whole tells whether a repository still holds all of a database's backup,
// without reading the backup: by the nodes of its streams, which name every chunk, and by
// the index, which knows where each one lies. A TiB in some four million chunks is 160 MiB
// of nodes.
package whole

import (
	"context"
	"fmt"

	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// atOnce is how many chunks are looked for at once.
const atOnce = 4096

// Look tells whether chunks are there; repo.Repository.Locate is one.
type Look func(ctx context.Context, chunks []blob.ID) error

// Item looks for all chunks of one stream of a point. What stands in the manifest was read
// with it. Errors: those of look, and of the nodes.
func Item(ctx context.Context, r *repo.Repository, it recovery.Item, look Look) error {
	if it.Stream == nil {
		return nil
	}
	ids := make([]blob.ID, 0, atOnce)
	err := stream.Nodes(ctx, r, *it.Stream, func(kind blob.Kind, id blob.ID) error {
		if kind != blob.StreamChunk {
			return nil // a node: it is read on the way
		}
		if ids = append(ids, id); len(ids) < atOnce {
			return nil
		}
		err := look(ctx, ids)
		ids = ids[:0]
		return err
	}, nil)
	if err == nil {
		err = look(ctx, ids)
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", it.Name, err)
	}
	return nil
}

// Point looks for all chunks of a point's streams, by the index. repo.ErrMissing: one is not
// there.
func Point(ctx context.Context, r *repo.Repository, p *recovery.Point) error {
	for _, it := range p.Items {
		if err := Item(ctx, r, it, r.Locate); err != nil {
			return err
		}
	}
	return nil
}
