package trial

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
)

var errFull = errors.New("no space left in the repository")

// failing is a repository that fails, or whose program is killed, at a chosen place. It
// remembers what it holds, since a run asks for all of it before each decision; that
// the repository says the same is looked at once at the end (world.agree).
type failing struct {
	sqlguest.Repository
	w *world
}

// held is a point as it was stored.
type held struct {
	identity, id string
	attrs, word  json.RawMessage
	backup       chain.Backup // nothing in it: not parsed yet
}

// Backups come from memory, unless this world reads its repository each time.
func (f *failing) Backups(ctx context.Context, identity string) ([]chain.Backup, error) {
	if f.w.thorough() {
		return f.Repository.Backups(ctx, identity)
	}
	var list []chain.Backup
	for _, h := range f.w.held {
		if h.identity != identity {
			continue
		}
		if h.backup.Point == "" {
			b, err := chain.Parse(h.id, h.attrs, h.word)
			if err != nil {
				return nil, err
			}
			h.backup = b
		}
		list = append(list, h.backup)
	}
	return list, nil
}

func (f *failing) said(point string, word json.RawMessage) {
	for _, h := range f.w.held {
		if h.id == point {
			h.word, h.backup = word, chain.Backup{}
		}
	}
}

func (f *failing) Settle(ctx context.Context, point string, word json.RawMessage) error {
	err := f.Repository.Settle(ctx, point, word)
	if err == nil {
		f.said(point, word)
	}
	return err
}

// Store makes a point, or aborts the backup when everything was read.
func (f *failing) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	if f.w.fault != full {
		return f.Repository.Store(ctx, src)
	}
	f.w.fault = none
	f.w.count["fault: repository full, backup aborted"]++
	frozen, err := src.Freeze(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, item := range frozen.Items() {
		stream, err := item.Stream.Open(ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, stream)
		}
		if err != nil {
			return nil, errors.Join(err, frozen.Release(ctx))
		}
	}
	f.w.tick()
	return nil, errors.Join(errFull, frozen.Release(ctx))
}

func (f *failing) Confirm(ctx context.Context, p *recovery.Point, word json.RawMessage) error {
	if f.w.fault == mute {
		f.w.fault = none
		f.w.count["fault: killed before the confirmation was kept"]++
		return errKilled
	}
	err := f.Repository.Confirm(ctx, p, word)
	if err == nil {
		f.said(p.ID, word)
	}
	return err
}
