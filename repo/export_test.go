package repo

import (
	"context"
	"slices"

	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/parity"
)

// WriteRecord seals and writes any record: tests put into a repository what
// only a pruner, or a later version of the program, would write.
func (r *Repository) WriteRecord(ctx context.Context, name string, kind parity.Kind, v any) error {
	return r.writeRecord(ctx, name, kind, v)
}

// WriteSegment publishes an index segment, true or not.
func (r *Repository) WriteSegment(ctx context.Context, name string, segment []byte) error {
	return r.writePayload(ctx, name, parity.Index, segment)
}

// Indexed are the packs that the index lists.
func (r *Repository) Indexed() []index.Pack { return slices.Collect(r.index.Packs()) }

// HashOf is the hash of the manifest behind an entry.
func (e Entry) HashOf() string { return e.hash }

// Get brings one chunk back.
func (r *Repository) Get(ctx context.Context, kind blob.Kind, id blob.ID) (plain []byte, err error) {
	err = r.Load(ctx, kind, []blob.ID{id}, func(_ int, p []byte) error {
		plain = append([]byte(nil), p...)
		return nil
	})
	return plain, err
}
