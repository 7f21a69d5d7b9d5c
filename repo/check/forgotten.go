package check

import (
	"context"

	"holdfast/repo/ledger"
	"holdfast/repo/parity"
)

// isForgotten reports whether a record is of a point that was forgotten, or that the
// ledger has made void: nobody reads it, and a prune removes it.
func (c *checker) isForgotten(ctx context.Context, name string) (bool, error) {
	var sid ledger.SID
	err := ledger.ErrName
	switch kind, _ := kindOf(name); kind {
	case parity.Commit, parity.Confirm:
		sid, err = ledger.ParseSlot(name)
	case parity.Label:
		sid, _, err = ledger.ParseNumbered(name)
	}
	if err != nil {
		return false, nil // of no point
	}
	if c.r.View().IsVoid(sid) {
		return true, nil
	}
	return c.isThere(ctx, ledger.ForgetName(sid))
}
