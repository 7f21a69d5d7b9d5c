package session

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// adoptGenerations bounds how far back packs are looked for: two listings a
// ledger entry. Between two prunes there are few.
const adoptGenerations = 32

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
		listed[p.Name()] = true
	}
	taken := 0
	for _, name := range orphans {
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
	return taken, s.segment.publish(ctx)
}

// orphans are the packs of sessions of this source that made no point, as far as
// a writer may still reuse them and listings show them: to miss one costs an upload.
func (s *Session) orphans(ctx context.Context) ([]string, error) {
	slots, err := s.c.SIDs(ctx, ledger.Commits+s.sid.Src+"/")
	if err != nil {
		return nil, err
	}
	first := s.view.Entry.Horizon
	if s.sid.Gen >= first+adoptGenerations {
		first = s.sid.Gen - adoptGenerations + 1
	}
	var orphans []string
	for gen := first; gen <= s.sid.Gen; gen++ {
		for _, prefix := range []string{ledger.Data, ledger.Meta} {
			names, err := s.c.List(ctx, ledger.PacksOf(prefix, gen, s.sid.Src))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				owner, _, err := ledger.ParsePack(name)
				if err == nil && owner != s.sid && !slots[owner] {
					orphans = append(orphans, name)
				}
			}
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
