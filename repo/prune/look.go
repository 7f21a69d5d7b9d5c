package prune

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/image"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/session"
	"holdfast/repo/stream"
)

const readsAtOnce = 8

// round is one attempt to decide.
type round struct {
	*pruner
	view    *ledger.View
	listing ledger.Listing
	survey  *ledger.Survey
	plan    *ledger.Plan
	marker  *ledger.Marker

	heard   map[ledger.SID]time.Time
	beats   map[ledger.SID][]string // names of a session's records
	bytes   map[string]int64        // by pack name, as stored
	packs   map[string]index.Pack   // that the index lists
	others  []string                // names of labels, confirmations and tombstones
	live    *index.Marks
	again   *index.Marks
	missing []string // segments that could not be read when the index was listed

	wroteRuns bool // in a session of this round, which the next one collects
}

// slot is what a slot holds.
type slot struct {
	kind ledger.SlotKind
	roots
}

// roots are what a point's manifest names.
type roots struct {
	disks   []image.Map
	streams []stream.Stream
}

// close releases what the round holds of the local index. A nil round is none.
func (r *round) close() {
	if r == nil {
		return
	}
	for _, m := range []*index.Marks{r.again, r.live} {
		if m != nil {
			_ = m.Close() // read only
		}
	}
	r.again, r.live = nil, nil
}

func (p *pruner) progress(stage string, done, total int64) {
	if p.opts.Progress != nil {
		p.opts.Progress(Progress{Stage: stage, Done: done, Total: total})
	}
}

// look lists everything, in the order that P1 demands: the ledger, sessions,
// slots, tombstones, segments, packs.
func (r *round) look(ctx context.Context) (err error) {
	r.progress("listing", 0, 0)
	if r.view, err = r.c.ReadLedger(ctx); err != nil {
		return err
	}
	r.listing.Ledger = r.view
	for _, step := range []func(context.Context) error{r.listSessions, r.listSlots, r.listIndex, r.listPacks} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	r.survey = ledger.Look(&r.listing)
	r.c.Log.Debug("prune", "survey", r.survey.String())
	return nil
}

