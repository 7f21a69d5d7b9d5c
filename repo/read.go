package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/check"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/load"
	"holdfast/repo/pack"
	"holdfast/repo/points"
	"holdfast/repo/recovery"
	"holdfast/repo/scrub"
	"holdfast/repo/session"
)

// What the folders below say of a repository's state, under the names by which
// callers know it.
type (
	// CheckOptions steer Check.
	CheckOptions = check.Options
	// ScrubOptions steer Scrub.
	ScrubOptions = scrub.Options
	// Report is what a check or a scrub found.
	Report = scrub.Report
	// Finding is one thing that is wrong.
	Finding = scrub.Finding
	// Entry is a point with what was said of it later.
	Entry = points.Entry
	// Brief is a point without what only a restore needs.
	Brief = recovery.Brief
	// PointError is a point that exists but whose manifest, or label, cannot be
	// read.
	PointError = points.Unreadable
	// DamageError says which object keeps a chunk from being read.
	DamageError = load.DamageError
	// Presence tells of many chunks whether they can be read.
	Presence = load.Presence
)

var (
	// ErrMissing: no segment of the index knows the chunk.
	ErrMissing = load.ErrMissing
	// ErrHealable: damage was found that parity brings back, or has brought back.
	ErrHealable = scrub.ErrHealable
	// ErrHarmless: what is beyond repair is read by nobody any more.
	ErrHarmless = scrub.ErrHarmless
	// ErrUnlisted: the index lacks entries, and nothing else is known to be lost.
	ErrUnlisted = scrub.ErrUnlisted
	// ErrSessionLost: a pruner declared the session dead while it was away.
	ErrSessionLost = session.ErrLost
)

// Load brings chunks of one kind back: fn is called once for each index of
// ids, in any order, never twice at once. What it is given is authenticated
// and has the id asked for.
func (r *Repository) Load(ctx context.Context, kind blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	return r.catalog.Load.Load(ctx, kind, ids, fn)
}

// Locate tells whether chunks have a place, by the index or by packs that it does not
// list, and reads none of them: ErrMissing names one that has not.
func (r *Repository) Locate(ctx context.Context, ids []blob.ID) error {
	return r.catalog.Load.Locate(ctx, ids)
}

// Presence looks whether packs that hold chunks are there; see load.Presence.
func (r *Repository) Presence() *Presence { return r.catalog.Load.Presence() }

// Check tells whether every point can be restored; see check.Run.
func (r *Repository) Check(ctx context.Context, opts CheckOptions) (*Report, error) {
	return check.Run(ctx, r.subject(), opts)
}

// Stats tells how much the repository holds.
func (r *Repository) Stats(ctx context.Context) (*check.Totals, error) {
	return check.Count(ctx, r.subject())
}

func (r *Repository) subject() check.Subject {
	return check.Subject{
		Loader: r.catalog.Load, Points: r.checkable, Named: r.nameable, Slots: r.slots,
		View: r.catalog.View, LostEnd: r.catalog.LostEnd,
		MayBeGone: func(p index.Pack) bool { return r.catalog.MayBeGone()(p) },
	}
}

// checkable finds the points for a check, also those that a listing hides.
func (r *Repository) checkable(ctx context.Context) ([]*recovery.Point, []check.Unreadable, error) {
	young, _, err := r.catalog.Young(ctx)
	if err != nil {
		return nil, nil, err
	}
	entries, problems, err := points.Named(ctx, r.catalog, young)
	if err != nil {
		return nil, nil, err
	}
	if _, err := r.catalog.Reveal(ctx, young); err != nil { // of sessions that ended meanwhile
		return nil, nil, err
	}
	var found []*recovery.Point
	for _, e := range entries {
		found = append(found, e.Point)
	}
	var unreadable []check.Unreadable
	for _, p := range problems {
		unreadable = append(unreadable, check.Unreadable{ID: p.ID, Object: p.Object, Err: p.Err})
	}
	gone, err := r.allGone(ctx)
	if err != nil {
		return nil, nil, err
	}
	unreadable = append(unreadable, gone...)
	if len(problems) > 0 {
		return found, unreadable, nil // the links below cannot be followed then
	}
	missing, err := r.missing(ctx, entries, sessionsOf(gone))
	return found, append(unreadable, missing...), err
}

