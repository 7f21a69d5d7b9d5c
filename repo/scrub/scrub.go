// Package scrub finds and heals damage by checksums and parity alone: it needs
// no key, so it can run on the machine that holds the disks. It also holds the
// report that a scrub and a check share.
package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
)

// Options steer a scrub.
type Options struct {
	Heal     bool                              // write healed bytes back
	Progress func(doneBytes, totalBytes int64) // may be nil
	Found    func(name string, what string)    // told of each damaged object, one at a time; may be nil
}

// Finding is one thing that is wrong.
type Finding struct {
	Object string   `json:"object"`
	What   string   `json:"what"`
	Healed bool     `json:"healed"` // mended, written back
	Lost   bool     `json:"lost"`   // beyond repair
	Hits   []string `json:"hits"`   // "point/item" that need it

	Vanished bool `json:"vanished"` // Lost, and a point that somebody or something took away: a copy of the place may still have it

	Rebuild bool `json:"rebuild"` // Lost, and of the index: a repair of the index makes it anew from the packs

	Idle bool `json:"idle"` // beyond repair, and nothing reads it any more: no run needs it, no point is hit

	Differs bool   `json:"differs"` // from its other copy, though each is whole in itself: only who has the keys can tell which is right
	Right   string `json:"right"`   // Differs, and these are the bytes that belong in its place; "" where that is not known
}

// Report is what a scrub or a check found.
type Report struct {
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Damaged  int       `json:"damaged"`
	Healed   int       `json:"healed"`
	Errors   int       `json:"errors"` // damaged beyond repair, missing, inconsistent; but for what is rebuilt
	Findings []Finding `json:"findings"`
}

// Verdict is nil for a clean report, ErrHealable when all that was found is or
// can be healed, ErrUnlisted when beside that only the index is lost,
// pack.ErrDamaged otherwise.
func (rep *Report) Verdict() error {
	switch {
	case rep.Errors > 0:
		return fmt.Errorf("%d objects or points are damaged beyond repair: %w", rep.Errors, pack.ErrDamaged)
	case slices.ContainsFunc(rep.Findings, func(f Finding) bool { return f.Rebuild }):
		return fmt.Errorf("nothing but the index is known to be lost: %w", ErrUnlisted)
	case rep.Damaged > 0 && !slices.ContainsFunc(rep.Findings, func(f Finding) bool { return !f.Idle && !f.Healed }) && rep.Healed < rep.Damaged:
		return fmt.Errorf("%d objects were damaged, %d of them are healed, the others hinder nothing: %w", rep.Damaged, rep.Healed, ErrHarmless)
	case rep.Damaged > 0:
		return fmt.Errorf("%d objects were damaged, %d of them are healed: %w", rep.Damaged, rep.Healed, ErrHealable)
	}
	return nil
}

// ErrUnlisted: the index lacks entries, and nothing else is known to be lost.
var ErrUnlisted = errors.New("the index is incomplete")

// ErrHarmless: what is beyond repair is read by nobody any more.
var ErrHarmless = errors.New("nothing but what nobody needs is damaged")

// ErrHealable: damage was found that parity brings back, or has brought back.
var ErrHealable = errors.New("healable damage found")

// scrubber carries one scrub.
type scrubber struct {
	be   backend.Backend
	opts Options

	names     map[string]bool // of all objects
	whole     Copies          // what the copies of precious objects hold that are whole or can be made so
	published map[string]bool // sids with a slot or an index segment
	newest    uint32          // ledger entry of which a copy is there, healthy or not

	mu    sync.Mutex
	rep   Report
	done  int64
	total int64
}

