package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
)

const readsAtOnce = 8

// Entry is a point with what was said of it later.
type Entry struct {
	*recovery.Point
	Pinned bool
	hash   string // of its manifest
	label  int    // number of the label that counts, -1 for none
	sid    ledger.SID
}

// PointError is a point that exists but whose manifest, or label, cannot be
// read. It is never left out silently: every listing names it. A point of which
// only the label is lost is listed all the same, as pinned.
type PointError struct {
	ID     string
	Object string // the manifest or the label
	Err    error
}

func (e *PointError) Error() string { return fmt.Sprintf("point %s: %v", e.ID, e.Err) }
func (e *PointError) Unwrap() error { return e.Err }

// Points reads all points that exist, oldest first, and names those that
// cannot be read.
func (r *Repository) Points(ctx context.Context) ([]Entry, []*PointError, error) {
	return r.pointsOf(ctx, "")
}

// pointsOf reads the points of one source, or of all if src is empty.
func (r *Repository) pointsOf(ctx context.Context, src string) ([]Entry, []*PointError, error) {
	if src != "" {
		src += "/"
	}
	// Slots before tombstones: a point forgotten in between is seen as forgotten.
	slots, err := r.list(ctx, ledger.Commits+src)
	if err != nil {
		return nil, nil, err
	}
	forgotten, err := r.sidsOf(ctx, ledger.Forgets+src)
	if err != nil {
		return nil, nil, err
	}
	// And the ledger last: a tombstone is collected only after the entry that
	// makes its point void.
	if err := r.lookLedger(ctx); err != nil {
		return nil, nil, err
	}
	labels, err := r.newestLabels(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	var (
		mu       sync.Mutex
		entries  []Entry
		problems []*PointError
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, name := range slots {
		sid, err := ledger.ParseSlot(name)
		if err != nil || forgotten[sid] || r.ledgerEntry().IsVoid(sid) {
			continue
		}
		group.Go(func() error {
			entry, err := r.readPoint(ctx, sid, labels)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, backend.ErrUnreachable) {
				return err // says nothing of the point
			}
			mu.Lock()
			defer mu.Unlock()
			if entry != nil {
				entries = append(entries, *entry)
			}
			if err != nil && !isGone(err) { // else: pruned meanwhile
				object := ledger.CommitName(sid)
				if entry != nil {
					object = ledger.LabelName(sid, entry.label)
				}
				problems = append(problems, &PointError{ID: sid.Rand, Object: object, Err: err})
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	sortEntries(entries)
	sort.Slice(problems, func(a, b int) bool { return problems[a].ID < problems[b].ID })
	return entries, problems, nil
}

// sortEntries orders by time; equal times by session, so that the order is the
// same everywhere.
func sortEntries(entries []Entry) {
	sort.Slice(entries, func(a, b int) bool {
		x, y := entries[a], entries[b]
		if !x.Time.Equal(y.Time) {
			return x.Time.Before(y.Time)
		}
		return x.SID < y.SID
	})
}

func (r *Repository) sidsOf(ctx context.Context, prefix string) (map[ledger.SID]bool, error) {
	names, err := r.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	sids := map[ledger.SID]bool{}
	for _, name := range names {
		if sid, err := ledger.ParseSlot(name); err == nil {
			sids[sid] = true
		}
	}
	return sids, nil
}

// newestLabels finds the highest label number of each point.
func (r *Repository) newestLabels(ctx context.Context, src string) (map[ledger.SID]int, error) {
	names, err := r.list(ctx, ledger.Labels+src)
	if err != nil {
		return nil, err
	}
	newest := map[ledger.SID]int{}
	for _, name := range names {
		if sid, n, err := ledger.ParseNumbered(name); err == nil {
			if old, ok := newest[sid]; !ok || n > old {
				newest[sid] = n
			}
		}
	}
	return newest, nil
}

// readPoint reads one slot and its label; nil without an error is a revocation.
// An entry with an error is a point whose label cannot be read: nobody is kept
// from his data by a tag, and what may have been pinned counts as pinned.
func (r *Repository) readPoint(ctx context.Context, sid ledger.SID, labels map[ledger.SID]int) (*Entry, error) {
	payload, err := r.readRecord(ctx, ledger.CommitName(sid), parity.Commit)
	if err != nil {
		return nil, err
	}
	slot, err := ledger.Decode[ledger.Slot](payload)
	if err != nil || slot.Revoked != nil {
		return nil, err
	}
	p := new(recovery.Point)
	if err := json.Unmarshal(slot.Point, p); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if p.SID != sid.String() || p.ID != sid.Rand {
		return nil, fmt.Errorf("read manifest: it says it is %s: %w", p.SID, ledger.ErrName)
	}
	entry := &Entry{Point: p, hash: r.hashManifest(slot.Point), label: -1, sid: sid}
	n, ok := labels[sid]
	if !ok {
		return entry, nil
	}
	entry.label, entry.Pinned = n, true
	payload, err = r.readRecord(ctx, ledger.LabelName(sid, n), parity.Label)
	if err != nil {
		return entry, err
	}
	label, err := ledger.Decode[ledger.Label](payload)
	if err != nil {
		return entry, err
	}
	entry.Tags, entry.Pinned = label.Tags, label.Pinned
	return entry, nil
}

// Find resolves what an operator typed (recovery.Find) among all points.
func (r *Repository) Find(ctx context.Context, spec string) (Entry, error) {
	entries, problems, err := r.Points(ctx)
	if err != nil {
		return Entry{}, err
	}
	points := make([]*recovery.Point, len(entries))
	for i, e := range entries {
		points[i] = e.Point
	}
	p, err := recovery.Find(points, spec)
	for _, problem := range problems {
		r.log.Warn("point cannot be read", "point", problem.ID, "error", problem.Err)
		fits := len(spec) >= 4 && strings.HasPrefix(problem.ID, strings.ToLower(spec))
		switch {
		case !fits || err == nil && p.ID == problem.ID:
		case err == nil:
			return Entry{}, fmt.Errorf("%q fits %s, and %s which cannot be read: %w", spec, p.ID, problem.ID, recovery.ErrAmbiguous)
		default:
			return Entry{}, problem
		}
	}
	if err != nil {
		return Entry{}, err
	}
	return entries[slices.Index(points, p)], nil
}

// SetLabel changes tags and pin of a point. If another writer was faster, the
// change is applied to what that one wrote.
func (r *Repository) SetLabel(ctx context.Context, e Entry, change func(*ledger.Label)) error {
	for range beginAttempts {
		label := ledger.Label{Version: ledger.Version, Tags: slices.Clone(e.Tags), Pinned: e.Pinned}
		change(&label)
		err := r.writeRecord(ctx, ledger.LabelName(e.sid, e.label+1), parity.Label, label)
		if err == nil {
			return nil
		}
		if !isTaken(err) {
			return err
		}
		labels, err := r.newestLabels(ctx, e.sid.Src+"/"+e.sid.String()+"/")
		if err != nil {
			return err
		}
		again, err := r.readPoint(ctx, e.sid, labels)
		if err != nil {
			return err
		}
		e = *again
	}
	return errors.New("set label: others write too fast")
}
