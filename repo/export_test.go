package repo

import (
	"context"

	"holdfast/repo/parity"
)

// WriteRecord seals and writes any record: tests put into a repository what
// only a pruner, or a later version of the program, would write.
func (r *Repository) WriteRecord(ctx context.Context, name string, kind parity.Kind, v any) error {
	return r.writeRecord(ctx, name, kind, v)
}

// HashOf is the hash of the manifest behind an entry.
func (e Entry) HashOf() string { return e.hash }
