package prune

import (
	"context"
	"fmt"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
)

// round is one attempt to decide.
type round struct {
	*pruner
	view    *ledger.View
	listing ledger.Listing
	survey  *ledger.Survey
	plan    *ledger.Plan
	marker  *ledger.Marker

	records []string              // names of sessions' records and heartbeats that were listed
	bytes   map[string]int64      // by pack name, as stored
	packs   map[string]index.Pack // that the index lists
	others  []string              // names of labels, confirmations and tombstones
	live    *index.Marks
	again   *index.Marks
	holes   []string // numbers of the roll that tell nothing
	missing []string // segments that could not be read when the index was listed

	wroteRuns bool // in a session of this round, which the next one collects
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

// look finds everything, in the order that P1 demands: the ledger, the roll,
// slots, tombstones, segments, packs. An entry that another pruner has written
// meanwhile may have let go of what this round has not seen yet.
func (r *round) look(ctx context.Context) (err error) {
	r.progress("listing", 0, 0)
	if r.view, err = r.c.ReadLedger(ctx); err != nil {
		return err
	}
	r.listing.Ledger = r.view
	for _, step := range []func(context.Context) error{r.listSessions, r.readRoll, r.listSlots, r.listIndex, r.listPacks} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	newest, err := r.c.ReadLedger(ctx)
	if err != nil {
		return err
	}
	if newest.Number != r.view.Number {
		return errAgain
	}
	if len(r.holes) > 0 {
		r.c.Log.Warn("records of sessions are lost; such a session is known by what else is listed of it", "records", len(r.holes), "first", r.holes[0])
	}
	r.survey = ledger.Look(&r.listing)
	r.c.Log.Debug("prune", "survey", r.survey.String())
	return r.hear(ctx)
}

// listSessions lists heartbeats and what of the roll a listing shows: for
// deleting it, and to know how far the roll goes at least.
func (r *round) listSessions(ctx context.Context) error {
	beats := map[ledger.SID]int{}
	r.records = nil
	err := r.c.Backend.List(ctx, ledger.Sessions, func(info backend.Info) error {
		r.records = append(r.records, info.Name)
		if sid, n, err := ledger.ParseNumbered(info.Name); err == nil {
			beats[sid] = max(beats[sid], n)
		} else if n, err := ledger.ParseRoll(info.Name); err == nil {
			r.listing.RollEnd = max(r.listing.RollEnd, n+1)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for sid, n := range beats {
		r.listing.Sessions = append(r.listing.Sessions, ledger.Heard{SID: sid, Beats: n})
	}
	return nil
}

// listIndex brings the local index up to date. A segment that cannot be read
// hides packs: then the round must not decide.
func (r *round) listIndex(ctx context.Context) error {
	if err := r.c.Refresh(ctx); err != nil {
		return err
	}
	r.missing = nil // a read that fails later looks again, and may find that they are gone
	for _, name := range r.c.Index.Missing() {
		there, err := r.c.Has(ctx, name)
		if err != nil {
			return err
		}
		if there { // else the listing is behind
			r.missing = append(r.missing, name)
		}
	}
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
	if err := r.confirmPacks(ctx); err != nil {
		return err
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
	for _, e := range r.listing.Roll {
		if e.SID.Gen() < lowest && passable(e.SID.SID()) {
			return true
		}
	}
	for _, held := range r.listing.Slots {
		if held.Kind == ledger.RevokedSlot && passable(held.SID.SID()) {
			return true
		}
	}
	return false
}
