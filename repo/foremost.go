package repo

import (
	"context"
	"slices"

	"holdfast/repo/ledger"
	"holdfast/repo/points"
)

// foremost are the points that the ledger names and that are gone without having been
// forgotten, of the sources of those names or of all if there are none, unless something
// tells that another point was made later: then this one is not the newest of its source,
// which is all that whoever wants the newest asks. It needs no memory of this machine's.
func (r *Repository) foremost(ctx context.Context, srcs []string) ([]ledger.SID, error) {
	slots, err := r.listed(ctx, ledger.Commits, srcs)
	if err == nil {
		err = r.catalog.LookLedger(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.unfollowed(ctx, slots.Has, srcs)
}

// unfollowed is foremost of what slots are known; where none is missing it asks for nothing.
func (r *Repository) unfollowed(ctx context.Context, known func(ledger.Packed) bool, srcs []string) ([]ledger.SID, error) {
	var missing []ledger.SID
	var of []string
	for _, named := range r.catalog.View().Entry.Points {
		src := named.Src()
		if len(srcs) > 0 && !slices.Contains(srcs, src) || known(named) {
			continue
		}
		missing = append(missing, named.SID())
		if !slices.Contains(of, src) {
			of = append(of, src)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	forgotten, err := r.listed(ctx, ledger.Forgets, of)
	if err != nil {
		return nil, err
	}
	gone, err := r.lost(ctx, slices.DeleteFunc(missing, func(sid ledger.SID) bool { return forgotten.Has(sid.Pack()) }))
	if err != nil {
		return nil, err
	}
	var last []ledger.SID
	there := map[string][]Entry{}
	for _, sid := range gone {
		if there[sid.Src] == nil {
			if there[sid.Src], _, err = points.Of(ctx, r.catalog, sid.Src); err != nil {
				return nil, err
			}
		}
		if !isFollowed(sid, there[sid.Src]) {
			last = append(last, sid)
		}
	}
	return last, nil
}

// listed lists the sessions of those sources, or of all, that have an object of a kind.
func (r *Repository) listed(ctx context.Context, prefix string, srcs []string) (all ledger.Pile, err error) {
	if len(srcs) == 0 {
		return points.Sessions(ctx, r.catalog, prefix)
	}
	for _, src := range srcs {
		found, err := points.Sessions(ctx, r.catalog, prefix+src+"/")
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	all.Sort()
	return all, nil
}

// isFollowed tells whether one of the points was made after the one that is gone: it was
// begun under a newer ledger, or read against it.
func isFollowed(gone ledger.SID, there []Entry) bool {
	return slices.ContainsFunc(there, func(e Entry) bool { return e.Session().Gen > gone.Gen || e.Parent == gone.Rand })
}