// Run reads every object and compares it with its checksums and parity. It
// needs no key. With Heal damaged objects are written anew, bit for bit what
// they were; the damaged bytes stay in quarantine/ until the next clean scrub.
func Run(ctx context.Context, be backend.Backend, opts Options) (*Report, error) {
	s := &scrubber{be: be, opts: opts, names: map[string]bool{}, published: map[string]bool{}, whole: Copies{}}
	var infos []backend.Info
	err := be.List(ctx, "", func(info backend.Info) error {
		if ledger.IsOurs(info.Name) {
			infos = append(infos, info)
			s.note(info.Name)
			s.total += info.Bytes
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, info := range infos {
		group.Go(func() error { return s.object(gctx, info) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := s.spares(ctx); err != nil {
		return nil, err
	}
	for name := range s.whole {
		if ledger.TrueName(name) == name && s.whole.Differ(name) { // neither goes over the other: there is no key here to tell
			s.found(Finding{Object: name, What: "differs from " + ledger.Spare(name) + ", though each is whole in itself", Differs: true})
		}
	}
	if opts.Heal {
		if err := s.be.Sync(ctx); err != nil {
			return nil, fmt.Errorf("make healed objects durable: %w", err)
		}
		if !slices.ContainsFunc(s.rep.Findings, func(f Finding) bool { return !f.Idle }) {
			if err := s.emptyQuarantine(ctx); err != nil {
				return nil, err
			}
		}
	}
	return &s.rep, nil
}

// object scrubs one object.
func (s *scrubber) object(ctx context.Context, info backend.Info) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	object, err := backend.Whole(ctx, s.be, info.Name)
	if errors.Is(err, backend.ErrNotFound) {
		return nil // pruned meanwhile
	}
	if errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil {
		return fmt.Errorf("scrub %s: %w", info.Name, err)
	}
	s.mu.Lock()
	s.rep.Objects++
	s.rep.Bytes += int64(len(object))
	s.done += info.Bytes
	if s.opts.Progress != nil {
		s.opts.Progress(s.done, s.total)
	}
	s.mu.Unlock()
	if err != nil {
		s.found(Finding{Object: info.Name, What: err.Error(), Lost: true})
		return nil
	}
	fixed, damage, err := parity.Heal(object)
	if err == nil {
		s.mu.Lock()
		s.whole.Note(info.Name, fixed)
		s.mu.Unlock()
	}
	switch {
	case err == nil && damage.Clean():
		return nil
	case err == nil:
		return s.mend(ctx, info.Name, damage.String(), object, fixed)
	}
	if ledger.HasSpare(ledger.TrueName(info.Name)) {
		if other, ok := s.intact(ctx, ledger.Twin(info.Name)); ok {
			return s.mend(ctx, info.Name, err.Error()+OtherThere, object, other)
		}
	}
	if s.isLeftover(info.Name) {
		return nil
	}
	idle := ledger.IsPast(info.Name, s.newest)
	s.found(Finding{Object: info.Name, What: err.Error(), Lost: !idle, Idle: idle, Rebuild: strings.HasPrefix(info.Name, ledger.Indexes)})
	return nil
}

// note remembers a name, and which sessions have published anything.
func (s *scrubber) note(name string) {
	s.names[name] = true
	if n, err := ledger.ParseLedger(ledger.TrueName(name)); err == nil {
		s.newest = max(s.newest, n)
	}
	if sid, err := ledger.ParseSlot(name); err == nil && strings.HasPrefix(name, ledger.Commits) {
		s.published[sid.String()] = true
	}
	if sid, _, err := ledger.ParseNumbered(name); err == nil && strings.HasPrefix(name, ledger.Indexes) {
		s.published[sid.String()] = true
	}
}

// isLeftover reports whether a pack belongs to a session that never published
// anything: a power cut may have torn it, and nobody can need it.
func (s *scrubber) isLeftover(name string) bool {
	sid, _, err := ledger.ParsePack(name)
	return err == nil && !s.published[sid.String()]
}

// mend reports a healable object and, if asked, writes it back: the damaged
// bytes to quarantine first, then the healed ones under the name.
func (s *scrubber) mend(ctx context.Context, name, what string, damaged, fixed []byte) error {
	if !s.opts.Heal {
		s.found(Finding{Object: name, What: what})
		return nil
	}
	err := s.writeBack(ctx, name, damaged, fixed)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return errors.Join(err, ctx.Err())
	}
	if err != nil { // one that cannot be mended does not keep the others from it
		s.found(Finding{Object: name, What: what + "; it could not be healed: " + err.Error()})
		return nil
	}
	s.found(Finding{Object: name, What: what, Healed: true})
	return nil
}

func (s *scrubber) writeBack(ctx context.Context, name string, damaged, fixed []byte) error {
	write := s.be.PutIfAbsent // a copy that was missing
	if damaged != nil {
		if err := s.be.Put(ctx, ledger.Quarantine+name, damaged); err != nil {
			return fmt.Errorf("quarantine %s: %w", name, err)
		}
		write = s.be.Put
	}
	if err := write(ctx, name, fixed); err != nil {
		return fmt.Errorf("heal %s: %w", name, err)
	}
	return nil
}

// spares brings back precious objects of which one copy is missing.
func (s *scrubber) spares(ctx context.Context) error {
	for name := range s.names {
		if !ledger.HasSpare(ledger.TrueName(name)) || s.names[ledger.Twin(name)] {
			continue
		}
		if !ledger.NeedsSpare(ledger.TrueName(name)) && ledger.TrueName(name) == name {
			continue // of the ledger's entries the newest have spares, and a prune sees to it
		}
		object, ok := s.intact(ctx, name)
		if !ok {
			continue // already reported as lost
		}
		if err := s.mend(ctx, ledger.Twin(name), "missing"+OtherThere, nil, object); err != nil {
			return err
		}
	}
	return nil
}

// intact reads an object that is whole or can be made so.
func (s *scrubber) intact(ctx context.Context, name string) ([]byte, bool) {
	object, err := backend.Whole(ctx, s.be, name)
	if err != nil {
		return nil, false
	}
	fixed, _, err := parity.Heal(object)
	return fixed, err == nil
}

func (s *scrubber) found(f Finding) {
	s.mu.Lock() // for the caller's function, too: it is told of one at a time
	defer s.mu.Unlock()
	s.rep.Add(f)
	if s.opts.Found != nil {
		s.opts.Found(f.Object, f.What)
	}
}

// Add counts a finding.
func (rep *Report) Add(f Finding) {
	if f.Hits == nil {
		f.Hits = []string{}
	}
	rep.Findings = append(rep.Findings, f)
	if f.Lost && !f.Rebuild {
		rep.Errors++
	}
	rep.Damaged++
	if f.Healed {
		rep.Healed++
	}
}

func (s *scrubber) emptyQuarantine(ctx context.Context) error {
	var names []string
	err := s.be.List(ctx, ledger.Quarantine, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list quarantine: %w", err)
	}
	for _, name := range names {
		if err := s.be.Delete(ctx, name); err != nil {
			return fmt.Errorf("empty quarantine: %w", err)
		}
	}
	return nil
}
