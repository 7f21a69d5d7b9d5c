package repo

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
)

// ErrBehind: the place shows an older state than what was written to it.
var ErrBehind = errors.New("the listing of the repository is behind")

// standingAtOnce is how many points are asked for at once.
const standingAtOnce = 16

// Standing asks by name whether any of the points was forgotten, though the listing
// did not show it: a policy that counts must count only what is there. ErrBehind
// names the first.
func (r *Repository) Standing(ctx context.Context, points []Brief) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(standingAtOnce)
	for _, p := range points {
		sid, err := ledger.ParseSID(p.SID())
		if err != nil {
			return fmt.Errorf("ask for point %s: %w", p.ID(), err)
		}
		group.Go(func() error {
			_, err := r.be.Stat(ctx, ledger.ForgetName(sid))
			switch {
			case err == nil:
				return fmt.Errorf("point %s of %s was forgotten: %w", p.ID(), p.Source(), ErrBehind)
			case errors.Is(err, backend.ErrNotFound):
				return nil
			default:
				return fmt.Errorf("ask for point %s: %w", p.ID(), err)
			}
		})
	}
	return group.Wait()
}
