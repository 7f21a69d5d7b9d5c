package repo

import (
	"context"
	"slices"

	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// WriteRecord seals and writes any record: tests put into a repository what
// only a pruner, or a later version of the program, would write.
func (r *Repository) WriteRecord(ctx context.Context, name string, kind parity.Kind, v any) error {
	return r.store.Write(ctx, name, kind, v)
}

// WriteSegment publishes an index segment, true or not.
func (r *Repository) WriteSegment(ctx context.Context, name string, segment []byte) error {
	return r.store.WritePayload(ctx, name, parity.Index, segment)
}

// Indexed are the packs that the index lists.
func (r *Repository) Indexed() []index.Pack { return slices.Collect(r.catalog.Index.Packs()) }

// Get brings one chunk back.
func (r *Repository) Get(ctx context.Context, kind blob.Kind, id blob.ID) (plain []byte, err error) {
	err = r.Load(ctx, kind, []blob.ID{id}, func(_ int, p []byte) error {
		plain = append([]byte(nil), p...)
		return nil
	})
	return plain, err
}

// ReadEntry reads one ledger entry.
func (r *Repository) ReadEntry(ctx context.Context, name string) *ledger.Entry {
	e, err := record.ReadAs[ledger.Entry](ctx, r.store, name, parity.Ledger)
	if err != nil {
		panic(err)
	}
	return e
}

// SlotOf is the session that made the only point of a source.
func (r *Repository) SlotOf(ctx context.Context, source string) string {
	e, err := r.Find(ctx, "latest:"+source)
	if err != nil {
		panic(err)
	}
	return e.SID
}
