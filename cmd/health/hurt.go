package health

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
)

// Hurt is a point that needs what is in no pack any more.
type Hurt struct {
	Point  string `json:"point"`
	Source string `json:"source"`
}

// FindHurt walks every point, as check does, and returns those that cannot be restored
// whole, the oldest first; never nil. It reads maps and no data.
func FindHurt(ctx context.Context, r *repo.Repository) ([]Hurt, error) {
	rep, err := r.Check(ctx, repo.CheckOptions{})
	if err != nil {
		return nil, fmt.Errorf("look which points need what is lost: %w", err)
	}
	hit := Hit(rep)
	hurt := []Hurt{}
	if !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return len(f.Hits) > 0 }) {
		return hurt, nil
	}
	entries, _, err := r.Points(ctx) // what cannot be listed is check's to tell
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if hit(e.ID) {
			hurt = append(hurt, Hurt{e.ID, e.Source})
		}
	}
	return hurt, nil
}

// Warn tells of the points that are hurt, a line for each source.
func Warn(to *ui.Terminal, hurt []Hurt) {
	points := map[string][]string{}
	var sources []string
	for _, h := range hurt {
		if points[h.Source] == nil {
			sources = append(sources, h.Source)
		}
		points[h.Source] = append(points[h.Source], h.Point)
	}
	for _, source := range sources {
		to.Warn("%s: what these points need is lost: %s", source, strings.Join(points[source], " "))
	}
}

// Advise adds to the error of a run what to do about points that are hurt; err nil makes
// it incomplete for them.
func Advise(err error, hurt []Hurt) error {
	if len(hurt) == 0 {
		return err
	}
	if err == nil {
		err = verdict.Incomplete(fmt.Sprintf("%d points need what is lost", len(hurt)))
	}
	advice := "back those sources up in full (--full), which stores anew what they still have"
	if slices.ContainsFunc(hurt, func(h Hurt) bool { return strings.HasPrefix(h.Source, "sql/") }) {
		advice += "; a database with holdfast backup sql --type full, and then give up what is lost and what stands on it: holdfast forget ID…"
	}
	return verdict.Advise(err, advice)
}
