package repo

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/recovery"
)

// ErrConfirmed: the point has a confirmation that says something else.
var ErrConfirmed = points.ErrConfirmed

// Confirm keeps what only the source could tell after the commit of its point. It
// is written once; the same again is no error, anything else is ErrConfirmed.
func (r *Repository) Confirm(ctx context.Context, p *recovery.Point, facts json.RawMessage) error {
	sid, err := ledger.ParseSID(p.SID)
	if err != nil {
		return fmt.Errorf("confirm point %s: %w", p.ID, err)
	}
	return points.Confirm(ctx, r.catalog, sid, facts)
}

// Confirmation is what Confirm kept, nil if there is nothing.
func (r *Repository) Confirmation(ctx context.Context, p *recovery.Point) (json.RawMessage, error) {
	sid, err := ledger.ParseSID(p.SID)
	if err != nil {
		return nil, fmt.Errorf("read confirmation of point %s: %w", p.ID, err)
	}
	return points.Confirmation(ctx, r.catalog, sid)
}

// PointsOf reads the points of the source with that identity, oldest first, and
// names those that cannot be read.
func (r *Repository) PointsOf(ctx context.Context, identity string) ([]Entry, []*PointError, error) {
	return points.Of(ctx, r.catalog, r.keys.SourceName(identity))
}
