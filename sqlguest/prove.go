package sqlguest

import (
	"context"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/whole"
)

// prover is a Keeper that can tell whether points are whole without reading them.
type prover interface {
	// Lost gives those of the points of that identity of which the repository does not hold
	// all, and why.
	Lost(ctx context.Context, identity string, points []string) (map[string]string, error)
}

// prove looks whether what a backup would be built on is in the repository still, each
// point once a run; it is true if something is not, so that everything is to be decided
// anew, perhaps on other points.
func (j *job) prove(ctx context.Context, points []string) (anew bool, err error) {
	p, can := j.owner.Keep.(prover)
	points = slices.DeleteFunc(points, func(p string) bool { _, known := j.lost[p]; return known })
	if !can || len(points) == 0 {
		return false, nil
	}
	lost, err := p.Lost(ctx, j.id, points)
	if err != nil {
		return false, err
	}
	for _, point := range points {
		if j.proven(point); lost[point] != "" {
			j.lost[point] = lost[point]
			j.owner.log().Warn("a point has lost a part of what it holds", "source", j.source(), "point", point, "reason", lost[point])
		}
	}
	return len(lost) > 0, nil
}

// proven notes that a point is whole.
func (j *job) proven(point string) {
	if j.lost == nil {
		j.lost = map[string]string{}
	}
	j.lost[point] = ""
}

// mark marks those of ours that are lost.
func (j *job) mark(ours []chain.Backup) {
	for i := range ours {
		if why := j.lost[ours[i].Point]; why != "" {
			ours[i].Damage = why
		}
	}
}

// Lost gives those of a database's points that the repository does not hold all of.
func (k *Repository) Lost(ctx context.Context, identity string, points []string) (map[string]string, error) {
	return whole.Lost(ctx, k.Repo, identity, points)
}