func (r *round) listSessions(ctx context.Context) error {
	newest := map[ledger.SID]ledger.Heard{}
	r.beats, r.heard = map[ledger.SID][]string{}, map[ledger.SID]time.Time{}
	err := r.c.Backend.List(ctx, ledger.Sessions, func(info backend.Info) error {
		sid, n, err := ledger.ParseNumbered(info.Name)
		if err != nil {
			return nil // what an operator left there
		}
		r.beats[sid] = append(r.beats[sid], info.Name)
		if old, ok := newest[sid]; !ok || n > old.Beats {
			newest[sid] = ledger.Heard{SID: sid, Beats: n, Newest: info.Modified}
			r.heard[sid] = info.Modified
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	r.listing.Sessions = slices.Collect(maps.Values(newest))
	return nil
}

// listSlots lists the slots and tells manifests from revocations. What the
// ledger has made void, and what is forgotten and covered, need not be read.
func (r *round) listSlots(ctx context.Context) error {
	slots, err := r.c.SIDs(ctx, ledger.Commits)
	if err != nil {
		return err
	}
	forgotten, err := r.c.SIDs(ctx, ledger.Forgets)
	if err != nil {
		return err
	}
	if r.opts.DryRun {
		for _, sid := range r.opts.Without {
			forgotten[sid] = true
		}
	}
	r.listing.Forgets = slices.Collect(maps.Keys(forgotten))
	for sid := range slots {
		if r.view.IsVoid(sid) || forgotten[sid] && sid.Gen < r.view.Entry.Horizon {
			r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: sid, Kind: ledger.PointSlot})
			delete(slots, sid)
		}
	}
	if err := r.readSlots(ctx, slots); err != nil {
		return err
	}
	for sid := range slots {
		r.listing.Slots = append(r.listing.Slots, ledger.Held{SID: sid, Kind: r.slots[sid].kind})
	}
	return nil
}

// readSlots reads those slots that no earlier round has read.
func (r *round) readSlots(ctx context.Context, sids map[ledger.SID]bool) error {
	var mu sync.Mutex
	done := int64(0)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, sid := range inOrder(sids) {
		mu.Lock()
		_, known := r.slots[sid]
		mu.Unlock()
		if known {
			continue
		}
		group.Go(func() error {
			found, err := r.readSlot(ctx, sid)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.slots[sid] = found
			done++
			r.progress("listing", done, int64(len(sids)))
			return nil
		})
	}
	return group.Wait()
}

// inOrder sorts sessions, so that the same state of the place always makes the
// same calls, however many run at once: a simulation can be replayed.
func inOrder(sids map[ledger.SID]bool) []ledger.SID {
	return slices.SortedFunc(maps.Keys(sids), func(a, b ledger.SID) int {
		return cmp.Or(cmp.Compare(a.Gen, b.Gen), strings.Compare(a.Src, b.Src), strings.Compare(a.Rand, b.Rand))
	})
}

// readSlot reads one slot. Only the way to the store is an error: a slot that is
// damaged counts as unreadable, and a live one then blocks the round.
func (r *round) readSlot(ctx context.Context, sid ledger.SID) (slot, error) {
	held, err := record.ReadAs[ledger.Slot](ctx, r.c.Store, ledger.CommitName(sid), parity.Commit)
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnreachable) {
		return slot{}, errors.Join(err, ctx.Err())
	}
	if record.IsGone(err) {
		return slot{}, errAgain // collected by another pruner since it was listed
	}
	if err != nil {
		r.c.Log.Warn("slot cannot be read", "sid", sid.String(), "error", err)
		return slot{kind: ledger.UnreadableSlot}, nil
	}
	if held.Revoked != nil {
		return slot{kind: ledger.RevokedSlot}, nil
	}
	var point recovery.Point
	if err := json.Unmarshal(held.Point, &point); err != nil || point.SID != sid.String() {
		r.c.Log.Warn("manifest cannot be read", "sid", sid.String(), "error", err)
		return slot{kind: ledger.UnreadableSlot}, nil
	}
	found := slot{kind: ledger.PointSlot}
	for _, item := range point.Items {
		if item.Disk != nil && !item.Disk.Root.IsZero() {
			found.disks = append(found.disks, *item.Disk)
		}
		if item.Stream != nil && !item.Stream.Root.IsZero() {
			found.streams = append(found.streams, *item.Stream)
		}
	}
	return found, nil
}

// listIndex brings the local index up to date. A segment that cannot be read
// hides packs: then the round must not decide.
func (r *round) listIndex(ctx context.Context) error {
	if err := r.c.Refresh(ctx); err != nil {
		return err
	}
	r.missing = r.c.Index.Missing() // a read that fails later looks again, and may find that they are gone
	r.packs = map[string]index.Pack{}
	for _, listed := range r.c.Index.Segments() {
		segment := ledger.Segment{Name: listed.Name, Packs: make([]string, len(listed.Packs))}
		for i, p := range listed.Packs {
			name := p.Name()
			segment.Packs[i] = name
			r.packs[name] = p
		}
		r.listing.Segments = append(r.listing.Segments, segment)
	}
	return nil
}

