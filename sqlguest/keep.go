package sqlguest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
)

// Repository is a Keeper over one.
type Repository struct {
	Repo *repo.Repository
	// Back makes one point, as backup.Run does.
	Back func(ctx context.Context, src backup.Source) (*recovery.Point, error)
}

var _ Keeper = (*Repository)(nil)

// Backups are the points of a database, the oldest first. One that cannot be read
// is an error: what it was decides what the next one may be.
func (k *Repository) Backups(ctx context.Context, identity string) ([]chain.Backup, error) {
	entries, problems, err := k.Repo.PointsOf(ctx, identity)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		return nil, p
	}
	inOrder(entries)
	var list []chain.Backup
	for _, e := range entries {
		b, err := k.read(ctx, e.Point)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// inOrder sorts points of the same second as they were made: each names the one
// before it. A full and the log after it are often of one second.
func inOrder(entries []repo.Entry) {
	at := map[string]*repo.Entry{}
	for i := range entries {
		at[entries[i].Hash()] = &entries[i]
	}
	rank := map[string]int{}
	for _, e := range entries {
		depth, limit := 0, len(entries)
		for before := at[e.Previous]; before != nil && before.Time.Equal(e.Time) && depth < limit; before = at[before.Previous] {
			depth++
		}
		rank[e.ID] = depth
	}
	slices.SortStableFunc(entries, func(a, b repo.Entry) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(rank[a.ID], rank[b.ID]))
	})
}

func (k *Repository) read(ctx context.Context, p *recovery.Point) (chain.Backup, error) {
	word, err := k.Repo.Confirmation(ctx, p)
	if err != nil {
		return chain.Backup{}, err
	}
	return chain.Parse(p.ID, p.Attrs, word)
}

// Store makes a point of the source.
func (k *Repository) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	return k.Back(ctx, src)
}

// Confirm keeps SQL Server's word on a point.
func (k *Repository) Confirm(ctx context.Context, p *recovery.Point, word json.RawMessage) error {
	return k.Repo.Confirm(ctx, p, word)
}

// Settle keeps it of a point that an earlier run has made.
func (k *Repository) Settle(ctx context.Context, point string, word json.RawMessage) error {
	e, err := k.Repo.Find(ctx, point)
	if err != nil {
		return fmt.Errorf("settle point %s: %w", point, err)
	}
	return k.Repo.Confirm(ctx, e.Point, word)
}
