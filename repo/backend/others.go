package backend

import (
	"context"
	"iter"
)

// Others goes through the bodies that a name has in a place that keeps versions,
// the oldest first: for a reader whom the body that Get gave does not satisfy. In
// any other place there are none, nor where they cannot be listed: the reader's own
// error tells more.
func Others(ctx context.Context, be Backend, name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		place, ok := As[Versioned](be)
		if !ok {
			return
		}
		versions, err := place.Versions(ctx, name)
		if err != nil || len(versions) < 2 {
			return
		}
		for _, v := range versions {
			body, err := place.GetVersion(ctx, name, v.ID)
			if err == nil && !yield(body) {
				return
			}
		}
	}
}
