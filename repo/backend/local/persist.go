package local

import (
	"context"
	"path"
)

// Persist lets the next Sync make durable an object that another process put.
func (b *Backend) Persist(ctx context.Context, name string) error {
	if err := b.admit(ctx, "persist", name); err != nil {
		return err
	}
	f, err := b.disk.Open(name)
	if err != nil {
		return explain("persist", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.unsynced[name] != nil {
		return f.Close()
	}
	b.unsynced[name], b.dirty[path.Dir(name)] = &waiting{file: f}, struct{}{}
	return nil
}
