package sqlcmd

import (
	"context"
	"errors"
	"time"

	"holdfast/cmd/frame"
	"holdfast/cmd/settings"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/shelf"
)

// chosen is the database that an operator means.
type chosen struct {
	*shelf.Database
	point    string // in full, of the one that was named; "" if none was
	problems []*repo.PointError
}

// choose finds the database that a name means, on a machine if one is named. A point says
// which of several that have had the name; without one it is the newest, and a note
// says how the others are reached.
func choose(ctx context.Context, a frame.App, r *repo.Repository, name, machine, point string) (*chosen, error) {
	all, problems, err := shelf.List(ctx, r)
	if err != nil {
		return nil, err
	}
	if point == "" {
		d, err := shelf.One(all, name, machine)
		if err != nil {
			return nil, errors.Join(err, view.VanishedOf(ctx, r, nil, a.Vanished))
		}
		if err := view.VanishedOf(ctx, r, []string{d.Identity}, a.Vanished); err != nil {
			return nil, err
		}
		for _, old := range shelf.Older(all, d) {
			a.UI().Note("%s is the database that was backed up last at %s; another one had the name until %s: --point %s is its newest backup, and points --source %s lists all",
				d.Source, d.Newest.Format(time.RFC3339), old.Newest.Format(time.RFC3339), old.Point, d.Source)
		}
		return &chosen{Database: d, problems: problems}, nil
	}
	if _, err := shelf.Match(all, name, machine); err != nil {
		return nil, err
	}
	e, err := a.Find(ctx, r, point)
	if err != nil {
		return nil, err
	}
	d := shelf.With(all, e.Identity, name, machine)
	if d == nil {
		return nil, settings.Usagef("holdfast points --source shows the points of a database", "point %s is of %s, not of %s", e.ID, e.Source, name)
	}
	return &chosen{Database: d, point: e.ID, problems: problems}, nil
}

// unread stands for those points of the database that cannot be read and may be newer than
// all that can.
func (d *chosen) unread(ctx context.Context, r *repo.Repository) ([]chain.Backup, error) {
	if len(d.problems) == 0 {
		return nil, nil
	}
	return shelf.Unread(ctx, r, d.Identity)
}
