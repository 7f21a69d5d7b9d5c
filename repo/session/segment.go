package session

import (
	"context"
	"fmt"
	"sync"

	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
)

// packsPerFlush: a segment is published after so many packs.
const packsPerFlush = 64

// segmentWriter gathers the entries of written packs and publishes them as
// index segments, always after the barrier that makes the packs durable.
type segmentWriter struct {
	s       *Session
	mu      sync.Mutex
	builder index.Builder
	ids     []blob.ID
	next    int
}

// add takes the entries of a pack that was written, and publishes once there
// are enough.
func (w *segmentWriter) add(ctx context.Context, p index.Pack, entries []index.Entry) error {
	w.mu.Lock()
	w.builder.Add(p, entries)
	for _, e := range entries {
		w.ids = append(w.ids, e.ID)
	}
	enough := w.builder.Len() >= packsPerFlush
	w.mu.Unlock()
	if enough {
		return w.publish(ctx)
	}
	return nil
}

// publish makes the packs durable, then writes their segment, makes that
// durable, and lets the local index know it.
func (w *segmentWriter) publish(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.builder.Len() == 0 {
		return nil
	}
	if err := w.s.c.Backend.Sync(ctx); err != nil {
		return fmt.Errorf("make packs durable: %w", err)
	}
	segment, err := w.builder.Bytes()
	if err != nil {
		return fmt.Errorf("build index segment: %w", err)
	}
	if _, err := w.write(ctx, segment); err != nil {
		return err
	}
	w.s.unclaim(w.ids...)
	w.builder, w.ids = index.Builder{}, nil
	return nil
}

// write stores a segment under the session's next number, unless the place was set back.
func (w *segmentWriter) write(ctx context.Context, segment []byte) (string, error) {
	if err := w.s.begun(ctx); err != nil {
		return "", err
	}
	c, name := w.s.c, ledger.IndexName(w.s.sid, w.next)
	if err := c.WritePayload(ctx, name, parity.Index, segment); err != nil {
		return "", err
	}
	w.next++
	if err := c.Index.AddSegment(name, segment); err != nil {
		return "", fmt.Errorf("take over index segment: %w", err)
	}
	return name, nil
}
