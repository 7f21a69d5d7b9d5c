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
	entries, problems, err := r.Points(ctx)
	if err != nil {
		return repo.Entry{}, err
	}
	points := make([]*recovery.Point, len(entries))
	for i, e := range entries {
		points[i] = e.Point
	}
	p, err := recovery.Find(points, spec)
	if err != nil {
		return repo.Entry{}, errors.Join(err, Unreadable(problems))
	}
	for _, problem := range problems {
		warn("point %s cannot be read and may be newer than %s: %v", problem.ID, p.ID, problem.Err)
	}
	return entries[slices.Index(points, p)], nil
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

// Select applies the filter; entries are oldest first and stay so.
func (f Filter) Select(entries []repo.Entry) ([]repo.Entry, error) {
	if f.Source != "" {
		points := make([]*recovery.Point, len(entries))
		for i, e := range entries {
			points[i] = e.Point
		}
		name, err := recovery.MatchSource(points, f.Source)
		if err != nil {
			return nil, err
		}
		entries = slices.DeleteFunc(entries, func(e repo.Entry) bool { return e.Source != name })
	}
	if f.Kind != "" {
		entries = slices.DeleteFunc(entries, func(e repo.Entry) bool { return string(e.Kind) != f.Kind })
	}
	if f.Latest > 0 {
		seen := map[string]int{}
		keep := make([]bool, len(entries))
		for i := len(entries) - 1; i >= 0; i-- {
			seen[entries[i].Source]++
			keep[i] = seen[entries[i].Source] <= f.Latest
		}
		var out []repo.Entry
		for i, e := range entries {
			if keep[i] {
				out = append(out, e)
			}
		}
		entries = out
	}
	return entries, nil
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
