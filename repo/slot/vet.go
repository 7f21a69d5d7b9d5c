package slot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

// Prove checks the signature of what is signed under that name: an entry of the roll, a
// mark, a claim, a decision. nil, too, for slots and boxes, which Vouch judges. Errors:
// seal.ErrForged, seal.ErrUnknownEpoch, seal.ErrSlotDamaged, seal.ErrUnsupported.
func (k *Keys) Prove(name string, payload []byte) error {
	if epoch, err := ledger.ParseDecision(name); err == nil {
		_, err := k.Ring.ReadDecision(payload, name, epoch)
		return err
	}
	if strings.HasPrefix(name, ledger.Keys+"roll/") || strings.HasPrefix(name, ledger.Removals) || strings.HasSuffix(name, "/begun") {
		_, err := k.Ring.ReadRemoval(payload, name)
		return err
	}
	return nil
}

// Vouch tells whether payload is the slot or box that holders of the keys vouch for
// under that name. An error is no proof that it is not: a slot that was left out of a
// rotation has nobody to vouch for it, and what it wraps only its own secret opens.
func (k *Keys) Vouch(ctx context.Context, name string, payload []byte) error {
	if epoch, rotation, id, err := ledger.ParseBox(name); err == nil {
		d, err := decision(ctx, k.Backend, k.Ring, epoch)
		switch {
		case errors.Is(err, backend.ErrNotFound) || err == nil && d.Rotation != rotation:
			return fmt.Errorf("examine box %s: of no rotation that was decided: %w", name, seal.ErrNotVouched)
		case err != nil:
			return err
		}
		return k.Ring.VouchedBox(payload, ledger.Keys+id, epoch)
	}
	if id, found := strings.CutPrefix(name, ledger.Keys); found && !strings.Contains(id, "/") {
		s, err := k.weigh(ctx, payload, id)
		return errors.Join(err, s.damaged, s.why)
	}
	return k.Prove(name, payload)
}
