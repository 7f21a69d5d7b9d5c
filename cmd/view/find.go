package view

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

// Find resolves what an operator typed. Where that is the newest point, one
// that cannot be read may be newer still: that is never passed over in silence.
// Nor is one that has vanished: vanished is told of it.
func Find(ctx context.Context, r *repo.Repository, spec string, warn func(format string, args ...any), vanished Miss) (repo.Entry, error) {
	if spec != "latest" && !strings.HasPrefix(spec, "latest:") {
		return r.Find(ctx, spec)
	}
	if spec == "latest:" {
		return repo.Entry{}, settings.Usagef("latest:SOURCE, or latest alone for the newest of all", "%q names no source", spec)
	}
	briefs, problems, err := r.Briefs(ctx)
	if err != nil {
		return repo.Entry{}, err
	}
	b, err := recovery.Find(briefs, spec)
	if err != nil {
		return repo.Entry{}, errors.Join(err, Unreadable(problems), Vanished(ctx, r, vanished))
	}
	var of func(lost ledger.SID) bool
	if spec != "latest" {
		meant, err := recovery.MatchSource(briefs, strings.TrimPrefix(spec, "latest:"))
		if err != nil {
			return repo.Entry{}, err
		}
		srcs := sourcesOf(briefs, &meant)
		of = func(lost ledger.SID) bool { return slices.Contains(srcs, lost.Src) }
	}
	if err := vanishedOf(ctx, r, of, vanished); err != nil {
		return repo.Entry{}, err
	}
	for _, problem := range problems {
		warn("point %s cannot be read and may be newer than %s: %v", problem.ID, b.ID(), problem.Err)
	}
	return r.Whole(ctx, *b)
}

// sourcesOf are the places of what was meant: a VM that was made anew has two.
func sourcesOf(briefs []repo.Brief, meant *recovery.Sources) (srcs []string) {
	for i := range briefs {
		if !meant.Has(&briefs[i]) {
			continue
		}
		if sid, err := ledger.ParseSID(briefs[i].SID()); err == nil && !slices.Contains(srcs, sid.Src) {
			srcs = append(srcs, sid.Src)
		}
	}
	return srcs
}

// Miss is told of a point that has vanished, by its id, and of its source; "" where
// nothing is left that tells what that was called.
type Miss func(point, source string)

// Vanished tells of the newest points of sources that are gone; see repo.Repository.Vanished.
func Vanished(ctx context.Context, r *repo.Repository, tell Miss) error {
	return vanishedOf(ctx, r, nil, tell)
}

// VanishedOf is Vanished of the sources of those identities, and of sources of which no
// point is left: what those were called nobody knows.
func VanishedOf(ctx context.Context, r *repo.Repository, identities []string, tell Miss) error {
	return vanishedOf(ctx, r, func(lost ledger.SID) bool {
		p := &repo.PointError{Object: ledger.CommitName(lost)}
		return slices.ContainsFunc(identities, func(identity string) bool { return r.Hits(p, identity) })
	}, tell)
}

// vanishedOf is Vanished of those that of means, nil for all, and of what has no name.
func vanishedOf(ctx context.Context, r *repo.Repository, of func(lost ledger.SID) bool, tell Miss) error {
	gone, err := r.Vanished(ctx)
	if err != nil || len(gone) == 0 {
		return err
	}
	briefs, _, err := r.Briefs(ctx)
	if err != nil {
		return err
	}
	for _, lost := range gone {
		source := nameOf(lost, briefs)
		if of == nil || source == "" || of(lost) {
			tell(lost.Rand, source)
		}
	}
	return nil
}

// nameOf is what the source of a point was called last, by those that are left of it.
func nameOf(lost ledger.SID, briefs []repo.Brief) string {
	for i := range slices.Backward(briefs) {
		if sid, err := ledger.ParseSID(briefs[i].SID()); err == nil && sid.Src == lost.Src {
			return briefs[i].Source()
		}
	}
	return ""
}

