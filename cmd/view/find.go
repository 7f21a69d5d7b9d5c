package view

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

// Find resolves what an operator typed. Where that is the newest point, one
// that cannot be read may be newer still: that is never passed over in silence.
func Find(ctx context.Context, r *repo.Repository, spec string, warn func(format string, args ...any)) (repo.Entry, error) {
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
		return repo.Entry{}, errors.Join(err, Unreadable(problems))
	}
	for _, problem := range problems {
		warn("point %s cannot be read and may be newer than %s: %v", problem.ID, b.ID(), problem.Err)
	}
	return r.Whole(ctx, *b)
}

// Unreadable is the error of a listing in which points had to be left out.
func Unreadable(problems []*repo.PointError) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	return fmt.Errorf("%d points cannot be read, the first: %w", len(problems), first)
}

// Filter says which points are meant; the zero value means all.
type Filter struct {
	Kind, Source string // Source in full, or its last part
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
			if newer[source]++; newer[source] <= f.Latest {
				from--
				points[from] = points[i]
			}
		}
		points = points[from:]
	}
	return points, nil
}

// Asks reports whether Kind and Source mean a point, of those that there are.
func (f Filter) Asks(points []repo.Brief) (func(*repo.Brief) bool, error) {
	source := ""
	if f.Source != "" {
		var err error
		if source, err = recovery.MatchSource(points, f.Source); err != nil {
			return nil, err
		}
	}
	return func(b *repo.Brief) bool {
		return (f.Source == "" || b.Source() == source) && (f.Kind == "" || string(b.Kind()) == f.Kind)
	}, nil
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
