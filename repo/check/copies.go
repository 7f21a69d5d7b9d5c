package check

import (
	"context"
	"errors"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/scrub"
)

// differ reports an object whose two copies are not the same though each opens, and, if
// the keys vouch for one of them alone, which one belongs in the other's place.
func (c *checker) differ(ctx context.Context, name string) error {
	spare := ledger.Spare(name)
	f := scrub.Finding{Object: name, What: "differs from " + spare + ", and only its own secret can tell which is right", Differs: true}
	vouched := map[string]bool{}
	for _, place := range []string{name, spare} {
		object, err := backend.Whole(ctx, c.r.Backend, place)
		if errors.Is(err, backend.ErrNotFound) {
			return nil // the key was removed meanwhile
		}
		if err := c.noAnswer(ctx, place, err); err != nil {
			return err
		}
		var payload []byte
		if err == nil {
			payload, err = pack.DecodeSlot(object)
		}
		if err == nil {
			err = c.r.Slots.Vouch(ctx, name, payload)
		}
		if err := c.noAnswer(ctx, place, err); err != nil {
			return err
		}
		vouched[place] = err == nil
	}
	if vouched[name] != vouched[spare] {
		if f.Object, f.Right = name, spare; vouched[name] {
			f.Object, f.Right = spare, name
		}
		f.What = "not what was written there, though whole in itself"
	}
	c.rep.Add(f)
	return nil
}