// KeepVanished keeps all of a source whose newest point has vanished, and tells of it:
// what stays by a policy may be counted from that one, or be all that is left. Of a source
// that lacks another one it keeps what nothing leads to any more: the point can be brought
// back until somebody forgets it, and what stands on it could not. all says that every
// source is in question, not those judged alone.
func KeepVanished(ctx context.Context, r *repo.Repository, judged []recovery.Judged, all bool, tell Miss) error {
	gone, err := r.Vanished(ctx)
	for _, lost := range gone {
		if source := keepSource(judged, lost.Src, "newest point vanished"); source != "" || all {
			tell(lost.Rand, source)
		}
	}
	if err != nil || !slices.ContainsFunc(judged, func(j recovery.Judged) bool { return j.Orphan && !j.Keep }) {
		return err
	}
	if gone, err = r.Gone(ctx); err != nil {
		return err
	}
	orphans := map[string]string{} // the source's name, by its place
	for i := range judged {
		j := &judged[i]
		sid, err := ledger.ParseSID(j.Point.SID())
		if err == nil && j.Orphan && !j.Keep && slices.ContainsFunc(gone, func(lost ledger.SID) bool { return lost.Src == sid.Src }) {
			j.Keep, j.Reasons, orphans[sid.Src] = true, []string{"orphaned"}, j.Point.Source()
		}
	}
	for _, lost := range gone {
		if source := orphans[lost.Src]; source != "" {
			tell(lost.Rand, source)
		}
	}
	return nil
}

// Unreadable is the error of a listing in which points had to be left out.
func Unreadable(problems []*repo.PointError) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	return fmt.Errorf("%d points cannot be read, the first: %w", len(problems), first)
}

// UnreadableOf is Unreadable of the sources that were named: what is lost of others makes
// nothing of these incomplete.
func UnreadableOf(r *repo.Repository, problems []*repo.PointError, identities ...string) error {
	return Unreadable(slices.DeleteFunc(slices.Clone(problems), func(p *repo.PointError) bool {
		return !slices.ContainsFunc(identities, func(identity string) bool { return r.Hits(p, identity) })
	}))
}

// Filter says which points are meant; the zero value means all.
type Filter struct {
	Kind, Source string // Source as recovery.MatchSource takes it
	Latest       int    // only so many of each source, the newest; 0 means all
}

// Select applies the filter, in place; points are oldest first and stay so.
func (f Filter) Select(points []repo.Brief) ([]repo.Brief, error) {
	asked, err := f.Asks(points)
	if err != nil {
		return nil, err
	}
	points = slices.DeleteFunc(points, func(b repo.Brief) bool { return !asked(&b) })
	if f.Latest > 0 {
		newer := map[string]int{}
		from := len(points) // what stays gathers at the end
		for i := range slices.Backward(points) {
			source := points[i].Source()
			if strings.HasPrefix(string(points[i].Kind()), "sql-") {
				source = points[i].Identity() // it may have several names
			}
			if newer[source]++; newer[source] <= f.Latest {
				from--
				points[from] = points[i]
			}
		}
		points = points[from:]
	}
	return points, nil
}

// Identities are those of all points of the source that is meant, of any kind.
func (f Filter) Identities(points []repo.Brief) (list []string, err error) {
	asked, err := Filter{Source: f.Source}.Asks(points)
	for i := range points {
		if err == nil && asked(&points[i]) && !slices.Contains(list, points[i].Identity()) {
			list = append(list, points[i].Identity())
		}
	}
	return list, err
}

// Asks reports whether Kind and Source mean a point, of those that there are.
func (f Filter) Asks(points []repo.Brief) (func(*repo.Brief) bool, error) {
	var sources recovery.Sources
	if f.Source != "" {
		var err error
		if sources, err = recovery.MatchSource(points, f.Source); err != nil {
			return nil, err
		}
	}
	return func(b *repo.Brief) bool {
		return (f.Source == "" || sources.Has(b)) && (f.Kind == "" || string(b.Kind()) == f.Kind)
	}, nil
}

// Disks refuses a point of a database to a command that is for disks.
func Disks(verb string, e *repo.Entry) error {
	if !strings.HasPrefix(string(e.Kind), "sql-") {
		return nil
	}
	_, database, _ := strings.Cut(strings.TrimPrefix(e.Source, "sql/"), "/")
	return settings.Usagef("holdfast restore sql "+settings.Quote(database)+" --point "+e.ID+" restores it, holdfast chain and show tell of it",
		"%s: point %s is a backup of the database %s, which has no disks", verb, e.ID, e.Source)
}

// Item finds the item of a point that was named, or the only one.
func Item(p *recovery.Point, words []string) (recovery.Item, error) {
	if len(words) == 0 {
		if len(p.Items) == 1 {
			return p.Items[0], nil
		}
		return recovery.Item{}, &restore.ItemError{Wanted: "", Have: p.Items}
	}
	for _, it := range p.Items {
		if it.Name == words[0] || it.Label == words[0] || it.Key != 0 && fmt.Sprint(it.Key) == words[0] {
			return it, nil
		}
	}
	return recovery.Item{}, &restore.ItemError{Wanted: words[0], Have: p.Items}
}
