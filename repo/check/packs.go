package check

import (
	"context"
	"errors"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/scrub"
	"holdfast/repo/seal"
)

// readPack opens every chunk of a pack and compares it with the index.
func (c *checker) readPack(ctx context.Context, name string) error {
	object, err := backend.Whole(ctx, c.r.Backend, name)
	if errors.Is(err, backend.ErrNotFound) {
		return c.gone(ctx, c.known[name])
	}
	if err := c.noAnswer(ctx, name, err); err != nil {
		return err
	}
	c.opened[name] = true
	what, lost := "", true
	if err != nil {
		what = err.Error()
	} else {
		if what, lost, err = c.openPack(name, object); errors.Is(err, seal.ErrUnknownEpoch) && c.r.Follow != nil {
			if err := c.r.Follow(ctx); err != nil {
				return err
			}
			what, lost, _ = c.openPack(name, object)
		}
	}
	if what == "" {
		return nil
	}
	c.lost[name] = c.lost[name] || lost
	c.rep.Add(scrub.Finding{Object: name, What: what, Lost: lost})
	return nil
}

// openPack says what is wrong with a pack's bytes, "" for nothing.
func (c *checker) openPack(name string, object []byte) (what string, lost bool, cause error) {
	fixed, damage, healErr := parity.Heal(object)
	if fixed == nil {
		return healErr.Error(), true, healErr
	}
	c.saved[name] = blob.Set{}
	err := pack.VerifyAll(c.r.Keys, name, fixed, func(e pack.Entry, _ []byte, err error) error {
		if err == nil {
			c.saved[name].Add(e.ID)
		}
		return nil
	})
	if healErr != nil {
		return healErr.Error(), true, healErr
	}
	if err != nil {
		return err.Error(), true, err
	}
	delete(c.saved, name) // all of it
	_, entries, err := pack.OpenTable(c.r.Keys, name, fixed)
	if err != nil {
		return err.Error(), true, err
	}
	var sum uint64
	for _, e := range entries {
		sum += index.EntryHash(e.ID, e.Offset, e.Stored)
	}
	if p := c.known[name]; sum != p.Sum || len(entries) != int(p.Count) {
		return "the index says other things of it than its table", true, nil
	}
	if !damage.Clean() {
		return damage.String() + "; parity brings it back", false, nil
	}
	return "", false, nil
}
