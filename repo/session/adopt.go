package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// Adopt finds packs that earlier sessions of the same source have written and
// never listed, because they were killed, and lists them in this one: a backup
// that was interrupted does not send them again. What is damaged or torn is left
// to prune. It returns how many packs it took.
func (s *Session) Adopt(ctx context.Context) (int, error) {
	orphans, err := s.orphans(ctx)
	if err != nil || len(orphans) == 0 {
		return 0, err
	}
	listed := map[string]bool{}
	for p := range s.c.Index.Packs() {
		if orphans[p.SID] {
			listed[p.Name()] = true
		}
	}
	taken := 0
	for _, text := range slices.Sorted(maps.Keys(orphans)) {
		sid, err := ledger.ParseSID(text)
		if err != nil {
			return taken, err
		}
		names, err := s.c.PacksOf(ctx, sid)
		if err != nil {
			return taken, err
		}
		for _, name := range names {
			if listed[name] {
				continue
			}
			ok, err := s.adopt(ctx, name)
			if err != nil {
				return taken, err
			}
			if ok {
				taken++
			}
		}
	}
	return taken, s.segment.publish(ctx)
}

// orphans are the sessions of this source that made no point and whose packs a
// writer may still reuse.
func (s *Session) orphans(ctx context.Context) (map[string]bool, error) {
	names, err := s.c.List(ctx, ledger.Sessions)
	if err != nil {
		return nil, err
	}
	slots, err := s.c.SIDs(ctx, ledger.Commits+s.sid.Src+"/")
	if err != nil {
		return nil, err
	}
	orphans := map[string]bool{}
	for _, name := range names {
		sid, _, err := ledger.ParseNumbered(name)
		if err == nil && sid.Src == s.sid.Src && sid != s.sid && !slots[sid] && sid.Gen >= s.view.Entry.Horizon {
			orphans[sid.String()] = true
		}
	}
	return orphans, nil
}

// adopt lists one pack, if it is whole, and sees to it that the next barrier makes
// it durable: who wrote it may have died before his own.
func (s *Session) adopt(ctx context.Context, name string) (bool, error) {
	object, err := s.c.Backend.Get(ctx, name, 0, -1)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return false, errors.Join(err, ctx.Err())
	}
	if err != nil {
		return false, nil
	}
	if _, damage, err := parity.Inspect(object); err != nil || !damage.Clean() {
		return false, nil
	}
	p, entries, err := s.c.TableIn(ctx, name, object)
	if err != nil || !s.MayReuse(p) {
		return false, nil
	}
	if place, ok := backend.As[backend.Persister](s.c.Backend); ok {
		if err := place.Persist(ctx, name); err != nil {
			if record.IsGone(err) {
				return false, nil
			}
			return false, fmt.Errorf("make %s durable: %w", name, err)
		}
	}
	return true, s.segment.add(ctx, p, entries)
}
