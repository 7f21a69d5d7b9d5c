package load

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/index"
)

// statsAtOnce is how many packs are asked for at once: an answer is short and slow.
const statsAtOnce = 16

// Presence tells of many chunks whether they can be read, and reads those alone that are
// in doubt: each pack that the index names is asked for once, by its size. That it has
// the right bytes only reading can tell.
type Presence struct {
	loader *Loader
	there  map[index.Pack]bool
}

// Presence begins with nothing known. It is for one goroutine.
func (l *Loader) Presence() *Presence {
	return &Presence{loader: l, there: map[index.Pack]bool{}}
}

// Look is nil if all chunks are there, or can be brought back from elsewhere. ErrMissing:
// the index does not know one; *DamageError: its pack is gone or cut off.
func (p *Presence) Look(ctx context.Context, kind blob.Kind, ids []blob.ID) error {
	spans, err := p.loader.locate(ctx, ids)
	if err != nil {
		return err
	}
	if err := p.stat(ctx, spans); err != nil {
		return err
	}
	var doubtful []blob.ID
	for _, sp := range spans {
		for _, w := range sp.chunks {
			if !p.there[sp.pack] {
				doubtful = append(doubtful, w.id)
			}
		}
	}
	return p.loader.Load(ctx, kind, doubtful, func(int, []byte) error { return nil })
}

// stat asks for the packs that were not asked for yet.
func (p *Presence) stat(ctx context.Context, spans []span) error {
	var packs []index.Pack
	for _, sp := range spans {
		if _, asked := p.there[sp.pack]; !asked {
			p.there[sp.pack] = false
			packs = append(packs, sp.pack)
		}
	}
	whole := make([]bool, len(packs))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(statsAtOnce)
	for i, pack := range packs {
		group.Go(func() error {
			info, err := p.loader.Backend.Stat(gctx, pack.Name())
			if err != nil && !errors.Is(err, backend.ErrNotFound) {
				return fmt.Errorf("look for %s: %w", pack.Name(), err)
			}
			whole[i] = err == nil && info.Bytes == int64(pack.Bytes)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, pack := range packs {
		p.there[pack] = whole[i]
	}
	return nil
}
