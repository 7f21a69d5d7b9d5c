package sqlguest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/sqlguest/chain"
)

// Repository is a Keeper over one.
type Repository struct {
	Repo *repo.Repository
	// Back makes one point, as backup.Run does.
	Back func(ctx context.Context, src backup.Source) (*recovery.Point, error)
}

var _ Keeper = (*Repository)(nil)

// Backups are the points of a database that can be read, the oldest first. One that
// cannot is a hole, and one whose confirmation cannot is unconfirmed: nothing is built
// on either, and a full heals what they leave open (SQL-47).
func (k *Repository) Backups(ctx context.Context, identity string) ([]chain.Backup, error) {
	list, _, err := k.Readable(ctx, identity)
	return list, err
}

// Whole is Backups for who decides what may go: anything that cannot be read is an
// error, for what it was decides what the others are worth.
func (k *Repository) Whole(ctx context.Context, identity string) ([]chain.Backup, error) {
	list, problems, err := k.Readable(ctx, identity)
	for _, p := range problems {
		return nil, p
	}
	return list, err
}

// Readable is Backups, and what is wrong with the others: their points, or the
// confirmations of their points.
func (k *Repository) Readable(ctx context.Context, identity string) ([]chain.Backup, []*repo.PointError, error) {
	entries, problems, err := k.Repo.PointsOf(ctx, identity)
	if err != nil {
		return nil, nil, err
	}
	repo.InOrder(entries) // no time of the server's can tell, for its clock may have been set back
	var list []chain.Backup
	for _, e := range entries {
		b, err := k.read(ctx, e.Point)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case errors.Is(err, backend.ErrUnreachable): // it may be whole: nobody has looked at it
			return nil, nil, fmt.Errorf("read points of a database: %w", err)
		case err != nil:
			problems = append(problems, &repo.PointError{ID: e.ID, Object: ledger.ConfirmName(e.Session()), Err: err})
			if b, err = chain.Parse(e.ID, e.Attrs, nil); err != nil {
				continue // its attributes say nothing either
			}
			b.Why = append(b.Why, "its confirmation cannot be read; holdfast scrub --heal may mend it")
		}
		list = append(list, b)
	}
	return list, problems, nil
}

func (k *Repository) read(ctx context.Context, p *recovery.Point) (chain.Backup, error) {
	word, err := k.Repo.Confirmation(ctx, p)
	if err != nil {
		return chain.Backup{}, err
	}
	return chain.Parse(p.ID, p.Attrs, word)
}

// ErrNameless: a source has no identity. Its point would be among those of every other
// database of which nobody knows what it is.
var ErrNameless = errors.New("the database has no identity")

// Store makes a point of the source.
func (k *Repository) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	if src.Identity() == "" {
		return nil, fmt.Errorf("store a point of %s: %w", src.Name(), ErrNameless)
	}
	return k.Back(ctx, src)
}

// Confirm keeps SQL Server's word on a point.
func (k *Repository) Confirm(ctx context.Context, p *recovery.Point, word json.RawMessage) error {
	return k.Repo.Confirm(ctx, p, word)
}

// Settle keeps it of a point that an earlier run has made. Where a word lies that
// nobody can read, none can be written, and the point stays unconfirmed.
func (k *Repository) Settle(ctx context.Context, point string, word json.RawMessage) error {
	e, err := k.Repo.Find(ctx, point)
	if err != nil {
		return fmt.Errorf("settle point %s: %w", point, err)
	}
	if _, err := k.Repo.Confirmation(ctx, e.Point); errors.Is(err, backend.ErrUnreachable) {
		return fmt.Errorf("settle point %s: %w", point, err)
	} else if err != nil {
		return ctx.Err()
	}
	return k.Repo.Confirm(ctx, e.Point, word)
}

// Open opens the streams of a point.
func (k *Repository) Open(ctx context.Context, point string) ([]io.ReadCloser, error) {
	e, err := k.Repo.Find(ctx, point)
	if err != nil {
		return nil, fmt.Errorf("open streams of point %s: %w", point, err)
	}
	var streams []io.ReadCloser
	for i := 0; ; i++ {
		at := slices.IndexFunc(e.Items, func(it recovery.Item) bool { return it.Name == fmt.Sprintf("stream-%d", i) })
		if at < 0 {
			return streams, nil
		}
		streams = append(streams, restore.OpenStream(ctx, k.Repo, e.Items[at]))
	}
}