func (r *round) listPacks(ctx context.Context) error {
	r.bytes = map[string]int64{}
	for _, prefix := range []string{ledger.Data, ledger.Meta} {
		err := r.c.Backend.List(ctx, prefix, func(info backend.Info) error {
			if _, _, err := ledger.ParsePack(info.Name); err == nil {
				r.listing.Packs = append(r.listing.Packs, info.Name)
				r.bytes[info.Name] = info.Bytes
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
	}
	r.others = nil
	for _, prefix := range []string{ledger.Labels, ledger.Confirms, ledger.Forgets} {
		names, err := r.c.List(ctx, prefix)
		if err != nil {
			return err
		}
		r.others = append(r.others, names...)
	}
	return nil
}

// revokeGone gives up sessions whose process is gone from this host: who gets
// the lock knows.
func (r *round) revokeGone(ctx context.Context) error {
	if r.opts.DryRun || r.opts.Who.Locks == nil {
		return nil
	}
	revoked := false
	for _, open := range r.survey.Open {
		lock := r.opts.Who.Locks.State(open.SID.String())
		why, dead := ledger.IsDead(open, r.view, lock, ledger.Patience{})
		if !dead {
			continue
		}
		if err := r.revoke(ctx, open.SID, why); err != nil {
			return err
		}
		revoked = true
	}
	if revoked {
		return errAgain
	}
	return nil
}

// revokeSilent gives up sessions elsewhere that have been silent for too long by
// the clock that stamped the entry just written.
func (r *round) revokeSilent(ctx context.Context, before *ledger.View) error {
	if len(r.survey.Open) == 0 {
		return nil
	}
	info, err := r.c.Backend.Stat(ctx, ledger.LedgerName(r.view.Number))
	if err != nil {
		return fmt.Errorf("read the time of ledger %d: %w", r.view.Number, err)
	}
	patience := ledger.Patience{DeadAfter: r.opts.DeadAfter, StoreNow: info.Modified}
	revoked := false
	for _, open := range r.survey.Open {
		lock := ledger.LockUnknown
		if r.opts.Who.Locks != nil {
			lock = r.opts.Who.Locks.State(open.SID.String())
		}
		why, dead := ledger.IsDead(open, before, lock, patience)
		if !dead {
			continue
		}
		if err := r.revoke(ctx, open.SID, why); err != nil {
			return err
		}
		revoked = true
	}
	if revoked {
		return errAgain
	}
	return nil
}

func (r *round) revoke(ctx context.Context, sid ledger.SID, why string) error {
	err := session.Revoke(ctx, r.c.Store, sid, why)
	if record.IsTaken(err) {
		return nil // it was faster: alive, or revoked by another
	}
	if err != nil {
		return fmt.Errorf("revoke session %s: %w", sid, err)
	}
	r.c.Log.Info("session revoked", "sid", sid.String(), "why", why)
	if r.opts.Who.Locks != nil {
		r.opts.Who.Locks.Settled(sid.String())
	}
	r.rep.Revoked = append(r.rep.Revoked, sid.String())
	return nil
}

// describeOpen tells whose the open sessions are; that a record cannot be read
// is no matter.
func (r *round) describeOpen(ctx context.Context) []OpenSession {
	open := []OpenSession{}
	for _, h := range r.survey.Open {
		o := OpenSession{SID: h.SID.String(), Heard: r.heard[h.SID]}
		if rec, err := record.ReadAs[ledger.Session](ctx, r.c.Store, ledger.SessionName(h.SID, 0), parity.Session); err == nil {
			o.Host, o.Source = rec.Host, rec.Source
		}
		open = append(open, o)
	}
	return open
}

func isPack(name string) bool {
	return strings.HasPrefix(name, ledger.Data) || strings.HasPrefix(name, ledger.Meta)
}

// pending reports whether one more round would let go of something: what this
// one condemned, what only a higher horizon collects. While an older session is
// open nothing does.
func (r *round) pending() bool {
	lowest := uint32(1<<32 - 1)
	for _, open := range r.survey.Open {
		lowest = min(lowest, open.SID.Gen)
	}
	if r.wroteRuns {
		return true
	}
	for _, batch := range r.plan.Next.Condemned {
		if !batch.Going && batch.Since <= lowest {
			return true
		}
	}
	passable := func(sid ledger.SID) bool {
		return sid.Gen >= r.view.Entry.Horizon && sid.Gen < lowest && r.survey.IsSettled(sid)
	}
	for sid := range r.beats {
		if passable(sid) {
			return true
		}
	}
	for _, held := range r.listing.Slots {
		if held.Kind == ledger.RevokedSlot && passable(held.SID) {
			return true
		}
	}
	return false
}
