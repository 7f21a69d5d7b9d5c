package points

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// ErrConfirmed: the point has a confirmation already, and it says something else.
var ErrConfirmed = errors.New("the point was confirmed otherwise")

// confirmation is the record in confirm/.
type confirmation struct {
	Version int             `json:"version"`
	Facts   json.RawMessage `json:"facts"`
}

// Confirm writes what only the source could tell once the point was made. It is
// written once: the same facts again are no error, others are ErrConfirmed.
func Confirm(ctx context.Context, c *catalog.Catalog, sid ledger.SID, facts json.RawMessage) error {
	err := c.Write(ctx, ledger.ConfirmName(sid), parity.Confirm, confirmation{ledger.Version, facts})
	if err == nil {
		return nil
	}
	if record.IsTaken(err) {
		there, rerr := Confirmation(ctx, c, sid)
		switch {
		case rerr != nil:
			return fmt.Errorf("confirm point %s: %w", sid.Rand, rerr)
		case bytes.Equal(there, facts):
			return nil
		}
		return fmt.Errorf("confirm point %s: %w", sid.Rand, ErrConfirmed)
	}
	return fmt.Errorf("confirm point %s: %w", sid.Rand, err)
}

// Confirmation is what the source told of a point once it was made; nil if it has
// told nothing.
func Confirmation(ctx context.Context, c *catalog.Catalog, sid ledger.SID) (json.RawMessage, error) {
	r, err := record.ReadAs[confirmation](ctx, c.Store, ledger.ConfirmName(sid), parity.Confirm)
	if record.IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read confirmation of point %s: %w", sid.Rand, err)
	}
	if r.Version != ledger.Version {
		return nil, fmt.Errorf("confirmation of point %s: %w", sid.Rand, ledger.ErrVersion)
	}
	return r.Facts, nil
}