// missing finds points of which only the manifest after them tells: each carries
// the hash of the one before. As long as nothing was ever forgotten or pruned
// none may be gone. (That the newest is gone only a client can tell that saw it.)
// Sources of which points are known to be gone, by name, need no more words.
func (r *Repository) missing(ctx context.Context, entries []Entry, gone []ledger.SID) ([]check.Unreadable, error) {
	forgotten, err := r.store.List(ctx, ledger.Forgets)
	if err == nil {
		err = r.catalog.LookLedger(ctx) // a prune beside us removes tombstones once it holds
	}
	if err != nil || len(forgotten) > 0 || r.catalog.View().Entry.Horizon > 0 {
		return nil, err
	}
	known := map[string]bool{"": true}
	for _, e := range entries {
		known[e.Hash()] = true
	}
	var nameless []check.Unreadable
	for _, e := range entries {
		named := slices.ContainsFunc(gone, func(sid ledger.SID) bool { return sid.Src == e.Session().Src })
		if !known[e.Previous] && !named {
			// It is the one before that is lost; the point that tells is whole.
			err := fmt.Errorf("the point of %s before %s is gone: %w", e.Source, e.ID, pack.ErrDamaged)
			nameless = append(nameless, check.Unreadable{Object: ledger.Commits + e.Session().Src, Err: err})
		}
	}
	return nameless, nil
}

// Scrub finds, and heals if asked, damage without any key; see scrub.Run. A
// place without a repository is ErrNoRepository.
func Scrub(ctx context.Context, be backend.Backend, opts ScrubOptions) (*Report, error) {
	if err := Exists(ctx, be); err != nil {
		return nil, err
	}
	return scrub.Run(ctx, be, opts)
}

// Points reads all points that exist, oldest first, and names those that cannot
// be read.
func (r *Repository) Points(ctx context.Context) ([]Entry, []*PointError, error) {
	return points.All(ctx, r.catalog)
}

// InOrder sorts points as each source's were made, and numbers those that have no
// number, in memory alone. A point's time cannot tell: it is the source's clock's.
func InOrder(entries []Entry) { points.InOrder(entries) }

// Briefs is Points without what only a restore needs: of many points a small
// fraction of the memory.
func (r *Repository) Briefs(ctx context.Context) ([]Brief, []*PointError, error) {
	return points.Briefs(ctx, r.catalog)
}

// Hits reports whether what cannot be read is of the source of that identity.
func (r *Repository) Hits(p *PointError, identity string) bool {
	return strings.Contains(p.Object, "/"+r.keys.SourceName(identity)+"/")
}

// Whole reads a point of which a brief tells; recovery.ErrUnknown, or
// backend.ErrNotFound, if it was forgotten since.
func (r *Repository) Whole(ctx context.Context, b Brief) (Entry, error) {
	return points.Whole(ctx, r.catalog, b)
}

// ForgetBrief is Forget for a point of which there is a brief alone.
func (r *Repository) ForgetBrief(ctx context.Context, b Brief, reason string) error {
	if !b.Pinned {
		sid, err := ledger.ParseSID(b.SID())
		if err == nil {
			err = r.notPinned(ctx, sid)
		}
		if err != nil {
			return err
		}
	}
	return points.ForgetBrief(ctx, r.catalog, b, reason)
}

// Find resolves what an operator typed (recovery.Find) among all points.
func (r *Repository) Find(ctx context.Context, spec string) (Entry, error) {
	e, err := points.Find(ctx, r.catalog, spec)
	if errors.Is(err, recovery.ErrUnknown) {
		return e, r.unlessNamed(ctx, spec, err)
	}
	return e, err
}

// SetLabel changes tags and pin of a point. If another writer was faster, the
// change is applied to what that one wrote.
func (r *Repository) SetLabel(ctx context.Context, e Entry, change func(*ledger.Label)) error {
	return points.SetLabel(ctx, r.catalog, e, change)
}
